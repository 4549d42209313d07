//! Finished operations as the database keeps them, for `tests/histories` of the service whose they are.

use std::path::Path;

use dalp_engine::{
    OperationId,
    flow::{RecordedStep, StepInput},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// Writes one operation of each kind and version under `prefix` that has none yet, when asked to by `DALP_RECORD_HISTORIES`.
///
/// # Panics
/// When what is stored cannot be read, or the file not be written.
pub async fn record(database_url: &str, prefix: &str, service: &str) {
    if std::env::var_os("DALP_RECORD_HISTORIES").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(service).join("tests/histories");
    let mut database = PgConnection::connect(database_url).await.expect("connects");
    let operations: Vec<(String, i32, String, Uuid, Value, Value)> = sqlx::query_as(
        "SELECT DISTINCT ON (kind) kind, version, tenant, operation_id, order_json, result FROM engine.operations
         WHERE state = 'COMPLETED' AND kind LIKE $1 || '%' ORDER BY kind, operation_id",
    )
    .bind(prefix)
    .fetch_all(&mut database)
    .await
    .expect("operations");
    for (kind, version, tenant, id, order, result) in operations {
        let path = folder.join(if version == 1 { format!("{kind}.json") } else { format!("{kind}.{version}.json") });
        if path.exists() {
            continue;
        }
        let rows: Vec<(String, Value, Option<Value>)> = sqlx::query_as(
            "SELECT name, input, outcome FROM engine.steps WHERE tenant = $1 AND operation_id = $2 ORDER BY position",
        )
        .bind(&tenant)
        .bind(id)
        .fetch_all(&mut database)
        .await
        .expect("steps");
        let steps: Vec<(String, RecordedStep)> = rows
            .into_iter()
            .map(|(name, input, outcome)| {
                let mut input: StepInput = serde_json::from_value(input).expect("a step");
                if let StepInput::Transaction { call } = &mut input {
                    call.data = Default::default(); // no flow reads it
                }
                let outcome = outcome.map(|outcome| serde_json::from_value(outcome).expect("an outcome"));
                (name, RecordedStep { input, outcome })
            })
            .collect();
        let recorded = json!({
            "kind": kind, "version": version, "operation_id": OperationId(id), "order": order, "steps": steps, "result": result,
        });
        std::fs::write(path, recorded.to_string() + "\n").expect("written");
    }
}
