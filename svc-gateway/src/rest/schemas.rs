//! Messages and enums of the contracts as JSON schemas, with their comments.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};
use serde_json::{Map, Value, json};

use super::query::is_text;

/// The comments of the contracts.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

/// The schemas of the messages that were asked for, and of what they hold.
pub(super) struct Schemas<'c> {
    comments: &'c Comments,
    found: BTreeMap<String, Value>,
    begun: BTreeSet<String>,
}

// === impl Comments ===

impl Comments {
    pub(super) fn read(pool: &DescriptorPool) -> Self {
        let mut all = HashMap::new();
        for file in pool.files().filter(|file| file.package_name().starts_with("dalp.")) {
            let proto = file.file_descriptor_proto();
            for location in proto.source_code_info.iter().flat_map(|info| &info.location) {
                if let Some(comment) = &location.leading_comments {
                    all.insert((file.name().to_owned(), location.path.clone()), tidy(comment));
                }
            }
        }
        Self(all)
    }

    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.0.get(&(file.name().to_owned(), path.to_vec())).map(String::as_str).unwrap_or_default()
    }
}

/// One paragraph: the contracts break their lines by width.
fn tidy(comment: &str) -> String {
    comment.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

// === impl Schemas ===

impl<'c> Schemas<'c> {
    pub(super) fn new(comments: &'c Comments) -> Self {
        Self { comments, found: BTreeMap::new(), begun: BTreeSet::new() }
    }

    /// All schemas by name.
    pub(super) fn into_map(self) -> Map<String, Value> {
        self.found.into_iter().collect()
    }

    /// Refers to the schema of a message.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => return json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => {
                return json!({"type": "string", "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$", "examples": ["30s"]});
            }
            _ if is_text(message) => return json!({"type": "string"}),
            _ => {}
        }
        if self.begun.insert(message.full_name().to_owned()) {
            let schema = self.object(message);
            self.found.insert(message.full_name().to_owned(), schema);
        }
        json!({"$ref": reference(message.full_name())})
    }

    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            properties.insert(field.json_name().to_owned(), self.field(&field));
        }
        let choices = message.oneofs().filter(|oneof| !is_synthetic(oneof)).map(|oneof| {
            let names: Vec<_> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
            format!("At most one of {} is set.", names.join(", "))
        });
        let said = self.comments.of(&message.parent_file(), message.path()).to_owned();
        let description =
            std::iter::once(said).chain(choices).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        json!({"type": "object", "description": description, "properties": properties})
    }

    /// The schema of a field, with its comment.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = if let Some(value) = map_value(field) {
            json!({"type": "object", "additionalProperties": self.kind(&value.kind())})
        } else if field.is_list() {
            json!({"type": "array", "items": self.kind(&field.kind())})
        } else {
            self.kind(&field.kind())
        };
        let comment = self.comments.of(&field.parent_file(), field.path());
        if let (Some(object), false) = (schema.as_object_mut(), comment.is_empty()) {
            object.insert("description".to_owned(), json!(comment));
        }
        schema
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
            }
            // A text, for not every reader keeps 64 bits of a number.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
            }
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}),
            Kind::Enum(enumeration) => self.enumeration(enumeration),
            Kind::Message(message) => self.message(message),
        }
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptor) -> Value {
        let name = enumeration.full_name();
        if self.begun.insert(name.to_owned()) {
            let file = enumeration.parent_file();
            let values: Vec<_> = enumeration.values().collect();
            let meanings = values.iter().map(|value| {
                let meaning = self.comments.of(&file, value.path());
                format!("- `{}`: {meaning}", value.name())
            });
            let said = self.comments.of(&file, enumeration.path());
            let description = std::iter::once(format!("{said}\n")).chain(meanings).collect::<Vec<_>>().join("\n");
            let names: Vec<_> = values.iter().map(|value| value.name().to_owned()).collect();
            self.found.insert(name.to_owned(), json!({"type": "string", "description": description, "enum": names}));
        }
        json!({"$ref": reference(name)})
    }
}

/// The name of a schema, from anywhere in the document.
pub(super) fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// The field of a map's values, if the field is a map.
fn map_value(field: &FieldDescriptor) -> Option<FieldDescriptor> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => Some(entry.map_entry_value_field()),
        _ => None,
    }
}

/// Whether it is only how `optional` is written down.
fn is_synthetic(oneof: &OneofDescriptor) -> bool {
    oneof.fields().len() == 1 && oneof.fields().all(|field| field.field_descriptor_proto().proto3_optional())
}
