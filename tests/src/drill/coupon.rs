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

/// How long the last payments may take after the last kill, and how much longer for each holder; a request is repeated as long.
const PATIENCE: Duration = Duration::from_secs(300);
const LONGER_FOR_EACH: Duration = Duration::from_millis(100);
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
const LIST: [Stage; 1] = [Stage::before(
    "the list is computed, not kept",
    ("distribution.entitlements", "INSERT INTO entitlements"),
    "NOT EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1)",
)];

/// From the approval of the list to the end of the run.
const PAYMENT: [Stage; 21] = [
    Stage::before(
        "approved, nothing is stored",
        ("distribution.treasury_passes", "INSERT INTO treasury_passes"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'prepared')",
    ),
    Stage::before(
        "begun, the reservation is not accepted",
        ("engine.idempotency", "INSERT INTO engine.idempotency"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs r WHERE r.treasury = $1 AND r.state = 'paying' AND r.open_operation IS NULL AND NOT r.reserved
                 AND NOT EXISTS (SELECT 1 FROM engine.idempotency i WHERE i.key = format('open-%s-%s-%s', r.treasury, r.run, r.pass)))",
    ),
    Stage::before(
        "the reservation is accepted, its operation is not noted",
        ("distribution.treasury_runs", "UPDATE treasury_runs SET open_operation"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs r
                   JOIN engine.idempotency i ON i.key = format('open-%s-%s-%s', r.treasury, r.run, r.pass)
                 WHERE r.treasury = $1 AND r.open_operation IS NULL AND NOT r.reserved)",
    ),
    Stage::at("the reservation is sent, in no block", Point::Sent { kind: OPEN }),
    Stage::before(
        "the money is reserved, that is not noted",
        ("distribution.treasury_runs", "UPDATE treasury_runs SET reserved"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs r JOIN engine.operations o ON o.operation_id = r.open_operation
                 WHERE r.treasury = $1 AND NOT r.reserved AND o.state = 'COMPLETED')",
    ),
    Stage::before(
        "reserved, no batch is planned",
        ("distribution.treasury_batches", "INSERT INTO treasury_batches"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'paying' AND reserved)
         AND NOT EXISTS (SELECT 1 FROM distribution.treasury_batches WHERE treasury = $1)",
    ),
    Stage::before(
        "a batch is planned, not accepted",
        ("engine.idempotency", "INSERT INTO engine.idempotency"),
        "EXISTS (SELECT 1 FROM distribution.treasury_batches b WHERE b.treasury = $1 AND b.operation_id IS NULL
                 AND NOT EXISTS (SELECT 1 FROM engine.idempotency i
                                 WHERE i.key = format('pay-%s-%s-%s-%s', b.treasury, b.run, b.pass, b.batch)))",
    ),
    Stage::before(
        "a batch is accepted, its operation is not noted",
        ("distribution.treasury_batches", "UPDATE treasury_batches SET operation_id"),
        "EXISTS (SELECT 1 FROM distribution.treasury_batches b
                   JOIN engine.idempotency i ON i.key = format('pay-%s-%s-%s-%s', b.treasury, b.run, b.pass, b.batch)
                 WHERE b.treasury = $1 AND b.operation_id IS NULL)",
    ),
    Stage::before(
        "a batch has no nonce yet",
        ("engine.nonces", "INSERT INTO engine.nonces"),
        "EXISTS (SELECT 1 FROM engine.transactions t JOIN engine.operations o USING (tenant, operation_id)
                 WHERE o.kind = 'treasury.pay_batch' AND o.state = 'RUNNING' AND t.nonce IS NULL)",
    ),
    Stage::at("a batch waits for its signature", Point::Signing { kind: BATCH }),
    Stage::at("a batch is signed, the signature is not stored", Point::Signed { kind: BATCH }),
    Stage::at("a batch is sent, in no block", Point::Sent { kind: BATCH }),
    Stage::at("a batch is in a block, which is not noted", Point::Included { kind: BATCH }),
    Stage::before(
        "a batch is in a block, which is not indexed",
        ("distribution.treasury_payments", "INSERT INTO treasury_payments"),
        "(SELECT count(*) FROM distribution.treasury_payments WHERE treasury = $1 AND kind = 'paid') < $2",
    ),
    Stage::before(
        "a batch is final, not settled",
        ("distribution.treasury_batches", "UPDATE treasury_batches SET settled"),
        "EXISTS (SELECT 1 FROM distribution.treasury_batches b JOIN engine.operations o USING (operation_id)
                 WHERE b.treasury = $1 AND NOT b.settled AND o.state = 'COMPLETED')",
    ),
    Stage::at("a quarter is paid", Point::Paid { quarters: 1 }),
    Stage::at("half is paid", Point::Paid { quarters: 2 }),
    Stage::at("three quarters are paid", Point::Paid { quarters: 3 }),
    Stage::once(
        "everybody stands in a batch",
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'paying' AND next_place >= $2)",
    ),
    Stage::before(
        "all batches are settled, the run is not ended",
        ("distribution.treasury_runs", "UPDATE treasury_runs SET state"),
        "EXISTS (SELECT 1 FROM distribution.treasury_runs WHERE treasury = $1 AND state = 'paying' AND next_place >= $2)
         AND NOT EXISTS (SELECT 1 FROM distribution.treasury_batches WHERE treasury = $1 AND NOT settled)",
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
    ground.progress.begin(name, LIST.len() + PAYMENT.len());
    let (treasury, euro) = scheduled(ground).await?;
    let begun = Instant::now();
    let subject = Subject { contract: treasury.to_lowercase(), recipients: holders.len(), paid: PAID };
    let (run, mut kills) = list(ground, &treasury, &subject).await?;
    let reserved = holders.iter().map(|(_, bonds)| bonds).sum::<u64>() * CENTS_OF_100 / 100;
    ensure!(run.holders as usize == holders.len() && run.total == reserved.to_string(), "another list: {run:?}");
    treasuries(ground).fund(&treasury, reserved).await?;
    kills.extend(pay(ground, &run, &subject).await?);
    let mut outcome = Outcome::of(name, holders.len(), begun, kills);
    ground.progress.tell("balances are counted on chain");
    ground.count(&mut outcome, euro.address, (treasury.parse()?, reserved), &due).await?;
    outcome.deviations.extend(deviations(ground, &run, due.iter().map(|(_, cents)| cents).sum()).await?);
    Ok(outcome)
}

fn treasuries(ground: &Ground) -> Treasuries<'_> {
    Treasuries { client: &ground.client, load: &ground.load }
}

fn patience(subject: &Subject) -> Duration {
    PATIENCE + LONGER_FOR_EACH * u32::try_from(subject.recipients).unwrap_or(u32::MAX)
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
    let patience = patience(subject);
    let prepare = async move {
        let treasuries = Treasuries { client: &client, load: &load };
        repeated(patience, || treasuries.prepare(&of, Payout::Coupon(CouponPayout { period: 0 }))).await
    };
    let (answer, kills) = ground.under_kills(&LIST, subject, prepare).await.context("the list of the run")?;
    Ok((answer.run.context("the answer carries no run")?, kills))
}

/// Has it paid under kills, until everybody is.
async fn pay(ground: &mut Ground, run: &Run, subject: &Subject) -> anyhow::Result<Vec<Killed>> {
    let (client, load, approved) = (ground.client.clone(), ground.load.clone(), run.clone());
    let patience = patience(subject);
    let start = async move {
        let treasuries = Treasuries { client: &client, load: &load };
        repeated(patience, || treasuries.start(&approved)).await
    };
    let (_, kills) = ground.under_kills(&PAYMENT, subject, start).await.context("the run")?;
    wait_for("everybody is paid", patience, async || {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::stage::tests::each_is_a_point_of_its_own;

    #[test]
    fn no_two_stages_are_one() {
        each_is_a_point_of_its_own(&LIST);
        each_is_a_point_of_its_own(&PAYMENT);
    }
}
