//! What was found about exchanges: their events, and what of them needs somebody's attention.

use super::{
    Store,
    pairs::{StoredPair, put_event},
};
use dalp_domain::store::{StoreError, during, signed, unsigned};
use serde_json::{Value, json};
use sqlx::{Row as _, postgres::PgRow};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// Something that was found or decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPairEvent {
    /// Later ones are higher.
    pub number: i64,
    /// What.
    pub kind: String,
    /// Its circumstances.
    pub detail: Value,
    /// When.
    pub at: OffsetDateTime,
}

/// What needs attention, by kind and chain, in words.
pub type Needs = std::collections::BTreeMap<(&'static str, u64), String>;

/// What needs attention, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAttention {
    /// Later ones are higher.
    pub number: i64,
    /// The exchange.
    pub pair_id: Uuid,
    /// Its name.
    pub pair_name: String,
    /// What.
    pub kind: String,
    /// About which chain; 0: both.
    pub chain_id: u64,
    /// In words.
    pub detail: String,
    /// Since when.
    pub since: OffsetDateTime,
}

/// A read of what needs attention, beside what it is about.
macro_rules! attention_columns {
    ($rest:literal) => {
        concat!(
            "SELECT a.number, a.pair_id, p.command ->> 'name' AS name, a.kind, a.chain_id, a.detail, a.since
             FROM pair_attention a JOIN pairs p USING (pair_id) ",
            $rest
        )
    };
}

impl Store {
    /// At most so much of what was found and decided about an exchange, after a number, in order.
    pub async fn pair_events(&self, pair_id: Uuid, after: i64, limit: i64) -> Result<Vec<StoredPairEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, kind, detail, at FROM pair_events WHERE pair_id = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(pair_id)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read events"))?;
        Ok(rows.iter().map(event).collect())
    }

    /// At most so much of what was found and decided about an exchange last, in order.
    pub async fn last_pair_events(&self, pair_id: Uuid, limit: i64) -> Result<Vec<StoredPairEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, kind, detail, at FROM pair_events WHERE pair_id = $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(pair_id)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read events"))?;
        Ok(rows.iter().rev().map(event).collect())
    }

    /// Writes what needs attention now. What is new and what is over is told in events.
    pub async fn put_attention(&self, pair: &StoredPair, needs: &Needs) -> Result<(), StoreError> {
        let rows = sqlx::query("SELECT kind, chain_id, detail FROM pair_attention WHERE pair_id = $1")
            .bind(pair.pair_id)
            .fetch_all(&self.pool)
            .await
            .map_err(during("read attention"))?;
        let stood: std::collections::BTreeMap<(String, u64), String> =
            rows.iter().map(|row| ((row.get("kind"), unsigned(row.get("chain_id"))), row.get("detail"))).collect();
        let now: BTreeSet<(String, u64)> = needs.keys().map(|(kind, chain)| ((*kind).to_owned(), *chain)).collect();
        let same = stood.len() == needs.len()
            && needs.iter().all(|((kind, chain), detail)| stood.get(&((*kind).to_owned(), *chain)) == Some(detail));
        if same {
            return Ok(());
        }
        let mut commit = self.begin("write attention").await?;
        for ((kind, chain_id), detail) in needs {
            sqlx::query(
                "INSERT INTO pair_attention (pair_id, kind, chain_id, detail) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (pair_id, kind, chain_id) DO UPDATE SET detail = excluded.detail",
            )
            .bind(pair.pair_id)
            .bind(kind)
            .bind(signed(*chain_id))
            .bind(detail)
            .execute(&mut *commit)
            .await
            .map_err(during("write attention"))?;
            if !stood.contains_key(&((*kind).to_owned(), *chain_id)) {
                let told = json!({ "attention": kind, "chain_id": chain_id, "detail": detail });
                put_event(&mut commit, &pair.tenant, pair.pair_id, "raised", &told)
                    .await
                    .map_err(during("write attention"))?;
            }
        }
        for (kind, chain_id) in stood.keys().filter(|key| !now.contains(*key)) {
            sqlx::query("DELETE FROM pair_attention WHERE pair_id = $1 AND kind = $2 AND chain_id = $3")
                .bind(pair.pair_id)
                .bind(kind)
                .bind(signed(*chain_id))
                .execute(&mut *commit)
                .await
                .map_err(during("write attention"))?;
            let told = json!({ "attention": kind, "chain_id": chain_id });
            put_event(&mut commit, &pair.tenant, pair.pair_id, "cleared", &told)
                .await
                .map_err(during("write attention"))?;
        }
        commit.commit().await.map_err(during("write attention"))
    }

    /// What needs attention of an exchange, oldest first: each kind at most once per chain.
    pub async fn attention_of(&self, pair_id: Uuid) -> Result<Vec<StoredAttention>, StoreError> {
        let rows = sqlx::query(attention_columns!("WHERE a.pair_id = $1 ORDER BY a.number"))
            .bind(pair_id)
            .fetch_all(&self.pool)
            .await
            .map_err(during("read attention"))?;
        Ok(rows.iter().map(attention).collect())
    }

    /// At most so much of what needs attention of a tenant's exchanges, after a number, oldest first.
    pub async fn attention(&self, tenant: &str, after: i64, limit: i64) -> Result<Vec<StoredAttention>, StoreError> {
        let rows =
            sqlx::query(attention_columns!("WHERE p.tenant_id = $1 AND a.number > $2 ORDER BY a.number LIMIT $3"))
                .bind(tenant)
                .bind(after)
                .bind(limit)
                .fetch_all(&self.pool)
                .await
                .map_err(during("read attention"))?;
        Ok(rows.iter().map(attention).collect())
    }

    /// How many things of each kind need attention, of all tenants.
    pub async fn attention_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sqlx::query("SELECT kind, count(*) AS many FROM pair_attention GROUP BY kind")
            .fetch_all(&self.pool)
            .await
            .map_err(during("count attention"))?;
        Ok(rows.iter().map(|row| (row.get("kind"), row.get("many"))).collect())
    }
}

fn event(row: &PgRow) -> StoredPairEvent {
    StoredPairEvent { number: row.get("number"), kind: row.get("kind"), detail: row.get("detail"), at: row.get("at") }
}

fn attention(row: &PgRow) -> StoredAttention {
    StoredAttention {
        number: row.get("number"),
        pair_id: row.get("pair_id"),
        pair_name: row.get("name"),
        kind: row.get("kind"),
        chain_id: unsigned(row.get("chain_id")),
        detail: row.get("detail"),
        since: row.get("since"),
    }
}
