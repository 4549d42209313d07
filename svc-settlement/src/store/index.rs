//! The commit of the index, kept by one replica at a time.

use super::{
    Store,
    events::{self, Place},
    settlements::{NewSettlement, text_of},
};
use crate::{
    state::{Book, Told},
    terms::Deed,
};
use alloy::primitives::{Address, B256};
use dalp_chain::BlockRef;
use dalp_domain::{
    indexing::{drop_blocks, put_blocks},
    store::{StoreError, during, hex_of, signed},
};
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

/// A settlement that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Whose contract it is.
    pub tenant: String,
    /// The contract.
    pub contract: Address,
    /// Its identifier.
    pub settlement_id: B256,
    /// Who opened it.
    pub creator: Address,
    /// Its terms.
    pub deed: Deed,
    /// Where.
    pub block: u64,
}

/// Something that happened to a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Where it was told.
    pub at: Place,
    /// The contract.
    pub contract: Address,
    /// The settlement.
    pub settlement_id: B256,
    /// What.
    pub told: Told,
}

/// Everything a batch of blocks changes.
#[derive(Debug, Default)]
pub struct IndexBatch {
    /// Everything above this block is withdrawn first; `None` in `Some` withdraws all.
    pub rewind_to: Option<Option<u64>>,
    /// Applied blocks.
    pub blocks: Vec<BlockRef>,
    /// Contracts that are followed from now on.
    pub followed: Vec<Address>,
    /// Settlements that were opened.
    pub opened: Vec<Opened>,
    /// What happened, in order.
    pub happened: Vec<Happened>,
    /// Events of tenants' contracts that no sound contract tells.
    pub left_out: u64,
}

/// Contract and identifier, as they are stored.
type Key = (String, String);

impl Store {
    /// Commits a batch with its cursor, if this replica still holds the lease. How many of its events were left out, because what
    /// they tell happens only once.
    pub async fn commit_index(&self, chain_id: u64, owner: &str, batch: &IndexBatch) -> Result<u64, StoreError> {
        let mut commit = self.begin_index(chain_id, owner).await?;
        let mut touched: BTreeSet<Key> = BTreeSet::new();
        if let Some(to) = batch.rewind_to {
            touched.extend(retract(&mut commit, chain_id, to).await?);
            drop_blocks(&mut commit, chain_id, to).await?;
        }
        sqlx::query("UPDATE contracts SET followed = true WHERE chain_id = $1 AND contract = ANY($2)")
            .bind(signed(chain_id))
            .bind(batch.followed.iter().copied().map(hex_of).collect::<Vec<_>>())
            .execute(&mut *commit)
            .await
            .map_err(during("follow contracts"))?;
        for Opened { tenant, contract, settlement_id, creator, deed, block } in &batch.opened {
            let new = NewSettlement {
                tenant,
                chain_id,
                contract: *contract,
                settlement_id: *settlement_id,
                creator: *creator,
                deed,
                operation_id: None,
                created_block: Some(*block),
            };
            new.put(&mut commit).await.map_err(during("index settlement"))?;
        }
        let put = put_events(&mut commit, chain_id, &batch.happened).await?;
        touched.extend(batch.happened.iter().map(|event| (hex_of(event.contract), text_of(event.settlement_id))));
        put_states(&mut commit, chain_id, touched).await?;
        put_blocks(&mut commit, chain_id, &batch.blocks).await?;
        commit.commit().await.map_err(during("commit index"))?;
        Ok((batch.happened.len() as u64).saturating_sub(put))
    }
}

/// Takes back everything above a block. What it was about.
async fn retract(commit: &mut PgConnection, chain_id: u64, to: Option<u64>) -> Result<Vec<Key>, StoreError> {
    let above = to.map_or(-1, signed);
    let rows =
        sqlx::query("DELETE FROM events WHERE chain_id = $1 AND block_number > $2 RETURNING contract, settlement_id")
            .bind(signed(chain_id))
            .bind(above)
            .fetch_all(&mut *commit)
            .await
            .map_err(during("retract events"))?;
    for statement in [
        "DELETE FROM settlements WHERE chain_id = $1 AND created_block > $2 AND operation_id IS NULL",
        "UPDATE settlements SET created_block = NULL WHERE chain_id = $1 AND created_block > $2",
    ] {
        sqlx::query(statement)
            .bind(signed(chain_id))
            .bind(above)
            .execute(&mut *commit)
            .await
            .map_err(during("retract settlements"))?;
    }
    Ok(rows.iter().map(|row| (row.get("contract"), row.get("settlement_id"))).collect())
}

/// Writes events, but for those that a contract tells again although they happen only once. How many were written.
async fn put_events(commit: &mut PgConnection, chain_id: u64, happened: &[Happened]) -> Result<u64, StoreError> {
    if happened.is_empty() {
        return Ok(0);
    }
    let texts = |of: &dyn Fn(&Happened) -> String| happened.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: &dyn Fn(&Happened) -> u64| happened.iter().map(|event| signed(of(event))).collect::<Vec<_>>();
    let parties: Vec<_> = happened.iter().map(|event| event.told.party.map(hex_of)).collect();
    let assets: Vec<_> = happened.iter().map(|event| event.told.asset.map(hex_of)).collect();
    let legs: Vec<_> = happened.iter().map(|event| event.told.leg.and_then(|leg| i16::try_from(leg).ok())).collect();
    let reclaims: Vec<_> = happened.iter().map(|event| event.told.reclaim_from.map(signed)).collect();
    sqlx::query(
        "INSERT INTO events (chain_id, block_number, log_index, tx_hash, contract, settlement_id, kind, reason, party, leg, reclaim_from,
                             asset)
         SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                                  $10::smallint[], $11::bigint[], $12::text[])
         ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(numbers(&|event| event.at.block))
    .bind(numbers(&|event| event.at.log_index))
    .bind(texts(&|event| text_of(event.at.tx_hash)))
    .bind(texts(&|event| hex_of(event.contract)))
    .bind(texts(&|event| text_of(event.settlement_id)))
    .bind(texts(&|event| event.told.kind.name().to_owned()))
    .bind(texts(&|event| event.told.reason.clone()))
    .bind(parties)
    .bind(legs)
    .bind(reclaims)
    .bind(assets)
    .execute(commit)
    .await
    .map(|done| done.rows_affected())
    .map_err(during("index events"))
}

/// Writes what the events of some settlements come to by now.
async fn put_states(commit: &mut PgConnection, chain_id: u64, touched: BTreeSet<Key>) -> Result<(), StoreError> {
    if touched.is_empty() {
        return Ok(());
    }
    let (contracts, ids): (Vec<&str>, Vec<&str>) = touched.iter().map(|(contract, id)| (&**contract, &**id)).unzip();
    let rows = sqlx::query(
        "SELECT contract, settlement_id, block_number, log_index, tx_hash, kind, party, asset, leg, reason, reclaim_from
         FROM events JOIN unnest($2::text[], $3::text[]) AS t(contract, settlement_id) USING (contract, settlement_id)
         WHERE chain_id = $1 ORDER BY block_number, log_index",
    )
    .bind(signed(chain_id))
    .bind(contracts)
    .bind(ids)
    .fetch_all(&mut *commit)
    .await
    .map_err(during("read events"))?;
    let mut histories: BTreeMap<Key, Vec<Told>> = touched.into_iter().map(|key| (key, Vec::new())).collect();
    for row in &rows {
        let key = (row.get("contract"), row.get("settlement_id"));
        histories.entry(key).or_default().push(events::parse(row)?.told);
    }
    let (mut contracts, mut ids, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for ((contract, id), history) in histories {
        states.push(Book::of(&history).state().name());
        contracts.push(contract);
        ids.push(id);
    }
    sqlx::query(
        "UPDATE settlements s SET state = t.state FROM unnest($2::text[], $3::text[], $4::text[]) AS t(contract, settlement_id, state)
         WHERE s.chain_id = $1 AND s.contract = t.contract AND s.settlement_id = t.settlement_id",
    )
    .bind(signed(chain_id))
    .bind(contracts)
    .bind(ids)
    .bind(states)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("index states"))
}
