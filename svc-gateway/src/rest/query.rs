//! Fields of a request message out of path and query, as the JSON object that the message's own mapping then reads.
//!
//! So every kind of field is understood by one implementation, the mapping's; here is only where a name leads.

use percent_encoding::percent_decode_str;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::problem::{Problem, invalid};

/// The most parameters of one query.
const MAX_PARAMETERS: usize = 1_000;
/// How deep a dotted name may lead.
const MAX_DEPTH: usize = 8;
/// Messages that stand as a text in JSON.
const TEXT_MESSAGES: &[&str] = &["google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"];

/// Whether a message stands as a text in JSON.
#[must_use]
pub fn is_text(message: &MessageDescriptor) -> bool {
    TEXT_MESSAGES.contains(&message.full_name())
}

/// The parameters of a query, decoded: `+` is a blank, as forms send it.
pub fn parameters(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut found = Vec::new();
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        if found.len() == MAX_PARAMETERS {
            return Err(invalid("query", "too many parameters"));
        }
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned)
        };
        match (decode(name), decode(value)) {
            (Ok(name), Ok(value)) => found.push((name, value)),
            _ => return Err(invalid("query", "is not UTF-8 once decoded")),
        }
    }
    Ok(found)
}

/// The JSON object that sets the named fields of `message`. A name is that of the contracts or of JSON, dotted for a field of a field.
pub fn object<'p>(
    message: &MessageDescriptor,
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<Map<String, Value>, Problem> {
    let mut object = Map::new();
    for (name, value) in parameters {
        set(&mut object, message, name, name, value, 0)?;
    }
    Ok(object)
}

fn set(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    whole: &str,
    name: &str,
    value: &str,
    depth: usize,
) -> Result<(), Problem> {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let field = message.get_field_by_name(first).or_else(|| message.get_field_by_json_name(first));
    let Some(field) = field else { return Err(invalid(whole, "there is no such parameter")) };
    let key = field.name().to_owned();
    if let Some(rest) = rest {
        return match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() && !is_text(&inner) && depth < MAX_DEPTH => {
                match object.entry(key).or_insert_with(|| Value::Object(Map::new())) {
                    Value::Object(inside) => set(inside, &inner, whole, rest, value, depth + 1),
                    _ => Err(invalid(whole, "given twice")),
                }
            }
            _ => Err(invalid(whole, "there is no such parameter")),
        };
    }
    let value = scalar(&field, whole, value)?;
    if field.is_list() {
        match object.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(values) => values.push(value),
            _ => return Err(invalid(whole, "given twice")),
        }
        return Ok(());
    }
    match object.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(invalid(whole, "given twice")),
    }
}

/// A value as the JSON mapping takes it: numbers may stand in a text there, so that only truth values need a form of their own.
fn scalar(field: &FieldDescriptor, whole: &str, value: &str) -> Result<Value, Problem> {
    match field.kind() {
        _ if field.is_map() => Err(invalid(whole, "a map cannot stand in a query")),
        Kind::Message(inner) if !is_text(&inner) => Err(invalid(whole, "name one of its fields, with a dot")),
        Kind::Bool => match value {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(invalid(whole, "is true or false")),
        },
        _ => Ok(Value::String(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request(name: &str) -> MessageDescriptor {
        dalp_proto::descriptors().get_message_by_name(name).unwrap()
    }

    fn read(message: &str, query: &str) -> Result<Value, String> {
        let parameters = parameters(query).map_err(|problem| problem.to_string())?;
        object(&request(message), parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .map(Value::Object)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn names_lead_to_fields() {
        assert_eq!(
            read("dalp.asset.v1.ListAssetsRequest", "pageSize=5&page_token=a%20b+c").unwrap(),
            json!({"page_size": "5", "page_token": "a b c"})
        );
        assert_eq!(
            read("dalp.compliance.v1.GetApprovalRequest", "movement.from=0x1&movement.standing=true").unwrap(),
            json!({"movement": {"from": "0x1", "standing": true}})
        );
        assert_eq!(read("dalp.feeds.v1.WatchFeedsRequest", "feeds=a&feeds=b").unwrap(), json!({"feeds": ["a", "b"]}));
        assert_eq!(read("dalp.operation.v1.WaitOperationRequest", "timeout=3s").unwrap(), json!({"timeout": "3s"}));
        assert_eq!(read("dalp.asset.v1.ListAssetsRequest", "&&").unwrap(), json!({}));
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        let refused = |message: &str, query: &str| read(message, query).unwrap_err();
        assert!(refused("dalp.asset.v1.ListAssetsRequest", "size=5").contains("size: there is no such parameter"));
        assert!(refused("dalp.asset.v1.ListAssetsRequest", "page_size=5&pageSize=6").contains("given twice"));
        assert!(refused("dalp.compliance.v1.GetApprovalRequest", "movement=x").contains("with a dot"));
        assert!(refused("dalp.compliance.v1.GetApprovalRequest", "movement.to.x=1").contains("no such parameter"));
        assert!(refused("dalp.operator.v1.ListLanesRequest", "busy_only=1").contains("true or false"));
        assert!(refused("dalp.asset.v1.ListAssetsRequest", "page_token=%ff").contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "[a-z_.=&%+0-9A-F\\PC]{0,80}", which in 0..4_usize) {
            let message = ["dalp.compliance.v1.GetApprovalRequest", "dalp.feeds.v1.WatchFeedsRequest",
                "dalp.operator.v1.ListLanesRequest", "dalp.operation.v1.WaitOperationRequest"][which];
            let _answered = read(message, &query);
        }

        #[test]
        fn any_value_comes_back_as_it_was(value in "\\PC{0,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            let object = read("dalp.asset.v1.ListAssetsRequest", &format!("page_token={encoded}")).unwrap();
            prop_assert_eq!(&object["page_token"], &json!(value));
        }
    }
}
