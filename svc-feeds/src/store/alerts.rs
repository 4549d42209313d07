//! What was told of feeds that need attention, so that it is told once.

use super::{
    Store, StoreError, address_of, during,
    events::{self, EventKind, NewEvent},
    hex_of, parsed, signed, unsigned,
};
use crate::domain::feed::Pair;
use alloy::primitives::Address;
use serde_json::json;
use sqlx::Row as _;
use uuid::Uuid;

/// Who signed the latest round of a feed that speaks for a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSigner {
    /// The tenant.
    pub tenant: String,
    /// The feed.
    pub feed: Address,
    /// What it is about.
    pub pair: Pair,
    /// Says which issuers are trusted.
    pub registry: Address,
    /// Identity of the issuer.
    pub issuer: Address,
    /// The key.
    pub signer: Address,
}

/// What endangers the last signer of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Danger {
    /// [`EventKind::SignerLost`] or [`EventKind::SignerLosing`].
    pub kind: EventKind,
    /// In words.
    pub why: &'static str,
    /// The operation that is under way.
    pub operation_id: Option<Uuid>,
}

impl Store {
    /// Compares the age of every watched feed's latest observation with its threshold, and tells where that changed. How many are
    /// stale.
    pub async fn judge_staleness(&self, chain_id: u64, now_s: u64) -> Result<usize, StoreError> {
        let mut commit = self.begin("judge staleness").await?;
        let rows = sqlx::query(
            "UPDATE feeds.watched w SET stale = s.stale
             FROM (SELECT tenant_id, chain_id, feed, l.observed_at, $2 - l.observed_at > stale_after_s AS stale
                   FROM feeds.watched v CROSS JOIN LATERAL
                        (SELECT observed_at FROM feeds.rounds r WHERE r.tenant_id = v.tenant_id AND r.chain_id = v.chain_id
                           AND r.feed = v.feed ORDER BY round_id DESC LIMIT 1) l
                   WHERE v.chain_id = $1) s
             WHERE w.tenant_id = s.tenant_id AND w.chain_id = s.chain_id AND w.feed = s.feed AND w.stale <> s.stale
             RETURNING w.tenant_id, w.feed, w.stale, w.stale_after_s, s.observed_at",
        )
        .bind(signed(chain_id))
        .bind(signed(now_s))
        .fetch_all(&mut *commit)
        .await
        .map_err(during("judge staleness"))?;
        let mut told = Vec::with_capacity(rows.len());
        for row in rows {
            let (observed_at, stale_after_s) = (unsigned(row.get("observed_at")), unsigned(row.get("stale_after_s")));
            told.push(NewEvent {
                tenant: row.get("tenant_id"),
                feed: address_of(row.get("feed"))?,
                kind: if row.get("stale") { EventKind::Stale } else { EventKind::Fresh },
                body: json!({
                    "observed_at": observed_at.to_string(),
                    "age_s": now_s.saturating_sub(observed_at).to_string(),
                    "stale_after_s": stale_after_s.to_string(),
                }),
            });
        }
        events::write(&mut commit, signed(chain_id), &told).await?;
        let stale: i64 = sqlx::query_scalar("SELECT count(*) FROM feeds.watched WHERE chain_id = $1 AND stale")
            .bind(signed(chain_id))
            .fetch_one(&mut *commit)
            .await
            .map_err(during("count stale feeds"))?;
        commit.commit().await.map_err(during("judge staleness"))?;
        Ok(usize::try_from(stale).unwrap_or(0))
    }

    /// Who signed last on every feed that speaks for a pair now.
    pub async fn last_signers(&self, chain_id: u64) -> Result<Vec<LastSigner>, StoreError> {
        let rows = sqlx::query(
            "SELECT f.tenant_id, f.feed, f.subject, f.topic_id, f.registry, l.issuer, l.signer
             FROM feeds.registrations g JOIN feeds.feeds f USING (tenant_id, chain_id, feed)
             CROSS JOIN LATERAL (SELECT issuer, signer FROM feeds.rounds r WHERE r.tenant_id = f.tenant_id
                                   AND r.chain_id = f.chain_id AND r.feed = f.feed ORDER BY round_id DESC LIMIT 1) l
             WHERE g.chain_id = $1 AND g.until_block IS NULL AND f.registry IS NOT NULL AND l.signer IS NOT NULL",
        )
        .bind(signed(chain_id))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read last signers"))?;
        rows.into_iter()
            .map(|row| {
                Ok(LastSigner {
                    tenant: row.get("tenant_id"),
                    feed: address_of(row.get("feed"))?,
                    pair: Pair {
                        subject: address_of(row.get("subject"))?,
                        topic_id: parsed("topic", row.get("topic_id"))?,
                    },
                    registry: address_of(row.get("registry"))?,
                    issuer: address_of(row.get("issuer"))?,
                    signer: address_of(row.get("signer"))?,
                })
            })
            .collect()
    }

    /// Notes what endangers a feed's last signer, and tells it when it was not known.
    pub async fn judge_signer(
        &self,
        chain_id: u64,
        last: &LastSigner,
        danger: Option<&Danger>,
    ) -> Result<(), StoreError> {
        let mut commit = self.begin("judge signer").await?;
        let Some(Danger { kind, why, operation_id }) = danger else {
            sqlx::query("DELETE FROM feeds.endangered_signers WHERE tenant_id = $1 AND chain_id = $2 AND feed = $3")
                .bind(&last.tenant)
                .bind(signed(chain_id))
                .bind(hex_of(last.feed))
                .execute(&mut *commit)
                .await
                .map_err(during("judge signer"))?;
            return commit.commit().await.map_err(during("judge signer"));
        };
        let noted = sqlx::query(
            "INSERT INTO feeds.endangered_signers AS s (tenant_id, chain_id, feed, signer, standing) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, chain_id, feed) DO UPDATE SET signer = excluded.signer, standing = excluded.standing
             WHERE s.signer <> excluded.signer OR s.standing <> excluded.standing",
        )
        .bind(&last.tenant)
        .bind(signed(chain_id))
        .bind(hex_of(last.feed))
        .bind(hex_of(last.signer))
        .bind(kind.name())
        .execute(&mut *commit)
        .await
        .map_err(during("judge signer"))?;
        if noted.rows_affected() == 1 {
            let mut body = json!({
                "signer": last.signer.to_checksum(None),
                "issuer": last.issuer.to_checksum(None),
                "why": why,
            });
            if let Some(id) = operation_id {
                body["operation_id"] = json!(id.to_string());
            }
            let told = NewEvent { tenant: last.tenant.clone(), feed: last.feed, kind: *kind, body };
            events::write(&mut commit, signed(chain_id), &[told]).await?;
        }
        commit.commit().await.map_err(during("judge signer"))
    }
}
