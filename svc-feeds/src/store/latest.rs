//! The latest values of feeds: the read that most consumers make, so what is asked for at the same time is read in one statement.

use super::{Store, StoreError, during, hex_of, parsed, signed, unsigned};
use alloy::primitives::{Address, I256};
use dalp_engine::group::{Group, Turns, group};
use dalp_service::stop::Stop;
use sqlx::Row as _;
use std::time::Duration;

/// A turn that takes longer is given up, or a connection that hangs would hold up all who come behind it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whose feed is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The tenant.
    pub tenant: String,
    /// The feed.
    pub feed: Address,
}

/// What the index knows of a feed's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// Decimals of the value.
    pub decimals: u8,
    /// Whether an issuer signs its rounds; those of an external feed stand on the chain only.
    pub is_signed: bool,
    /// Seconds after which the feed counts as stale; none: not watched.
    pub stale_after_s: Option<u64>,
    /// The latest round.
    pub round: Option<LatestRound>,
}

/// A round without what only auditors ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestRound {
    /// Number, from 1.
    pub round_id: u64,
    /// Value.
    pub value: I256,
    /// Unix seconds.
    pub observed_at: u64,
    /// Block.
    pub block: u64,
}

/// Where callers ask.
pub struct LatestReads(Group<Asked, Option<Latest>>);

/// The turns in which they are answered.
pub struct LatestTurns {
    store: Store,
    chain_id: u64,
    turns: Turns<Asked, Option<Latest>>,
}

// === impl LatestReads ===

impl LatestReads {
    /// Reads of these tables on a chain. Nobody is answered before the turns [run](LatestTurns::run).
    #[must_use]
    pub fn new(store: Store, chain_id: u64) -> (Self, LatestTurns) {
        let (reads, turns) = group();
        (Self(reads), LatestTurns { store, chain_id, turns })
    }

    /// What the index knows of a feed; none if the tenant's directory never named it. Never older than the call.
    pub async fn of(&self, tenant: &str, feed: Address) -> Result<Option<Latest>, StoreError> {
        let asked = Asked { tenant: tenant.to_owned(), feed };
        self.0.join(asked).await.map_err(|source| StoreError::Database { action: "read latest", source })
    }
}

// === impl LatestTurns ===

impl LatestTurns {
    /// Answers until it is stopped.
    pub async fn run(self, stop: Stop) {
        let Self { store, chain_id, turns } = self;
        turns
            .run(stop.token(), move |asked: &[Asked]| {
                let store = store.clone();
                Box::pin(async move {
                    let answer = tokio::time::timeout(ANSWER_WITHIN, store.latest(chain_id, asked)).await;
                    answer.map_err(|_| dalp_engine::StoreError::NoAnswer)?.map_err(of_engine)
                })
            })
            .await;
    }
}

// === impl Store ===

impl Store {
    /// What the index knows of some feeds, in the order in which they are asked for.
    pub async fn latest(&self, chain_id: u64, asked: &[Asked]) -> Result<Vec<Option<Latest>>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.place, f.decimals, f.registry IS NOT NULL AS is_signed, w.stale_after_s,
                    r.round_id, r.value::text AS value, r.observed_at, r.block_number
             FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a(tenant_id, feed, place)
             JOIN feeds.feeds f ON f.tenant_id = a.tenant_id AND f.chain_id = $1 AND f.feed = a.feed
             LEFT JOIN feeds.watched w ON w.tenant_id = a.tenant_id AND w.chain_id = $1 AND w.feed = a.feed
             LEFT JOIN LATERAL (SELECT round_id, value, observed_at, block_number FROM feeds.rounds r
                                WHERE r.tenant_id = a.tenant_id AND r.chain_id = $1 AND r.feed = a.feed
                                ORDER BY r.round_id DESC LIMIT 1) r ON true",
        )
        .bind(signed(chain_id))
        .bind(asked.iter().map(|one| one.tenant.as_str()).collect::<Vec<_>>())
        .bind(asked.iter().map(|one| hex_of(one.feed)).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("read latest"))?;
        let mut found = vec![None; asked.len()];
        for row in rows {
            let (place, stale_after_s): (i64, Option<i64>) = (row.get("place"), row.get("stale_after_s"));
            let round = match row.get::<Option<i64>, _>("round_id") {
                None => None,
                Some(round_id) => Some(LatestRound {
                    round_id: unsigned(round_id),
                    value: parsed("value", row.get("value"))?,
                    observed_at: unsigned(row.get("observed_at")),
                    block: unsigned(row.get("block_number")),
                }),
            };
            let latest = Latest {
                decimals: u8::try_from(row.get::<i16, _>("decimals")).unwrap_or(u8::MAX),
                is_signed: row.get("is_signed"),
                stale_after_s: stale_after_s.map(unsigned),
                round,
            };
            if let Some(answer) = usize::try_from(place - 1).ok().and_then(|place| found.get_mut(place)) {
                *answer = Some(latest);
            }
        }
        Ok(found)
    }
}

/// The group speaks of failures as the engine does.
fn of_engine(error: StoreError) -> dalp_engine::StoreError {
    match error {
        StoreError::Database { source, .. } => source,
        StoreError::Stopped => dalp_engine::StoreError::Stopped,
        other => dalp_engine::StoreError::Corrupt(other.to_string()),
    }
}
