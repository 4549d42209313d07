//! The indexed log, kept by one replica at a time.

use super::{
    Store, StoreError, address_of, directory, during,
    events::{self, EventKind, NewEvent},
    hex_of,
    rounds::{self, StoredRound},
    signed, topic_text,
};
use crate::domain::feed::{Pair, Terms};
use alloy::primitives::Address;
use dalp_chain::BlockRef;
use dalp_domain::indexing::{drop_blocks, put_blocks};
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

/// Something that a tenant's directory told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryLog {
    /// The tenant.
    pub tenant: String,
    /// Its block.
    pub block: u64,
    /// Of which pair.
    pub pair: Pair,
    /// What.
    pub told: Told,
}

/// What a directory tells of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A feed speaks for the pair from now on.
    Speaks {
        /// The feed.
        feed: Address,
        /// How many feeds the pair had before.
        phase: u16,
    },
    /// No feed does.
    Silent,
    /// The pair has an adapter.
    Adapter {
        /// It.
        adapter: Address,
        /// Of feeds with these decimals.
        decimals: u8,
    },
}

/// A feed seen in a directory for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFeed {
    /// The tenant.
    pub tenant: String,
    /// The feed.
    pub feed: Address,
    /// What it is pinned to.
    pub terms: Terms,
    /// Block of its registration.
    pub block: u64,
}

/// Everything a batch of blocks changes.
#[derive(Debug, Default)]
pub struct IndexBatch {
    /// Everything above this block is withdrawn first; `None` in `Some` withdraws all.
    pub rewind_to: Option<Option<u64>>,
    /// Applied blocks.
    pub blocks: Vec<BlockRef>,
    /// Tenants whose contracts are followed from now on.
    pub followed: Vec<String>,
    /// Feeds seen.
    pub feeds: Vec<SeenFeed>,
    /// What directories told, in order.
    pub directory: Vec<DirectoryLog>,
    /// Accepted rounds with tenant and feed, in order.
    pub rounds: Vec<(String, Address, StoredRound)>,
}

/// Terms of feeds by address, for each tenant whose directory named them.
pub type KnownFeeds = BTreeMap<Address, Vec<(String, Terms)>>;

impl Store {
    /// What is known of the addresses as feeds.
    pub async fn known_feeds(&self, chain_id: u64, addresses: &BTreeSet<Address>) -> Result<KnownFeeds, StoreError> {
        let rows = sqlx::query("SELECT * FROM feeds.feeds WHERE chain_id = $1 AND feed = ANY($2)")
            .bind(signed(chain_id))
            .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await
            .map_err(during("find feeds"))?;
        let mut known = KnownFeeds::new();
        for row in rows {
            let feed = address_of(row.get("feed"))?;
            known.entry(feed).or_default().push((row.get("tenant_id"), directory::parse_terms(&row)?));
        }
        Ok(known)
    }

    /// Commits a batch with its cursor, if this replica still holds the lease. How many rounds of it do not follow the issuer's one
    /// before.
    pub async fn commit_index(&self, chain_id: u64, owner: &str, batch: &IndexBatch) -> Result<usize, StoreError> {
        let mut commit = self.begin_index(chain_id, owner).await?;
        let chain = signed(chain_id);
        let mut told = match batch.rewind_to {
            Some(to) => {
                drop_blocks(&mut commit, chain_id, to).await?;
                retract(&mut commit, chain, to.map_or(-1, signed)).await?
            }
            None => Vec::new(),
        };
        for feed in &batch.feeds {
            put_feed(&mut commit, chain, feed).await?;
        }
        for log in &batch.directory {
            put_told(&mut commit, chain, log).await?;
        }
        put_rounds(&mut commit, chain, &batch.rounds).await?;
        told.extend(batch.rounds.iter().map(|(tenant, feed, round)| event(tenant, *feed, EventKind::Round, round)));
        let gaps = gaps(&mut commit, chain, &batch.rounds).await?;
        let missed = gaps.len();
        told.extend(gaps);
        events::write(&mut commit, chain, &told).await?;
        sqlx::query("UPDATE feeds.systems SET followed = true WHERE chain_id = $1 AND tenant_id = ANY($2)")
            .bind(chain)
            .bind(&batch.followed)
            .execute(&mut *commit)
            .await
            .map_err(during("follow systems"))?;
        put_blocks(&mut commit, chain_id, &batch.blocks).await?;
        commit.commit().await.map_err(during("commit index"))?;
        Ok(missed)
    }
}

fn event(tenant: &str, feed: Address, kind: EventKind, round: &StoredRound) -> NewEvent {
    let body = serde_json::to_value(round).unwrap_or_default();
    NewEvent { tenant: tenant.to_owned(), feed, kind, body }
}

/// Takes back what stands in blocks above one, and tells of the rounds among it.
async fn retract(commit: &mut PgConnection, chain: i64, above: i64) -> Result<Vec<NewEvent>, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM feeds.rounds WHERE chain_id = $1 AND block_number > $2
         RETURNING tenant_id, feed, round_id, value::text AS value, observed_at, issuer, signer, nonce, deadline::text AS deadline,
                   signature, block_number, tx_hash",
    )
    .bind(chain)
    .bind(above)
    .fetch_all(&mut *commit)
    .await
    .map_err(during("retract rounds"))?;
    let mut gone = Vec::with_capacity(rows.len());
    for row in rows {
        let (tenant, feed): (String, Address) = (row.get("tenant_id"), address_of(row.get("feed"))?);
        gone.push((tenant, feed, rounds::parse(row)?));
    }
    gone.sort_by_key(|(_, feed, round)| (*feed, std::cmp::Reverse(round.round_id)));
    for statement in [
        "DELETE FROM feeds.registrations WHERE chain_id = $1 AND since_block > $2",
        "UPDATE feeds.registrations SET until_block = NULL WHERE chain_id = $1 AND until_block > $2",
        "DELETE FROM feeds.adapters WHERE chain_id = $1 AND since_block > $2",
        "DELETE FROM feeds.feeds WHERE chain_id = $1 AND since_block > $2",
    ] {
        sqlx::query(statement).bind(chain).bind(above).execute(&mut *commit).await.map_err(during("retract blocks"))?;
    }
    Ok(gone.iter().map(|(tenant, feed, round)| event(tenant, *feed, EventKind::Retracted, round)).collect())
}

async fn put_feed(commit: &mut PgConnection, chain: i64, seen: &SeenFeed) -> Result<(), StoreError> {
    let Terms { pair, decimals, description, signed: pinned } = &seen.terms;
    let pinned = pinned.as_ref();
    sqlx::query(
        "INSERT INTO feeds.feeds (tenant_id, chain_id, feed, subject, topic_id, decimals, description, registry, schema_hash,
                                  history_mode, history_size, require_positive, drift_allowance_s, since_block)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING",
    )
    .bind(&seen.tenant)
    .bind(chain)
    .bind(hex_of(seen.feed))
    .bind(hex_of(pair.subject))
    .bind(topic_text(pair.topic_id))
    .bind(i16::from(*decimals))
    .bind(description)
    .bind(pinned.map(|terms| hex_of(terms.registry)))
    .bind(pinned.map(|terms| format!("{:#x}", terms.schema_hash)))
    .bind(pinned.map(|terms| terms.history.name()))
    .bind(pinned.map(|terms| i64::from(terms.history.size())))
    .bind(pinned.map(|terms| terms.require_positive))
    .bind(pinned.map(|terms| i64::from(terms.drift_allowance_s)))
    .bind(signed(seen.block))
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("index feed"))
}

async fn put_told(commit: &mut PgConnection, chain: i64, log: &DirectoryLog) -> Result<(), StoreError> {
    let DirectoryLog { tenant, block, pair, told } = log;
    let (subject, topic, block) = (hex_of(pair.subject), topic_text(pair.topic_id), signed(*block));
    if !matches!(told, Told::Adapter { .. }) {
        sqlx::query(
            "UPDATE feeds.registrations SET until_block = $5
             WHERE tenant_id = $1 AND chain_id = $2 AND subject = $3 AND topic_id = $4 AND until_block IS NULL",
        )
        .bind(tenant)
        .bind(chain)
        .bind(&subject)
        .bind(&topic)
        .bind(block)
        .execute(&mut *commit)
        .await
        .map_err(during("end registration"))?;
    }
    let written =
        match told {
            Told::Silent => return Ok(()),
            Told::Speaks { feed, phase } => {
                sqlx::query(
                    "INSERT INTO feeds.registrations (tenant_id, chain_id, subject, topic_id, phase, feed, since_block)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(tenant)
                .bind(chain)
                .bind(subject)
                .bind(topic)
                .bind(i32::from(*phase))
                .bind(hex_of(*feed))
                .bind(block)
                .execute(commit)
                .await
            }
            Told::Adapter { adapter, decimals } => sqlx::query(
                "INSERT INTO feeds.adapters (tenant_id, chain_id, subject, topic_id, decimals, adapter, since_block)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(tenant)
            .bind(chain)
            .bind(subject)
            .bind(topic)
            .bind(i16::from(*decimals))
            .bind(hex_of(*adapter))
            .bind(block)
            .execute(commit)
            .await,
        };
    written.map(drop).map_err(during("index directory"))
}

async fn put_rounds(
    commit: &mut PgConnection,
    chain: i64,
    rounds: &[(String, Address, StoredRound)],
) -> Result<(), StoreError> {
    if rounds.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&StoredRound) -> String| rounds.iter().map(|(_, _, round)| of(round)).collect::<Vec<_>>();
    let number = |of: fn(&StoredRound) -> u64| rounds.iter().map(|(_, _, round)| signed(of(round))).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO feeds.rounds (tenant_id, chain_id, feed, round_id, value, observed_at, issuer, signer, nonce, deadline, signature,
                                   block_number, tx_hash)
         SELECT tenant_id, $1, feed, round_id, value::numeric, observed_at, issuer, nullif(signer, ''), nonce, deadline::numeric,
                signature, block_number, tx_hash
         FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bigint[], $10::text[],
                     $11::bytea[], $12::bigint[], $13::text[])
           AS r(tenant_id, feed, round_id, value, observed_at, issuer, signer, nonce, deadline, signature, block_number, tx_hash)",
    )
    .bind(chain)
    .bind(rounds.iter().map(|(tenant, ..)| tenant.as_str()).collect::<Vec<_>>())
    .bind(rounds.iter().map(|(_, feed, _)| hex_of(*feed)).collect::<Vec<_>>())
    .bind(number(|round| round.round_id))
    .bind(column(|round| round.value.to_string()))
    .bind(number(|round| round.observed_at))
    .bind(column(|round| hex_of(round.issuer)))
    .bind(column(|round| round.signer.map(hex_of).unwrap_or_default()))
    .bind(number(|round| round.nonce))
    .bind(column(|round| round.deadline.to_string()))
    .bind(rounds.iter().map(|(_, _, round)| round.signature.to_vec()).collect::<Vec<_>>())
    .bind(number(|round| round.block))
    .bind(column(|round| format!("{:#x}", round.tx_hash)))
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("index rounds"))
}

/// Rounds among those just written whose nonce does not follow the issuer's one before: no feed accepts that, so rounds are missing here.
async fn gaps(
    commit: &mut PgConnection,
    chain: i64,
    rounds: &[(String, Address, StoredRound)],
) -> Result<Vec<NewEvent>, StoreError> {
    if rounds.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT g.tenant_id, g.feed, g.round_id, g.issuer, g.nonce, b.nonce AS before
         FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[]) AS g(tenant_id, feed, round_id, issuer, nonce)
         LEFT JOIN LATERAL (SELECT nonce FROM feeds.rounds r WHERE r.tenant_id = g.tenant_id AND r.chain_id = $1 AND r.feed = g.feed
                              AND r.issuer = g.issuer AND r.nonce < g.nonce ORDER BY r.nonce DESC LIMIT 1) b ON true
         WHERE coalesce(b.nonce, 0) <> g.nonce - 1",
    )
    .bind(chain)
    .bind(rounds.iter().map(|(tenant, ..)| tenant.as_str()).collect::<Vec<_>>())
    .bind(rounds.iter().map(|(_, feed, _)| hex_of(*feed)).collect::<Vec<_>>())
    .bind(rounds.iter().map(|(_, _, round)| signed(round.round_id)).collect::<Vec<_>>())
    .bind(rounds.iter().map(|(_, _, round)| hex_of(round.issuer)).collect::<Vec<_>>())
    .bind(rounds.iter().map(|(_, _, round)| signed(round.nonce)).collect::<Vec<_>>())
    .fetch_all(commit)
    .await
    .map_err(during("look for gaps"))?;
    rows.iter()
        .map(|row| {
            let issuer = address_of(row.get("issuer"))?;
            let before: Option<i64> = row.get("before");
            Ok(NewEvent {
                tenant: row.get("tenant_id"),
                feed: address_of(row.get("feed"))?,
                kind: EventKind::NonceGap,
                body: serde_json::json!({
                    "round_id": row.get::<i64, _>("round_id").to_string(),
                    "issuer": issuer.to_checksum(None),
                    "nonce": row.get::<i64, _>("nonce").to_string(),
                    "nonce_before": before.unwrap_or(0).to_string(),
                }),
            })
        })
        .collect()
}
