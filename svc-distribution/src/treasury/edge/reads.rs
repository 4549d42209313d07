//! Reads of treasuries, runs and entitlements.

use super::{address, answers, run_of, treasury_of};
use crate::{
    app::App,
    treasury::{
        entitlement::ROUNDING_RULE,
        readers,
        store::{outcomes::Outcome, runs::StoredRun},
    },
};
use dalp_domain::pages::{bad_page_token, page_size};
use dalp_proto::distribution as proto;
use dalp_service::{Refusal, fields};

/// Transactions that a record names.
const TRANSACTIONS: u32 = 10_000;

/// A run with how far it is.
pub(super) async fn counted(app: &App, run: &StoredRun) -> Result<proto::Run, Refusal> {
    let counts = app.store.run_counts(app.chain.chain_id(), run).await?;
    Ok(answers::run(run, &counts))
}

/// A treasury with what its contract says.
pub(super) async fn treasury(
    app: &App,
    tenant: &str,
    request: &proto::GetTreasuryRequest,
) -> Result<proto::GetTreasuryResponse, Refusal> {
    let stored = treasury_of(app, tenant, address("treasury", &request.treasury)?).await?;
    Ok(match readers::on_chain(&app.chain, &stored.terms, stored.treasury).await? {
        Some(on_chain) => answers::standing(&stored, &on_chain),
        None => proto::GetTreasuryResponse { treasury: Some(answers::treasury(&stored)), ..Default::default() },
    })
}

/// A page of treasuries.
pub(super) async fn treasuries(
    app: &App,
    tenant: &str,
    request: &proto::ListTreasuriesRequest,
) -> Result<proto::ListTreasuriesResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let asset = match request.asset.as_str() {
        "" => None,
        text => Some(address("asset", text)?),
    };
    let below = match request.page_token.as_str() {
        "" => i64::MAX,
        token => token.parse::<i64>().ok().filter(|below| *below > 0).ok_or_else(bad_page_token)?,
    };
    let mut page = app.store.treasuries(tenant, app.chain.chain_id(), asset, below, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| last.number.to_string()).unwrap_or_default();
    Ok(proto::ListTreasuriesResponse { treasuries: page.iter().map(answers::treasury).collect(), next_page_token })
}

/// A run.
pub(super) async fn run(
    app: &App,
    tenant: &str,
    request: &proto::GetRunRequest,
) -> Result<proto::GetRunResponse, Refusal> {
    // Read before the outcomes, which are then of this block at least.
    let indexed_block = app.store.indexed_head(app.chain.chain_id()).await?.unwrap_or_default();
    let (_, run) = run_of(app, tenant, &request.treasury, request.run).await?;
    Ok(proto::GetRunResponse { run: Some(counted(app, &run).await?), indexed_block })
}

/// A page of runs.
pub(super) async fn runs(
    app: &App,
    tenant: &str,
    request: &proto::ListRunsRequest,
) -> Result<proto::ListRunsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let below = match request.page_token.as_str() {
        "" => u32::MAX,
        token => token.parse::<u32>().ok().filter(|below| *below > 0).ok_or_else(bad_page_token)?,
    };
    let treasury = treasury_of(app, tenant, address("treasury", &request.treasury)?).await?;
    let mut page = app.store.runs(app.chain.chain_id(), treasury.treasury, below, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| last.run.to_string()).unwrap_or_default();
    let mut runs = Vec::with_capacity(page.len());
    for run in &page {
        runs.push(counted(app, run).await?);
    }
    Ok(proto::ListRunsResponse { runs, next_page_token })
}

/// A page of entitlements.
pub(super) async fn entitlements(
    app: &App,
    tenant: &str,
    request: &proto::ListEntitlementsRequest,
) -> Result<proto::ListEntitlementsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let only = match request.outcome {
        0 => None,
        outcome => Some(match fields::enum_value("outcome", outcome)? {
            proto::EntitlementOutcome::Paid => Outcome::Paid,
            proto::EntitlementOutcome::Skipped => Outcome::Skipped,
            proto::EntitlementOutcome::Open | proto::EntitlementOutcome::Unspecified => Outcome::Open,
        }),
    };
    let (_, run) = run_of(app, tenant, &request.treasury, request.run).await?;
    let from = match request.page_token.as_str() {
        "" => 0,
        token => token.parse::<u32>().ok().filter(|from| *from <= run.holders).ok_or_else(bad_page_token)?,
    };
    let mut page = app.store.entitlements(app.chain.chain_id(), &run, from, only, limit + 1).await?;
    let next = page.get(limit as usize).map(|next| next.place.to_string()).unwrap_or_default();
    page.truncate(limit as usize);
    Ok(proto::ListEntitlementsResponse {
        entitlements: page.into_iter().map(answers::entitlement).collect(),
        next_page_token: next,
    })
}

/// The record of a run.
pub(super) async fn evidence(
    app: &App,
    tenant: &str,
    request: &proto::GetRunEvidenceRequest,
) -> Result<proto::GetRunEvidenceResponse, Refusal> {
    let chain_id = app.chain.chain_id();
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let (treasury, run) = run_of(app, tenant, &request.treasury, request.run).await?;
    let counts = app.store.run_counts(chain_id, &run).await?;
    let passes = app.store.passes(chain_id, &run).await?;
    let transactions = app.store.run_transactions(chain_id, &run, TRANSACTIONS).await?;
    Ok(proto::GetRunEvidenceResponse {
        run: Some(answers::run(&run, &counts)),
        treasury: Some(answers::treasury(&treasury)),
        approvals: passes.into_iter().map(answers::approval).collect(),
        reconciliation: Some(answers::reconciliation(&run, &counts)),
        rounding_rule: ROUNDING_RULE.to_owned(),
        outcomes_digest: app.store.entitlements_digest(chain_id, &run).await?.to_string(),
        transactions: transactions.into_iter().map(answers::transaction).collect(),
        indexed_block,
    })
}
