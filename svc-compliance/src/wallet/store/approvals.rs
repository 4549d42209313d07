//! Approvals of user operations.

use super::{Store, StoreError, during};
use crate::wallet::{commands::Approve, operation::Signed};
use alloy::primitives::{Address, Bytes, hex};
use dalp_domain::store::{address_of, hex_of};
use dalp_engine::Failure;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// An approval as it is stored. One that failed is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApproval {
    /// Its operation.
    pub operation_id: Uuid,
    /// What is approved.
    pub user_operation_id: Uuid,
    /// Who signs.
    pub signer: Address,
    /// The principal that approved.
    pub approved_by: String,
    /// Whether a key of the platform signs.
    pub platform_key: bool,
    /// Secret until it is sent.
    pub signature: Option<Bytes>,
    /// Whether its operation was found to have ended: a signature counts from then on.
    pub settled: bool,
    /// When it was accepted.
    pub at: OffsetDateTime,
}

/// Writes an approval in the commit that accepts it, with the signature that was brought, in the form that the account takes. The table refuses one of what is pending no more, and a second one of its signer.
pub async fn put_approval(
    commit: &mut PgConnection,
    principal: &str,
    operation_id: Uuid,
    command: &Approve,
    brought: Option<&Bytes>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO compliance.user_operation_approvals (operation_id, user_operation_id, signer, approved_by, platform_key, signature)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(operation_id)
    .bind(command.user_operation_id)
    .bind(hex_of(command.signer))
    .bind(principal)
    .bind(command.by_platform_key())
    .bind(brought.map(Bytes::to_string))
    .execute(commit)
    .await
    .map(drop)
}

impl Store {
    /// Approvals of user operations, in the order in which they came.
    pub async fn approvals(&self, of: &[Uuid]) -> Result<Vec<StoredApproval>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM compliance.user_operation_approvals WHERE user_operation_id = ANY($1) AND failure IS NULL
             ORDER BY number",
        )
        .bind(of)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read approvals"))?;
        rows.iter().map(parse).collect()
    }

    /// Notes how the operation of an approval ended.
    pub async fn settle_approval(&self, id: Uuid, outcome: Result<&Bytes, &Failure>) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE compliance.user_operation_approvals SET signature = $2, failure = $3, settled_at = now()
             WHERE operation_id = $1 AND settled_at IS NULL",
        )
        .bind(id)
        .bind(outcome.ok().map(Bytes::to_string))
        .bind(outcome.err().map(Json))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("settle approval"))
    }
}

// === impl StoredApproval ===

impl StoredApproval {
    /// The signature with whose it is, once it counts.
    #[must_use]
    pub fn signed(&self) -> Option<Signed> {
        let signature = self.signature.clone().filter(|_| self.settled)?;
        Some(Signed { signer: self.signer, signature })
    }
}

fn parse(row: &PgRow) -> Result<StoredApproval, StoreError> {
    let signature: Option<String> = row.get("signature");
    let bytes = |text: String| {
        hex::decode(&text)
            .map(Bytes::from)
            .map_err(|_| StoreError::Malformed { what: "signature", value: "(not shown)".to_owned() })
    };
    Ok(StoredApproval {
        operation_id: row.get("operation_id"),
        user_operation_id: row.get("user_operation_id"),
        signer: address_of(row.get("signer"))?,
        approved_by: row.get("approved_by"),
        platform_key: row.get("platform_key"),
        signature: signature.map(bytes).transpose()?,
        settled: row.get::<Option<OffsetDateTime>, _>("settled_at").is_some(),
        at: row.get("at"),
    })
}
