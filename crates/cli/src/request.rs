//! What was typed, as messages.

use crate::{
    catalogue::comment,
    command::short_name,
    failure::Failure,
    secret::{self, is_secret},
};
use clap::ArgMatches;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

/// The request of a call: the given JSON, and over it the options for single fields.
pub(crate) fn request(of: &MessageDescriptor, given: &ArgMatches) -> Result<DynamicMessage, Failure> {
    let mut fields = match given.get_one::<String>("data") {
        None => Map::new(),
        Some(data) => match json(data, "--data")? {
            Value::Object(fields) => fields,
            _ => return Err(Failure::Usage("--data: expected a JSON object".into())),
        },
    };
    for field in of.fields() {
        if is_secret(&field) {
            if !fields.contains_key(field.json_name()) && !fields.contains_key(field.name()) {
                let typed = secret::ask(&comment(&field.parent_message().parent_file(), field.path()))?;
                fields.insert(field.name().to_owned(), Value::String(typed.expose_secret().to_owned()));
            }
            continue;
        }
        let Some(values) = given.get_many::<String>(field.name()) else { continue };
        // The same field under its JSON name would stand beside this one.
        fields.remove(field.json_name());
        let values: Vec<&str> = values.map(String::as_str).collect();
        fields.insert(field.name().to_owned(), of_options(&field, &values)?);
    }
    message(of, Value::Object(fields)).map_err(Failure::Usage)
}

/// Messages of a streamed request, line by line. Empty lines are passed over.
pub(crate) fn rows(
    of: &MessageDescriptor,
    path: &Path,
) -> Result<impl Iterator<Item = Result<(DynamicMessage, u64), Failure>> + Send + 'static, Failure> {
    let input: Box<dyn BufRead + Send> = match path.to_str() {
        Some("-") => Box::new(BufReader::new(std::io::stdin())),
        _ => Box::new(BufReader::new(open(path)?)),
    };
    let (of, shown) = (of.clone(), path.display().to_string());
    Ok(input.lines().enumerate().filter_map(move |(index, line)| {
        let at = |problem: String| Failure::Usage(format!("{shown}, line {}: {problem}", index + 1));
        match line {
            Err(error) => Some(Err(at(error.to_string()))),
            Ok(line) if line.trim().is_empty() => None,
            Ok(line) => {
                let parsed = serde_json::from_str(&line).map_err(|error| error.to_string());
                let row = parsed.and_then(|value| message(&of, value));
                Some(row.map(|row| (row, line.len() as u64 + 1)).map_err(at))
            }
        }
    }))
}

/// Bytes of a file, to tell how much of it has been sent; unknown for the standard input.
pub(crate) fn size_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
}

fn message(of: &MessageDescriptor, value: Value) -> Result<DynamicMessage, String> {
    let mut track = serde_path_to_error::Track::new();
    let read = serde_path_to_error::Deserializer::new(value, &mut track);
    DynamicMessage::deserialize(of.clone(), read).map_err(|error| format!("{}: {error}", track.path()))
}

fn of_options(field: &FieldDescriptor, values: &[&str]) -> Result<Value, Failure> {
    if field.is_map() {
        let mut map = Map::new();
        for value in values {
            let (key, value) = value.split_once('=').ok_or_else(|| usage(field, "expected KEY=VALUE"))?;
            map.insert(key.to_owned(), of_map_value(field, value)?);
        }
        return Ok(Value::Object(map));
    }
    if field.is_list() {
        let values: Result<Vec<Value>, Failure> =
            values.iter().map(|value| of_text(field, &field.kind(), value)).collect();
        return Ok(Value::Array(values?));
    }
    of_text(field, &field.kind(), values.last().copied().unwrap_or_default())
}

fn of_map_value(field: &FieldDescriptor, value: &str) -> Result<Value, Failure> {
    let kind = field.kind();
    let entry = kind.as_message().ok_or_else(|| usage(field, "not a map"))?;
    of_text(field, &entry.map_entry_value_field().kind(), value)
}

/// One value as JSON has it.
fn of_text(field: &FieldDescriptor, kind: &Kind, value: &str) -> Result<Value, Failure> {
    Ok(match kind {
        Kind::Bool => Value::Bool(value == "true"),
        Kind::Enum(of) => {
            let named = of.values().find(|one| short_name(of, one.name()) == value || one.name() == value);
            Value::String(named.ok_or_else(|| usage(field, "no such name"))?.name().to_owned())
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" | "google.protobuf.FieldMask" => Value::String(value.to_owned()),
            "google.protobuf.Duration" => {
                let unit = if value.ends_with('s') { "" } else { "s" };
                Value::String(format!("{value}{unit}"))
            }
            _ => json(value, &format!("--{}", option_name(field)))?,
        },
        // Numbers go as text, which JSON of protobuf allows for all of them: nothing is rounded on the way.
        _ => Value::String(value.to_owned()),
    })
}

/// JSON as it stands, of a file (`@path`) or of the standard input (`-`).
fn json(given: &str, option: &str) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = match (given, given.strip_prefix('@')) {
        ("-", _) => std::io::stdin().read_to_string(&mut text),
        (_, Some(path)) => open(Path::new(path))?.read_to_string(&mut text),
        _ => {
            given.clone_into(&mut text);
            Ok(0)
        }
    };
    read.map_err(|error| Failure::Usage(format!("{option}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{option}: not JSON: {error}")))
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn usage(field: &FieldDescriptor, problem: &str) -> Failure {
    Failure::Usage(format!("--{}: {problem}", option_name(field)))
}

fn option_name(field: &FieldDescriptor) -> String {
    heck::ToKebabCase::to_kebab_case(field.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::areas, command};
    use std::io::Write as _;

    fn typed(line: &[&str]) -> Result<Value, Failure> {
        let areas = areas();
        let line = std::iter::once("dalp").chain(line.iter().copied());
        let matches = command::command(&areas).try_get_matches_from(line).expect("a command");
        let (rpc, given) = command::chosen(&areas, &matches);
        let request = request(&rpc.descriptor.input(), given)?;
        Ok(serde_json::to_value(&request).expect("a message is JSON"))
    }

    #[test]
    fn options_become_fields() {
        let line =
            ["operation", "list-operations", "--state", "FAILED", "--page-size", "7", "--kind", "asset.transfer"];
        let expected =
            serde_json::json!({ "state": "OPERATION_STATE_FAILED", "pageSize": 7, "kind": "asset.transfer" });
        assert_eq!(typed(&line).expect("a request"), expected);
        let line = ["operation", "wait-operation", "--operation-id", "x", "--timeout", "30"];
        assert_eq!(typed(&line).expect("a request"), serde_json::json!({ "operationId": "x", "timeout": "30s" }));
    }

    #[test]
    fn an_option_goes_before_the_data() {
        let data = r#"{"pageSize": 3, "kind": "a"}"#;
        let line = ["operation", "list-operations", "--data", data, "--page-size", "9"];
        assert_eq!(typed(&line).expect("a request"), serde_json::json!({ "pageSize": 9, "kind": "a" }));
    }

    #[test]
    fn what_is_no_request_is_told() {
        for (data, told) in [
            ("[]", "expected a JSON object"),
            ("{", "not JSON"),
            (r#"{"nope": 1}"#, "nope"),
            (r#"{"pageSize": -1}"#, "pageSize: out of range"),
            ("@/nowhere/at/all", "/nowhere/at/all"),
        ] {
            let failure = typed(&["operation", "list-operations", "--data", data]).expect_err(data);
            assert!(failure.to_string().contains(told), "{data}: {failure}");
        }
        let failure = typed(&["operation", "list-operations", "--page-size", "many"]).expect_err("no number");
        assert!(matches!(failure, Failure::Usage(_)));
    }

    #[test]
    fn a_bad_row_is_told_with_its_line() {
        let of = areas().into_iter().find(|area| area.name == "operation").expect("there").rpcs[0].descriptor.input();
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "{{\"operationId\": \"1\"}}\n\n{{\"operation\": 2}}").expect("written");
        let read: Vec<_> = rows(&of, file.path()).expect("opened").collect();
        assert!(matches!(read[..], [Ok(_), Err(_)]), "two rows");
        let told = read[1].as_ref().expect_err("bad").to_string();
        assert!(told.contains("line 3"), "{told}");
    }
}
