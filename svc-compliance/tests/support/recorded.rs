//! Finished operations as the database keeps them.

use dalp_engine::{
    OperationId,
    flow::{RecordedStep, StepInput},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use svc_compliance::store::Store;

/// A finished operation with its steps in their order.
#[derive(Serialize, Deserialize)]
pub struct Recorded {
    pub kind: String,
    pub version: u32,
    pub operation_id: OperationId,
    pub order: serde_json::Value,
    pub steps: Vec<(String, RecordedStep)>,
    pub result: serde_json::Value,
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// Writes one operation of each kind that has none yet, when asked to by `DALP_RECORD_HISTORIES`.
pub async fn record(store: &Store) {
    if std::env::var_os("DALP_RECORD_HISTORIES").is_none() {
        return;
    }
    let operations: Vec<(String, i32, String, uuid::Uuid, serde_json::Value, serde_json::Value)> = sqlx::query_as(
        "SELECT DISTINCT ON (kind) kind, version, tenant, operation_id, order_json, result FROM engine.operations
         WHERE state = 'COMPLETED' ORDER BY kind, operation_id",
    )
    .fetch_all(&store.pool())
    .await
    .unwrap();
    for (kind, version, tenant, id, order, result) in operations {
        let path = folder().join(format!("{kind}.json"));
        if path.exists() {
            continue;
        }
        let rows: Vec<(String, serde_json::Value, Option<serde_json::Value>)> = sqlx::query_as(
            "SELECT name, input, outcome FROM engine.steps WHERE tenant = $1 AND operation_id = $2 ORDER BY position",
        )
        .bind(&tenant)
        .bind(id)
        .fetch_all(&store.pool())
        .await
        .unwrap();
        let steps = rows.into_iter().map(|(name, input, outcome)| {
            let mut input: StepInput = serde_json::from_value(input).unwrap();
            if let StepInput::Transaction { call } = &mut input {
                // No flow reads them, and bytecode is large.
                call.data = Default::default();
                call.sensitive_checks.clear();
            }
            (name, RecordedStep { input, outcome: outcome.map(|outcome| serde_json::from_value(outcome).unwrap()) })
        });
        let recorded = Recorded {
            kind,
            version: u32::try_from(version).unwrap(),
            operation_id: OperationId(id),
            order,
            steps: steps.collect(),
            result,
        };
        std::fs::write(path, serde_json::to_string(&recorded).unwrap() + "\n").unwrap();
    }
}
