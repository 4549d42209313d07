//! The list of a run: whose balances count, at which block, and what is due for them. Nothing is written on chain.

use super::{
    cap_table::CapTable,
    entitlement::{EntitlementError, Fraction, Holding, entitle},
    readers::{self, OnChain, RecordBlock},
    start::standing,
    store::{
        runs::{NewRun, StoredRun},
        treasuries::StoredTreasury,
    },
    terms::{Payout, period_of},
};
use crate::app::App;
use alloy::primitives::{Address, U256};
use dalp_chain::BlockId;
use dalp_service::{Reason, Refusal};

/// Whose balances count for a payout, and what they are due.
struct Record {
    block: RecordBlock,
    date: u64,
    holdings: Vec<Holding>,
    fraction: Fraction,
    currency: Address,
}

/// Makes the run of a payout, or finds it.
pub async fn prepare(
    app: &App,
    tenant: &str,
    principal: &str,
    treasury: &StoredTreasury,
    payout: &Payout,
) -> Result<StoredRun, Refusal> {
    let chain_id = app.chain.chain_id();
    if let Some(run) = app.store.run_of_payout(chain_id, treasury.treasury, payout).await? {
        return same(run, payout);
    }
    let standing = standing(app, treasury).await?;
    let record = match payout {
        Payout::Coupon { period } => of_coupon(app, treasury, &standing, *period).await?,
        Payout::Dividend { currency, record_date, total, .. } => {
            of_dividend(app, treasury, *currency, *record_date, *total).await?
        }
        Payout::Redemption => of_redemption(app, treasury, &standing).await?,
    };
    let list = entitle(record.fraction, &record.holdings).map_err(refused)?;
    let new = NewRun {
        tenant: tenant.to_owned(),
        treasury: treasury.treasury,
        payout: payout.clone(),
        currency: record.currency,
        record_date: record.date,
        record: record.block,
        fraction: record.fraction,
        list,
        principal: principal.to_owned(),
    };
    same(app.store.put_run(chain_id, &new).await?, payout)
}

/// A reference stands for one dividend for ever.
fn same(run: StoredRun, payout: &Payout) -> Result<StoredRun, Refusal> {
    if run.payout == *payout {
        return Ok(run);
    }
    Err(Refusal::new(Reason::FailedPrecondition, "the reference stands for another dividend").meta("run", run.run))
}

fn refused(error: EntitlementError) -> Refusal {
    match error {
        EntitlementError::NobodyHolds => Refusal::new(Reason::NothingDue, error.to_string()),
        EntitlementError::TooMuch => Refusal::new(Reason::FailedPrecondition, error.to_string()),
        EntitlementError::Twice(_) => Refusal::internal(error),
    }
}

async fn of_coupon(app: &App, treasury: &StoredTreasury, standing: &OnChain, period: u32) -> Result<Record, Refusal> {
    let found = standing.plan.as_ref().and_then(|plan| period_of(plan, period)).ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the treasury has no such coupon period")
            .meta("period", period)
            .meta("periods", standing.periods)
    })?;
    if period >= standing.completed {
        return Err(Refusal::new(Reason::PeriodNotComplete, "the coupon period is not over")
            .meta("id", period)
            .meta("end", found.ends_at));
    }
    let (block, holdings) = at_record_date(app, treasury, found.record_date).await?;
    let (fraction, currency) = (found.fraction, treasury.terms.currency);
    Ok(Record { block, date: found.record_date, holdings, fraction, currency })
}

async fn of_dividend(
    app: &App,
    treasury: &StoredTreasury,
    currency: Address,
    date: u64,
    total: u128,
) -> Result<Record, Refusal> {
    let (block, holdings) = at_record_date(app, treasury, date).await?;
    let supply: U256 = holdings.iter().map(|holding| holding.units).sum();
    if supply.is_zero() {
        return Err(refused(EntitlementError::NobodyHolds));
    }
    let fraction = Fraction { numerator: U256::from(total), denominator: supply };
    Ok(Record { block, date, holdings, fraction, currency })
}

async fn of_redemption(app: &App, treasury: &StoredTreasury, standing: &OnChain) -> Result<Record, Refusal> {
    let maturity = treasury.terms.maturity.map_or(0, |maturity| maturity.at);
    let not_matured =
        || Refusal::new(Reason::NotMatured, "the asset has not matured in a final block").meta("maturity", maturity);
    if maturity == 0 || standing.at.timestamp_s < maturity {
        return Err(not_matured());
    }
    let block = readers::latest_final(&app.chain).await?;
    if block.timestamp_s < maturity {
        return Err(not_matured());
    }
    let asset = treasury.terms.asset;
    let table = readers::cap_table(&app.chain, asset, app.limits.index_from_block, block.number).await?;
    let holders = holders_of(&table);
    let (holdings, supply) = readers::balances(&app.chain, asset, &holders, BlockId::number(block.number)).await?;
    compare(&table, &holdings, supply)?;
    let (fraction, currency) = (treasury.units.redemption(), treasury.terms.currency);
    Ok(Record { block, date: block.timestamp_s, holdings, fraction, currency })
}

/// Balances at a record date as the asset's own records have them; they must be what its movements come to.
async fn at_record_date(
    app: &App,
    treasury: &StoredTreasury,
    date: u64,
) -> Result<(RecordBlock, Vec<Holding>), Refusal> {
    let asset = treasury.terms.asset;
    let block = readers::record_block(&app.chain, date).await?;
    let table = readers::cap_table(&app.chain, asset, app.limits.index_from_block, block.number).await?;
    let (holdings, supply) = readers::recorded(&app.chain, asset, &holders_of(&table), date).await?;
    compare(&table, &holdings, supply)?;
    Ok((block, holdings))
}

fn holders_of(table: &CapTable) -> Vec<Address> {
    table.holdings().iter().map(|holding| holding.holder).collect()
}

/// Refuses a list that would pay another than the chain's records say, or leave somebody out.
fn compare(table: &CapTable, recorded: &[Holding], supply: U256) -> Result<(), Refusal> {
    if let Some((ours, theirs)) = table.holdings().iter().zip(recorded).find(|(ours, theirs)| ours != theirs) {
        return Err(readers::disagree("a balance differs")
            .meta("holder", ours.holder.to_checksum(None))
            .meta("movements", ours.units)
            .meta("recorded", theirs.units));
    }
    if table.supply() != supply || recorded.iter().map(|holding| holding.units).sum::<U256>() != supply {
        return Err(readers::disagree("the supply differs").meta("movements", table.supply()).meta("recorded", supply));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::treasury::cap_table::Moved;

    fn table(balances: &[(u8, u64)]) -> CapTable {
        let mut table = CapTable::default();
        for (holder, units) in balances {
            let moved = Moved { from: Address::ZERO, to: Address::repeat_byte(*holder), amount: U256::from(*units) };
            table.apply(moved).unwrap();
        }
        table
    }

    fn problem(table: &CapTable, recorded: &[Holding], supply: u64) -> String {
        let refusal = compare(table, recorded, U256::from(supply)).unwrap_err();
        let details = Refusal::details(&refusal.into()).unwrap();
        assert_eq!(details.reason, "FAILED_PRECONDITION");
        details.metadata["problem"].clone()
    }

    #[test]
    fn a_list_that_is_not_the_chains_own_is_refused() {
        let ours = table(&[(1, 5), (2, 7)]);
        let mut recorded = ours.holdings();
        compare(&ours, &recorded, U256::from(12)).unwrap();
        assert_eq!(problem(&ours, &recorded, 13), "the supply differs", "somebody is left out");
        recorded[1].units += U256::ONE;
        assert_eq!(problem(&ours, &recorded, 12), "a balance differs");
    }
}
