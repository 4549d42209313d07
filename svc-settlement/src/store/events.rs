//! What happened to settlements.

use super::{
    Store,
    settlements::{StoredSettlement, text_of},
};
use crate::state::{EventKind, Told};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use sqlx::{Row as _, postgres::PgRow};

/// Where an event stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Its block.
    pub block: u64,
    /// Its number in the block.
    pub log_index: u64,
    /// Its transaction.
    pub tx_hash: B256,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it was told.
    pub at: Place,
    /// What was told.
    pub told: Told,
}

impl Store {
    /// At most so many events of a settlement, the last ones, in order.
    pub async fn last_events(&self, settlement: &StoredSettlement, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT block_number, log_index, tx_hash, kind, party, asset, leg, reason, reclaim_from FROM events
             WHERE chain_id = $1 AND contract = $2 AND settlement_id = $3 ORDER BY block_number DESC, log_index DESC LIMIT $4",
        )
        .bind(signed(settlement.chain_id))
        .bind(hex_of(settlement.contract))
        .bind(text_of(settlement.settlement_id))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read events"))?;
        rows.iter().rev().map(parse).collect()
    }

    /// Where the secret of a settlement was shown first, as indexed.
    pub async fn shown_at(
        &self,
        chain_id: u64,
        contract: Address,
        settlement_id: B256,
    ) -> Result<Option<Place>, StoreError> {
        let row = sqlx::query(
            "SELECT block_number, log_index, tx_hash FROM events
             WHERE chain_id = $1 AND contract = $2 AND settlement_id = $3 AND kind = $4 ORDER BY block_number, log_index LIMIT 1",
        )
        .bind(signed(chain_id))
        .bind(hex_of(contract))
        .bind(text_of(settlement_id))
        .bind(EventKind::Revealed.name())
        .fetch_optional(&self.pool)
        .await
        .map_err(during("read events"))?;
        row.as_ref().map(place).transpose()
    }

    /// At most so many events of a settlement from a place on, in order.
    pub async fn events_from(
        &self,
        settlement: &StoredSettlement,
        from: Place,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT block_number, log_index, tx_hash, kind, party, asset, leg, reason, reclaim_from FROM events
             WHERE chain_id = $1 AND contract = $2 AND settlement_id = $3 AND (block_number, log_index) >= ($4, $5)
             ORDER BY block_number, log_index LIMIT $6",
        )
        .bind(signed(settlement.chain_id))
        .bind(hex_of(settlement.contract))
        .bind(text_of(settlement.settlement_id))
        .bind(signed(from.block))
        .bind(signed(from.log_index))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read events"))?;
        rows.iter().map(parse).collect()
    }

    /// Everything that happened to a settlement, in order.
    pub async fn events(
        &self,
        chain_id: u64,
        contract: Address,
        settlement_id: B256,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT block_number, log_index, tx_hash, kind, party, asset, leg, reason, reclaim_from FROM events
             WHERE chain_id = $1 AND contract = $2 AND settlement_id = $3 ORDER BY block_number, log_index",
        )
        .bind(signed(chain_id))
        .bind(hex_of(contract))
        .bind(text_of(settlement_id))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read events"))?;
        rows.iter().map(parse).collect()
    }
}

pub(super) fn parse(row: &PgRow) -> Result<StoredEvent, StoreError> {
    let name: String = row.get("kind");
    let told = Told {
        kind: EventKind::of_name(&name).ok_or(StoreError::Malformed { what: "event kind", value: name })?,
        party: row.get::<Option<String>, _>("party").map(address_of).transpose()?,
        asset: row.get::<Option<String>, _>("asset").map(address_of).transpose()?,
        leg: row.get::<Option<i16>, _>("leg").and_then(|leg| u32::try_from(leg).ok()),
        reason: row.get("reason"),
        reclaim_from: row.get::<Option<i64>, _>("reclaim_from").map(unsigned),
    };
    Ok(StoredEvent { at: place(row)?, told })
}

fn place(row: &PgRow) -> Result<Place, StoreError> {
    Ok(Place {
        block: unsigned(row.get("block_number")),
        log_index: unsigned(row.get("log_index")),
        tx_hash: hash_of(row.get("tx_hash"))?,
    })
}
