//! Messages as JSON, by the JSON mapping of protobuf, and back.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, SerializeOptions};
use serde_json::{Map, Value};
use serde_path_to_error::{Deserializer, Track};

use super::problem::{Problem, invalid};

/// Reads a message out of a JSON document. A field that the message does not have is refused by name.
pub fn from_json(message: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Problem> {
    let (mut reader, mut track) = (serde_json::Deserializer::from_slice(json), Track::new());
    let read = DynamicMessage::deserialize(message.clone(), Deserializer::new(&mut reader, &mut track));
    match read {
        Ok(message) => match reader.end() {
            Ok(()) => Ok(message),
            Err(error) => Err(invalid("body", &error.to_string())),
        },
        Err(error) => Err(invalid(&track.path().to_string(), &error.to_string())),
    }
}

/// Reads a message out of fields that were found in path or query.
pub fn from_object(message: &MessageDescriptor, object: Map<String, Value>) -> Result<DynamicMessage, Problem> {
    let mut track = Track::new();
    DynamicMessage::deserialize(message.clone(), Deserializer::new(Value::Object(object), &mut track))
        .map_err(|error| invalid(&track.path().to_string(), &error.to_string()))
}

/// Puts the named fields of the path into a message that was read from a body. A body may repeat what the path says; when it says
/// something else, the request contradicts itself.
pub fn with_path_fields(
    mut body: DynamicMessage,
    path: &DynamicMessage,
    names: &[&str],
) -> Result<DynamicMessage, Problem> {
    for field in names.iter().filter_map(|name| path.descriptor().get_field_by_name(name)) {
        let value = path.get_field(&field).into_owned();
        if body.has_field(&field) && *body.get_field(&field) != value {
            return Err(invalid(field.json_name(), "the body and the path say different things"));
        }
        body.set_field(&field, value);
    }
    Ok(body)
}

/// Reads a message from its bytes. `None` when they are not one.
#[must_use]
pub fn decode(message: &MessageDescriptor, bytes: &[u8]) -> Option<DynamicMessage> {
    DynamicMessage::decode(message.clone(), bytes).ok()
}

/// The bytes of a message.
#[must_use]
pub fn encode(message: &DynamicMessage) -> Vec<u8> {
    message.encode_to_vec()
}

/// A message as JSON on one line; fields that were not set appear with their default, except messages and optional fields.
#[must_use]
pub fn to_json(message: &DynamicMessage) -> Vec<u8> {
    let mut writer = serde_json::Serializer::new(Vec::new());
    let options = SerializeOptions::new().skip_default_fields(false);
    match message.serialize_with_options(&mut writer, &options) {
        Ok(()) => writer.into_inner(),
        Err(error) => {
            // Only a time outside of the calendar has no JSON form, and we send none.
            tracing::error!(message = message.descriptor().full_name(), %error, "a message has no JSON form");
            b"{}".to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use serde_json::json;

    use super::*;

    fn descriptor(name: &str) -> MessageDescriptor {
        dalp_proto::descriptors().get_message_by_name(name).unwrap()
    }

    fn read(name: &str, json: &str) -> Result<DynamicMessage, String> {
        from_json(&descriptor(name), json.as_bytes()).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_body_becomes_the_message_that_the_service_reads() {
        let json = r#"{"sender":"0x1","asset":"0x2","to":"0x3","amount":"5"}"#;
        let message = read("dalp.asset.v1.TransferRequest", json).unwrap();
        let typed = dalp_proto::asset::TransferRequest::decode(encode(&message).as_slice()).unwrap();
        assert_eq!((typed.sender.as_str(), typed.amount.as_str()), ("0x1", "5"));
        assert_eq!(
            serde_json::from_slice::<Value>(&to_json(&message)).unwrap(),
            serde_json::from_str::<Value>(json).unwrap()
        );
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_place() {
        let refused = |json: &str| read("dalp.asset.v1.CreateAssetRequest", json).unwrap_err();
        assert!(refused(r#"{"nam":"x"}"#).contains("unrecognized field name 'nam'"));
        assert!(
            refused(r#"{"roles":[{"role":"ASSET_ROLE_KING"}]}"#).contains("roles[0].role"),
            "{}",
            refused(r#"{"roles":[{"role":"ASSET_ROLE_KING"}]}"#)
        );
        for json in ["", "[]", "null", "{", "{} {}", "\"x\"", r#"{"decimals":-1}"#, r#"{"name":5}"#] {
            refused(json);
        }
    }

    #[test]
    fn a_request_does_not_contradict_itself() {
        let kind = descriptor("dalp.asset.v1.TransferRequest");
        let path = from_object(&kind, Map::from_iter([("asset".to_owned(), json!("0x2"))])).unwrap();
        let merged = |body: &str| with_path_fields(from_json(&kind, body.as_bytes()).unwrap(), &path, &["asset"]);
        assert_eq!(merged(r#"{"to":"0x3"}"#).unwrap().get_field_by_name("asset").unwrap().as_str(), Some("0x2"));
        assert!(merged(r#"{"asset":"0x2"}"#).is_ok());
        assert!(merged(r#"{"asset":"0x9"}"#).unwrap_err().to_string().contains("different things"));
        let run = descriptor("dalp.distribution.v1.StartRunRequest");
        let nought = from_object(&run, Map::from_iter([("run".to_owned(), json!("0"))])).unwrap();
        let body = from_json(&run, br#"{"run":5}"#).unwrap();
        assert!(with_path_fields(body, &nought, &["run"]).is_err(), "a default in the path is said as well");
    }

    #[test]
    fn defaults_are_written_and_absence_is_not() {
        let operation = DynamicMessage::new(descriptor("dalp.operation.v1.Operation"));
        let json: Value = serde_json::from_slice(&to_json(&operation)).unwrap();
        assert_eq!(json["state"], "OPERATION_STATE_UNSPECIFIED");
        assert_eq!(json["transactions"], json!([]));
        assert_eq!(json.get("error"), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _answered = from_json(&descriptor("dalp.asset.v1.CreateAssetRequest"), &bytes);
        }

        #[test]
        fn no_json_panics(text in "[{}\\[\\]\",:a-z0-9A-Z_. -]{0,120}") {
            for name in ["dalp.asset.v1.CreateAssetRequest", "dalp.operation.v1.WaitOperationRequest", "dalp.distribution.v1.CreateAirdropRequest"] {
                let _answered = from_json(&descriptor(name), text.as_bytes());
            }
        }

        #[test]
        fn texts_survive(name in "\\PC{0,30}", decimals in any::<u32>(), unpause in any::<bool>()) {
            let json = json!({"name": name, "decimals": decimals, "unpause": unpause});
            let message = read("dalp.asset.v1.CreateAssetRequest", &json.to_string()).unwrap();
            let back: Value = serde_json::from_slice(&to_json(&message)).unwrap();
            prop_assert_eq!(&back["name"], &json["name"]);
            prop_assert_eq!(&back["decimals"], &json["decimals"]);
            let typed = dalp_proto::asset::CreateAssetRequest::decode(encode(&message).as_slice()).unwrap();
            prop_assert_eq!((typed.name, typed.decimals, typed.unpause), (name, decimals, unpause));
        }
    }
}
