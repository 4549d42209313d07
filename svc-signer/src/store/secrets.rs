//! Sealed secrets of settlements.

use alloy::primitives::{Address, B256};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::core::reveal::{Purpose, SecretHash};

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// How it is hashed.
    pub kind: SecretHash,
    /// Its hash.
    pub hash: B256,
    /// It, sealed.
    pub sealed: Vec<u8>,
    /// What it was made for; absent: it was made before that was asked.
    pub purpose: Option<Purpose>,
}

// === impl Store ===

impl Store {
    /// Stores a secret, unless there is one of this id.
    pub async fn put_secret(
        &self,
        tenant: &str,
        id: Uuid,
        peer: &str,
        secret: &SealedSecret,
    ) -> Result<(), StoreError> {
        let put = async {
            sqlx::query(
                "insert into signer.settlement_secrets (tenant, secret_id, hash_kind, hash, sealed, peer, chain_id, contract, cutoff_s, movements)
                 values ($1, $2, $3, $4, $5, $6, $7::numeric, $8, $9::numeric, $10)
                 on conflict (tenant, secret_id) do nothing",
            )
            .bind(tenant)
            .bind(id)
            .bind(secret.kind.as_str())
            .bind(secret.hash.as_slice())
            .bind(&secret.sealed)
            .bind(peer)
            .bind(secret.purpose.map(|purpose| purpose.chain_id.to_string()))
            .bind(secret.purpose.map(|purpose| purpose.contract.to_vec()))
            .bind(secret.purpose.map(|purpose| purpose.cutoff_s.to_string()))
            .bind(secret.purpose.map(|purpose| purpose.movements.to_vec()))
            .execute(&self.pool)
            .await?;
            Ok(())
        };
        self.patience.within(put).await
    }

    /// A secret of a tenant.
    pub async fn secret(&self, tenant: &str, id: Uuid) -> Result<Option<SealedSecret>, StoreError> {
        let read = async {
            let row = sqlx::query(
                "select hash_kind, hash, sealed, chain_id::text, contract, cutoff_s::text, movements
                 from signer.settlement_secrets where tenant = $1 and secret_id = $2",
            )
            .bind(tenant)
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let hash: Vec<u8> = row.try_get("hash")?;
            Ok(Some(SealedSecret {
                kind: SecretHash::of_name(row.try_get("hash_kind")?).ok_or(StoreError::Damaged("hash kind"))?,
                hash: B256::try_from(hash.as_slice()).map_err(|_| StoreError::Damaged("hash"))?,
                sealed: row.try_get("sealed")?,
                purpose: purpose(&row)?,
            }))
        };
        self.patience.within(read).await
    }
}

fn purpose(row: &PgRow) -> Result<Option<Purpose>, StoreError> {
    let Some(chain_id) = row.try_get::<Option<String>, _>("chain_id")? else { return Ok(None) };
    let (contract, movements): (Vec<u8>, Vec<u8>) = (row.try_get("contract")?, row.try_get("movements")?);
    Ok(Some(Purpose {
        chain_id: chain_id.parse().map_err(|_| StoreError::Damaged("chain id"))?,
        contract: Address::try_from(contract.as_slice()).map_err(|_| StoreError::Damaged("contract"))?,
        cutoff_s: row.try_get::<String, _>("cutoff_s")?.parse().map_err(|_| StoreError::Damaged("cutoff"))?,
        movements: B256::try_from(movements.as_slice()).map_err(|_| StoreError::Damaged("movements"))?,
    }))
}
