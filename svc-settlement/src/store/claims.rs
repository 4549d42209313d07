//! What approvals that are under way need of one allowance.

use super::Store;
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, parsed, signed};
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Whose allowance it is, and to which contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The chain.
    pub chain_id: u64,
    /// Who may take.
    pub contract: Address,
    /// Whose it is.
    pub sender: Address,
}

impl Store {
    /// What approvals of a wallet that have not ended need, by asset.
    pub async fn claimed(&self, tenant: &str, of: Allowance) -> Result<BTreeMap<Address, U256>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.asset, sum(c.amount)::text AS amount FROM allowance_claims c JOIN engine.operations o ON o.tenant = $4 AND o.operation_id = c.operation_id
             WHERE c.chain_id = $1 AND c.contract = $2 AND c.sender = $3 AND o.state IN ('RUNNING', 'AWAITING_CHECKER') GROUP BY c.asset",
        )
        .bind(signed(of.chain_id))
        .bind(hex_of(of.contract))
        .bind(hex_of(of.sender))
        .bind(tenant)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read claims"))?;
        rows.iter().map(|row| Ok((address_of(row.get("asset"))?, parsed("amount", row.get("amount"))?))).collect()
    }
}

/// Writes what an approval needs, in the commit that accepts it, and forgets those that have ended.
pub async fn put_claims(
    commit: &mut PgConnection,
    tenant: &str,
    of: Allowance,
    operation_id: Uuid,
    needs: &[(Address, U256)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM settlement.allowance_claims c WHERE c.chain_id = $1 AND c.contract = $2 AND c.sender = $3 AND NOT EXISTS (
             SELECT FROM engine.operations o WHERE o.tenant = $4 AND o.operation_id = c.operation_id AND o.state IN ('RUNNING', 'AWAITING_CHECKER'))",
    )
    .bind(signed(of.chain_id))
    .bind(hex_of(of.contract))
    .bind(hex_of(of.sender))
    .bind(tenant)
    .execute(&mut *commit)
    .await?;
    let (assets, amounts): (Vec<String>, Vec<String>) =
        needs.iter().map(|(asset, amount)| (hex_of(*asset), amount.to_string())).unzip();
    sqlx::query(
        "INSERT INTO settlement.allowance_claims (operation_id, chain_id, contract, sender, asset, amount)
         SELECT $1, $2, $3, $4, asset, amount::numeric FROM unnest($5::text[], $6::text[]) AS n(asset, amount)",
    )
    .bind(operation_id)
    .bind(signed(of.chain_id))
    .bind(hex_of(of.contract))
    .bind(hex_of(of.sender))
    .bind(assets)
    .bind(amounts)
    .execute(commit)
    .await
    .map(drop)
}
