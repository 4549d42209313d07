//! Wallets as tenants created them.

use super::{Store, StoreError, during, read};
use crate::wallet::commands::{CreateWallet, WalletConfig};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{address_of, hash_of, hex_of, signed, unsigned};
use serde_json::json;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;

/// A wallet as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWallet {
    /// Later ones are higher.
    pub number: i64,
    /// Its chain.
    pub chain_id: u64,
    /// Its address.
    pub wallet: Address,
    /// For people.
    pub name: String,
    /// What its address follows from, with the salt.
    pub config: WalletConfig,
    /// Tells wallets of the same settings apart.
    pub salt: B256,
    /// The principal that created it.
    pub created_by: String,
    /// When.
    pub created_at: OffsetDateTime,
}

impl Store {
    /// Notes a wallet. False: it, or one of its name, is noted already.
    pub async fn create_wallet(
        &self,
        tenant: &str,
        principal: &str,
        chain_id: u64,
        wallet: Address,
        command: &CreateWallet,
    ) -> Result<bool, StoreError> {
        let failed = || during("create smart wallet");
        let config = json!(command.config);
        let mut commit = self.begin("create smart wallet").await?;
        let created = sqlx::query(
            "INSERT INTO compliance.smart_wallets (tenant_id, chain_id, wallet, name, config, salt, created_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(wallet))
        .bind(&command.name)
        .bind(&config)
        .bind(command.salt.to_string())
        .bind(principal)
        .execute(&mut *commit)
        .await
        .map_err(failed())?
        .rows_affected()
            == 1;
        if created {
            let body = json!({"name": command.name, "chain_id": chain_id, "config": config});
            let subject = wallet.to_checksum(None);
            dalp_engine::audit_leaf(&mut commit, tenant, "wallet.create", principal, &subject, body)
                .await
                .map_err(failed())?;
            commit.commit().await.map_err(failed())?;
        }
        Ok(created)
    }

    /// A wallet of a tenant.
    pub async fn wallet(
        &self,
        tenant: &str,
        chain_id: u64,
        wallet: Address,
    ) -> Result<Option<StoredWallet>, StoreError> {
        sqlx::query("SELECT * FROM compliance.smart_wallets WHERE tenant_id = $1 AND chain_id = $2 AND wallet = $3")
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(wallet))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read smart wallet"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// Wallets of a tenant below a number, newest first.
    pub async fn wallets(&self, tenant: &str, below: i64, limit: u32) -> Result<Vec<StoredWallet>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM compliance.smart_wallets WHERE tenant_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3",
        )
        .bind(tenant)
        .bind(below)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list smart wallets"))?;
        rows.iter().map(parse).collect()
    }
}

fn parse(row: &PgRow) -> Result<StoredWallet, StoreError> {
    Ok(StoredWallet {
        number: row.get("number"),
        chain_id: unsigned(row.get("chain_id")),
        wallet: address_of(row.get("wallet"))?,
        name: row.get("name"),
        config: read("wallet's settings", row.get("config"))?,
        salt: hash_of(row.get("salt"))?,
        created_by: row.get("created_by"),
        created_at: row.get("created_at"),
    })
}
