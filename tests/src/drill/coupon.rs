//! A coupon of the holders of the bond, killed at every stage of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dalp_devstack::client::keyed;
use dalp_devstack::scenario::Wallet;
use dalp_proto::asset::AssetRole;
use dalp_proto::distribution::{
    CouponPayout, CouponPlan, GetRunEvidenceRequest, GetRunRequest, Run, RunState, ScheduleCouponsRequest,
    TreasuryTerms, prepare_run_request::Payout,
};

use super::ground::{Ground, wait_for};
use super::stage::{Point, Stage, Subject};
use super::{Killed, Outcome};
use crate::airdrops::key;
use crate::offerings::{Cash, Offerings};
use crate::treasuries::Treasuries;
use crate::waiting::repeated;

/// How long the last payments may take after the last kill.
const PATIENCE: Duration = Duration::from_secs(600);
const OPEN: &str = "treasury.open";
const BATCH: &str = "treasury.pay_batch";
const PAID: &str = "SELECT count(*) FROM distribution.treasury_payments WHERE treasury = $1 AND kind = 'paid'";
/// Euros of a bond.
const RATE: &str = "0.0333";
/// Cents of a hundred bonds.
const CENTS_OF_100: u64 = 333;
/// Cents that the issuer starts with.
const CASH: u64 = 1_000_000_000_000;
const PERIOD_S: u32 = 100_000;

/// Until there is a list.
const LIST: [Stage; 1] =
    [Stage::before("the list is computed, not kept", "distribution.entitlements", "INSERT INTO entitlements")];

/// From the approval of the list to the end of the run.
const PAYMENT: [Stage; 21] = [
    Stage::before("approved, nothing is stored", "distribution.treasury_passes", "INSERT INTO treasury_passes"),
    Stage::before_while(
        "begun, the reservation is not accepted",
        ("engine.idempotency", "INSERT INTO engine.idempotency"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'paying' AND open_operation IS NULL AND NOT reserved)",
    ),
    Stage::before(
        "the reservation is accepted, its operation is not noted",
        "distribution.treasury_runs",
        "UPDATE treasury_runs SET open_operation",
    ),
    Stage::at("the reservation is sent, in no block", Point::Sent { kind: OPEN }),
    Stage::before(
        "the money is reserved, that is not noted",
        "distribution.treasury_runs",
        "UPDATE treasury_runs SET reserved",
    ),
    Stage::before("reserved, no batch is planned", "distribution.treasury_batches", "INSERT INTO treasury_batches"),
    Stage::before_while(
        "a batch is planned, not accepted",
        ("engine.idempotency", "INSERT INTO engine.idempotency"),
        "EXISTS (SELECT 1 FROM distribution.treasury_batches WHERE treasury = $1 AND operation_id IS NULL)",
    ),
    Stage::before_while(
        "a batch is accepted, its operation is not noted",
        ("distribution.treasury_batches", "UPDATE treasury_batches"),
        "EXISTS (SELECT 1 FROM distribution.treasury_batches b
                   JOIN engine.idempotency i ON i.key = format('pay-%s-%s-%s-%s', b.treasury, b.run, b.pass, b.batch)
                 WHERE b.treasury = $1 AND b.operation_id IS NULL)",
    ),
    Stage::before("a batch has no nonce yet", "engine.nonces", "INSERT INTO engine.nonces"),
    Stage::at("a batch waits for its signature", Point::Signing { kind: BATCH }),
    Stage::at("a batch is signed, the signature is not stored", Point::Signed { kind: BATCH }),
    Stage::at("a batch is sent, in no block", Point::Sent { kind: BATCH }),
    Stage::at("a batch is in a block, which is not noted", Point::Included { kind: BATCH }),
    Stage::before(
        "a batch is in a block, which is not indexed",
        "distribution.treasury_payments",
        "INSERT INTO treasury_payments",
    ),
    Stage::before_while(
        "a batch is final, not settled",
        ("distribution.treasury_batches", "UPDATE treasury_batches"),
        "EXISTS (SELECT 1 FROM distribution.treasury_batches b JOIN engine.operations o USING (operation_id)
                 WHERE b.treasury = $1 AND NOT b.settled AND o.state = 'COMPLETED')",
    ),
    Stage::once(
        "a quarter is paid",
        "(SELECT count(*) FROM distribution.treasury_payments WHERE treasury = $1 AND kind = 'paid') * 4 >= $2",
    ),
    Stage::once(
        "half is paid",
        "(SELECT count(*) FROM distribution.treasury_payments WHERE treasury = $1 AND kind = 'paid') * 2 >= $2",
    ),
    Stage::once(
        "three quarters are paid",
        "(SELECT count(*) FROM distribution.treasury_payments WHERE treasury = $1 AND kind = 'paid') * 4 >= $2 * 3",
    ),
    Stage::once(
        "everybody stands in a batch",
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'paying' AND next_place >= $2)",
    ),
    Stage::before_while(
        "all batches are settled, the run is not ended",
        ("distribution.treasury_runs", "UPDATE treasury_runs SET state"),
        "NOT EXISTS (SELECT 1 FROM distribution.treasury_batches WHERE treasury = $1 AND NOT settled)",
    ),
    Stage::once(
        "it is done",
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'done')",
    ),
];

/// Pays a coupon in cents to everybody who holds the bond, each of whom holds a different amount.
///
/// # Errors
/// When a stage is not reached, or the platform refuses what it should not.
pub async fn coupon(ground: &mut Ground, name: &'static str, holders: &[(Wallet, u64)]) -> anyhow::Result<Outcome> {
    let due: Vec<(Wallet, u64)> =
        holders.iter().map(|(wallet, bonds)| (wallet.clone(), bonds * CENTS_OF_100 / 100)).collect();
    let (treasury, euro) = scheduled(ground).await?;
    let begun = Instant::now();
    let subject = Subject { contract: treasury.to_lowercase(), recipients: holders.len(), paid: PAID };
    let (run, mut kills) = list(ground, &treasury, &subject).await?;
    let reserved = holders.iter().map(|(_, bonds)| bonds).sum::<u64>() * CENTS_OF_100 / 100;
    ensure!(run.holders as usize == holders.len() && run.total == reserved.to_string(), "another list: {run:?}");
    treasuries(ground).fund(&treasury, reserved).await?;
    kills.extend(pay(ground, &run, &subject).await?);
    let mut outcome = Outcome {
        name,
        recipients: holders.len(),
        paid: 0,
        duplicated: 0,
        lost: 0,
        deviations: Vec::new(),
        took_s: begun.elapsed().as_secs_f64(),
        kills,
    };
    ground.count(&mut outcome, euro.address, &due).await?;
    outcome.deviations = deviations(ground, &run, due.iter().map(|(_, cents)| cents).sum()).await?;
    Ok(outcome)
}

fn treasuries(ground: &Ground) -> Treasuries<'_> {
    Treasuries { client: &ground.client, load: &ground.load }
}

/// A treasury whose only coupon has ended.
async fn scheduled(ground: &Ground) -> anyhow::Result<(String, Cash)> {
    let (client, load) = (&ground.client, &ground.load);
    let offerings = Offerings { client, load };
    offerings.grant(AssetRole::Funds, &load.issuer.text).await?;
    let euro = offerings.issue_cash("EUR", 2, std::slice::from_ref(&load.issuer), CASH).await?;
    let terms = TreasuryTerms {
        asset: offerings.asset(),
        currency: euro.text.clone(),
        sweep_to: String::new(),
        maturity: 0,
        redemption_price: String::new(),
    };
    let treasury = treasuries(ground).create(&terms).await?;
    treasuries(ground).make_ready(&treasury, &terms).await?;
    let now_s = ground.chain.time_s().await?;
    let plan = CouponPlan {
        starts_at: now_s,
        ends_at: now_s + u64::from(PERIOD_S),
        interval_s: PERIOD_S,
        lead_s: 0,
        rate: RATE.to_owned(),
    };
    let ends_at = plan.ends_at;
    let request =
        ScheduleCouponsRequest { sender: load.issuer.text.clone(), treasury: treasury.clone(), plan: Some(plan) };
    let accepted = treasuries(ground).service().schedule_coupons(keyed(request, &key())).await?.into_inner();
    offerings.completed(accepted.operation).await?;
    ground.chain.pass(ends_at + 1 - ground.chain.time_s().await?).await?;
    Ok((treasury, euro))
}

/// Has the list made under kills.
async fn list(ground: &mut Ground, treasury: &str, subject: &Subject) -> anyhow::Result<(Run, Vec<Killed>)> {
    let (client, load, of) = (ground.client.clone(), ground.load.clone(), treasury.to_owned());
    let prepare = async move {
        let treasuries = Treasuries { client: &client, load: &load };
        repeated(|| treasuries.prepare(&of, Payout::Coupon(CouponPayout { period: 0 }))).await
    };
    let (answer, kills) = ground.under_kills(&LIST, subject, prepare).await.context("the list of the run")?;
    Ok((answer.run.context("the answer carries no run")?, kills))
}

/// Has it paid under kills, until everybody is.
async fn pay(ground: &mut Ground, run: &Run, subject: &Subject) -> anyhow::Result<Vec<Killed>> {
    let (client, load, approved) = (ground.client.clone(), ground.load.clone(), run.clone());
    let start = async move {
        let treasuries = Treasuries { client: &client, load: &load };
        repeated(|| treasuries.start(&approved)).await
    };
    let (_, kills) = ground.under_kills(&PAYMENT, subject, start).await.context("the run")?;
    wait_for("everybody is paid", PATIENCE, async || {
        let asked = GetRunRequest { treasury: run.treasury.clone(), run: run.run };
        let answer = treasuries(ground).service().get_run(asked).await?.into_inner();
        let now = answer.run.and_then(|run| run.progress).context("the answer carries no progress")?;
        ensure!(now.skipped == 0 && now.state() != RunState::Stopped, "the run does not pay: {now:?}");
        Ok(now.state() == RunState::Done && now.open == 0)
    })
    .await?;
    Ok(kills)
}

/// What the record of the run tells otherwise than the list.
async fn deviations(ground: &Ground, run: &Run, paid: u64) -> anyhow::Result<Vec<String>> {
    let asked = GetRunEvidenceRequest { treasury: run.treasury.clone(), run: run.run };
    let record = treasuries(ground).service().get_run_evidence(asked).await?.into_inner();
    let sums = record.reconciliation.context("the record carries no sums")?;
    let by_transactions: u32 = record.transactions.iter().map(|one| one.paid).sum();
    let told = [
        ("paid", sums.paid, paid.to_string()),
        ("unpaid", sums.unpaid, "0".to_owned()),
        ("difference", sums.difference, "0".to_owned()),
        ("deviating", sums.deviating.to_string(), "0".to_owned()),
        ("paid by transactions", by_transactions.to_string(), run.holders.to_string()),
        ("approvals", record.approvals.len().to_string(), "1".to_owned()),
    ];
    Ok(told
        .into_iter()
        .filter(|(_, told, due)| told != due)
        .map(|(what, told, due)| format!("{what} {told}, not {due}"))
        .collect())
}
