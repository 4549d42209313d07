//! What happened on feeds, in one order per tenant.

use super::{Store, StoreError, address_of, during, hex_of, queue, signed, unsigned};
use alloy::primitives::Address;
use serde_json::Value;
use sqlx::{PgConnection, Row as _};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A round was accepted.
    Round,
    /// A round's block disappeared.
    Retracted,
    /// The latest observation became too old.
    Stale,
    /// A newer observation came.
    Fresh,
    /// A round's nonce does not follow the one before.
    NonceGap,
    /// An update was refused.
    Rejected,
    /// The next update of the last signer would be refused.
    SignerLost,
    /// It will be, once an operation that is under way is done.
    SignerLosing,
}

/// An event to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The tenant.
    pub tenant: String,
    /// The feed.
    pub feed: Address,
    /// What happened.
    pub kind: EventKind,
    /// The round, or the details of an alert.
    pub body: Value,
}

/// A written event.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its number among the tenant's.
    pub number: u64,
    /// The feed.
    pub feed: Address,
    /// What happened.
    pub kind: EventKind,
    /// The round, or the details of an alert.
    pub body: Value,
}

/// Which events of a tenant are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Up to here they were deleted.
    pub before: u64,
    /// The newest one.
    pub newest: u64,
}

// === impl EventKind ===

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Round,
        Self::Retracted,
        Self::Stale,
        Self::Fresh,
        Self::NonceGap,
        Self::Rejected,
        Self::SignerLost,
        Self::SignerLosing,
    ];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Retracted => "retracted",
            Self::Stale => "stale",
            Self::Fresh => "fresh",
            Self::NonceGap => "nonce_gap",
            Self::Rejected => "rejected",
            Self::SignerLost => "signer_lost",
            Self::SignerLosing => "signer_losing",
        }
    }
}

impl Store {
    /// Events of a tenant behind a number, in order; of some feeds, or of all when none is named.
    pub async fn events(
        &self,
        tenant: &str,
        chain_id: u64,
        after: u64,
        feeds: &[Address],
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, feed, kind, body FROM feeds.events
             WHERE tenant_id = $1 AND chain_id = $2 AND number > $3 AND (cardinality($4::text[]) = 0 OR feed = ANY($4))
             ORDER BY number LIMIT $5",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(signed(after))
        .bind(feeds.iter().copied().map(hex_of).collect::<Vec<_>>())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read events"))?;
        rows.iter()
            .map(|row| {
                let name: String = row.get("kind");
                let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == name);
                Ok(StoredEvent {
                    number: unsigned(row.get("number")),
                    feed: address_of(row.get("feed"))?,
                    kind: kind.ok_or(StoreError::Malformed { what: "event kind", value: name })?,
                    body: row.get("body"),
                })
            })
            .collect()
    }

    /// Which events of a tenant are kept.
    pub async fn kept_events(&self, tenant: &str, chain_id: u64) -> Result<Kept, StoreError> {
        let row = sqlx::query("SELECT kept_from, next FROM feeds.event_heads WHERE tenant_id = $1 AND chain_id = $2")
            .bind(tenant)
            .bind(signed(chain_id))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read event head"))?;
        let Some(row) = row else { return Ok(Kept { before: 0, newest: 0 }) };
        let (kept_from, next) = (unsigned(row.get("kept_from")), unsigned(row.get("next")));
        Ok(Kept { before: kept_from.saturating_sub(1), newest: next.saturating_sub(1) })
    }

    /// Deletes events that are older than `keep`, some at a time. How many.
    pub async fn trim_events(&self, chain_id: u64, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        let trimmed = sqlx::query(
            "WITH old AS (SELECT tenant_id, max(number) AS number
                          FROM (SELECT tenant_id, number FROM feeds.events
                                WHERE chain_id = $1 AND at < now() - make_interval(secs => $2) ORDER BY at LIMIT $3) o
                          GROUP BY tenant_id),
                  heads AS (UPDATE feeds.event_heads h SET kept_from = old.number + 1 FROM old
                            WHERE h.tenant_id = old.tenant_id AND h.chain_id = $1 RETURNING h.tenant_id, h.kept_from)
             DELETE FROM feeds.events e USING heads h
             WHERE e.tenant_id = h.tenant_id AND e.chain_id = $1 AND e.number < h.kept_from",
        )
        .bind(signed(chain_id))
        .bind(keep.as_secs_f64())
        .bind(i64::from(limit))
        .execute(&self.pool)
        .await
        .map_err(during("trim events"))?;
        Ok(trimmed.rows_affected())
    }

    /// Takes an operation that is final out of the queue, and tells of its refused updates in the same commit. What it told.
    pub async fn leave_queue(
        &self,
        tenant: &str,
        chain_id: u64,
        operation_id: Uuid,
        rejected: impl Fn(usize) -> Option<Value> + Send,
    ) -> Result<usize, StoreError> {
        let mut commit = self.begin("leave queue").await?;
        let left = queue::leave(&mut commit, tenant, operation_id).await?;
        let told = left.into_iter().filter_map(|(feed, item)| {
            let body = rejected(item)?;
            Some(NewEvent { tenant: tenant.to_owned(), feed, kind: EventKind::Rejected, body })
        });
        let told: Vec<NewEvent> = told.collect();
        write(&mut commit, signed(chain_id), &told).await?;
        commit.commit().await.map_err(during("leave queue"))?;
        Ok(told.len())
    }
}

/// Writes events with the next numbers of their tenants, in the given order; their commit holds the tenants' heads.
pub(super) async fn write(commit: &mut PgConnection, chain: i64, events: &[NewEvent]) -> Result<(), StoreError> {
    let mut by_tenant: BTreeMap<&str, Vec<&NewEvent>> = BTreeMap::new();
    for event in events {
        by_tenant.entry(event.tenant.as_str()).or_default().push(event);
    }
    for (tenant, events) in by_tenant {
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let next: i64 = sqlx::query_scalar(
            "INSERT INTO feeds.event_heads AS h (tenant_id, chain_id, next) VALUES ($1, $2, $3 + 1)
             ON CONFLICT (tenant_id, chain_id) DO UPDATE SET next = h.next + $3 RETURNING next",
        )
        .bind(tenant)
        .bind(chain)
        .bind(count)
        .fetch_one(&mut *commit)
        .await
        .map_err(during("number events"))?;
        sqlx::query(
            "INSERT INTO feeds.events (tenant_id, chain_id, number, feed, kind, body)
             SELECT $1, $2, $3 + place - 1, feed, kind, body
             FROM unnest($4::text[], $5::text[], $6::jsonb[]) WITH ORDINALITY AS e(feed, kind, body, place)",
        )
        .bind(tenant)
        .bind(chain)
        .bind(next - count)
        .bind(events.iter().map(|event| hex_of(event.feed)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind.name()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| &event.body).collect::<Vec<_>>())
        .execute(&mut *commit)
        .await
        .map_err(during("write events"))?;
    }
    Ok(())
}
