//! Runs and their lists.

use super::{amount_of, payable_of, place, place_of};
use crate::{
    store::Store,
    treasury::{
        entitlement::{Entitlements, Fraction},
        readers::RecordBlock,
        terms::Payout,
    },
};
use alloy::primitives::{Address, B256, U256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use dalp_engine::Failure;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Its list can be reviewed.
    Prepared,
    /// Batches are handed over.
    Paying,
    /// Nothing further is handed over.
    Paused,
    /// Something was refused as a whole.
    Stopped,
    /// Everybody was tried.
    Done,
    /// Given up before money moved for it.
    Discarded,
}

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// Whose.
    pub tenant: String,
    /// The treasury.
    pub treasury: Address,
    /// Its number.
    pub run: u32,
    /// What it pays.
    pub payout: Payout,
    /// In what.
    pub currency: Address,
    /// Whose holders are paid, Unix seconds.
    pub record_date: u64,
    /// The last block that counts.
    pub record_block: u64,
    /// Its hash.
    pub record_hash: B256,
    /// Base units of the asset.
    pub supply: U256,
    /// What a base unit is due.
    pub fraction: Fraction,
    /// What the contract reserves.
    pub total: u128,
    /// What of it nobody is due.
    pub rounding: u128,
    /// Entitled holders.
    pub holders: u32,
    /// Root of the list's tree.
    pub root: B256,
    /// Number of the payout in the contract.
    pub payout_id: Option<u64>,
    /// Where it stands.
    pub state: RunState,
    /// How often payment was begun.
    pub pass: u32,
    /// Holders of a batch.
    pub rows_per_batch: u32,
    /// Whether its money is known to be reserved.
    pub reserved: bool,
    /// The operation of this pass that reserves the money.
    pub open_operation: Option<Uuid>,
    /// Who decided on this pass.
    pub principal: String,
    /// Who sends in this pass.
    pub sender: Address,
    /// Why it stopped.
    pub failure: Option<Failure>,
    /// Who gave it up, if somebody did.
    pub discard: Option<Discard>,
}

/// A decision to give a run up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    /// Who decided.
    pub principal: String,
    /// Why.
    pub reason: String,
    /// When, Unix seconds.
    pub at: u64,
}

/// A run to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Whose.
    pub tenant: String,
    /// The treasury.
    pub treasury: Address,
    /// What it pays.
    pub payout: Payout,
    /// In what.
    pub currency: Address,
    /// Whose holders are paid, Unix seconds.
    pub record_date: u64,
    /// The last block that counts.
    pub record: RecordBlock,
    /// What a base unit is due.
    pub fraction: Fraction,
    /// The list.
    pub list: Entitlements,
    /// Who asked for it.
    pub principal: String,
}

// === impl RunState ===

impl RunState {
    const ALL: [Self; 6] = [Self::Prepared, Self::Paying, Self::Paused, Self::Stopped, Self::Done, Self::Discarded];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Paying => "paying",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Done => "done",
            Self::Discarded => "discarded",
        }
    }
}

/// Runs that meet a condition, with the pass that they are in.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT r.*, r.supply::text AS supply_text, r.numerator::text AS numerator_text, r.denominator::text AS denominator_text,
                    r.total::text AS total_text, r.rounding::text AS rounding_text, p.principal, p.sender,
                    extract(epoch FROM r.discarded_at)::bigint AS discarded_at_s
             FROM treasury_runs r LEFT JOIN treasury_passes p USING (chain_id, treasury, run, pass) WHERE ",
            $rest
        )
    };
}

impl Store {
    /// Keeps a run with its list, unless the payout has one: then that.
    pub async fn put_run(&self, chain_id: u64, new: &NewRun) -> Result<StoredRun, StoreError> {
        let mut commit = self.begin("keep run").await?;
        // Runs of a treasury are numbered one after the other.
        sqlx::query("SELECT 1 FROM treasuries WHERE chain_id = $1 AND treasury = $2 FOR NO KEY UPDATE")
            .bind(signed(chain_id))
            .bind(hex_of(new.treasury))
            .execute(&mut *commit)
            .await
            .map_err(during("lock treasury"))?;
        if let Some(run) = run_of_payout(&mut commit, chain_id, new.treasury, &new.payout).await? {
            return Ok(run);
        }
        let number = insert_run(&mut commit, chain_id, new).await?;
        insert_list(&mut commit, chain_id, new, number).await?;
        commit.commit().await.map_err(during("keep run"))?;
        self.run(chain_id, new.treasury, place_of(number))
            .await?
            .ok_or(StoreError::Malformed { what: "run", value: number.to_string() })
    }

    /// The newest redemption of a treasury that was begun, and not stopped: who made it is done with it, or pays it.
    pub async fn begun_redemption(&self, chain_id: u64, treasury: Address) -> Result<Option<u32>, StoreError> {
        let run: Option<i32> = sqlx::query_scalar(
            "SELECT max(run) FROM treasury_runs
             WHERE chain_id = $1 AND treasury = $2 AND kind = 'redemption' AND state IN ('paying', 'paused', 'done')",
        )
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .fetch_one(&self.pool)
        .await
        .map_err(during("read redemption"))?;
        Ok(run.map(place_of))
    }

    /// The run of a payout, if it has one that was not given up; of redemptions the one that is not done.
    pub async fn run_of_payout(
        &self,
        chain_id: u64,
        treasury: Address,
        payout: &Payout,
    ) -> Result<Option<StoredRun>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("read run"))?;
        run_of_payout(&mut connection, chain_id, treasury, payout).await
    }

    /// A run of a treasury.
    pub async fn run(&self, chain_id: u64, treasury: Address, run: u32) -> Result<Option<StoredRun>, StoreError> {
        sqlx::query(select!("r.chain_id = $1 AND r.treasury = $2 AND r.run = $3"))
            .bind(signed(chain_id))
            .bind(hex_of(treasury))
            .bind(place(run))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read run"))?
            .map(|row| run_of(&row))
            .transpose()
    }

    /// Runs of a treasury below a number, newest first.
    pub async fn runs(
        &self,
        chain_id: u64,
        treasury: Address,
        below: u32,
        limit: u32,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let rows =
            sqlx::query(select!("r.chain_id = $1 AND r.treasury = $2 AND r.run < $3 ORDER BY r.run DESC LIMIT $4"))
                .bind(signed(chain_id))
                .bind(hex_of(treasury))
                .bind(place(below))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(during("list runs"))?;
        rows.iter().map(run_of).collect()
    }

    /// Runs that are being paid.
    pub async fn paying_runs(&self, chain_id: u64) -> Result<Vec<StoredRun>, StoreError> {
        let rows = sqlx::query(select!("r.chain_id = $1 AND r.state = 'paying' ORDER BY r.treasury, r.run"))
            .bind(signed(chain_id))
            .fetch_all(&self.pool)
            .await
            .map_err(during("read runs"))?;
        rows.iter().map(run_of).collect()
    }
}

async fn run_of_payout(
    connection: &mut PgConnection,
    chain_id: u64,
    treasury: Address,
    payout: &Payout,
) -> Result<Option<StoredRun>, StoreError> {
    let (period, reference) = names_of(payout);
    sqlx::query(select!(
        "r.chain_id = $1 AND r.treasury = $2 AND r.kind = $3 AND r.period IS NOT DISTINCT FROM $4
         AND r.reference IS NOT DISTINCT FROM $5 AND r.state <> 'discarded' AND (r.kind <> 'redemption' OR r.state <> 'done')"
    ))
    .bind(signed(chain_id))
    .bind(hex_of(treasury))
    .bind(payout.kind())
    .bind(period)
    .bind(reference)
    .fetch_optional(connection)
    .await
    .map_err(during("read run"))?
    .map(|row| run_of(&row))
    .transpose()
}

fn names_of(payout: &Payout) -> (Option<i64>, Option<&str>) {
    match payout {
        Payout::Coupon { period } => (Some(i64::from(*period)), None),
        Payout::Dividend { reference, .. } => (None, Some(reference)),
        Payout::Redemption => (None, None),
    }
}

async fn insert_run(commit: &mut PgConnection, chain_id: u64, new: &NewRun) -> Result<i32, StoreError> {
    let (period, reference) = names_of(&new.payout);
    let holders = u32::try_from(new.list.rows.len()).unwrap_or(u32::MAX);
    sqlx::query_scalar(
        "INSERT INTO treasury_runs (tenant_id, chain_id, treasury, run, kind, period, reference, currency, record_date, record_block,
                                    record_hash, supply, numerator, denominator, total, rounding, holders, root, prepared_by, payout_id, reserved)
         SELECT $1, $2, $3, coalesce(max(run), 0) + 1, $4, $5, $6, $7, $8, $9, $10, $11::numeric, $12::numeric, $13::numeric, $14::numeric,
                $15::numeric, $16, $17, $18, $5, $4 = 'redemption'
         FROM treasury_runs WHERE chain_id = $2 AND treasury = $3 RETURNING run",
    )
    .bind(&new.tenant)
    .bind(signed(chain_id))
    .bind(hex_of(new.treasury))
    .bind(new.payout.kind())
    .bind(period)
    .bind(reference)
    .bind(hex_of(new.currency))
    .bind(signed(new.record_date))
    .bind(signed(new.record.number))
    .bind(new.record.hash.to_string())
    .bind(new.list.supply.to_string())
    .bind(new.fraction.numerator.to_string())
    .bind(new.fraction.denominator.to_string())
    .bind(new.list.total.to_string())
    .bind(new.list.rounding.to_string())
    .bind(place(holders))
    .bind(new.list.root.to_string())
    .bind(&new.principal)
    .fetch_one(commit)
    .await
    .map_err(during("keep run"))
}

async fn insert_list(commit: &mut PgConnection, chain_id: u64, new: &NewRun, run: i32) -> Result<(), StoreError> {
    let rows = &new.list.rows;
    sqlx::query(
        "INSERT INTO entitlements (chain_id, treasury, run, place, holder, units, amount)
         SELECT $1, $2, $3, (place - 1)::int, holder, units::numeric, amount::numeric
         FROM unnest($4::text[], $5::text[], $6::text[]) WITH ORDINALITY AS e(holder, units, amount, place)",
    )
    .bind(signed(chain_id))
    .bind(hex_of(new.treasury))
    .bind(run)
    .bind(rows.iter().map(|row| hex_of(row.holding.holder)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.holding.units.to_string()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.amount.to_string()).collect::<Vec<_>>())
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("keep list"))
}

fn run_of(row: &PgRow) -> Result<StoredRun, StoreError> {
    let name: String = row.get("state");
    let state = RunState::ALL.into_iter().find(|state| state.name() == name);
    let currency = address_of(row.get("currency"))?;
    let (record_date, total) = (unsigned(row.get("record_date")), payable_of(row.get("total_text"))?);
    let kind: String = row.get("kind");
    let payout = match kind.as_str() {
        "coupon" => Payout::Coupon { period: u32::try_from(row.get::<i64, _>("period")).unwrap_or(u32::MAX) },
        "dividend" => Payout::Dividend { currency, record_date, total, reference: row.get("reference") },
        "redemption" => Payout::Redemption,
        _ => return Err(StoreError::Malformed { what: "kind of a run", value: kind }),
    };
    Ok(StoredRun {
        tenant: row.get("tenant_id"),
        treasury: address_of(row.get("treasury"))?,
        run: place_of(row.get("run")),
        payout,
        currency,
        record_date,
        record_block: unsigned(row.get("record_block")),
        record_hash: hash_of(row.get("record_hash"))?,
        supply: amount_of(row.get("supply_text"))?,
        fraction: Fraction {
            numerator: amount_of(row.get("numerator_text"))?,
            denominator: amount_of(row.get("denominator_text"))?,
        },
        total,
        rounding: payable_of(row.get("rounding_text"))?,
        holders: place_of(row.get("holders")),
        root: hash_of(row.get("root"))?,
        payout_id: row.get::<Option<i64>, _>("payout_id").map(unsigned),
        state: state.ok_or(StoreError::Malformed { what: "state of a run", value: name })?,
        pass: place_of(row.get("pass")),
        rows_per_batch: row.get::<Option<i32>, _>("rows_per_batch").map_or(1, place_of),
        reserved: row.get("reserved"),
        open_operation: row.get("open_operation"),
        principal: row.get::<Option<String>, _>("principal").unwrap_or_default(),
        sender: row.get::<Option<String>, _>("sender").map_or(Ok(Address::ZERO), address_of)?,
        failure: row
            .get::<Option<serde_json::Value>, _>("failure")
            .and_then(|failure| serde_json::from_value(failure).ok()),
        discard: row.get::<Option<String>, _>("discarded_by").map(|principal| Discard {
            principal,
            reason: row.get::<Option<String>, _>("discard_reason").unwrap_or_default(),
            at: row.get::<Option<i64>, _>("discarded_at_s").map_or(0, unsigned),
        }),
    })
}
