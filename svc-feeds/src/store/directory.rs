//! Feeds and which of them speaks for a pair, as the log told.

use super::{Store, StoreError, address_of, during, hash_of, hex_of, parsed, signed, topic_text, unsigned};
use crate::domain::feed::{History, Pair, SignedTerms, Terms};
use alloy::primitives::{Address, U256};
use sqlx::{Row as _, postgres::PgRow};

/// A feed that stands, or stood, in a tenant's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFeed {
    /// Its address.
    pub feed: Address,
    /// What it is pinned to.
    pub terms: Terms,
    /// Seconds after which it counts as stale; none: not watched.
    pub stale_after_s: Option<u64>,
}

/// The feed that speaks for a pair now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The feed.
    pub feed: StoredFeed,
    /// How many feeds the pair had before.
    pub phase: u32,
    /// Since when.
    pub since_block: u64,
    /// The pair's adapter for the feed's decimals.
    pub adapter: Option<Address>,
}

const FEED: &str =
    "SELECT f.*, w.stale_after_s FROM feeds.feeds f LEFT JOIN feeds.watched w USING (tenant_id, chain_id, feed)
     WHERE f.tenant_id = $1 AND f.chain_id = $2 AND f.feed = $3";

const ENTRIES: &str = "SELECT f.feed, r.subject, r.topic_id, f.decimals, f.description, f.registry, f.schema_hash, f.history_mode,
            f.history_size, f.require_positive, f.drift_allowance_s, w.stale_after_s, r.phase, r.since_block, a.adapter
     FROM feeds.registrations r
     JOIN feeds.feeds f USING (tenant_id, chain_id, feed)
     LEFT JOIN feeds.watched w USING (tenant_id, chain_id, feed)
     LEFT JOIN feeds.adapters a ON a.tenant_id = r.tenant_id AND a.chain_id = r.chain_id AND a.subject = r.subject
           AND a.topic_id = r.topic_id AND a.decimals = f.decimals
     WHERE r.tenant_id = $1 AND r.chain_id = $2 AND r.until_block IS NULL
       AND ($3::text IS NULL OR r.subject = $3) AND ($4::text IS NULL OR r.topic_id = $4) AND (r.subject, r.topic_id) > ($5, $6)
     ORDER BY r.subject, r.topic_id LIMIT $7";

impl Store {
    /// A feed of the tenant.
    pub async fn feed(&self, tenant: &str, chain_id: u64, feed: Address) -> Result<Option<StoredFeed>, StoreError> {
        sqlx::query(FEED)
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(feed))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read feed"))?
            .map(|row| parse_feed(&row))
            .transpose()
    }

    /// The feed that speaks for a pair now.
    pub async fn entry(&self, tenant: &str, chain_id: u64, pair: Pair) -> Result<Option<DirectoryEntry>, StoreError> {
        let found = self.select(tenant, chain_id, Some(pair.subject), Some(pair.topic_id), None, 1).await?;
        Ok(found.into_iter().next())
    }

    /// Pairs that have a feed, by subject and topic, behind one.
    pub async fn entries(
        &self,
        tenant: &str,
        chain_id: u64,
        subject: Option<Address>,
        after: Option<Pair>,
        limit: u32,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        self.select(tenant, chain_id, subject, None, after, limit).await
    }

    async fn select(
        &self,
        tenant: &str,
        chain_id: u64,
        subject: Option<Address>,
        topic: Option<U256>,
        after: Option<Pair>,
        limit: u32,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        let rows = sqlx::query(ENTRIES)
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(subject.map(hex_of))
            .bind(topic.map(topic_text))
            .bind(after.map(|pair| hex_of(pair.subject)).unwrap_or_default())
            .bind(after.map(|pair| topic_text(pair.topic_id)).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(during("read directory"))?;
        rows.iter()
            .map(|row| {
                let adapter: Option<String> = row.get("adapter");
                Ok(DirectoryEntry {
                    feed: parse_feed(row)?,
                    phase: u32::try_from(row.get::<i32, _>("phase")).unwrap_or(0),
                    since_block: unsigned(row.get("since_block")),
                    adapter: adapter.map(address_of).transpose()?,
                })
            })
            .collect()
    }

    /// Sets after how long a feed counts as stale; `None` ends the watch. Whether it is stale is judged anew.
    pub async fn set_staleness(
        &self,
        tenant: &str,
        chain_id: u64,
        feed: Address,
        stale_after_s: Option<u64>,
    ) -> Result<(), StoreError> {
        let statement = match stale_after_s {
            Some(_) => {
                "INSERT INTO feeds.watched (tenant_id, chain_id, feed, stale_after_s) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (tenant_id, chain_id, feed) DO UPDATE SET stale_after_s = excluded.stale_after_s"
            }
            None => {
                "DELETE FROM feeds.watched WHERE tenant_id = $1 AND chain_id = $2 AND feed = $3 AND $4::bigint IS NULL"
            }
        };
        sqlx::query(statement)
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(feed))
            .bind(stale_after_s.map(signed))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(during("set staleness"))
    }
}

pub(super) fn parse_feed(row: &PgRow) -> Result<StoredFeed, StoreError> {
    let stale_after_s: Option<i64> = row.get("stale_after_s");
    Ok(StoredFeed {
        feed: address_of(row.get("feed"))?,
        terms: parse_terms(row)?,
        stale_after_s: stale_after_s.map(unsigned),
    })
}

pub(super) fn parse_terms(row: &PgRow) -> Result<Terms, StoreError> {
    let registry: Option<String> = row.get("registry");
    let signed = match registry {
        None => None,
        Some(registry) => {
            let (mode, size): (String, i64) = (row.get("history_mode"), row.get("history_size"));
            let history = History::of(&mode, u32::try_from(size).unwrap_or(0))
                .ok_or(StoreError::Malformed { what: "history mode", value: mode })?;
            Some(SignedTerms {
                registry: address_of(registry)?,
                schema_hash: hash_of(row.get("schema_hash"))?,
                history,
                require_positive: row.get("require_positive"),
                drift_allowance_s: u32::try_from(row.get::<i64, _>("drift_allowance_s")).unwrap_or(u32::MAX),
            })
        }
    };
    Ok(Terms {
        pair: Pair { subject: address_of(row.get("subject"))?, topic_id: parsed("topic", row.get("topic_id"))? },
        decimals: u8::try_from(row.get::<i16, _>("decimals")).unwrap_or(u8::MAX),
        description: row.get("description"),
        signed,
    })
}
