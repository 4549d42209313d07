//! Admission: the request row and its watermark, in one statement for all that wait.
//!
//! The constraint on (tenant, chain, signer, nonce) decides who gets a nonce; no lock and no lease does. What the one statement does not take (a repeat, a
//! held nonce, a replacement, a rule with a rolling limit) is looked at one by one.

use std::collections::HashSet;

use alloy::primitives::Address;
use dalp_attestation::Attestation;
use sqlx::{PgTransaction, Row as _};
use uuid::Uuid;

use super::{
    Store, StoreError,
    attestations::Columns,
    requests::{NOT_ASKED, StoredRequest},
};
use crate::core::{
    payload::PayloadKind,
    watermark::{Claimant, Holder, may_replace},
};

/// Why a rule with a rolling limit refuses.
pub const LIMIT_USED_UP: &str = "the limit over time is used up";

/// A request on its way in; grant and policy have passed.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Its id.
    pub request_id: Uuid,
    /// Tenant.
    pub tenant: String,
    /// Key.
    pub signer: Address,
    /// The peer that asks.
    pub peer: String,
    /// Kind of payload.
    pub kind: PayloadKind,
    /// What makes it the same request.
    pub payload_hash: [u8; 32],
    /// What the key signs.
    pub digest: [u8; 32],
    /// Chain of a document or transaction.
    pub chain_id: Option<i64>,
    /// For transactions.
    pub lane: Option<LaneEntry>,
    /// For documents and claims: the payload, encoded.
    pub statement: Option<Vec<u8>>,
    /// The request it replaces.
    pub replaces: Option<Uuid>,
    /// The rule that allowed it.
    pub rule: String,
    /// Value in wei, decimal.
    pub value_wei: String,
    /// Limit of that rule in wei, decimal, and its window in seconds.
    pub rolling: Option<(String, u32)>,
    /// What the attestor said of it, if it was asked.
    pub attestation: Option<Attestation>,
}

/// What a transaction takes of its lane.
#[derive(Debug, Clone)]
pub struct LaneEntry {
    /// Nonce; `None` where the key's provider gives one, so that nothing of the lane is taken.
    pub nonce: Option<i64>,
    /// Hash over target, value and calldata.
    pub content_hash: [u8; 32],
    /// Whether it only cancels.
    pub is_cancel: bool,
    /// The transaction, encoded.
    pub unsigned_tx: Vec<u8>,
}

/// The answer to an admission.
#[derive(Debug, Clone)]
pub enum Admitted {
    /// Accepted and stored.
    New,
    /// Accepted before.
    Known(Box<StoredRequest>),
    /// The id stands for another payload, here what for, or for another peer's request.
    Reused(Option<Box<StoredRequest>>),
    /// The key was disabled meanwhile.
    Disabled,
    /// The nonce is held.
    Conflict {
        /// The nonce after the highest known one of the lane.
        next_nonce: i64,
    },
    /// The rule's limit over time is used up.
    LimitExceeded,
}

// === impl Admission ===

impl Admission {
    /// Whether what is stored under the id is this very request. A peer hears of its own requests only.
    fn answered_by(&self, known: StoredRequest) -> Admitted {
        if known.peer != self.peer {
            Admitted::Reused(None)
        } else if known.payload_hash == self.payload_hash {
            Admitted::Known(Box::new(known))
        } else {
            Admitted::Reused(Some(Box::new(known)))
        }
    }
}

// === impl Store ===

impl Store {
    /// Admits what can be admitted; answers in order.
    pub async fn admit(&self, batch: Vec<Admission>) -> Vec<Result<Admitted, StoreError>> {
        match self.patience.within(async { Ok(self.admit_each(&batch).await) }).await {
            Ok(answers) => answers,
            // What was admitted all the same is found by its id when it is asked for again.
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn admit_each(&self, batch: &[Admission]) -> Vec<Result<Admitted, StoreError>> {
        let mut seen = HashSet::new();
        let plain: Vec<&Admission> = batch
            .iter()
            .filter(|item| item.replaces.is_none() && item.rolling.is_none() && seen.insert(item.request_id))
            .collect();
        let accepted = match self.admit_plain(&plain).await {
            Ok(accepted) => accepted,
            // Someone else stored one of the ids in between, or one item cannot be stored: one by one it is seen which, and the others
            // do not suffer for it.
            Err(StoreError::Statement(_)) => HashSet::new(),
            Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut fresh = accepted;
        let mut answers = Vec::with_capacity(batch.len());
        for item in batch {
            answers.push(if fresh.remove(&item.request_id) {
                Ok(Admitted::New)
            } else {
                self.admit_carefully(item).await
            });
        }
        answers
    }

    async fn admit_plain(&self, items: &[&Admission]) -> Result<HashSet<Uuid>, StoreError> {
        if items.is_empty() {
            return Ok(HashSet::new());
        }
        let said: Vec<Option<Columns<'_>>> =
            items.iter().map(|item| item.attestation.as_ref().map(Columns::of)).collect();
        let lanes: Vec<Option<&LaneEntry>> = items.iter().map(|item| item.lane.as_ref()).collect();
        let rows = sqlx::query(
            "with item as (
                select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[],
                    $9::bigint[], $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::bytea[],
                    $15::bytea[], $16::bigint[], $17::bytea[], $18::bytea[], $19::text[], $20::bigint[])
                    as item (request_id, tenant, signer, peer, kind, payload_hash, digest, chain_id, nonce, content_hash, unsigned_tx, rule, value_wei,
                        statement, attestation, attested_block, attested_block_hash, attested_ruleset, attested_verdict, attested_until)
                where not exists (select from signer.requests known where known.request_id = item.request_id)
                    and exists (select from signer.keys key where key.address = item.signer and key.disabled_at is null)
             ), mark as (
                insert into signer.watermarks (tenant, chain_id, signer, nonce, request_id, content_hash)
                select tenant, chain_id, signer, nonce, request_id, content_hash from item where nonce is not null
                order by signer, chain_id, nonce
                on conflict do nothing
                returning request_id
             )
             insert into signer.requests (request_id, tenant, signer, peer, kind, payload_hash, digest, chain_id, nonce, content_hash, unsigned_tx,
                rule, value_wei, statement, attestation, attested_block, attested_block_hash, attested_ruleset, attested_verdict, attested_until)
             select request_id, tenant, signer, peer, kind, payload_hash, digest, chain_id, nonce, content_hash, unsigned_tx, rule, value_wei::numeric,
                statement, attestation, attested_block, attested_block_hash, attested_ruleset, attested_verdict, attested_until
             from item where nonce is null or request_id in (select request_id from mark)
             returning request_id",
        )
        .bind(items.iter().map(|item| item.request_id).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.tenant.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.signer.as_slice()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.peer.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.kind.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.payload_hash.as_slice()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.digest.as_slice()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.chain_id).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.and_then(|lane| lane.nonce)).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.map(|lane| lane.content_hash.as_slice())).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.map(|lane| lane.unsigned_tx.as_slice())).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.rule.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.value_wei.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.statement.as_deref()).collect::<Vec<_>>())
        .bind(said.iter().map(|said| said.map(|said| said.hash)).collect::<Vec<_>>())
        .bind(said.iter().map(|said| said.map(|said| said.block_number)).collect::<Vec<_>>())
        .bind(said.iter().map(|said| said.map(|said| said.block_hash)).collect::<Vec<_>>())
        .bind(said.iter().map(|said| said.map(|said| said.ruleset)).collect::<Vec<_>>())
        .bind(said.iter().map(|said| said.map(|said| said.verdict)).collect::<Vec<_>>())
        .bind(said.iter().map(|said| said.map(|said| said.until)).collect::<Vec<_>>())
        .fetch_all(&self.relaxed)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("request_id")?)).collect()
    }

    async fn admit_carefully(&self, item: &Admission) -> Result<Admitted, StoreError> {
        if let Some(known) = self.request(item.request_id).await? {
            return Ok(item.answered_by(known));
        }
        let mut tx = self.pool.begin().await?;
        // The key row serialises the careful cases of one key, also its rolling limits.
        let enabled =
            sqlx::query("select disabled_at is null as enabled from signer.keys where address = $1 for no key update")
                .bind(item.signer.as_slice())
                .fetch_optional(&mut *tx)
                .await?;
        if !enabled.map(|row| row.try_get("enabled")).transpose()?.unwrap_or(false) {
            return self.refused(tx, item, ("KEY_DISABLED", "the key is disabled"), Admitted::Disabled).await;
        }
        if let Some((limit_wei, window_s)) = &item.rolling
            && !within_limit(&mut tx, item, limit_wei, *window_s).await?
        {
            return self.refused(tx, item, ("POLICY_DENIED", LIMIT_USED_UP), Admitted::LimitExceeded).await;
        }
        if let (Some(lane), Some(chain_id)) = (&item.lane, item.chain_id)
            && let Some(nonce) = lane.nonce
            && !take_nonce(&mut tx, item, lane, (chain_id, nonce)).await?
        {
            let next_nonce = sqlx::query(
                "select coalesce(max(nonce) + 1, 0) as next_nonce from signer.watermarks where tenant = $1 and chain_id = $2 and signer = $3",
            )
            .bind(&item.tenant)
            .bind(chain_id)
            .bind(item.signer.as_slice())
            .fetch_one(&mut *tx)
            .await?
            .try_get("next_nonce")?;
            return Ok(Admitted::Conflict { next_nonce });
        }
        let inserted = insert(&mut tx, item, None).await?;
        if !inserted {
            drop(tx);
            let known = self.request(item.request_id).await?.ok_or(StoreError::Damaged("request just seen"))?;
            return Ok(item.answered_by(known));
        }
        tx.commit().await?;
        Ok(Admitted::New)
    }
}

impl Store {
    /// Stores a refusal, so that the same request asked again, by whom and when ever, is refused, too: its maker gives its
    /// nonce away. Returns what stands under the id already, if something does.
    pub async fn refuse(
        &self,
        item: &Admission,
        error: &str,
        detail: &str,
    ) -> Result<Option<StoredRequest>, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            let written = insert(&mut tx, item, Some((error, detail))).await?;
            tx.commit().await?;
            if written { Ok(None) } else { self.request(item.request_id).await }
        };
        self.patience.within(work).await
    }

    async fn refused(
        &self,
        mut tx: PgTransaction<'_>,
        item: &Admission,
        (error, detail): (&str, &str),
        answer: Admitted,
    ) -> Result<Admitted, StoreError> {
        let written = insert(&mut tx, item, Some((error, detail))).await?;
        tx.commit().await?;
        let known = if written { None } else { self.request(item.request_id).await? };
        Ok(known.map_or(answer, |known| item.answered_by(known)))
    }
}

/// Stores a request: accepted, or refused with an error and why. `false`: something stands under the id, or there is no such key.
async fn insert(
    tx: &mut PgTransaction<'_>,
    item: &Admission,
    refused: Option<(&str, &str)>,
) -> Result<bool, StoreError> {
    let (error, detail) = refused.unwrap_or((NOT_ASKED, ""));
    let said = item.attestation.as_ref().map(Columns::of);
    let written = sqlx::query(
        "insert into signer.requests (request_id, tenant, signer, peer, kind, payload_hash, digest, chain_id, nonce, content_hash,
            unsigned_tx, replaces, rule, value_wei, statement, status, error, detail, released, attestation, attested_block, attested_block_hash,
            attested_ruleset, attested_verdict, attested_until)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::numeric, $15,
            case when $18 then 'DENIED' else 'PENDING' end, $16, $17, $18, $19, $20, $21, $22, $23, $24
         where exists (select from signer.keys where address = $3) on conflict do nothing",
    )
    .bind(item.request_id)
    .bind(&item.tenant)
    .bind(item.signer.as_slice())
    .bind(&item.peer)
    .bind(item.kind.as_str())
    .bind(item.payload_hash.as_slice())
    .bind(item.digest.as_slice())
    .bind(item.chain_id)
    .bind(item.lane.as_ref().and_then(|lane| lane.nonce))
    .bind(item.lane.as_ref().map(|lane| lane.content_hash.as_slice()))
    .bind(item.lane.as_ref().map(|lane| lane.unsigned_tx.as_slice()))
    .bind(item.replaces)
    .bind(&item.rule)
    .bind(&item.value_wei)
    .bind(item.statement.as_deref())
    .bind(error)
    .bind(detail)
    .bind(refused.is_some())
    .bind(said.map(|said| said.hash))
    .bind(said.map(|said| said.block_number))
    .bind(said.map(|said| said.block_hash))
    .bind(said.map(|said| said.ruleset))
    .bind(said.map(|said| said.verdict))
    .bind(said.map(|said| said.until))
    .execute(&mut **tx)
    .await?;
    Ok(written.rows_affected() == 1)
}

async fn within_limit(
    tx: &mut PgTransaction<'_>,
    item: &Admission,
    limit_wei: &str,
    window_s: u32,
) -> Result<bool, StoreError> {
    // Refused requests moved nothing; everything else counts, also what is still undecided.
    let row = sqlx::query(
        "select coalesce(sum(value_wei), 0) + $4::numeric <= $5::numeric as within from signer.requests
         where signer = $1 and rule = $2 and value_wei > 0 and status not in ('DENIED', 'EXPIRED')
            and created_at > now() - make_interval(secs => $3)",
    )
    .bind(item.signer.as_slice())
    .bind(&item.rule)
    .bind(f64::from(window_s))
    .bind(&item.value_wei)
    .bind(limit_wei)
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.try_get("within")?)
}

async fn take_nonce(
    tx: &mut PgTransaction<'_>,
    item: &Admission,
    lane: &LaneEntry,
    (chain_id, nonce): (i64, i64),
) -> Result<bool, StoreError> {
    let free = sqlx::query(
        "insert into signer.watermarks (tenant, chain_id, signer, nonce, request_id, content_hash) values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing",
    )
    .bind(&item.tenant)
    .bind(chain_id)
    .bind(item.signer.as_slice())
    .bind(nonce)
    .bind(item.request_id)
    .bind(lane.content_hash.as_slice())
    .execute(&mut **tx)
    .await?;
    if free.rows_affected() == 1 {
        return Ok(true);
    }
    let row = sqlx::query(
        "select held.request_id, held.content_hash, exists (
            select from signer.requests named where named.request_id = $5 and named.tenant = held.tenant and named.chain_id = held.chain_id
                and named.signer = held.signer and named.nonce = held.nonce) as named
         from signer.watermarks held where tenant = $1 and chain_id = $2 and signer = $3 and nonce = $4 for update",
    )
    .bind(&item.tenant)
    .bind(chain_id)
    .bind(item.signer.as_slice())
    .bind(nonce)
    .bind(item.replaces)
    .fetch_optional(&mut **tx)
    .await?;
    // Released in between: the caller repeats and finds the nonce free.
    let Some(row) = row else { return Ok(false) };
    let holder = Holder {
        request_id: row.try_get("request_id")?,
        content_hash: row
            .try_get::<&[u8], _>("content_hash")?
            .try_into()
            .map_err(|_| StoreError::Damaged("content hash"))?,
    };
    let claimant = Claimant {
        content_hash: lane.content_hash,
        is_cancel: lane.is_cancel,
        names_the_held_nonce: row.try_get("named")?,
    };
    if !may_replace(&holder, claimant) {
        return Ok(false);
    }
    sqlx::query(
        "update signer.watermarks set request_id = $5, content_hash = $6 where tenant = $1 and chain_id = $2 and signer = $3 and nonce = $4",
    )
    .bind(&item.tenant)
    .bind(chain_id)
    .bind(item.signer.as_slice())
    .bind(nonce)
    .bind(item.request_id)
    .bind(lane.content_hash.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(true)
}
