//! Preparing, starting and pausing runs.

use super::{answers, messages, reads::counted, require_current, run_of, treasury_of};
use crate::{
    app::App,
    metric_definitions as metric,
    readers::currency_decimals,
    treasury::{
        prepare, start,
        store::{
            discards::Discarded,
            runs::{RunState, StoredRun},
        },
        terms::Payout,
    },
};
use alloy::primitives::B256;
use dalp_contracts::bindings::Servicing::coverageCall;
use dalp_proto::distribution as proto;
use dalp_service::{
    Caller, Reason, Refusal,
    fields::{self, Violations},
};

/// Characters of the reason for giving a run up.
const MAX_REASON_CHARS: usize = 500;

/// Makes the list of a payout.
pub(super) async fn prepare(
    app: &App,
    caller: &Caller,
    request: &proto::PrepareRunRequest,
) -> Result<proto::PrepareRunResponse, Refusal> {
    let tenant = caller.tenant.as_str();
    let treasury = treasury_of(app, tenant, super::address("treasury", &request.treasury)?).await?;
    let payout = messages::payout(request, treasury.terms.currency)?;
    if let Payout::Dividend { currency, .. } = &payout {
        currency_decimals(&app.chain, *currency, "dividend.currency").await?;
    }
    let run = prepare::prepare(app, tenant, caller.principal.as_str(), &treasury, &payout).await;
    let run = run.inspect_err(|refusal| metric::run_refused(refusal.reason().as_str()))?;
    let has = app.chain.read(treasury.treasury, coverageCall { currency: run.currency }).await?;
    Ok(proto::PrepareRunResponse {
        coverage: Some(answers::coverage(run.currency, has.balance, has.owed)),
        run: Some(counted(app, &run).await?),
    })
}

/// Pays a list that is approved, or lets the payment go on.
pub(super) async fn start(
    app: &App,
    caller: &Caller,
    request: &proto::StartRunRequest,
) -> Result<proto::StartRunResponse, Refusal> {
    let mut bad = Violations::new();
    let sender = bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default();
    let root = bad.check(fields::bytes32("root", &request.root)).unwrap_or_default();
    bad.finish()?;
    let (treasury, run) = run_of(app, caller.tenant.as_str(), &request.treasury, request.run).await?;
    require_root(&run, root)?;
    app.rights.require_wallet(caller, sender).await?;
    let approval = start::Approval { principal: caller.principal.as_str(), sender, alone: false };
    start::start(app, &treasury, &run, approval).await?;
    Ok(proto::StartRunResponse { run: Some(again(app, &run).await?) })
}

/// Hands nothing further over.
pub(super) async fn pause(
    app: &App,
    caller: &Caller,
    request: &proto::PauseRunRequest,
) -> Result<proto::PauseRunResponse, Refusal> {
    let (_, run) = run_of(app, caller.tenant.as_str(), &request.treasury, request.run).await?;
    if run.state == RunState::Paying {
        require_current(&app.rights, caller, run.sender).await?;
    }
    app.store.turn_run(app.chain.chain_id(), &run, RunState::Paying, RunState::Paused).await?;
    Ok(proto::PauseRunResponse { run: Some(again(app, &run).await?) })
}

/// Gives a run up before money moves for it.
pub(super) async fn discard(
    app: &App,
    caller: &Caller,
    request: &proto::DiscardRunRequest,
) -> Result<proto::DiscardRunResponse, Refusal> {
    let reason = fields::bounded_string("reason", &request.reason, 1, MAX_REASON_CHARS)?;
    let (treasury, run) = run_of(app, caller.tenant.as_str(), &request.treasury, request.run).await?;
    let moved =
        || Refusal::new(Reason::RunMoneyMoved, "money is reserved or was paid for the run").meta("run", run.run);
    // Another run may have opened its coupon with its own.
    if run.state != RunState::Discarded && start::is_reserved(app, &treasury, &run).await? {
        return Err(moved());
    }
    let asked = app.store.discard_run(app.chain.chain_id(), &run, (caller.principal.as_str(), &reason)).await?;
    match asked {
        Discarded::Yes => Ok(proto::DiscardRunResponse { run: Some(again(app, &run).await?) }),
        Discarded::Moved => Err(moved()),
        Discarded::UnderWay => Err(Refusal::new(Reason::RunUnderWay, "the run is being paid, or paused")
            .meta("run", run.run)
            .meta("state", run.state.name())),
    }
}

/// A run as it is now.
async fn again(app: &App, run: &StoredRun) -> Result<proto::Run, Refusal> {
    let now = app.store.run(app.chain.chain_id(), run.treasury, run.run).await?;
    counted(app, now.as_ref().unwrap_or(run)).await
}

/// Whoever approves says what: another list is another root.
fn require_root(run: &StoredRun, root: B256) -> Result<(), Refusal> {
    if run.root == root {
        return Ok(());
    }
    Err(Refusal::new(Reason::FailedPrecondition, "the run has another list than the one that is approved")
        .meta("root", run.root))
}
