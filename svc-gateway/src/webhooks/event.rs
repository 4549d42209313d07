//! What is sent: CloudEvents 1.0 in structured JSON (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).

use dalp_engine::{OutboxEvent, TenantId};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// Content type of the body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Type of the event by which a webhook is tried.
pub const TEST_TYPE: &str = "webhook.test";

/// An event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id, the same in each repeat.
    pub event_id: String,
    /// Its type.
    pub r#type: String,
    /// What it is about.
    pub subject: String,
    /// The bytes that are signed and sent.
    pub body: String,
}

// === impl Letter ===

impl Letter {
    /// Of an event of the outbox. `cursor` is its place as EventService tells it.
    #[must_use]
    pub fn of(event: &OutboxEvent, cursor: &str) -> Self {
        let event_id = event.cursor.sequence.to_string();
        let body = json!({
            "specversion": "1.0",
            "id": event_id,
            "source": source(&event.tenant),
            "type": event.topic,
            "subject": event.subject,
            "time": moment(event.at),
            "datacontenttype": "application/json",
            "operationid": event.operation_id.to_string(),
            "cursor": cursor,
            "data": event.body,
        });
        Self { event_id, r#type: event.topic.clone(), subject: event.subject.clone(), body: body.to_string() }
    }

    /// By which a webhook is tried.
    #[must_use]
    pub fn test(tenant: &TenantId, webhook: Uuid, at: OffsetDateTime) -> Self {
        let event_id = format!("test_{}", Uuid::now_v7());
        let body = json!({
            "specversion": "1.0",
            "id": event_id,
            "source": source(tenant),
            "type": TEST_TYPE,
            "subject": webhook,
            "time": moment(at),
            "datacontenttype": "application/json",
            "data": {},
        });
        // Each is a subject of its own: a test never waits for another.
        Self { subject: event_id.clone(), event_id, r#type: TEST_TYPE.to_owned(), body: body.to_string() }
    }
}

fn source(tenant: &TenantId) -> String {
    format!("urn:dalp:tenant:{tenant}")
}

fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dalp_engine::{OperationId, OutboxCursor};

    use super::*;

    #[test]
    fn an_event_becomes_a_cloud_event() {
        let operation = OperationId(Uuid::nil());
        let event = OutboxEvent {
            cursor: OutboxCursor { xid: 7, sequence: 12 },
            tenant: TenantId::new("bank"),
            topic: "engine.operation.final".to_owned(),
            subject: operation.to_string(),
            operation_id: operation,
            body: json!({"state": "COMPLETED"}),
            at: OffsetDateTime::UNIX_EPOCH,
        };
        let letter = Letter::of(&event, "7-c");
        let body: serde_json::Value = serde_json::from_str(&letter.body).unwrap();
        assert_eq!(letter.event_id, "12");
        assert_eq!(body["source"], "urn:dalp:tenant:bank");
        assert_eq!(body["time"], "1970-01-01T00:00:00Z");
        assert_eq!(body["data"]["state"], "COMPLETED");
        // CloudEvents allows lower case letters and digits in names of attributes, and wants these.
        let names: Vec<_> = body.as_object().unwrap().keys().collect();
        assert!(
            names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())),
            "{names:?}"
        );
        for required in ["specversion", "id", "source", "type"] {
            assert!(body[required].is_string(), "{required}");
        }
    }

    #[test]
    fn tests_do_not_wait_for_each_other() {
        let test = || Letter::test(&TenantId::new("bank"), Uuid::nil(), OffsetDateTime::UNIX_EPOCH);
        assert_ne!(test().subject, test().subject);
    }
}
