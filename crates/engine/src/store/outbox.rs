//! The outbox.

use crate::error::StoreError;
use sqlx::PgConnection;
use uuid::Uuid;

/// An event to be written with the change that it tells of.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) tenant: String,
    pub(crate) topic: &'static str,
    pub(crate) subject: Uuid,
    pub(crate) operation_id: Uuid,
    pub(crate) body: serde_json::Value,
}

// === impl Event ===

impl Event {
    pub(crate) fn transaction(
        topic: &'static str,
        tenant: &str,
        operation_id: Uuid,
        transaction_id: Uuid,
        body: serde_json::Value,
    ) -> Self {
        Self { tenant: tenant.to_owned(), topic, subject: transaction_id, operation_id, body }
    }
}

/// Writes events in the caller's commit.
pub(crate) async fn emit(connection: &mut PgConnection, events: Vec<Event>) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let (mut tenants, mut topics, mut subjects, mut operations, mut bodies) = (vec![], vec![], vec![], vec![], vec![]);
    for event in events {
        tenants.push(event.tenant);
        topics.push(event.topic);
        subjects.push(event.subject.to_string());
        operations.push(event.operation_id);
        bodies.push(event.body);
    }
    sqlx::query(
        "INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::jsonb[])",
    )
    .bind(tenants)
    .bind(topics)
    .bind(subjects)
    .bind(operations)
    .bind(bodies)
    .execute(connection)
    .await?;
    Ok(())
}
