//! Answers for people: single values below each other, lists as tables.

use crate::command::short_name;
use comfy_table::{Table, presets};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, SerializeOptions};
use serde_json::Value;

/// An answer as JSON, on one line.
pub(crate) fn json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap_or(Value::Null)
}

/// An answer as text.
pub(crate) fn text(message: &DynamicMessage) -> String {
    let (mut of, mut value) = (message.descriptor(), json(message));
    // An answer that only wraps one thing is shown as that thing.
    while let Some((field, inner)) = only_message(&of, &value) {
        (of, value) = (field, inner);
    }
    let (mut single, mut lists) = (Vec::new(), Vec::new());
    gather("", &of, &value, &mut single, &mut lists);
    let mut told = String::new();
    if !single.is_empty() {
        let mut table = plain();
        table.add_rows(single.into_iter().map(|(name, value)| [name, value]));
        told = format!("{}\n", table.trim_fmt());
    }
    for (name, of, rows) in &lists {
        let gap = if told.is_empty() { "" } else { "\n" };
        told = format!("{told}{gap}{name}\n{}\n", list(of, rows));
    }
    if told.is_empty() { "done\n".to_owned() } else { told }
}

fn only_message(of: &MessageDescriptor, value: &Value) -> Option<(MessageDescriptor, Value)> {
    let mut fields = of.fields();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    match field.kind() {
        Kind::Message(inner) if is_plain(&field, &inner) => Some((inner, value.get(field.name())?.clone())),
        _ => None,
    }
}

/// A message of ours that stands for itself, no list and no map.
fn is_plain(field: &FieldDescriptor, of: &MessageDescriptor) -> bool {
    !field.is_list() && !field.is_map() && !of.full_name().starts_with("google.protobuf.")
}

type Rows = (String, FieldDescriptor, Vec<Value>);

/// Walks through a message in the order of its contract.
fn gather(
    prefix: &str,
    of: &MessageDescriptor,
    value: &Value,
    single: &mut Vec<(String, String)>,
    lists: &mut Vec<Rows>,
) {
    for field in of.fields() {
        let Some(value) = value.get(field.name()) else { continue };
        let name = format!("{prefix}{}", field.name());
        match (field.kind(), value) {
            (_, Value::Array(rows)) if field.is_list() => lists.push((name, field, rows.clone())),
            (Kind::Message(inner), _) if is_plain(&field, &inner) => {
                gather(&format!("{name}."), &inner, value, single, lists);
            }
            _ => single.push((name, cell(&field, value))),
        }
    }
}

fn list(field: &FieldDescriptor, rows: &[Value]) -> String {
    let Kind::Message(of) = field.kind() else {
        return rows.iter().map(|row| format!("  {}", cell(field, row))).collect::<Vec<_>>().join("\n");
    };
    let each: Vec<Vec<(String, String)>> = rows
        .iter()
        .map(|row| {
            let (mut single, mut lists) = (Vec::new(), Vec::new());
            gather("", &of, row, &mut single, &mut lists);
            single.extend(lists.into_iter().map(|(name, _, rows)| (name, format!("{} listed", rows.len()))));
            single
        })
        .collect();
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in each.iter().flatten() {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut table = plain();
    table.set_header(columns.iter().map(|name| name.to_uppercase()));
    for row in &each {
        let at = |column: &&str| row.iter().find(|(name, _)| name == column).map_or("", |(_, value)| value.as_str());
        table.add_row(columns.iter().map(at));
    }
    table.trim_fmt()
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

fn cell(field: &FieldDescriptor, value: &Value) -> String {
    match (field.kind(), value) {
        (Kind::Enum(of), Value::String(name)) => short_name(&of, name).to_owned(),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Object(entries)) if field.is_map() => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            entries.iter().map(entry).collect::<Vec<_>>().join(" ")
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_proto::operation as wire;
    use prost_reflect::DescriptorPool;

    fn dynamic(name: &str, message: &impl prost::Message) -> DynamicMessage {
        let pool = DescriptorPool::decode(dalp_proto::FILE_DESCRIPTOR_SET).expect("compiled in");
        let of = pool.get_message_by_name(name).expect("there");
        DynamicMessage::decode(of, message.encode_to_vec().as_slice()).expect("the same shape")
    }

    fn operation() -> wire::Operation {
        wire::Operation {
            operation_id: "7f".into(),
            kind: "asset.transfer".into(),
            state: wire::OperationState::Running.into(),
            transactions: vec![wire::Transaction { step: "send".into(), nonce: Some(0), ..Default::default() }],
            created_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn one_thing_is_shown_without_its_wrapping() {
        let answer = wire::GetOperationResponse { operation: Some(operation()) };
        let told = text(&dynamic("dalp.operation.v1.GetOperationResponse", &answer));
        let lines: Vec<String> =
            told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "operation_id 7f",
            "kind asset.transfer",
            "state RUNNING",
            "created_at 1970-01-01T00:00:00Z",
            "",
            "transactions",
            "STEP NONCE",
            "send 0",
        ];
        assert_eq!(lines, expected, "{told}");
    }

    #[test]
    fn a_list_has_a_column_for_what_any_row_says() {
        let other = wire::Operation { operation_id: "8a".into(), principal: "alice".into(), ..Default::default() };
        let answer =
            wire::ListOperationsResponse { operations: vec![operation(), other], next_page_token: "next".into() };
        let told = text(&dynamic("dalp.operation.v1.ListOperationsResponse", &answer));
        assert!(
            told.contains("next_page_token") && told.contains("OPERATION_ID") && told.contains("PRINCIPAL"),
            "{told}"
        );
        assert!(told.contains("1 listed"), "{told}");
    }

    #[test]
    fn an_empty_answer_says_so() {
        assert_eq!(
            text(&dynamic("dalp.operation.v1.GetOperationResponse", &wire::GetOperationResponse::default())),
            "done\n"
        );
    }
}
