//! Who indexes a chain, and how far. A service that indexes has the tables `indexer_leases` (chain_id, owner, until, version) and
//! `indexed_blocks` (chain_id, number, hash).

use crate::store::{StoreError, Tables, during, hash_of, signed, unsigned};
use dalp_chain::BlockRef;
use sqlx::{PgConnection, Postgres, Row as _, Transaction};
use std::time::Duration;

/// Blocks kept to find the fork after a reorg.
const KEPT_BLOCKS: i64 = 1024;

impl Tables {
    /// Takes the lease if it is free or ours. True: this replica indexes.
    pub async fn lease_indexer(&self, chain_id: u64, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "INSERT INTO indexer_leases AS l (chain_id, owner, until, version)
             VALUES ($1, $2, now() + $3 * interval '1 millisecond', $4)
             ON CONFLICT (chain_id) DO UPDATE SET owner = excluded.owner, until = excluded.until, version = excluded.version
             WHERE l.owner = excluded.owner OR l.until < now()",
        )
        .bind(signed(chain_id))
        .bind(owner)
        .bind(millis(lease))
        .bind(self.schema.index_version)
        .execute(&self.pool)
        .await
        .map_err(during("lease indexer"))?;
        Ok(taken.rows_affected() == 1)
    }

    /// Renews the lease. False: it is another's.
    pub async fn renew_indexer(&self, chain_id: u64, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let renewed = sqlx::query(
            "UPDATE indexer_leases SET until = now() + $3 * interval '1 millisecond' WHERE chain_id = $1 AND owner = $2",
        )
        .bind(signed(chain_id))
        .bind(owner)
        .bind(millis(lease))
        .execute(&self.pool)
        .await
        .map_err(during("renew indexer lease"))?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Gives the lease back, so that another replica need not wait it out.
    pub async fn release_indexer(&self, chain_id: u64, owner: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE indexer_leases SET until = '-infinity' WHERE chain_id = $1 AND owner = $2")
            .bind(signed(chain_id))
            .bind(owner)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(during("release indexer lease"))
    }

    /// Whether this replica holds the lease, and so looks after everything else of which one suffices.
    pub async fn leads(&self, chain_id: u64, owner: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM indexer_leases WHERE chain_id = $1 AND owner = $2 AND until > now())",
        )
        .bind(signed(chain_id))
        .bind(owner)
        .fetch_one(&self.pool)
        .await
        .map_err(during("read lease"))
    }

    /// Begins a commit of the index, if this replica still holds the lease. Whoever takes it meanwhile waits for this commit.
    pub async fn begin_index(&self, chain_id: u64, owner: &str) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut commit = self.begin("index").await?;
        let held = sqlx::query("SELECT 1 FROM indexer_leases WHERE chain_id = $1 AND owner = $2 FOR NO KEY UPDATE")
            .bind(signed(chain_id))
            .bind(owner)
            .fetch_optional(&mut *commit)
            .await
            .map_err(during("check indexer lease"))?;
        match held {
            Some(_) => Ok(commit),
            None => Err(StoreError::LeaseLost(chain_id)),
        }
    }

    /// Blocks applied so far, oldest first.
    pub async fn indexed_blocks(&self, chain_id: u64) -> Result<Vec<BlockRef>, StoreError> {
        let rows = sqlx::query("SELECT number, hash FROM indexed_blocks WHERE chain_id = $1 ORDER BY number")
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
        let head: Option<i64> = sqlx::query_scalar("SELECT max(number) FROM indexed_blocks WHERE chain_id = $1")
            .bind(signed(chain_id))
            .fetch_one(&self.pool)
            .await
            .map_err(during("read indexed head"))?;
        Ok(head.map(unsigned))
    }
}

/// Moves the cursor forward in a commit of the index, and forgets blocks that no reorg reaches.
pub async fn put_blocks(commit: &mut PgConnection, chain_id: u64, blocks: &[BlockRef]) -> Result<(), StoreError> {
    let (numbers, hashes): (Vec<i64>, Vec<String>) =
        blocks.iter().map(|block| (signed(block.number), format!("{:#x}", block.hash))).unzip();
    sqlx::query(
        "INSERT INTO indexed_blocks (chain_id, number, hash)
         SELECT $1, number, hash FROM unnest($2::bigint[], $3::text[]) AS b(number, hash)",
    )
    .bind(signed(chain_id))
    .bind(numbers)
    .bind(hashes)
    .execute(&mut *commit)
    .await
    .map_err(during("index blocks"))?;
    sqlx::query(
        "DELETE FROM indexed_blocks
         WHERE chain_id = $1 AND number < (SELECT max(number) FROM indexed_blocks WHERE chain_id = $1) - $2",
    )
    .bind(signed(chain_id))
    .bind(KEPT_BLOCKS)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("trim blocks"))
}

/// Moves the cursor back in a commit of the index: blocks above one are gone.
pub async fn drop_blocks(commit: &mut PgConnection, chain_id: u64, above: Option<u64>) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM indexed_blocks WHERE chain_id = $1 AND number > $2")
        .bind(signed(chain_id))
        .bind(above.map_or(-1, signed))
        .execute(commit)
        .await
        .map(drop)
        .map_err(during("retract blocks"))
}

fn millis(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
}
