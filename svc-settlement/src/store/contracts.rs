//! The settlement contracts of tenants.

use super::Store;
use alloy::primitives::Address;
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed};
use sqlx::Row as _;

/// A tenant's contract as the indexer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedContract {
    /// It.
    pub contract: Address,
    /// Whose it is.
    pub tenant: String,
    /// Whether the log was read up to the cursor.
    pub followed: bool,
}

impl Store {
    /// Remembers a tenant's contract; from here on the indexer follows it. Whether it is the tenant's: the first one that names a
    /// contract holds it.
    pub async fn put_contract(&self, tenant: &str, chain_id: u64, contract: Address) -> Result<bool, StoreError> {
        let put = "INSERT INTO contracts (chain_id, contract, tenant_id) VALUES ($1, $2, $3)
                   ON CONFLICT (chain_id, contract) DO UPDATE SET tenant_id = contracts.tenant_id RETURNING tenant_id";
        let row = sqlx::query(put)
            .bind(signed(chain_id))
            .bind(hex_of(contract))
            .bind(tenant)
            .fetch_one(&self.pool)
            .await
            .map_err(during("write contract"))?;
        Ok(row.get::<String, _>("tenant_id") == tenant)
    }

    /// Every contract of every tenant on a chain.
    pub async fn contracts(&self, chain_id: u64) -> Result<Vec<FollowedContract>, StoreError> {
        let rows =
            sqlx::query("SELECT contract, tenant_id, followed FROM contracts WHERE chain_id = $1 ORDER BY contract")
                .bind(signed(chain_id))
                .fetch_all(&self.pool)
                .await
                .map_err(during("read contracts"))?;
        rows.iter()
            .map(|row| {
                Ok(FollowedContract {
                    contract: address_of(row.get("contract"))?,
                    tenant: row.get("tenant_id"),
                    followed: row.get("followed"),
                })
            })
            .collect()
    }
}
