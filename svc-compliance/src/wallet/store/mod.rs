//! What is kept of smart wallets. No sqlx type passes beyond this module.

pub mod approvals;
pub mod operations;
pub mod wallets;

use crate::store::{Store, StoreError};
use dalp_domain::store::during;
use dalp_engine::Failure;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;
use uuid::Uuid;

/// The constraints that refuse a second approval of a signer, or of a principal by another key of the platform.
pub(crate) const APPROVAL_CONSTRAINTS: [&str; 2] =
    ["user_operation_approvals_signer", "user_operation_approvals_principal"];

/// The constraint that refuses an approval of what is pending no more.
pub(crate) const PENDING_CONSTRAINT: &str = "user_operation_approvals_pending";

/// A stored document as what it is.
fn read<T: DeserializeOwned>(what: &'static str, value: serde_json::Value) -> Result<T, StoreError> {
    let text = value.to_string();
    serde_json::from_value(value).map_err(|_| StoreError::Malformed { what, value: text })
}

/// Tells of a user operation, in the commit of what is told.
async fn tell(
    commit: &mut PgConnection,
    tenant: &str,
    id: Uuid,
    wallet: &str,
    state: &str,
    failure: Option<&Failure>,
) -> Result<(), sqlx::Error> {
    let topic = match state {
        "PENDING" | "SUBMITTED" => "wallet.user_operation.pending",
        _ => "wallet.user_operation.final",
    };
    sqlx::query("INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body) VALUES ($1, $2, $3, $4, $5)")
        .bind(tenant)
        .bind(topic)
        .bind(id.to_string())
        .bind(id)
        .bind(serde_json::json!({ "wallet": wallet, "state": state, "failure": failure }))
        .execute(commit)
        .await
        .map(drop)
}
