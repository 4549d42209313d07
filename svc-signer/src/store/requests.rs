//! Accepted requests and their outcomes.

use std::collections::HashMap;

use alloy::primitives::Address;
use dalp_attestation::Attestation;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Leaf, Store, StoreError, attestations, kind_from, write_leaves};
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

/// A change of a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The request.
    pub request_id: Uuid,
    /// The status before it: a status that stays is no new decision and leaves no audit leaf.
    pub was: Status,
    /// The status after it.
    pub status: Status,
    /// r || s || v, once approved.
    pub signature: Option<Vec<u8>>,
    /// EIP-2718 bytes, for transactions.
    pub signed_tx: Option<Vec<u8>>,
    /// Their hash.
    pub tx_hash: Option<Vec<u8>>,
    /// How far a provider that broadcasts by itself has brought it; else empty.
    pub stage: &'static str,
    /// For people.
    pub detail: String,
    /// Typed error beside the status.
    pub error: &'static str,
}

/// The outcome of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The nonce is free, or with the request that held it before.
    Done,
    /// The peer made no such request.
    NotFound,
    /// The request is signed, or not finally refused.
    Held,
}

/// What [`record`] reads.
macro_rules! columns {
    () => {
        "request_id, tenant, signer, peer, kind, payload_hash, digest, unsigned_tx, statement, chain_id, nonce, status, signature, signed_tx, tx_hash, stage,
            detail, error, created_at, updated_at, held_since, attestation, attested_block, attested_block_hash, attested_ruleset, attested_verdict, attested_until"
    };
}

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

    /// Writes outcomes, with an audit leaf for each decision, in one statement and one commit. The first final outcome of a request stands; a
    /// later one, in these outcomes or in others, is dropped. The key's row is asked here once more: what a disabled key has signed is not released.
    /// Answers in order with each request as its row then stands, never with what was given; `None` where there is no such request.
    pub async fn conclude(&self, outcomes: &[Outcome]) -> Result<Vec<Option<StoredRequest>>, StoreError> {
        let work = async {
            let rows = sqlx::query(concat!(
                "with given as (
                    -- One outcome for each request: an update that finds several takes any of them.
                    select distinct on (request_id) * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::text[])
                        with ordinality as given (request_id, status, signature, signed_tx, tx_hash, detail, error, was, stage, place)
                    order by request_id, status in ('PENDING', 'BLOCKED'), place
                 ), changed as (
                    update signer.requests as request
                    set status = case when stopped then 'DENIED' else given.status end,
                        signature = case when stopped then null else given.signature end,
                        signed_tx = case when stopped then null else given.signed_tx end,
                        tx_hash = case when stopped then null else given.tx_hash end,
                        detail = case when stopped then 'the key is disabled' else given.detail end,
                        error = case when stopped then '' else given.error end,
                        stage = case when stopped then '' else given.stage end,
                        updated_at = now()
                    from given, signer.keys key, lateral (
                        select key.disabled_at is not null and given.status not in ('DENIED', 'EXPIRED') and given.stage = '' as stopped) as late
                    where request.request_id = given.request_id and key.address = request.signer and request.status in ('PENDING', 'BLOCKED')
                    returning request.*, given.was
                 ), leaves as (
                    insert into signer.audit_leaves (subject, tenant, peer, signer, request_id, decision, reason, leaf)
                    select 'sign', tenant, peer, signer, request_id, lower(status),
                        rule || coalesce(' attestation 0x' || encode(attestation, 'hex'), ''),
                        sha256(convert_to('dalp.signer.outcome.v1 ' || request_id || ' ' || status || ' ', 'utf8') || payload_hash
                            || coalesce(signature, tx_hash, '') || coalesce(attestation, ''))
                    from changed where status <> was
                 )
                 select ",
                columns!(),
                " from changed"
            ))
            .bind(outcomes.iter().map(|outcome| outcome.request_id).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.status.as_str()).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.signature.as_deref()).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.signed_tx.as_deref()).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.tx_hash.as_deref()).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.detail.as_str()).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.error).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.was.as_str()).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.stage).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
            let mut stands = HashMap::with_capacity(outcomes.len());
            for row in &rows {
                let request = record(row)?;
                stands.insert(request.request_id, request);
            }
            let missing: Vec<_> =
                outcomes.iter().map(|outcome| outcome.request_id).filter(|id| !stands.contains_key(id)).collect();
            if !missing.is_empty() {
                let found = self.requests(&missing).await?;
                stands.extend(found.into_iter().map(|found| (found.request_id, found)));
            }
            Ok(outcomes.iter().map(|outcome| stands.get(&outcome.request_id).cloned()).collect())
        };
        self.patience.within(work).await
    }

    /// Writes how far the provider has brought what it broadcasts by itself, under which hash. Answers with the request as it then stands.
    pub async fn progress(
        &self,
        request: &StoredRequest,
        stage: &str,
        hash: [u8; 32],
        said: &str,
    ) -> Result<StoredRequest, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            let changed = sqlx::query(concat!(
                "update signer.requests set stage = $2, tx_hash = $3, detail = $4, updated_at = now()
                 where request_id = $1 and status = 'APPROVED' and stage <> '' and (stage, tx_hash) is distinct from ($2, $3) returning ",
                columns!()
            ))
            .bind(request.request_id)
            .bind(stage)
            .bind(hash.as_slice())
            .bind(said)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(changed) = changed.as_ref().map(record).transpose()? else { return Ok(request.clone()) };
            let leaf = Leaf {
                subject: "sign",
                tenant: changed.tenant.clone(),
                peer: changed.peer.clone(),
                signer: Some(changed.signer.into_array()),
                request_id: Some(changed.request_id),
                decision: "followed",
                reason: format!("{} 0x{}", changed.stage, hex::encode(hash)),
            };
            write_leaves(&mut *tx, &[leaf]).await?;
            tx.commit().await?;
            Ok(changed)
        };
        self.patience.within(work).await
    }

    /// Frees the nonce of a finally refused transaction request.
    pub async fn release(&self, request_id: Uuid, peer: &str) -> Result<Released, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            // The key's row first, as whoever takes the nonce over does: neither sees half of what the other has done.
            sqlx::query(
                "select from signer.keys where address = (select signer from signer.requests where request_id = $1 and peer = $2)
                 for no key update",
            )
            .bind(request_id)
            .bind(peer)
            .execute(&mut *tx)
            .await?;
            let row = sqlx::query(
                "select tenant, chain_id, signer, nonce, status, released from signer.requests
                 where request_id = $1 and peer = $2 and nonce is not null for update",
            )
            .bind(request_id)
            .bind(peer)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = row else { return Ok(Released::NotFound) };
            if row.try_get("released")? {
                return Ok(Released::Done);
            }
            let status: String = row.try_get("status")?;
            if !matches!(status.as_str(), "DENIED" | "EXPIRED") {
                return Ok(Released::Held);
            }
            let (tenant, chain_id, signer, nonce): (String, i64, Vec<u8>, i64) =
                (row.try_get("tenant")?, row.try_get("chain_id")?, row.try_get("signer")?, row.try_get("nonce")?);
            sqlx::query("update signer.requests set released = true, updated_at = now() where request_id = $1")
                .bind(request_id)
                .execute(&mut *tx)
                .await?;
            // The nonce goes back to the youngest request that may still use it; with none left it is free.
            let heir = sqlx::query(
                "select request_id, content_hash from signer.requests
                 where tenant = $1 and chain_id = $2 and signer = $3 and nonce = $4 and not released
                 order by (status = 'APPROVED') desc, created_at desc limit 1",
            )
            .bind(&tenant)
            .bind(chain_id)
            .bind(&signer)
            .bind(nonce)
            .fetch_optional(&mut *tx)
            .await?;
            match heir {
                Some(heir) => {
                    sqlx::query(
                        "update signer.watermarks set request_id = $6, content_hash = $7
                         where tenant = $1 and chain_id = $2 and signer = $3 and nonce = $4 and request_id = $5",
                    )
                    .bind(&tenant)
                    .bind(chain_id)
                    .bind(&signer)
                    .bind(nonce)
                    .bind(request_id)
                    .bind(heir.try_get::<Uuid, _>("request_id")?)
                    .bind(heir.try_get::<Vec<u8>, _>("content_hash")?)
                    .execute(&mut *tx)
                    .await?;
                }
                None => {
                    sqlx::query(
                        "delete from signer.watermarks
                         where tenant = $1 and chain_id = $2 and signer = $3 and nonce = $4 and request_id = $5",
                    )
                    .bind(&tenant)
                    .bind(chain_id)
                    .bind(&signer)
                    .bind(nonce)
                    .bind(request_id)
                    .execute(&mut *tx)
                    .await?;
                }
            }
            let leaf = Leaf {
                subject: "sign",
                tenant,
                peer: peer.to_owned(),
                signer: signer.try_into().ok(),
                request_id: Some(request_id),
                decision: "released",
                reason: String::new(),
            };
            write_leaves(&mut *tx, &[leaf]).await?;
            tx.commit().await?;
            Ok(Released::Done)
        };
        self.patience.within(work).await
    }
}

fn record(row: &PgRow) -> Result<StoredRequest, StoreError> {
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
