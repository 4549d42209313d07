//! The catalogue of events in `docs/events.md`: a schema for each type.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Each type with the schema of its document.
///
/// # Errors
/// When the page cannot be read or a schema is none.
pub fn read() -> anyhow::Result<BTreeMap<String, Value>> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/events.md"))?;
    page.split("\n## ")
        .skip(1)
        .map(|section| {
            let name = section.lines().next().unwrap_or_default().to_owned();
            let schema = section.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
            let schema = serde_json::from_str(schema.with_context(|| format!("{name} has no schema"))?)?;
            Ok((name, schema))
        })
        .collect()
}

/// Holds a document against a schema of the catalogue: every field is described and of a described type, and one of the forms is whole.
///
/// # Errors
/// When it does not fit; the error says where.
pub fn fits(schema: &Value, document: &Value) -> anyhow::Result<()> {
    let fields = document.as_object().context("the document is no object")?;
    for (name, value) in fields {
        let described = schema["properties"].get(name).with_context(|| format!("{name} is not described"))?;
        let types: Vec<&str> = match &described["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        ensure!(types.contains(&is), "{name} is {is}, described as {types:?}");
    }
    let forms = schema["anyOf"].as_array().context("the schema has no forms")?;
    let is_whole = |form: &Value| {
        form["required"]
            .as_array()
            .is_some_and(|names| names.iter().filter_map(Value::as_str).all(|name| fields.contains_key(name)))
    };
    ensure!(forms.iter().any(is_whole), "{document} is whole in no form");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_found() {
        let schema = &read().unwrap()["engine.transaction.retracted"];
        assert!(fits(schema, &json!({"state": "BROADCASTING", "sub_status": "reorged"})).is_ok());
        assert!(fits(schema, &json!({"state": "BROADCASTING"})).is_err());
        assert!(fits(schema, &json!({"state": 5, "sub_status": ""})).is_err());
        assert!(fits(schema, &json!({"state": "", "sub_status": "", "more": 1})).is_err());
    }
}
