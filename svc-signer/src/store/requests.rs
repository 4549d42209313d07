//! Accepted requests, as they are read. What changes them stands in `outcomes.rs`.

use alloy::primitives::Address;
use dalp_attestation::Attestation;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, attestations, kind_from};
use crate::{
    core::{
        digest::digest,
        payload::{Payload, PayloadKind},
    },
    providers::ProviderKind,
};

/// The five statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not decided yet.
    Pending,
    /// Signed.
    Approved,
    /// Refused for good.
    Denied,
    /// Not decided in time.
    Expired,
    /// Nothing moves until an operator acts.
    Blocked,
}

/// The error beside a status that is pending because the provider was not asked yet or cannot be reached. Nobody has to act. The database
/// gives it to a new request.
pub const NOT_ASKED: &str = "PROVIDER_UNAVAILABLE";

/// A stored request with its outcome.
#[derive(Debug, Clone)]
pub struct StoredRequest {
    /// Its id.
    pub request_id: Uuid,
    /// Tenant.
    pub tenant: String,
    /// Key.
    pub signer: Address,
    /// The peer that made it.
    pub peer: String,
    /// Kind of payload.
    pub kind: PayloadKind,
    /// What makes it the same request.
    pub payload_hash: [u8; 32],
    /// What the key signs.
    pub digest: [u8; 32],
    /// The payload as it was stored.
    pub payload: StoredPayload,
    /// Chain, where the payload names one.
    pub chain_id: Option<i64>,
    /// Nonce, for transactions.
    pub nonce: Option<i64>,
    /// How it stands.
    pub status: Status,
    /// r || s || v.
    pub signature: Option<Vec<u8>>,
    /// EIP-2718 bytes.
    pub signed_tx: Option<Vec<u8>>,
    /// Their hash.
    pub tx_hash: Option<Vec<u8>>,
    /// How far a provider that broadcasts by itself has brought it; else empty.
    pub stage: String,
    /// For people.
    pub detail: String,
    /// Typed error beside the status.
    pub error: String,
    /// What the attestor said of it last, if it was asked.
    pub attestation: Option<Attestation>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// When the hold began in which it stands or last stood.
    pub held_since: Option<OffsetDateTime>,
}

/// A payload as it was stored; read only when it is signed.
#[derive(Debug, Clone)]
pub enum StoredPayload {
    /// A transaction.
    Transaction(Vec<u8>),
    /// A document or a claim.
    Statement(Vec<u8>),
    /// Of a request that was concluded before payloads were kept.
    None,
}

/// What [`record`] reads.
macro_rules! columns {
    () => {
        "request_id, tenant, signer, peer, kind, payload_hash, digest, unsigned_tx, statement, chain_id, nonce, status, signature, signed_tx, tx_hash, stage,
            detail, error, created_at, updated_at, held_since, attestation, attested_block, attested_block_hash, attested_ruleset, attested_verdict, attested_until"
    };
}

pub(super) use columns;

macro_rules! select_requests {
    ($rest:literal) => {
        concat!("select ", columns!(), " from signer.requests ", $rest)
    };
}

// === impl Store ===

impl Store {
    /// Requests by id.
    pub async fn requests(&self, ids: &[Uuid]) -> Result<Vec<StoredRequest>, StoreError> {
        let work = async {
            let rows =
                sqlx::query(select_requests!("where request_id = any($1)")).bind(ids).fetch_all(&self.pool).await?;
            rows.iter().map(record).collect()
        };
        self.patience.within(work).await
    }

    /// Whether a key has signed a transaction of this content (target, value, calldata) on a chain. Reads the whole lane: for what is rare.
    pub async fn has_signed(
        &self,
        tenant: &str,
        signer: Address,
        chain_id: u64,
        content: [u8; 32],
    ) -> Result<bool, StoreError> {
        let read = async {
            let found: bool = sqlx::query_scalar(
                "select exists (select from signer.requests where signer = $1 and chain_id = $2 and nonce is not null
                    and tenant = $3 and content_hash = $4 and status = 'APPROVED')
                 or exists (select from signer.requests where signer = $1 and chain_id = $2 and nonce is null and kind = 'evm_transaction'
                    and tenant = $3 and content_hash = $4 and status = 'APPROVED')",
            )
            .bind(signer.as_slice())
            .bind(i64::try_from(chain_id).unwrap_or(i64::MAX))
            .bind(tenant)
            .bind(content.as_slice())
            .fetch_one(&self.pool)
            .await?;
            Ok(found)
        };
        self.patience.within(read).await
    }

    /// One request.
    pub async fn request(&self, id: Uuid) -> Result<Option<StoredRequest>, StoreError> {
        Ok(self.requests(&[id]).await?.pop())
    }

    /// Requests of a provider's keys that wait for a decision and have not been looked at since, oldest first; of a custodian's those that are due.
    pub async fn open_requests(
        &self,
        provider: ProviderKind,
        untouched_ms: i64,
        limit: i64,
    ) -> Result<Vec<StoredRequest>, StoreError> {
        let work = async {
            let sql = select_requests!(
                "request where status in ('PENDING', 'BLOCKED') and updated_at < now() - make_interval(secs => $1 / 1000.0)
                    and exists (select from signer.keys key where key.address = request.signer and key.provider = $3)
                    and not exists (select from signer.custody_attempts attempt
                        where attempt.request_id = request.request_id and attempt.ended_at is null and attempt.due_at > now())
                 order by updated_at limit $2"
            );
            sqlx::query(sql)
                .bind(untouched_ms as f64)
                .bind(limit)
                .bind(provider.as_str())
                .fetch_all(&self.pool)
                .await?
                .iter()
                .map(record)
                .collect()
        };
        self.patience.within(work).await
    }

    /// Transaction requests of a lane from a nonce on, by nonce, then age.
    pub async fn intents(
        &self,
        tenant: &str,
        chain_id: i64,
        signer: Address,
        from_nonce: i64,
    ) -> Result<Vec<StoredRequest>, StoreError> {
        let work = async {
            let sql = select_requests!(
                "where tenant = $1 and chain_id = $2 and signer = $3 and nonce >= $4 order by nonce, created_at, request_id limit 10000"
            );
            sqlx::query(sql)
                .bind(tenant)
                .bind(chain_id)
                .bind(signer.as_slice())
                .bind(from_nonce)
                .fetch_all(&self.pool)
                .await?
                .iter()
                .map(record)
                .collect()
        };
        self.patience.within(work).await
    }
}

pub(super) fn record(row: &PgRow) -> Result<StoredRequest, StoreError> {
    let hash = |name: &str| -> Result<[u8; 32], StoreError> {
        row.try_get::<&[u8], _>(name)?.try_into().map_err(|_| StoreError::Damaged("hash"))
    };
    let payload = match (row.try_get("unsigned_tx")?, row.try_get("statement")?) {
        (Some(transaction), _) => StoredPayload::Transaction(transaction),
        (None, Some(statement)) => StoredPayload::Statement(statement),
        (None, None) => StoredPayload::None,
    };
    Ok(StoredRequest {
        request_id: row.try_get("request_id")?,
        tenant: row.try_get("tenant")?,
        signer: Address::try_from(row.try_get::<&[u8], _>("signer")?).map_err(|_| StoreError::Damaged("address"))?,
        peer: row.try_get("peer")?,
        kind: kind_from(row.try_get("kind")?)?,
        payload_hash: hash("payload_hash")?,
        digest: hash("digest")?,
        payload,
        chain_id: row.try_get("chain_id")?,
        nonce: row.try_get("nonce")?,
        status: Status::from_stored(row.try_get("status")?)?,
        signature: row.try_get("signature")?,
        signed_tx: row.try_get("signed_tx")?,
        tx_hash: row.try_get("tx_hash")?,
        stage: row.try_get("stage")?,
        detail: row.try_get("detail")?,
        error: row.try_get("error")?,
        attestation: attestations::of(row)?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        held_since: row.try_get("held_since")?,
    })
}

// === impl StoredRequest ===

impl StoredRequest {
    /// The payload, proven to be what was accepted: its digest is computed again. What does not fit is never signed, so that a row somebody
    /// changed does not become a signature.
    pub fn payload(&self) -> Result<Payload, StoreError> {
        let payload = match &self.payload {
            StoredPayload::Transaction(bytes) => serde_json::from_slice(bytes).map(Payload::Transaction),
            StoredPayload::Statement(bytes) => serde_json::from_slice(bytes),
            StoredPayload::None => return Err(StoreError::Damaged("a request without its payload")),
        };
        let payload = payload.map_err(|_| StoreError::Damaged("the payload of a request"))?;
        match digest(&payload) {
            Ok(found) if found == self.digest => Ok(payload),
            Ok(_) | Err(_) => Err(StoreError::Damaged("the digest of a request is not that of its payload")),
        }
    }
}

// === impl Status ===

impl Status {
    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Denied => "DENIED",
            Self::Expired => "EXPIRED",
            Self::Blocked => "BLOCKED",
        }
    }

    /// Whether it never changes any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Approved | Self::Denied | Self::Expired)
    }

    fn from_stored(name: &str) -> Result<Self, StoreError> {
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Blocked]
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or(StoreError::Damaged("status"))
    }
}
