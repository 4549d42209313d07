//! Passes over the lists of runs and their batches: planned under a lock, handed over under a key, settled when final.

use super::{
    place, place_of,
    runs::{RunState, StoredRun},
};
use crate::{passes::OpenBatch, store::Store, treasury::terms::Payout};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use dalp_engine::Failure;
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A pass to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPass {
    /// Who approved the list.
    pub principal: String,
    /// Who sends.
    pub sender: Address,
    /// Holders of a batch.
    pub rows_per_batch: u32,
    /// Whether no other run of the treasury may be about to reserve money.
    pub alone: bool,
}

/// What became of a pass to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It goes on, now or already.
    Yes,
    /// Another run of the treasury is about to reserve money.
    HeldBack,
    /// A later redemption has taken the place of this one.
    Replaced,
    /// It was given up.
    Discarded,
}

/// An approval of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPass {
    /// Its number.
    pub pass: u32,
    /// Who approved.
    pub principal: String,
    /// Who sends.
    pub sender: Address,
    /// The root that was approved.
    pub root: B256,
    /// When, Unix seconds.
    pub approved_at: u64,
}

/// Somebody who is not paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpaid {
    /// The place on the list.
    pub place: u32,
    /// Who.
    pub holder: Address,
    /// Of a redemption: the wallet that the tokens were recovered to.
    pub recovered_to: Option<Address>,
}

/// Whether an entitlement `e` of a run `r` is not paid, as far as the chain was indexed: a payout pays once, a redemption whenever
/// something is left; `m`: what was redeemed after tokens were recovered.
macro_rules! unpaid {
    () => {
        "CASE WHEN r.kind = 'redemption'
              THEN e.units > coalesce(m.units, (SELECT sum(p.units) FROM treasury_payments p WHERE p.chain_id = e.chain_id AND p.treasury = e.treasury
                       AND p.holder = e.holder AND p.payout_id IS NULL AND p.kind = 'paid' AND p.block_number > r.record_block), 0)
              ELSE NOT EXISTS (SELECT 1 FROM treasury_payments p WHERE p.chain_id = e.chain_id AND p.treasury = e.treasury
                       AND p.holder = e.holder AND p.payout_id = r.payout_id AND p.kind = 'paid') END"
    };
}

impl Store {
    /// Begins another pass over the list of a run, unless one goes on or was begun meanwhile.
    pub async fn begin_pass(&self, chain_id: u64, run: &StoredRun, new: &NewPass) -> Result<Begun, StoreError> {
        let mut commit = self.begin("begin pass").await?;
        // One after the other, so that each sees what the others reserve.
        sqlx::query("SELECT 1 FROM treasuries WHERE chain_id = $1 AND treasury = $2 FOR NO KEY UPDATE")
            .bind(signed(chain_id))
            .bind(hex_of(run.treasury))
            .execute(&mut *commit)
            .await
            .map_err(during("lock treasury"))?;
        let others = sqlx::query(
            "SELECT coalesce(bool_or(state = 'paying' AND NOT reserved), false) AS reserving,
                    coalesce(bool_or(kind = 'redemption' AND state NOT IN ('done', 'discarded')), false) AS redeeming
             FROM treasury_runs WHERE chain_id = $1 AND treasury = $2 AND run <> $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .fetch_one(&mut *commit)
        .await
        .map_err(during("begin pass"))?;
        if new.alone && others.get("reserving") {
            return Ok(Begun::HeldBack);
        }
        if run.payout == Payout::Redemption && others.get("redeeming") {
            return Ok(Begun::Replaced);
        }
        let begun = sqlx::query(
            "UPDATE treasury_runs SET state = 'paying', pass = pass + 1, rows_per_batch = $5, open_operation = NULL, next_place = 0,
                    next_batch = 0, failure = NULL
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND state IN ('prepared', 'stopped', 'done')",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(place(new.rows_per_batch))
        .execute(&mut *commit)
        .await
        .map_err(during("begin pass"))?;
        if begun.rows_affected() == 0 {
            let discarded: bool = sqlx::query_scalar(
                "SELECT state = 'discarded' FROM treasury_runs WHERE chain_id = $1 AND treasury = $2 AND run = $3",
            )
            .bind(signed(chain_id))
            .bind(hex_of(run.treasury))
            .bind(place(run.run))
            .fetch_one(&mut *commit)
            .await
            .map_err(during("begin pass"))?;
            return Ok(if discarded { Begun::Discarded } else { Begun::Yes });
        }
        sqlx::query(
            "INSERT INTO treasury_passes (chain_id, treasury, run, pass, principal, sender, root) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass + 1))
        .bind(&new.principal)
        .bind(hex_of(new.sender))
        .bind(run.root.to_string())
        .execute(&mut *commit)
        .await
        .map_err(during("begin pass"))?;
        commit.commit().await.map_err(during("begin pass"))?;
        Ok(Begun::Yes)
    }

    /// Brings a run from one state to another, if it is in it.
    pub async fn turn_run(
        &self,
        chain_id: u64,
        run: &StoredRun,
        from: RunState,
        to: RunState,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_runs SET state = $5 WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND state = $4",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(from.name())
        .bind(to.name())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("turn run"))
    }

    /// Notes the operation that reserves the money of a pass.
    pub async fn note_opening(&self, chain_id: u64, run: &StoredRun, operation_id: Uuid) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_runs SET open_operation = $5 WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(operation_id)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note opening"))
    }

    /// Notes that the money of a run is reserved, and the payout that the contract made for it, unless it had one.
    pub async fn note_reserved(
        &self,
        chain_id: u64,
        run: &StoredRun,
        payout_id: Option<u64>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_runs SET reserved = true, payout_id = coalesce(payout_id, $4)
             WHERE chain_id = $1 AND treasury = $2 AND run = $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(payout_id.map(signed))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note reservation"))
    }

    /// Ends the pass of a run that is being paid. One that stops before its money was reserved is as good as never started: what was due
    /// waits again.
    pub async fn end_pass(&self, chain_id: u64, run: &StoredRun, failure: Option<&Failure>) -> Result<(), StoreError> {
        let state = if failure.is_some() { RunState::Stopped } else { RunState::Done };
        let failure = failure.map(|failure| serde_json::json!(failure));
        let mut commit = self.begin("end pass").await?;
        let reserved: Option<bool> = sqlx::query_scalar(
            "UPDATE treasury_runs SET state = $5, failure = $6
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND state = 'paying' RETURNING reserved",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(state.name())
        .bind(&failure)
        .fetch_optional(&mut *commit)
        .await
        .map_err(during("end pass"))?;
        if state == RunState::Stopped && reserved == Some(false) {
            sqlx::query(
                "UPDATE treasury_due SET state = 'waiting', run = NULL, failure = $4, tries = tries + 1, tried_at = clock_timestamp()
                 WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND state = 'started'",
            )
            .bind(signed(chain_id))
            .bind(hex_of(run.treasury))
            .bind(place(run.run))
            .bind(failure)
            .execute(&mut *commit)
            .await
            .map_err(during("end pass"))?;
        }
        commit.commit().await.map_err(during("end pass"))
    }

    /// Those who are not paid, from a place on.
    pub async fn unpaid_holders(
        &self,
        chain_id: u64,
        run: &StoredRun,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Unpaid>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("read unpaid holders"))?;
        unpaid_holders(&mut connection, chain_id, run, from, limit).await
    }

    /// Who is paid by a batch, always the same: the holders at its places in their order, then wallets that tokens of theirs were recovered to.
    pub async fn holders_of_batch(
        &self,
        chain_id: u64,
        run: &StoredRun,
        batch: u32,
    ) -> Result<Vec<Address>, StoreError> {
        let holders: Vec<String> = sqlx::query_scalar(
            "WITH b AS (SELECT places, also FROM treasury_batches
                        WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND batch = $5)
             SELECT holder FROM (
                 SELECT e.place, e.holder FROM b, entitlements e
                 WHERE e.chain_id = $1 AND e.treasury = $2 AND e.run = $3 AND e.place = ANY(b.places)
                 UNION ALL
                 SELECT NULL, w.wallet FROM b, unnest(b.also) AS w(wallet)
             ) paid ORDER BY place NULLS LAST, holder",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(place(batch))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read holders"))?;
        holders.into_iter().map(address_of).collect()
    }

    /// Plans the next batch of a run that is being paid. `None`: everybody stands in a batch, or it is not paid any more.
    pub async fn plan_payments(&self, chain_id: u64, run: &StoredRun) -> Result<Option<OpenBatch>, StoreError> {
        let mut commit = self.begin("plan batch").await?;
        let head = sqlx::query(
            "SELECT next_place, next_batch FROM treasury_runs
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND state = 'paying' FOR NO KEY UPDATE",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .fetch_optional(&mut *commit)
        .await
        .map_err(during("lock run"))?;
        let Some(head) = head else { return Ok(None) };
        let (from, batch): (i32, i32) = (head.get("next_place"), head.get("next_batch"));
        let rows = unpaid_holders(&mut commit, chain_id, run, place_of(from), run.rows_per_batch).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        sqlx::query(
            "INSERT INTO treasury_batches (chain_id, treasury, run, pass, batch, places, also) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(batch)
        .bind(rows.iter().map(|row| place(row.place)).collect::<Vec<_>>())
        .bind(rows.iter().filter_map(|row| row.recovered_to).map(hex_of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
        .execute(&mut *commit)
        .await
        .map_err(during("plan batch"))?;
        sqlx::query(
            "UPDATE treasury_runs SET next_place = $4, next_batch = $5 WHERE chain_id = $1 AND treasury = $2 AND run = $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(last.place + 1))
        .bind(batch + 1)
        .execute(&mut *commit)
        .await
        .map_err(during("plan batch"))?;
        commit.commit().await.map_err(during("plan batch"))?;
        let places = rows.iter().map(|row| row.place.into()).collect();
        Ok(Some(OpenBatch { batch: place_of(batch), places, operation_id: None }))
    }

    /// Batches of the pass of a run that are not settled, in order.
    pub async fn open_payments(&self, chain_id: u64, run: &StoredRun) -> Result<Vec<OpenBatch>, StoreError> {
        let rows = sqlx::query(
            "SELECT batch, places, operation_id FROM treasury_batches
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND NOT settled ORDER BY batch",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read batches"))?;
        let batches = rows.iter().map(|row| OpenBatch {
            batch: place_of(row.get("batch")),
            places: row.get::<Vec<i32>, _>("places").into_iter().map(|one| place_of(one).into()).collect(),
            operation_id: row.get("operation_id"),
        });
        Ok(batches.collect())
    }

    /// Notes the operation of a batch.
    pub async fn note_payments(
        &self,
        chain_id: u64,
        run: &StoredRun,
        batch: u32,
        operation_id: Uuid,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_batches SET operation_id = $6
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND batch = $5",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(place(batch))
        .bind(operation_id)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note batch"))
    }

    /// Notes that the operation of a batch is final.
    pub async fn settle_payments(&self, chain_id: u64, run: &StoredRun, batch: u32) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_batches SET settled = true
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $4 AND batch = $5",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(run.pass))
        .bind(place(batch))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("settle batch"))
    }

    /// Who approved the list of a run, in order.
    pub async fn passes(&self, chain_id: u64, run: &StoredRun) -> Result<Vec<StoredPass>, StoreError> {
        let rows = sqlx::query(
            "SELECT pass, principal, sender, root, extract(epoch FROM approved_at)::bigint AS approved_at
             FROM treasury_passes WHERE chain_id = $1 AND treasury = $2 AND run = $3 ORDER BY pass",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read passes"))?;
        rows.iter()
            .map(|row| {
                Ok(StoredPass {
                    pass: place_of(row.get("pass")),
                    principal: row.get("principal"),
                    sender: address_of(row.get("sender"))?,
                    root: hash_of(row.get("root"))?,
                    approved_at: unsigned(row.get("approved_at")),
                })
            })
            .collect()
    }
}

async fn unpaid_holders(
    connection: &mut PgConnection,
    chain_id: u64,
    run: &StoredRun,
    from: u32,
    limit: u32,
) -> Result<Vec<Unpaid>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT e.place, e.holder, m.wallet FROM entitlements e JOIN treasury_runs r USING (chain_id, treasury, run)
         LEFT JOIN recovered_entitlements($1, $2, $3) m ON m.place = e.place
         WHERE e.chain_id = $1 AND e.treasury = $2 AND e.run = $3 AND e.place >= $4 AND ",
        unpaid!(),
        " ORDER BY e.place LIMIT $5"
    ))
    .bind(signed(chain_id))
    .bind(hex_of(run.treasury))
    .bind(place(run.run))
    .bind(place(from))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await
    .map_err(during("read unpaid holders"))?;
    rows.iter()
        .map(|row| {
            Ok(Unpaid {
                place: place_of(row.get("place")),
                holder: address_of(row.get("holder"))?,
                recovered_to: row.get::<Option<String>, _>("wallet").map(address_of).transpose()?,
            })
        })
        .collect()
}
