//! The indexed log: balances and freezes by block, kept by one replica at a time.

use super::{Store, StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use alloy::primitives::{Address, U256};
use dalp_chain::BlockRef;
use sqlx::{Connection as _, Row as _};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

/// Blocks kept to find the fork after a reorg.
const KEPT_BLOCKS: i64 = 1024;

/// What a holder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Base units.
    pub balance: U256,
    /// Of it frozen.
    pub frozen: U256,
    /// Whether the whole address is frozen.
    pub address_frozen: bool,
}

/// Key of a holding.
pub type HoldingKey = (Address, Address);

/// Everything a batch of blocks changes.
#[derive(Debug, Default)]
pub struct IndexBatch {
    /// Everything above this block is withdrawn first; `None` in `Some` withdraws all.
    pub rewind_to: Option<Option<u64>>,
    /// Applied blocks.
    pub blocks: Vec<BlockRef>,
    /// Assets created: token, factory, block, operation that is the salt.
    pub assets: Vec<(Address, Address, u64, uuid::Uuid)>,
    /// State after each block, by block, asset and holder.
    pub holdings: BTreeMap<(u64, Address, Address), Holding>,
}

impl Store {
    /// Takes or renews the indexer lease. True: this replica indexes.
    pub async fn lease_indexer(&self, chain_id: u64, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "INSERT INTO compliance.indexer_leases (chain_id, owner, until) VALUES ($1, $2, now() + $3 * interval '1 millisecond')
             ON CONFLICT (chain_id) DO UPDATE SET owner = excluded.owner, until = excluded.until
             WHERE compliance.indexer_leases.owner = excluded.owner OR compliance.indexer_leases.until < now()",
        )
        .bind(signed(chain_id))
        .bind(owner)
        .bind(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
        .execute(&self.pool)
        .await
        .map_err(during("lease indexer"))?;
        Ok(taken.rows_affected() == 1)
    }

    /// Blocks applied so far, oldest first.
    pub async fn indexed_blocks(&self, chain_id: u64) -> Result<Vec<BlockRef>, StoreError> {
        let rows =
            sqlx::query("SELECT number, hash FROM compliance.indexed_blocks WHERE chain_id = $1 ORDER BY number")
                .bind(signed(chain_id))
                .fetch_all(&self.pool)
                .await
                .map_err(during("read indexed blocks"))?;
        rows.into_iter()
            .map(|row| Ok(BlockRef { number: unsigned(row.get("number")), hash: hash_of(row.get("hash"))? }))
            .collect()
    }

    /// The newest indexed block.
    pub async fn indexed_head(&self, chain_id: u64) -> Result<Option<u64>, StoreError> {
        let head: Option<i64> =
            sqlx::query_scalar("SELECT max(number) FROM compliance.indexed_blocks WHERE chain_id = $1")
                .bind(signed(chain_id))
                .fetch_one(&self.pool)
                .await
                .map_err(during("read indexed head"))?;
        Ok(head.map(unsigned))
    }

    /// Asset factories of tenants, and tokens they have created.
    pub async fn indexed_contracts(&self, chain_id: u64) -> Result<(BTreeSet<Address>, BTreeSet<Address>), StoreError> {
        let factories = sqlx::query(
            "SELECT asset_factory FROM compliance.systems WHERE chain_id = $1 AND asset_factory IS NOT NULL",
        )
        .bind(signed(chain_id))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list factories"))?;
        let assets = sqlx::query("SELECT asset FROM compliance.indexed_assets WHERE chain_id = $1")
            .bind(signed(chain_id))
            .fetch_all(&self.pool)
            .await
            .map_err(during("list indexed assets"))?;
        let addresses = |rows: Vec<sqlx::postgres::PgRow>| {
            rows.into_iter().map(|row| address_of(row.get(0))).collect::<Result<BTreeSet<_>, _>>()
        };
        Ok((addresses(factories)?, addresses(assets)?))
    }

    /// The newest state of holdings.
    pub async fn newest_holdings(
        &self,
        chain_id: u64,
        keys: &[HoldingKey],
    ) -> Result<HashMap<HoldingKey, Holding>, StoreError> {
        let (assets, holders): (Vec<String>, Vec<String>) =
            keys.iter().map(|(asset, holder)| (hex_of(*asset), hex_of(*holder))).unzip();
        let rows = sqlx::query(
            "SELECT h.asset, h.holder, h.balance::text AS balance, h.frozen::text AS frozen, h.address_frozen
             FROM unnest($2::text[], $3::text[]) AS k(asset, holder)
             CROSS JOIN LATERAL (SELECT * FROM compliance.holdings WHERE chain_id = $1 AND asset = k.asset AND holder = k.holder
                                 ORDER BY block_number DESC LIMIT 1) h",
        )
        .bind(signed(chain_id))
        .bind(assets)
        .bind(holders)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read holdings"))?;
        rows.into_iter()
            .map(|row| Ok(((address_of(row.get("asset"))?, address_of(row.get("holder"))?), holding(&row)?)))
            .collect()
    }

    /// Commits a batch with its cursor, if this replica still holds the lease.
    pub async fn commit_index(&self, chain_id: u64, owner: &str, batch: &IndexBatch) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("index"))?;
        let mut commit = connection.begin().await.map_err(during("index"))?;
        let chain = signed(chain_id);
        let held =
            sqlx::query("SELECT 1 FROM compliance.indexer_leases WHERE chain_id = $1 AND owner = $2 FOR NO KEY UPDATE")
                .bind(chain)
                .bind(owner)
                .fetch_optional(&mut *commit)
                .await
                .map_err(during("check indexer lease"))?;
        if held.is_none() {
            return Err(StoreError::LeaseLost(chain_id));
        }
        if let Some(to) = batch.rewind_to {
            let above = to.map_or(-1, signed);
            for statement in [
                "DELETE FROM compliance.holdings WHERE chain_id = $1 AND block_number > $2",
                "DELETE FROM compliance.indexed_blocks WHERE chain_id = $1 AND number > $2",
                "DELETE FROM compliance.indexed_assets WHERE chain_id = $1 AND created_block > $2",
                "UPDATE compliance.assets SET asset = NULL, created_block = NULL WHERE chain_id = $1 AND created_block > $2",
            ] {
                sqlx::query(statement)
                    .bind(chain)
                    .bind(above)
                    .execute(&mut *commit)
                    .await
                    .map_err(during("retract blocks"))?;
            }
        }
        for (asset, factory, block, operation_id) in &batch.assets {
            sqlx::query("INSERT INTO compliance.indexed_assets (chain_id, asset, asset_factory, created_block) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
                .bind(chain)
                .bind(hex_of(*asset))
                .bind(hex_of(*factory))
                .bind(signed(*block))
                .execute(&mut *commit)
                .await
                .map_err(during("index asset"))?;
            sqlx::query(
                "UPDATE compliance.assets a SET asset = $2, created_block = $3 FROM compliance.systems s
                 WHERE a.chain_id = $1 AND a.operation_id = $4 AND s.tenant_id = a.tenant_id AND s.chain_id = a.chain_id AND s.asset_factory = $5",
            )
            .bind(chain)
            .bind(hex_of(*asset))
            .bind(signed(*block))
            .bind(operation_id)
            .bind(hex_of(*factory))
            .execute(&mut *commit)
            .await
            .map_err(during("name asset"))?;
        }
        let (mut assets, mut holders, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut balances, mut frozen, mut address_frozen) = (Vec::new(), Vec::new(), Vec::new());
        for ((block, asset, holder), holding) in &batch.holdings {
            assets.push(hex_of(*asset));
            holders.push(hex_of(*holder));
            numbers.push(signed(*block));
            balances.push(holding.balance.to_string());
            frozen.push(holding.frozen.to_string());
            address_frozen.push(holding.address_frozen);
        }
        sqlx::query(
            "INSERT INTO compliance.holdings (chain_id, asset, holder, block_number, balance, frozen, address_frozen)
             SELECT $1, asset, holder, block_number, balance::numeric, frozen::numeric, address_frozen
             FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::boolean[])
               AS h(asset, holder, block_number, balance, frozen, address_frozen)",
        )
        .bind(chain)
        .bind(assets)
        .bind(holders)
        .bind(numbers)
        .bind(balances)
        .bind(frozen)
        .bind(address_frozen)
        .execute(&mut *commit)
        .await
        .map_err(during("index holdings"))?;
        let (numbers, hashes): (Vec<i64>, Vec<String>) =
            batch.blocks.iter().map(|block| (signed(block.number), format!("{:#x}", block.hash))).unzip();
        sqlx::query("INSERT INTO compliance.indexed_blocks (chain_id, number, hash) SELECT $1, number, hash FROM unnest($2::bigint[], $3::text[]) AS b(number, hash)")
            .bind(chain)
            .bind(numbers)
            .bind(hashes)
            .execute(&mut *commit)
            .await
            .map_err(during("index blocks"))?;
        sqlx::query(
            "DELETE FROM compliance.indexed_blocks WHERE chain_id = $1
             AND number < (SELECT max(number) FROM compliance.indexed_blocks WHERE chain_id = $1) - $2",
        )
        .bind(chain)
        .bind(KEPT_BLOCKS)
        .execute(&mut *commit)
        .await
        .map_err(during("trim blocks"))?;
        commit.commit().await.map_err(during("commit index"))
    }

    /// Holders of an asset with something at a block, by address, behind one.
    pub async fn holders(
        &self,
        chain_id: u64,
        asset: Address,
        block: u64,
        after: Option<Address>,
        limit: u32,
    ) -> Result<Vec<(Address, Holding)>, StoreError> {
        let rows = sqlx::query(
            "SELECT holder, balance::text AS balance, frozen::text AS frozen, address_frozen FROM (
               SELECT DISTINCT ON (holder) holder, balance, frozen, address_frozen FROM compliance.holdings
               WHERE chain_id = $1 AND asset = $2 AND block_number <= $3 AND holder > $4
               ORDER BY holder, block_number DESC) newest
             WHERE balance > 0 ORDER BY holder LIMIT $5",
        )
        .bind(signed(chain_id))
        .bind(hex_of(asset))
        .bind(signed(block))
        .bind(after.map_or_else(String::new, hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list holders"))?;
        rows.into_iter().map(|row| Ok((address_of(row.get("holder"))?, holding(&row)?))).collect()
    }

    /// One holding at a block.
    pub async fn holding(
        &self,
        chain_id: u64,
        asset: Address,
        holder: Address,
        block: u64,
    ) -> Result<Holding, StoreError> {
        let row = sqlx::query(
            "SELECT balance::text AS balance, frozen::text AS frozen, address_frozen FROM compliance.holdings
             WHERE chain_id = $1 AND asset = $2 AND holder = $3 AND block_number <= $4 ORDER BY block_number DESC LIMIT 1",
        )
        .bind(signed(chain_id))
        .bind(hex_of(asset))
        .bind(hex_of(holder))
        .bind(signed(block))
        .fetch_optional(&self.pool)
        .await
        .map_err(during("read holding"))?;
        row.map_or_else(|| Ok(Holding::default()), |row| holding(&row))
    }
}

fn holding(row: &sqlx::postgres::PgRow) -> Result<Holding, StoreError> {
    let amount = |column: &str| -> Result<U256, StoreError> {
        let text: String = row.get(column);
        text.parse().map_err(|_| StoreError::Malformed { what: "amount", value: text })
    };
    Ok(Holding { balance: amount("balance")?, frozen: amount("frozen")?, address_frozen: row.get("address_frozen") })
}
