//! Sealed secrets of settlements.

use alloy::primitives::B256;
use sqlx::Row as _;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::core::reveal::SecretHash;

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// How it is hashed.
    pub kind: SecretHash,
    /// Its hash.
    pub hash: B256,
    /// It, sealed.
    pub sealed: Vec<u8>,
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
                "insert into signer.settlement_secrets (tenant, secret_id, hash_kind, hash, sealed, peer) values ($1, $2, $3, $4, $5, $6)
                 on conflict (tenant, secret_id) do nothing",
            )
            .bind(tenant)
            .bind(id)
            .bind(secret.kind.as_str())
            .bind(secret.hash.as_slice())
            .bind(&secret.sealed)
            .bind(peer)
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
                "select hash_kind, hash, sealed from signer.settlement_secrets where tenant = $1 and secret_id = $2",
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
            }))
        };
        self.patience.within(read).await
    }
}
