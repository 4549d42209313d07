//! What the attestor said of requests, as columns.

use std::collections::HashSet;

use alloy::primitives::B256;
use dalp_attestation::{Attestation, Judgement, Verdict};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Store, StoreError};

/// An attestation as the columns of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) hash: &'a [u8],
    pub(super) block_number: i64,
    pub(super) block_hash: &'a [u8],
    pub(super) ruleset: &'a [u8],
    pub(super) verdict: &'static str,
    pub(super) until: i64,
}

// === impl Columns ===

impl<'a> Columns<'a> {
    pub(super) fn of(attestation: &'a Attestation) -> Self {
        let Attestation { judgement, hash } = attestation;
        Self {
            hash: hash.as_slice(),
            block_number: i64::try_from(judgement.block_number).unwrap_or(i64::MAX),
            block_hash: judgement.block_hash.as_slice(),
            ruleset: judgement.ruleset.as_slice(),
            verdict: judgement.verdict.as_str(),
            until: i64::try_from(judgement.expires_at_s).unwrap_or(i64::MAX),
        }
    }
}

/// Reads it back. Its hash is not believed: it is computed again before the attestation is used.
pub(super) fn of(row: &PgRow) -> Result<Option<Attestation>, StoreError> {
    let Some(hash) = row.try_get::<Option<&[u8]>, _>("attestation")? else { return Ok(None) };
    let word = |bytes: &[u8]| B256::try_from(bytes).map_err(|_| StoreError::Damaged("hash of an attestation"));
    let verdict = Verdict::from_stored(row.try_get("attested_verdict")?).ok_or(StoreError::Damaged("verdict"))?;
    let judgement = Judgement {
        verdict,
        block_number: row.try_get::<i64, _>("attested_block")?.unsigned_abs(),
        block_hash: word(row.try_get("attested_block_hash")?)?,
        ruleset: word(row.try_get("attested_ruleset")?)?,
        expires_at_s: row.try_get::<i64, _>("attested_until")?.unsigned_abs(),
    };
    Ok(Some(Attestation { judgement, hash: word(hash)? }))
}

// === impl Store ===

impl Store {
    /// Those among these ids that stand for a request.
    pub async fn known(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let work = async {
            let rows = sqlx::query("select request_id from signer.requests where request_id = any($1)")
                .bind(ids)
                .fetch_all(&self.pool)
                .await?;
            rows.iter().map(|row| Ok(row.try_get("request_id")?)).collect()
        };
        self.patience.within(work).await
    }

    /// Puts a later attestation in the place of the one that a request has, with an audit leaf.
    pub async fn reattest(&self, request_id: Uuid, attestation: &Attestation) -> Result<(), StoreError> {
        let said = Columns::of(attestation);
        let work = async {
            sqlx::query(
                "with changed as (
                    update signer.requests set attestation = $2, attested_block = $3, attested_block_hash = $4, attested_ruleset = $5,
                        attested_verdict = $6, attested_until = $7
                    where request_id = $1 and status in ('PENDING', 'BLOCKED')
                    returning *
                 )
                 insert into signer.audit_leaves (subject, tenant, peer, signer, request_id, decision, reason, leaf)
                 select 'attestation', tenant, peer, signer, request_id, lower(attested_verdict), '0x' || encode(attestation, 'hex'),
                    sha256(convert_to('dalp.signer.attestation.v1 ' || request_id || ' ' || attested_verdict || ' ', 'utf8') || payload_hash || attestation)
                 from changed",
            )
            .bind(request_id)
            .bind(said.hash)
            .bind(said.block_number)
            .bind(said.block_hash)
            .bind(said.ruleset)
            .bind(said.verdict)
            .bind(said.until)
            .execute(&self.pool)
            .await?;
            Ok(())
        };
        self.patience.within(work).await
    }
}
