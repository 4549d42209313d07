//! Starting a run: what could not be paid in full is refused before anything moves.

use super::{
    payer::{LEAST_ROW_GAS, SAMPLE, pay_call, reserve_of},
    readers,
    store::{
        passes::{Begun, NewPass},
        runs::{RunState, StoredRun},
        treasuries::StoredTreasury,
    },
    terms::Payout,
};
use crate::{app::App, metric_definitions as metric, passes::rows_per_batch};
use alloy::primitives::Address;
use dalp_service::{Reason, Refusal};

/// Holders of a batch when nobody can be measured: before money is reserved, paying has no price.
const UNMEASURED_ROWS: u32 = 50;

/// Who approves a list.
#[derive(Debug, Clone, Copy)]
pub struct Approval<'a> {
    /// Who.
    pub principal: &'a str,
    /// With which wallet.
    pub sender: Address,
    /// Whether the run waits for other runs of the treasury that are about to reserve money.
    pub alone: bool,
}

/// Pays a list that was approved by somebody, or lets the payment go on. Repeating it while it goes on changes nothing.
pub async fn start(
    app: &App,
    treasury: &StoredTreasury,
    run: &StoredRun,
    approval: Approval<'_>,
) -> Result<(), Refusal> {
    let Approval { principal, sender, alone } = approval;
    let chain_id = app.chain.chain_id();
    match run.state {
        // Its batches stand under keys that are for their sender, too.
        RunState::Paying | RunState::Paused if run.sender != sender => {
            return Err(Refusal::new(Reason::FailedPrecondition, "the run goes on with the wallet that it began with")
                .meta("sender", run.sender.to_checksum(None)));
        }
        RunState::Discarded => return Err(given_up(run)),
        RunState::Paying => {}
        RunState::Paused => app.store.turn_run(chain_id, run, RunState::Paused, RunState::Paying).await?,
        RunState::Prepared | RunState::Stopped | RunState::Done => {
            let rows_per_batch = payable(app, treasury, run, sender)
                .await
                .inspect_err(|refusal| metric::run_refused(refusal.reason().as_str()))?;
            let pass = NewPass { principal: principal.to_owned(), sender, rows_per_batch, alone };
            let refused = |text| Err(Refusal::new(Reason::FailedPrecondition, text).meta("run", run.run));
            match app.store.begin_pass(chain_id, run, &pass).await? {
                Begun::Yes => {}
                Begun::HeldBack => return refused("another run of the treasury is about to reserve money"),
                Begun::Discarded => return Err(given_up(run)),
                Begun::Replaced => return refused("a later redemption run has taken the place of this one"),
            }
        }
    }
    app.payer.wake();
    Ok(())
}

fn given_up(run: &StoredRun) -> Refusal {
    Refusal::new(Reason::FailedPrecondition, "the run was given up; prepare another").meta("run", run.run)
}

/// Holders of a batch, measured on the first ones that are not paid. Refuses a run that the treasury could not pay in full: nothing moves.
async fn payable(app: &App, treasury: &StoredTreasury, run: &StoredRun, sender: Address) -> Result<u32, Refusal> {
    let chain_id = app.chain.chain_id();
    let sample = app.store.unpaid_holders(chain_id, run, 0, SAMPLE).await?;
    if sample.is_empty() {
        return Err(Refusal::new(Reason::PeriodAlreadyPaid, "everybody on the list is paid"));
    }
    if let Some(opening) = reserve_of(&run.payout) {
        if !is_reserved(app, treasury, run).await? {
            readers::try_as(&app.chain, sender, run.treasury, opening.data()).await?;
            if matches!(run.payout, Payout::Dividend { .. }) {
                return Ok(UNMEASURED_ROWS);
            }
        }
    } else if !standing(app, treasury).await?.matured {
        let maturity = treasury.terms.maturity.map_or(0, |maturity| maturity.at);
        return Err(
            Refusal::new(Reason::NotMatured, "governance has not opened the redemption").meta("maturity", maturity)
        );
    }
    let holders: Vec<Address> = sample.iter().flat_map(|one| [Some(one.holder), one.recovered_to]).flatten().collect();
    let data = pay_call(run, holders).ok_or_else(|| Refusal::internal("a reserved payout without its number"))?;
    readers::try_as(&app.chain, sender, run.treasury, data.clone()).await?;
    let gas = app
        .chain
        .gas(sender, run.treasury, data.to_vec())
        .await?
        .ok_or_else(|| Refusal::new(Reason::SimulationReverted, "the node cannot tell what a payment costs"))?;
    Ok(rows_per_batch(gas, sample.len(), app.limits.payment_batch_gas, LEAST_ROW_GAS))
}

/// Whether the contract has reserved the money of a run; a redemption's is not reserved by run.
pub async fn is_reserved(app: &App, treasury: &StoredTreasury, run: &StoredRun) -> Result<bool, Refusal> {
    match run.payout {
        Payout::Coupon { period } => Ok(period < standing(app, treasury).await?.opened),
        _ => Ok(run.payout_id.is_some()),
    }
}

/// What a treasury's contract says; it must stand.
pub async fn standing(app: &App, treasury: &StoredTreasury) -> Result<readers::OnChain, Refusal> {
    readers::on_chain(&app.chain, &treasury.terms, treasury.treasury).await?.ok_or_else(readers::not_standing)
}
