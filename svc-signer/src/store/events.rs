//! Events of custodians: each wakes the look at what it names, once.

use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::providers::{
    ProviderKind,
    hook::{Event, Named},
};

/// So many events past their time are removed with each one that is written.
const PRUNED_AT_ONCE: i64 = 100;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Woken {
    /// These requests are due now.
    Requests(Vec<Uuid>),
    /// It names none that waits. Nothing was written.
    Nothing,
    /// It came before. Nothing was written.
    Before,
}

// === impl Store ===

impl Store {
    /// Makes the open requests that an event names due, in one commit with the note that it came. An event that names none leaves no note:
    /// what others can send must not fill the table. Whoever asks about a request right now keeps the turn, and looks once more.
    pub async fn wake(
        &self,
        provider: ProviderKind,
        event: &Event,
        kept_until: OffsetDateTime,
    ) -> Result<Woken, StoreError> {
        let named = |external: bool| -> Vec<&str> {
            let wanted = |named: &&Named| matches!(named, Named::External(_)) == external;
            event.names.iter().filter(wanted).map(Named::as_str).collect()
        };
        let work = async {
            let mut tx = self.pool.begin().await?;
            let before: bool = sqlx::query_scalar(
                "select exists (select from signer.provider_events where provider = $1 and event_id = $2)",
            )
            .bind(provider.as_str())
            .bind(&event.id)
            .fetch_one(&mut *tx)
            .await?;
            if before {
                return Ok(Woken::Before);
            }
            let rows = sqlx::query(
                "update signer.custody_attempts attempt
                 set heard_at = now(), looks = 0, woken = coalesce(attempt.asked_until > now(), false),
                    due_at = case when attempt.asked_until > now() then attempt.due_at else now() end
                 from signer.requests request
                 where attempt.provider = $1 and attempt.ended_at is null
                    and (attempt.external_id = any($2) or attempt.provider_id = any($3))
                    and request.request_id = attempt.request_id and request.status in ('PENDING', 'BLOCKED')
                 returning attempt.request_id",
            )
            .bind(provider.as_str())
            .bind(named(true))
            .bind(named(false))
            .fetch_all(&mut *tx)
            .await?;
            if rows.is_empty() {
                return Ok(Woken::Nothing);
            }
            let noted = sqlx::query(
                "insert into signer.provider_events (provider, event_id, kind, kept_until) values ($1, $2, $3, $4)
                 on conflict do nothing",
            )
            .bind(provider.as_str())
            .bind(&event.id)
            .bind(&event.kind)
            .bind(kept_until)
            .execute(&mut *tx)
            .await?;
            if noted.rows_affected() == 0 {
                // Another replica took it meanwhile; what was done here is taken back with the transaction.
                return Ok(Woken::Before);
            }
            sqlx::query(
                "delete from signer.provider_events where (provider, event_id) in (
                    select provider, event_id from signer.provider_events where kept_until < now()
                    order by kept_until limit $1 for update skip locked)",
            )
            .bind(PRUNED_AT_ONCE)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            let woken = rows.iter().map(|row| row.try_get("request_id")).collect::<Result<_, _>>()?;
            Ok(Woken::Requests(woken))
        };
        self.patience.within(work).await
    }
}
