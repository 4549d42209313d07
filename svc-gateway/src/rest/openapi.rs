//! The description of HTTP/JSON as an OpenAPI 3.1 document, made of the contracts with their comments.
//!
//! `svc-gateway openapi` prints it; the committed `docs/openapi.json` is held against it by a test.

use std::collections::BTreeMap;

use dalp_proto::{IdempotencyClass, Verb};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    query::is_text,
    routes::{Route, Table},
    schemas::{Comments, Schemas, reference},
};

const ABOUT: &str = "The platform over HTTP and JSON: the same calls as over gRPC, made of the same contracts. Amounts are decimal strings of base \
units, addresses and hashes 0x hex. A write takes an `Idempotency-Key`; long work answers 202 with its operation, or waits under `Prefer: wait=n`. \
Unknown fields are refused. Streams are newline-delimited JSON.";

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let (table, pool) = (Table::load(), dalp_proto::descriptors());
    let comments = Comments::read(&pool);
    let mut schemas = Schemas::new(&comments);
    let (mut paths, mut tags) = (BTreeMap::<String, Map<String, Value>>::new(), BTreeMap::new());
    for route in table.iter() {
        let service = route.rpc.parent_service();
        let said = comments.of(&service.parent_file(), service.path());
        tags.insert(tag(route), json!({"name": tag(route), "description": said}));
        let operation = operation(route, &comments, &mut schemas);
        paths.entry(route.text.clone()).or_default().insert(route.verb.as_str().to_ascii_lowercase(), operation);
    }
    let mut components = schemas.into_map();
    components.extend(errors());
    let paths: Map<_, _> = paths.into_iter().map(|(path, item)| (path, Value::Object(item))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Digital asset lifecycle platform",
            "version": "v1",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"clientCertificate": []}],
        "tags": tags.into_values().collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {"Refused": refused(), "ApprovalPending": approval_pending()},
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer <key>`."},
                "clientCertificate": {"type": "mutualTLS", "description": "A client certificate with the principal's SPIFFE identity."},
            },
        },
    })
}

/// The document as it is committed and served: keys in order, so that it is the same in every build.
#[must_use]
pub fn text(document: &Value) -> String {
    let mut text = format!("{:#}", sorted(document));
    text.push('\n');
    text
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<_, _> = object.iter().collect();
            Value::Object(ordered.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        _ => value.clone(),
    }
}

fn tag(route: &Route) -> String {
    route.rpc.parent_service().name().to_owned()
}

fn operation(route: &Route, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let said = comments.of(&route.rpc.parent_service().parent_file(), route.rpc.path());
    let mut operation = json!({
        "operationId": format!("{}_{}", tag(route), route.rpc.name()),
        "summary": said.split_inclusive(['.', ';', ':']).next().unwrap_or_default().trim_end_matches(['.', ';', ':']),
        "description": format!("{said}\n\nPermission: `{}`. gRPC: `{}`.", route.method.permission, route.method.path),
        "tags": [tag(route)],
        "parameters": parameters(route, schemas),
        "responses": responses(route, schemas),
    });
    if route.has_body
        && let Some(object) = operation.as_object_mut()
    {
        object.insert("requestBody".to_owned(), request_body(route, schemas));
    }
    operation
}

fn parameters(route: &Route, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let input = route.rpc.input();
    let in_path: Vec<_> = route.template.variables().map(str::to_owned).collect();
    let mut parameters: Vec<Value> = in_path
        .iter()
        .filter_map(|name| input.get_field_by_name(name))
        .map(|field| {
            let mut schema = schemas.field(&field);
            if let (Kind::String, Some(object)) = (field.kind(), schema.as_object_mut()) {
                object.insert("minLength".to_owned(), json!(1));
            }
            json!({"name": field.name(), "in": "path", "required": true, "schema": schema})
        })
        .collect();
    if !route.has_body {
        query(&input, "", &in_path, 0, &mut |name, field| {
            parameters.push(json!({"name": name, "in": "query", "required": false, "schema": schemas.field(field)}));
        });
    }
    if route.method.idempotency == IdempotencyClass::Keyed {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same key and payload answer with the same operation. Without one the gateway makes a key and returns it.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
        }));
    }
    if route.method.idempotency != IdempotencyClass::Read {
        parameters.push(json!({
            "name": "X-Wallet-Verification", "in": "header", "required": false,
            "description": "Of a person who signs in by browser, where the tenant's policy asks for it: `pin 123456`, `totp 123456` or `recovery XXXX-XXXX-XXXX-XXXX`.",
            "schema": {"type": "string", "maxLength": 64},
        }));
    }
    if route.accepts_an_operation() {
        parameters.push(json!({
            "name": "Prefer", "in": "header", "required": false,
            "description": "`wait=n`: answer when the operation is final, or after n seconds, at most 60.",
            "schema": {"type": "string", "examples": ["wait=30"]},
        }));
    }
    parameters
}

/// The fields that a query may set: scalars, lists of them, and those of messages inside, dotted.
fn query(
    message: &MessageDescriptor,
    prefix: &str,
    not: &[String],
    depth: usize,
    found: &mut dyn FnMut(String, &FieldDescriptor),
) {
    for field in message.fields().filter(|field| !field.is_map()) {
        if prefix.is_empty() && not.iter().any(|name| name == field.name()) {
            continue;
        }
        let name = format!("{prefix}{}", field.json_name());
        match field.kind() {
            Kind::Message(inner) if !is_text(&inner) => {
                if !field.is_list() && depth < 3 {
                    query(&inner, &format!("{name}."), not, depth + 1, found);
                }
            }
            _ => found(name, &field),
        }
    }
}

fn request_body(route: &Route, schemas: &mut Schemas<'_>) -> Value {
    let schema = schemas.message(&route.rpc.input());
    match route.rpc.is_client_streaming() {
        true => json!({
            "required": true,
            "description": "One message a line.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}, "x-message": schema}},
        }),
        false => json!({"required": true, "content": {"application/json": {"schema": schema}}}),
    }
}

fn responses(route: &Route, schemas: &mut Schemas<'_>) -> Value {
    let schema = schemas.message(&route.rpc.output());
    let mut headers = Map::new();
    if route.method.idempotency == IdempotencyClass::Keyed {
        headers.insert("Idempotency-Key".to_owned(), header("The key in force."));
        headers.insert(
            "Idempotency-Replayed".to_owned(),
            header("`true` when an earlier request with the same key was answered again."),
        );
    }
    let answered = match route.rpc.is_server_streaming() {
        true => json!({
            "description": "One `{\"result\": ...}` a line; `{\"error\": ...}` as the last one when the stream ends with a refusal.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}, "x-message": schema}},
        }),
        false => {
            json!({"description": "Answered.", "headers": headers, "content": {"application/json": {"schema": schema}}})
        }
    };
    let mut responses = json!({"200": answered, "default": {"$ref": "#/components/responses/Refused"}});
    if route.accepts_an_operation()
        && let Some(object) = responses.as_object_mut()
    {
        headers.insert("Location".to_owned(), header("Where the operation is."));
        headers.insert("Preference-Applied".to_owned(), header("How long was waited, if it was."));
        let description = match route.verb {
            Verb::Delete => "Accepted, and still running.",
            _ => "Accepted; the operation still runs.",
        };
        let accepted = json!({"description": description, "headers": headers, "content": {"application/json": {"schema": schema}}});
        object.insert("202".to_owned(), accepted);
        if route.method.setup {
            object.insert("409".to_owned(), json!({"$ref": "#/components/responses/ApprovalPending"}));
        }
    }
    responses
}

fn header(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

fn refused() -> Value {
    json!({
        "description": "Refused. `details` holds `ErrorInfo` with the reason (docs/errors), `BadRequest` for fields, `RetryInfo` where a repeat helps.",
        "headers": {"Retry-After": {"description": "Seconds until a repeat helps.", "schema": {"type": "integer"}}},
        "content": {"application/json": {"schema": {"$ref": reference("google.rpc.Status")}}},
    })
}

fn approval_pending() -> Value {
    let mut answer = refused();
    answer["description"] = json!(
        "In conflict. With the reason `CUSTODY_APPROVAL_PENDING` the call waits for a custody approval: repeat it with the `Idempotency-Key` of this answer. It is \
         accepted where `operation_id` in its metadata names the operation; where `lane` does, that lane takes nothing behind the approval, and nothing is stored."
    );
    answer["headers"]["Idempotency-Key"] = header("The key in force, also a generated one.");
    answer
}

/// The form of refusals, as `problem` writes them.
fn errors() -> Map<String, Value> {
    let text = json!({"type": "string"});
    let kind = |name: &str| json!({"const": format!("type.googleapis.com/google.rpc.{name}")});
    let schemas = json!({
        "google.rpc.Status": {
            "type": "object",
            "description": "A refusal.",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The gRPC code."},
                "message": {"type": "string", "description": "For people."},
                "details": {"type": "array", "items": {"anyOf": [
                    {"$ref": reference("google.rpc.ErrorInfo")},
                    {"$ref": reference("google.rpc.BadRequest")},
                    {"$ref": reference("google.rpc.RetryInfo")},
                ]}},
            },
        },
        "google.rpc.ErrorInfo": {
            "type": "object",
            "description": "Why, for programs.",
            "required": ["@type", "reason", "domain"],
            "properties": {
                "@type": kind("ErrorInfo"),
                "reason": {"type": "string", "description": "A reason of the catalogue in docs/errors."},
                "domain": text,
                "metadata": {"type": "object", "additionalProperties": text, "description": "`next` says what the caller can do."},
            },
        },
        "google.rpc.BadRequest": {
            "type": "object",
            "description": "The fields that are not valid.",
            "required": ["@type", "fieldViolations"],
            "properties": {
                "@type": kind("BadRequest"),
                "fieldViolations": {"type": "array", "items": {"type": "object", "properties": {"field": text, "description": text}}},
            },
        },
        "google.rpc.RetryInfo": {
            "type": "object",
            "description": "When a repeat helps.",
            "required": ["@type", "retryDelay"],
            "properties": {"@type": kind("RetryInfo"), "retryDelay": {"type": "string", "examples": ["1.500000000s"]}},
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(&document()),
            "docs/openapi.json is out of date: cargo run -p svc-gateway -- openapi > docs/openapi.json"
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_is_told() {
        let document = document();
        let text = document.to_string();
        for piece in text.split("\"$ref\":\"#").skip(1) {
            let pointer = &piece[..piece.find('"').unwrap()];
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let operations: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .collect();
        let ids: std::collections::BTreeSet<_> =
            operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations.len(), "each operation has an identifier of its own");
        assert_eq!(ids.len(), Table::load().iter().len());
        for operation in operations {
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{operation}");
        }
    }

    #[test]
    fn a_transfer_is_described() {
        let document = document();
        let transfer = &document["paths"]["/v1/assets/{asset}:transfer"]["post"];
        assert_eq!(transfer["operationId"], "AssetService_Transfer");
        assert_eq!(transfer["parameters"][0]["name"], "asset");
        assert_eq!(
            transfer["requestBody"]["content"]["application/json"]["schema"]["$ref"],
            reference("dalp.asset.v1.TransferRequest")
        );
        assert!(transfer["responses"]["202"].is_object());
        assert!(transfer["responses"]["409"].is_null(), "it is no set-up call");
        let topic = &document["paths"]["/v1/topics"]["post"];
        assert_eq!(topic["responses"]["409"]["$ref"], "#/components/responses/ApprovalPending");
        let operations = &document["paths"]["/v1/operations"]["get"];
        assert!(
            operations["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["name"] == "pageSize" && one["in"] == "query")
        );
    }
}
