//! The feed contracts of tenants.

use super::{Store, StoreError, address_of, during, hex_of, signed};
use alloy::primitives::Address;
use sqlx::{Row as _, postgres::PgRow};

/// The feed contracts of a tenant, and what they rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSystem {
    /// Address book and roles.
    pub system: Address,
    /// Which feed speaks for a pair.
    pub directory: Address,
    /// Creates issuer-signed feeds.
    pub factory: Address,
    /// Many updates in one transaction.
    pub batch: Address,
    /// Identities and trusted issuers.
    pub identity_registry: Address,
    /// Topics.
    pub topic_schemes: Address,
}

/// The feed contracts of a tenant as the indexer sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedSystem {
    /// The tenant.
    pub tenant: String,
    /// Its contracts.
    pub system: FeedSystem,
    /// Whether the log was read up to the cursor.
    pub followed: bool,
}

impl Store {
    /// The tenant's contracts, once they were seen.
    pub async fn system(&self, tenant: &str, chain_id: u64) -> Result<Option<FeedSystem>, StoreError> {
        sqlx::query("SELECT * FROM feeds.systems WHERE tenant_id = $1 AND chain_id = $2")
            .bind(tenant)
            .bind(signed(chain_id))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read system"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// Remembers a tenant's contracts; from here on the indexer follows them. Calls that see them first at the same time write the same row.
    ///
    /// # Errors
    /// When they are another tenant's.
    pub async fn put_system(&self, tenant: &str, chain_id: u64, system: &FeedSystem) -> Result<(), StoreError> {
        // Named without its constraint, or two that write at once would meet in the other one, which is an error.
        let written = sqlx::query(
            "INSERT INTO feeds.systems (tenant_id, chain_id, system, directory, factory, batch, identity_registry, topic_schemes)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(system.system))
        .bind(hex_of(system.directory))
        .bind(hex_of(system.factory))
        .bind(hex_of(system.batch))
        .bind(hex_of(system.identity_registry))
        .bind(hex_of(system.topic_schemes))
        .execute(&self.pool)
        .await
        .map_err(during("write system"))?;
        if written.rows_affected() == 0 && self.system(tenant, chain_id).await?.is_none() {
            return Err(StoreError::Malformed { what: "owner of a feed directory", value: hex_of(system.directory) });
        }
        Ok(())
    }

    /// Every tenant's contracts on a chain.
    pub async fn systems(&self, chain_id: u64) -> Result<Vec<FollowedSystem>, StoreError> {
        let rows = sqlx::query("SELECT * FROM feeds.systems WHERE chain_id = $1 ORDER BY tenant_id")
            .bind(signed(chain_id))
            .fetch_all(&self.pool)
            .await
            .map_err(during("read systems"))?;
        rows.iter()
            .map(|row| {
                Ok(FollowedSystem { tenant: row.get("tenant_id"), system: parse(row)?, followed: row.get("followed") })
            })
            .collect()
    }
}

fn parse(row: &PgRow) -> Result<FeedSystem, StoreError> {
    Ok(FeedSystem {
        system: address_of(row.get("system"))?,
        directory: address_of(row.get("directory"))?,
        factory: address_of(row.get("factory"))?,
        batch: address_of(row.get("batch"))?,
        identity_registry: address_of(row.get("identity_registry"))?,
        topic_schemes: address_of(row.get("topic_schemes"))?,
    })
}
