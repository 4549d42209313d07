//! Systems of tenants and the names of their topics.

use super::{Store, StoreError, address_of, during, hex_of, signed};
use crate::domain::claim::TopicName;
use alloy::primitives::Address;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use uuid::Uuid;

/// Addresses of a tenant's system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemAddresses {
    /// Administrator.
    pub admin: Address,
    /// Address book and roles.
    pub system: Address,
    /// Identity registry.
    pub identity_registry: Address,
    /// Identity factory.
    pub identity_factory: Address,
    /// Topic schemes.
    pub topic_scheme_registry: Address,
    /// Asset factory.
    pub asset_factory: Address,
    /// Country rule.
    pub country_rule: Address,
    /// Claim rule.
    pub claim_rule: Address,
}

/// A system and the operation that deploys it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSystem {
    /// Where everything is, once deployed and read.
    pub addresses: Option<SystemAddresses>,
    /// The operation that deploys it.
    pub operation_id: Uuid,
    /// Who deploys it; unknown of old rows.
    pub admin: Option<Address>,
}

/// The name of the constraint that keeps a tenant to one system per chain.
pub(crate) const SYSTEM_CONSTRAINT: &str = "systems_pkey";

/// Takes the tenant's place on the chain; runs in the commit that accepts the deployment. `replaces` is an order that came to
/// nothing. When another order was faster the constraint refuses.
pub(crate) async fn claim(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    chain_id: u64,
    operation_id: Uuid,
    admin: Address,
    replaces: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM compliance.systems WHERE tenant_id = $1 AND chain_id = $2 AND operation_id = $3")
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(replaces)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO compliance.systems (tenant_id, chain_id, operation_id, admin) VALUES ($1, $2, $3, $4)")
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(operation_id)
        .bind(hex_of(admin))
        .execute(connection)
        .await
        .map(drop)
}

/// Remembers the name of a topic; runs in the commit that accepts its registration.
pub(crate) async fn put_topic(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    chain_id: u64,
    name: &TopicName,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO compliance.topics (tenant_id, chain_id, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(name.as_str())
        .execute(connection)
        .await
        .map(drop)
}

impl Store {
    /// The tenant's system on a chain, deployed or ordered.
    pub async fn system(&self, tenant: &str, chain_id: u64) -> Result<Option<StoredSystem>, StoreError> {
        let row = sqlx::query(
            "SELECT operation_id, addresses, admin FROM compliance.systems WHERE tenant_id = $1 AND chain_id = $2",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .fetch_optional(&self.pool)
        .await
        .map_err(during("read system"))?;
        let Some(row) = row else { return Ok(None) };
        let addresses: Option<serde_json::Value> = row.get("addresses");
        let parse = |value: serde_json::Value| {
            serde_json::from_value(value.clone())
                .map_err(|_| StoreError::Malformed { what: "system", value: value.to_string() })
        };
        let admin: Option<String> = row.get("admin");
        Ok(Some(StoredSystem {
            addresses: addresses.map(parse).transpose()?,
            operation_id: row.get("operation_id"),
            admin: admin.map(address_of).transpose()?,
        }))
    }

    /// Remembers where the system stands; from here on the indexer follows its asset factory.
    pub async fn put_addresses(
        &self,
        tenant: &str,
        chain_id: u64,
        operation_id: Uuid,
        addresses: &SystemAddresses,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_value(addresses)
            .map_err(|error| StoreError::Malformed { what: "system", value: error.to_string() })?;
        sqlx::query(
            "UPDATE compliance.systems SET addresses = $4, asset_factory = $5 WHERE tenant_id = $1 AND chain_id = $2 AND operation_id = $3",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(operation_id)
        .bind(json)
        .bind(hex_of(addresses.asset_factory))
        .execute(&self.pool)
        .await
        .map_err(during("write system"))?;
        Ok(())
    }

    /// The names of the tenant's topics.
    pub async fn topics(&self, tenant: &str, chain_id: u64) -> Result<Vec<TopicName>, StoreError> {
        let rows =
            sqlx::query("SELECT name FROM compliance.topics WHERE tenant_id = $1 AND chain_id = $2 ORDER BY name")
                .bind(tenant)
                .bind(signed(chain_id))
                .fetch_all(&self.pool)
                .await
                .map_err(during("list topics"))?;
        Ok(rows.into_iter().map(|row| TopicName::unchecked(row.get("name"))).collect())
    }
}
