//! Accepted rounds.

use super::{Store, StoreError, address_of, during, hash_of, hex_of, parsed, signed, unsigned};
use alloy::primitives::{Address, B256, Bytes, I256, U256};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, postgres::PgRow};

/// An accepted update. Its JSON is the body of the events about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRound {
    /// Number, from 1.
    pub round_id: u64,
    /// Value.
    pub value: I256,
    /// Unix seconds.
    pub observed_at: u64,
    /// Identity of the issuer.
    pub issuer: Address,
    /// The key that the signature recovered to when it was indexed.
    pub signer: Option<Address>,
    /// The issuer's nonce.
    pub nonce: u64,
    /// Unix seconds; 0 never.
    pub deadline: U256,
    /// Signature.
    pub signature: Bytes,
    /// Block.
    pub block: u64,
    /// Transaction.
    pub tx_hash: B256,
}

impl Store {
    /// Rounds of a feed below one, newest first.
    pub async fn rounds(
        &self,
        tenant: &str,
        chain_id: u64,
        feed: Address,
        below: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredRound>, StoreError> {
        let rows = sqlx::query(
            "SELECT round_id, value::text AS value, observed_at, issuer, signer, nonce, deadline::text AS deadline, signature,
                    block_number, tx_hash
             FROM feeds.rounds WHERE tenant_id = $1 AND chain_id = $2 AND feed = $3 AND round_id < $4
             ORDER BY round_id DESC LIMIT $5",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(feed))
        .bind(below.map_or(i64::MAX, signed))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read rounds"))?;
        rows.into_iter().map(parse).collect()
    }

    /// One round of a feed.
    pub async fn round(
        &self,
        tenant: &str,
        chain_id: u64,
        feed: Address,
        round_id: u64,
    ) -> Result<Option<StoredRound>, StoreError> {
        let at = self.rounds(tenant, chain_id, feed, Some(round_id.saturating_add(1)), 1).await?;
        Ok(at.into_iter().find(|round| round.round_id == round_id))
    }
}

pub(super) fn parse(row: PgRow) -> Result<StoredRound, StoreError> {
    let signer: Option<String> = row.get("signer");
    Ok(StoredRound {
        round_id: unsigned(row.get("round_id")),
        value: parsed("value", row.get("value"))?,
        observed_at: unsigned(row.get("observed_at")),
        issuer: address_of(row.get("issuer"))?,
        signer: signer.map(address_of).transpose()?,
        nonce: unsigned(row.get("nonce")),
        deadline: parsed("deadline", row.get("deadline"))?,
        signature: row.get::<Vec<u8>, _>("signature").into(),
        block: unsigned(row.get("block_number")),
        tx_hash: hash_of(row.get("tx_hash"))?,
    })
}
