//! Giving runs up before money moves for them.

use super::{
    place,
    runs::{RunState, StoredRun},
};
use crate::store::Store;
use dalp_domain::store::{StoreError, during, hex_of, signed};
use serde_json::json;
use sqlx::{PgConnection, Row as _};

/// The audit leaf of a run that is given up.
pub const DISCARDED: &str = "treasury.discard_run";

/// What became of a run to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// It is given up, now or already.
    Yes,
    /// It is paid or paused.
    UnderWay,
    /// Its money is reserved, or batches of it were handed over.
    Moved,
}

impl Store {
    /// Gives a run up, unless money moved or may move for it, with its audit leaf in the same commit. A payment of a schedule that it was
    /// made for waits again.
    pub async fn discard_run(
        &self,
        chain_id: u64,
        run: &StoredRun,
        (principal, reason): (&str, &str),
    ) -> Result<Discarded, StoreError> {
        let mut commit = self.begin("discard run").await?;
        // A pass is begun under the same lock.
        sqlx::query("SELECT 1 FROM treasuries WHERE chain_id = $1 AND treasury = $2 FOR NO KEY UPDATE")
            .bind(signed(chain_id))
            .bind(hex_of(run.treasury))
            .execute(&mut *commit)
            .await
            .map_err(during("lock treasury"))?;
        match discardable(&mut commit, chain_id, run).await? {
            Some(outcome) => return Ok(outcome),
            None => turn(&mut commit, chain_id, run, (principal, reason)).await?,
        }
        let body = json!({
            "run": run.run,
            "root": run.root,
            "kind": run.payout.kind(),
            "state": run.state.name(),
            "reason": reason,
        });
        let subject = run.treasury.to_checksum(None);
        dalp_engine::audit_leaf(&mut commit, &run.tenant, DISCARDED, principal, &subject, body)
            .await
            .map_err(during("discard run"))?;
        commit.commit().await.map_err(during("discard run"))?;
        Ok(Discarded::Yes)
    }
}

/// What stands against it, or that it is done already; `None`: it can be given up. Locks the run.
async fn discardable(
    commit: &mut PgConnection,
    chain_id: u64,
    run: &StoredRun,
) -> Result<Option<Discarded>, StoreError> {
    let row = sqlx::query(
        "SELECT state, reserved AND kind <> 'redemption' AS reserved,
                EXISTS (SELECT 1 FROM treasury_batches b WHERE b.chain_id = r.chain_id AND b.treasury = r.treasury AND b.run = r.run) AS begun
         FROM treasury_runs r WHERE chain_id = $1 AND treasury = $2 AND run = $3 FOR NO KEY UPDATE",
    )
    .bind(signed(chain_id))
    .bind(hex_of(run.treasury))
    .bind(place(run.run))
    .fetch_one(commit)
    .await
    .map_err(during("lock run"))?;
    let state: String = row.get("state");
    let is = |one: RunState| state == one.name();
    Ok(match () {
        () if is(RunState::Discarded) => Some(Discarded::Yes),
        () if is(RunState::Paying) || is(RunState::Paused) => Some(Discarded::UnderWay),
        () if is(RunState::Done) || row.get("reserved") || row.get("begun") => Some(Discarded::Moved),
        () => None,
    })
}

async fn turn(
    commit: &mut PgConnection,
    chain_id: u64,
    run: &StoredRun,
    (principal, reason): (&str, &str),
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE treasury_runs SET state = 'discarded', discarded_by = $4, discarded_at = clock_timestamp(), discard_reason = $5
         WHERE chain_id = $1 AND treasury = $2 AND run = $3",
    )
    .bind(signed(chain_id))
    .bind(hex_of(run.treasury))
    .bind(place(run.run))
    .bind(principal)
    .bind(reason)
    .execute(&mut *commit)
    .await
    .map_err(during("discard run"))?;
    sqlx::query(
        "UPDATE treasury_due SET state = 'waiting', run = NULL WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND state = 'started'",
    )
    .bind(signed(chain_id))
    .bind(hex_of(run.treasury))
    .bind(place(run.run))
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("discard run"))
}
