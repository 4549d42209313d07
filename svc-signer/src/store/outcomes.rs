//! What becomes of accepted requests: their outcomes, how far a provider has brought them, nonces that are given back.

use std::collections::HashMap;

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    Leaf, Store, StoreError,
    requests::{Status, StoredRequest, columns, record},
    write_leaves,
};

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

// === impl Store ===

impl Store {
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
