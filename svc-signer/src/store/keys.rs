//! Keys.

use std::{fmt, time::Duration};

use alloy::primitives::Address;
use secp256k1::PublicKey;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{Leaf, Store, StoreError, write_leaves};
use crate::{
    core::{payload::PayloadKind, signature::address_of},
    providers::{KeyName, KeyTier, NewKey, ProviderKind},
};

/// A key with its metadata.
#[derive(Clone)]
pub struct KeyRecord {
    /// Its address.
    pub address: Address,
    /// Tenant and wallet.
    pub name: KeyName,
    /// Who holds it.
    pub provider: ProviderKind,
    /// What guards it, since its creation.
    pub tier: KeyTier,
    /// Its public half.
    pub public_key: PublicKey,
    /// What the provider needs to find it.
    pub material: Vec<u8>,
    /// The principal who may use it.
    pub owner: String,
    /// Whether it signs nothing more.
    pub disabled: bool,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// Position in lists.
    pub number: i64,
    /// What it may sign.
    pub purpose: KeyPurpose,
}

/// What a key may sign. It is given at the creation and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// Whatever grants and policy allow, but audit roots.
    General,
    /// Audit roots of its tenant, and nothing else.
    AuditRoot,
}

/// Under what a CreateKey is repeated.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Tenant and wallet.
    pub name: KeyName,
    /// Who asks.
    pub principal: String,
    /// Who may use it.
    pub owner: String,
    /// The idempotency key.
    pub idempotency_key: String,
    /// Hash of the request.
    pub payload_hash: [u8; 32],
    /// What it may sign.
    pub purpose: KeyPurpose,
}

/// What an idempotency key stands for.
#[derive(Debug)]
pub enum Earlier {
    /// Nothing yet.
    None,
    /// This key.
    Same(KeyRecord),
    /// Another request.
    Other,
}

/// The outcome of storing a new key.
#[derive(Debug)]
pub enum Stored {
    /// It is there.
    Key(KeyRecord),
    /// Another key has the wallet name.
    WalletTaken,
    /// The idempotency key was used meanwhile, for another wallet.
    IdempotencyKeyUsed,
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the material: sealed or not, it does not belong into a log.
        formatter
            .debug_struct("KeyRecord")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("provider", &self.provider)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// The columns of [`record`].
macro_rules! select_keys {
    ($rest:literal) => {
        concat!("select address, tenant, wallet, provider, public_key, material, owner, created_at, disabled_at, number, purpose, tier from signer.keys ", $rest)
    };
}

// === impl Store ===

impl Store {
    /// The key of an address, whatever its tenant.
    pub async fn key(&self, address: Address) -> Result<Option<KeyRecord>, StoreError> {
        let work = async {
            sqlx::query(select_keys!("where address = $1"))
                .bind(address.as_slice())
                .fetch_optional(&self.pool)
                .await?
                .map(|row| record(&row))
                .transpose()
        };
        self.patience.within(work).await
    }

    /// Keys of a tenant after a position, oldest first; only those of one owner, if given.
    pub async fn keys(
        &self,
        tenant: &str,
        owner: Option<&str>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let work = async {
            sqlx::query(select_keys!(
                "where tenant = $1 and number > $2 and ($4::text is null or owner = $4) order by number limit $3"
            ))
            .bind(tenant)
            .bind(after)
            .bind(limit)
            .bind(owner)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(record)
            .collect()
        };
        self.patience.within(work).await
    }

    /// The keys that were made for the audit roots of a tenant, oldest first.
    pub async fn audit_keys(&self, tenant: &str) -> Result<Vec<KeyRecord>, StoreError> {
        let work = async {
            sqlx::query(select_keys!("where tenant = $1 and purpose = 'audit_root' order by number"))
                .bind(tenant)
                .fetch_all(&self.pool)
                .await?
                .iter()
                .map(record)
                .collect()
        };
        self.patience.within(work).await
    }

    /// What the idempotency key of a creation stands for.
    pub async fn earlier_creation(&self, creation: &Creation) -> Result<Earlier, StoreError> {
        let work = async {
            let row = sqlx::query(
                "select address, payload_hash from signer.key_creations where tenant = $1 and principal = $2 and idempotency_key = $3",
            )
            .bind(&creation.name.tenant)
            .bind(&creation.principal)
            .bind(&creation.idempotency_key)
            .fetch_optional(&self.pool)
            .await?;
            let Some(row) = row else { return Ok(Earlier::None) };
            if row.try_get::<Vec<u8>, _>("payload_hash")? != creation.payload_hash {
                return Ok(Earlier::Other);
            }
            let found =
                self.key(address(row.try_get("address")?)?).await?.ok_or(StoreError::Damaged("key of a creation"))?;
            Ok(Earlier::Same(found))
        };
        self.patience.within(work).await
    }

    /// Whether a wallet name is in use.
    pub async fn wallet_taken(&self, name: &KeyName) -> Result<bool, StoreError> {
        let work = async {
            Ok(sqlx::query("select 1 from signer.keys where tenant = $1 and wallet = $2")
                .bind(&name.tenant)
                .bind(&name.wallet)
                .fetch_optional(&self.pool)
                .await?
                .is_some())
        };
        self.patience.within(work).await
    }

    /// Reserves a wallet name while its key is made. False: someone else makes it right now.
    pub async fn reserve(&self, name: &KeyName, longest: Duration) -> Result<bool, StoreError> {
        let work = async {
            let reserved = sqlx::query(
                "insert into signer.key_reservations as held (tenant, wallet, reserved_until) values ($1, $2, now() + make_interval(secs => $3))
                 on conflict (tenant, wallet) do update set reserved_until = excluded.reserved_until where held.reserved_until <= now()",
            )
            .bind(&name.tenant)
            .bind(&name.wallet)
            .bind(longest.as_secs_f64())
            .execute(&self.pool)
            .await?;
            Ok(reserved.rows_affected() == 1)
        };
        self.patience.within(work).await
    }

    /// Gives a reservation back.
    pub async fn unreserve(&self, name: &KeyName) -> Result<(), StoreError> {
        let work = async {
            sqlx::query("delete from signer.key_reservations where tenant = $1 and wallet = $2")
                .bind(&name.tenant)
                .bind(&name.wallet)
                .execute(&self.pool)
                .await?;
            Ok(())
        };
        self.patience.within(work).await
    }

    /// Stores a new key, its idempotency row and its audit leaf in one commit.
    pub async fn insert_key(
        &self,
        creation: &Creation,
        (provider, tier): (ProviderKind, KeyTier),
        key: &NewKey,
    ) -> Result<Stored, StoreError> {
        let work = async {
            let key_address = address_of(&key.public_key);
            let mut tx = self.pool.begin().await?;
            let inserted = sqlx::query(
                "insert into signer.keys (address, tenant, wallet, provider, public_key, material, owner, purpose, tier)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
            )
            .bind(key_address.as_slice())
            .bind(&creation.name.tenant)
            .bind(&creation.name.wallet)
            .bind(provider.as_str())
            .bind(key.public_key.serialize_uncompressed().as_slice())
            .bind(&key.material)
            .bind(&creation.owner)
            .bind(creation.purpose.as_str())
            .bind(tier.as_str())
            .execute(&mut *tx)
            .await?;
            if inserted.rows_affected() == 0 {
                return Ok(Stored::WalletTaken);
            }
            let remembered = sqlx::query(
                "insert into signer.key_creations (tenant, principal, idempotency_key, payload_hash, address) values ($1, $2, $3, $4, $5)
                 on conflict do nothing",
            )
            .bind(&creation.name.tenant)
            .bind(&creation.principal)
            .bind(&creation.idempotency_key)
            .bind(creation.payload_hash.as_slice())
            .bind(key_address.as_slice())
            .execute(&mut *tx)
            .await?;
            if remembered.rows_affected() == 0 {
                return Ok(Stored::IdempotencyKeyUsed);
            }
            let leaf = key_leaf(
                &creation.name.tenant,
                &creation.principal,
                key_address,
                "created",
                creation.name.wallet.clone(),
            );
            write_leaves(&mut *tx, &[leaf]).await?;
            tx.commit().await?;
            let stored = self.key(key_address).await?.ok_or(StoreError::Damaged("key just stored"))?;
            Ok(Stored::Key(stored))
        };
        self.patience.within(work).await
    }

    /// Disables a key for ever. `None`: the tenant has no such key.
    pub async fn disable_key(
        &self,
        tenant: &str,
        principal: &str,
        key: Address,
        why: &str,
    ) -> Result<Option<KeyRecord>, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            let changed = sqlx::query(
                "update signer.keys set disabled_at = now(), disabled_why = $3 where address = $1 and tenant = $2 and disabled_at is null",
            )
            .bind(key.as_slice())
            .bind(tenant)
            .bind(why)
            .execute(&mut *tx)
            .await?;
            if changed.rows_affected() == 1 {
                write_leaves(&mut *tx, &[key_leaf(tenant, principal, key, "disabled", why.to_owned())]).await?;
            }
            tx.commit().await?;
            Ok(self.key(key).await?.filter(|found| found.name.tenant == tenant))
        };
        self.patience.within(work).await
    }
}

// === impl KeyPurpose ===

impl KeyPurpose {
    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::AuditRoot => "audit_root",
        }
    }

    /// Whether such a key signs payloads of a kind.
    #[must_use]
    pub fn allows(self, kind: PayloadKind) -> bool {
        (self == Self::AuditRoot) == (kind == PayloadKind::AuditRoot)
    }

    fn from_stored(name: &str) -> Result<Self, StoreError> {
        [Self::General, Self::AuditRoot]
            .into_iter()
            .find(|purpose| purpose.as_str() == name)
            .ok_or(StoreError::Damaged("purpose of a key"))
    }
}

fn key_leaf(tenant: &str, principal: &str, key: Address, decision: &'static str, reason: String) -> Leaf {
    Leaf {
        subject: "key",
        tenant: tenant.to_owned(),
        peer: principal.to_owned(),
        signer: Some(key.into_array()),
        request_id: None,
        decision,
        reason,
    }
}

fn record(row: &PgRow) -> Result<KeyRecord, StoreError> {
    let provider: String = row.try_get("provider")?;
    Ok(KeyRecord {
        address: address(row.try_get("address")?)?,
        name: KeyName { tenant: row.try_get("tenant")?, wallet: row.try_get("wallet")? },
        provider: provider.parse().map_err(|_| StoreError::Damaged("provider"))?,
        tier: KeyTier::of_stored(row.try_get("tier")?).ok_or(StoreError::Damaged("tier of a key"))?,
        public_key: PublicKey::from_slice(row.try_get("public_key")?).map_err(|_| StoreError::Damaged("public key"))?,
        material: row.try_get("material")?,
        owner: row.try_get("owner")?,
        disabled: row.try_get::<Option<OffsetDateTime>, _>("disabled_at")?.is_some(),
        created_at: row.try_get("created_at")?,
        number: row.try_get("number")?,
        purpose: KeyPurpose::from_stored(row.try_get("purpose")?)?,
    })
}

fn address(bytes: &[u8]) -> Result<Address, StoreError> {
    Address::try_from(bytes).map_err(|_| StoreError::Damaged("address"))
}
