//! Attempts at custodians: under which external id a request was handed over, and when to ask about it again.

use std::time::Duration;

use sqlx::Row as _;
use uuid::Uuid;

use super::{Leaf, Store, StoreError, write_leaves};
use crate::providers::{
    ProviderKind,
    custody::{Known, external_id},
};

/// The right to ask a custodian about a request, for as long as a call takes. Nobody else asks meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The request.
    pub request_id: Uuid,
    /// Number of the attempt.
    pub attempt: u16,
    /// The id under which the provider knows it.
    pub external_id: String,
    /// The provider's own id, once known.
    pub provider_id: Option<String>,
    /// Whether an earlier claim may have sent it.
    pub maybe_sent: bool,
    /// Looks in a row that found nothing new.
    pub looks: u32,
    /// What the provider said last.
    pub said: String,
    /// An event of the provider has named it: events arrive, and looks without one may be rare.
    pub heard: bool,
    /// It was asked to give it up, because the caller wants it so.
    pub withdrawal_asked: bool,
}

/// What a look at an attempt has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The provider's own id.
    pub provider_id: Option<&'a str>,
    /// Its words.
    pub said: &'a str,
    /// Its policy stopped the attempt.
    pub stopped: bool,
    /// Looks in a row that found nothing new, this one included.
    pub looks: u32,
    /// When to look again.
    pub pause: Duration,
}

// === impl Claim ===

impl Claim {
    /// What is remembered of the attempt.
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        match (&self.provider_id, self.maybe_sent) {
            (Some(id), _) => Known::Id(id),
            (None, true) => Known::MaybeSent,
            (None, false) => Known::Nothing,
        }
    }
}

// === impl Store ===

impl Store {
    /// Takes a request up for asking its custodian, in a first attempt if there is none. `None`: it is not due, or someone asks right now, or it is over.
    pub async fn claim(
        &self,
        request_id: Uuid,
        provider: ProviderKind,
        longest: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.claimed(request_id, provider, longest, false).await
    }

    /// As [`Self::claim`], also before the next look is due; not while someone asks.
    pub async fn claim_at_once(
        &self,
        request_id: Uuid,
        provider: ProviderKind,
        longest: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.claimed(request_id, provider, longest, true).await
    }

    async fn claimed(
        &self,
        request_id: Uuid,
        provider: ProviderKind,
        longest: Duration,
        at_once: bool,
    ) -> Result<Option<Claim>, StoreError> {
        let work = async {
            let first = external_id(request_id, 0);
            let begun = sqlx::query(
                "insert into signer.custody_attempts (request_id, attempt, provider, external_id, claims, due_at, asked_until)
                 select $1, 0, $2, $3, 1, now() + make_interval(secs => $4), now() + make_interval(secs => $4)
                 where not exists (select from signer.custody_attempts where request_id = $1)
                    and exists (select from signer.requests where request_id = $1 and status in ('PENDING', 'BLOCKED')) on conflict do nothing",
            )
            .bind(request_id)
            .bind(provider.as_str())
            .bind(&first)
            .bind(longest.as_secs_f64())
            .execute(&self.pool)
            .await?;
            if begun.rows_affected() == 1 {
                return Ok(Some(Claim {
                    request_id,
                    attempt: 0,
                    external_id: first,
                    provider_id: None,
                    maybe_sent: false,
                    looks: 0,
                    said: String::new(),
                    heard: false,
                    withdrawal_asked: false,
                }));
            }
            let row = sqlx::query(
                "update signer.custody_attempts attempt set claims = claims + 1, woken = false,
                    due_at = now() + make_interval(secs => $2), asked_until = now() + make_interval(secs => $2)
                 where attempt.request_id = $1 and attempt.ended_at is null
                    and (attempt.due_at <= now() or ($3 and coalesce(attempt.asked_until, '-infinity') <= now()))
                    and exists (select from signer.requests request where request.request_id = $1 and (request.status in ('PENDING', 'BLOCKED') or request.stage <> ''))
                 returning attempt, external_id, provider_id, claims, looks, said, heard_at is not null as heard, withdrawal_asked",
            )
            .bind(request_id)
            .bind(longest.as_secs_f64())
            .bind(at_once)
            .fetch_optional(&self.pool)
            .await?;
            row.map(|row| {
                Ok(Claim {
                    request_id,
                    attempt: u16::try_from(row.try_get::<i16, _>("attempt")?)
                        .map_err(|_| StoreError::Damaged("attempt"))?,
                    external_id: row.try_get("external_id")?,
                    provider_id: row.try_get("provider_id")?,
                    maybe_sent: row.try_get::<i32, _>("claims")? > 1,
                    looks: row.try_get::<i32, _>("looks")?.unsigned_abs(),
                    said: row.try_get("said")?,
                    heard: row.try_get("heard")?,
                    withdrawal_asked: row.try_get("withdrawal_asked")?,
                })
            })
            .transpose()
        };
        self.patience.within(work).await
    }

    /// Writes down that the provider is asked to give an attempt up, before it is.
    pub async fn ask_withdrawal(&self, claim: &Claim) -> Result<(), StoreError> {
        let work = async {
            sqlx::query(
                "update signer.custody_attempts set withdrawal_asked = true where request_id = $1 and attempt = $2",
            )
            .bind(claim.request_id)
            .bind(i16::try_from(claim.attempt).unwrap_or(i16::MAX))
            .execute(&self.pool)
            .await?;
            Ok(())
        };
        self.patience.within(work).await
    }

    /// Writes down what a look has found, and gives the claim back.
    pub async fn seen(&self, claim: &Claim, seen: &Seen<'_>) -> Result<(), StoreError> {
        let work = async {
            sqlx::query(
                "update signer.custody_attempts set provider_id = coalesce($3, provider_id), said = $4, stopped = $5, looks = $6,
                    due_at = case when woken then now() else now() + make_interval(secs => $7) end, asked_until = null, woken = false
                 where request_id = $1 and attempt = $2 and ended_at is null",
            )
            .bind(claim.request_id)
            .bind(i16::try_from(claim.attempt).unwrap_or(i16::MAX))
            .bind(seen.provider_id)
            .bind(seen.said)
            .bind(seen.stopped)
            .bind(i32::try_from(seen.looks).unwrap_or(i32::MAX))
            .bind(seen.pause.as_secs_f64())
            .execute(&self.pool)
            .await?;
            Ok(())
        };
        self.patience.within(work).await
    }

    /// Ends an attempt, and opens the next one under an external id of its own, due after a pause.
    pub async fn next_attempt(
        &self,
        claim: &Claim,
        provider_id: Option<&str>,
        said: &str,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            let ended = sqlx::query(
                "update signer.custody_attempts set ended_at = now(), said = $3, provider_id = coalesce($4, provider_id)
                 where request_id = $1 and attempt = $2 and ended_at is null returning provider",
            )
            .bind(claim.request_id)
            .bind(i16::try_from(claim.attempt).unwrap_or(i16::MAX))
            .bind(said)
            .bind(provider_id)
            .fetch_optional(&mut *tx)
            .await?;
            if let Some(ended) = ended {
                open(&mut tx, claim.request_id, claim.attempt + 1, ended.try_get("provider")?, pause).await?;
            }
            tx.commit().await?;
            Ok(())
        };
        self.patience.within(work).await
    }

    /// Makes a further attempt at a request that the provider's policy stopped, for an operator who has changed the policy. `false`: there is no
    /// such request, or it is not stopped.
    pub async fn retry_stopped(&self, request_id: Uuid) -> Result<bool, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            let ended = sqlx::query(
                "update signer.custody_attempts attempt set ended_at = now() from signer.requests request
                 where attempt.request_id = $1 and attempt.ended_at is null and attempt.stopped
                    and request.request_id = attempt.request_id and request.status = 'BLOCKED'
                 returning attempt.attempt, attempt.provider, request.tenant, request.signer",
            )
            .bind(request_id)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(ended) = ended else { return Ok(false) };
            let attempt = ended.try_get::<i16, _>("attempt")?.unsigned_abs() + 1;
            open(&mut tx, request_id, attempt, ended.try_get("provider")?, Duration::ZERO).await?;
            let leaf = Leaf {
                subject: "custody",
                tenant: ended.try_get("tenant")?,
                peer: "operator".to_owned(),
                signer: ended.try_get::<Vec<u8>, _>("signer")?.try_into().ok(),
                request_id: Some(request_id),
                decision: "retried",
                reason: external_id(request_id, attempt),
            };
            write_leaves(&mut *tx, &[leaf]).await?;
            tx.commit().await?;
            Ok(true)
        };
        self.patience.within(work).await
    }

    /// The open attempt of a request, without taking it up.
    pub async fn open_attempt(&self, request_id: Uuid) -> Result<Option<(String, Option<String>)>, StoreError> {
        let work = async {
            let row = sqlx::query(
                "select external_id, provider_id from signer.custody_attempts where request_id = $1 and ended_at is null",
            )
            .bind(request_id)
            .fetch_optional(&self.pool)
            .await?;
            row.map(|row| Ok((row.try_get("external_id")?, row.try_get("provider_id")?))).transpose()
        };
        self.patience.within(work).await
    }
}

async fn open(
    tx: &mut sqlx::PgTransaction<'_>,
    request_id: Uuid,
    attempt: u16,
    provider: String,
    pause: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into signer.custody_attempts (request_id, attempt, provider, external_id, due_at)
         values ($1, $2, $3, $4, now() + make_interval(secs => $5))",
    )
    .bind(request_id)
    .bind(i16::try_from(attempt).unwrap_or(i16::MAX))
    .bind(provider)
    .bind(external_id(request_id, attempt))
    .bind(pause.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
