//! Coupons of a bond, quarter by quarter: short, pulled, refused to some, and exact.

use dalp_devstack::client::keyed;
use dalp_devstack::scenario::Wallet;
use dalp_proto::asset::SetAddressFrozenRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::distribution::{
    CouponPlan, EntitlementOutcome, ExportFormat, RunState, ScheduleCouponsRequest, StartRunRequest, TreasuryTerms,
};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{IssueClaimRequest, RevokeClaimRequest};
use dalp_tests::airdrops::key;
use dalp_tests::load::START;
use tonic::Request;

use crate::support::{World, coupon, refusal, wallets};

pub(crate) const QUARTER_S: u32 = 7_776_000;
const LEAD_S: u32 = 86_400;
/// What a holder of START is due for a quarter: 0.333 cents for each bond.
const DUE: u64 = START / 1_000 * 333;

/// A bond with its treasury.
pub(crate) struct Bond {
    pub(crate) treasury: String,
    pub(crate) maturity: u64,
}

/// The four coupons. What each of them shows beside the payment stands in its own part.
pub(crate) async fn four_quarterly_coupons(world: &World) -> Bond {
    let bond = scheduled(world).await;
    let treasury = &bond.treasury;
    let details = world.not_prepared(treasury, coupon(0)).await;
    let first_end = bond.maturity - 3 * u64::from(QUARTER_S);
    assert_eq!((details.reason.as_str(), &details.metadata["end"]), ("PERIOD_NOT_COMPLETE", &first_end.to_string()));

    world.pass(first_end - u64::from(LEAD_S)).await;
    // Behind the record date: it changes nothing.
    let [alice, bob, _] = world.holders();
    world.completed(world.transfer(alice, bob, 1_000).await.expect("accepted")).await;
    world.completed(world.transfer(bob, alice, 1_000).await.expect("accepted")).await;
    world.pass(first_end).await;
    a_treasury_that_is_short_by_one_unit_moves_nothing(world, treasury).await;
    world.pass(first_end + u64::from(QUARTER_S)).await;
    who_claims_first_is_not_paid_again(world, treasury).await;
    world.pass(first_end + 2 * u64::from(QUARTER_S)).await;
    who_became_ineligible_is_skipped_and_paid_when_cured(world, treasury).await;
    world.pass(bond.maturity).await;
    let run = world.prepared(treasury, coupon(3)).await;
    world.treasuries().fund(treasury, run.total.parse().expect("a number")).await.expect("funded");
    let done = world.paid(&run).await;
    let progress = done.progress.expect("progress");
    assert_eq!((progress.paid, progress.unpaid_amount.as_str()), (done.holders, "0"));
    assert_eq!(world.get(treasury).await.opened_periods, 4);
    bond
}

async fn scheduled(world: &World) -> Bond {
    let now_s = world.now_s().await;
    let maturity = now_s + 1_000 + 4 * u64::from(QUARTER_S);
    let terms = TreasuryTerms { maturity, redemption_price: "0.1".to_owned(), ..world.terms() };
    let treasury = world.treasuries().create(&terms).await.expect("created");
    world.treasuries().make_ready(&treasury, &terms).await.expect("ready");
    // Two who hold next to nothing: the fractions of their coupons add up to a unit that nobody gets.
    let dust = wallets("dust", 2);
    world.load.verify(&dust).await.expect("verified");
    for wallet in &dust {
        world.offerings().mint(&world.offerings().asset(), &wallet.text, 2).await.expect("minted");
    }
    let plan = CouponPlan {
        starts_at: now_s + 1_000,
        ends_at: maturity,
        interval_s: QUARTER_S,
        lead_s: LEAD_S,
        rate: "0.00333".to_owned(),
    };
    let request =
        ScheduleCouponsRequest { sender: world.issuer(), treasury: treasury.clone(), plan: Some(plan.clone()) };
    let accepted = world.service().schedule_coupons(keyed(request.clone(), &key())).await.expect("accepted");
    world.completed(accepted.into_inner().operation).await;
    let again = world.service().schedule_coupons(keyed(request, &key())).await.expect_err("once");
    assert_eq!(refusal(&again).reason, "ALREADY_EXISTS");
    let got = world.get(&treasury).await;
    assert_eq!((got.plan, got.periods, got.attached.len()), (Some(plan), 4, 3));
    Bond { treasury, maturity }
}

async fn a_treasury_that_is_short_by_one_unit_moves_nothing(world: &World, treasury: &str) {
    let run = world.prepared(treasury, coupon(0)).await;
    assert_eq!(world.prepared(treasury, coupon(0)).await, run, "asked again, it is the same run");
    // Three of START, two of 2, and whoever else a part of this test left with something.
    let listed = world.entitlements(&run, EntitlementOutcome::Open).await;
    assert_eq!(listed.len(), run.holders as usize);
    let [alice, bob, carol] = world.holders();
    for wallet in [alice, bob, carol] {
        let one = listed.iter().find(|one| one.holder == wallet.text).expect("on the list");
        assert_eq!((one.units.as_str(), one.amount.as_str()), (&*START.to_string(), &*DUE.to_string()));
    }
    assert_eq!(run.rounding, "1", "two times 0.666 of a unit");
    let total: u64 = run.total.parse().expect("a number");
    assert_eq!(listed.iter().map(|one| one.amount.parse::<u64>().expect("a number")).sum::<u64>() + 1, total);

    world.treasuries().fund(treasury, total - 1).await.expect("funded");
    let details = refusal(&world.treasuries().start(&run).await.expect_err("refused"));
    let told = (details.reason.as_str(), &details.metadata["needed"], &details.metadata["available"]);
    assert_eq!(told, ("TREASURY_UNDERFUNDED", &total.to_string(), &(total - 1).to_string()));
    assert_eq!(world.euros(alice.address).await, 0, "nothing moved");
    assert_eq!(world.run(&run).await.progress.expect("progress").state(), RunState::Prepared);
    world.treasuries().fund(treasury, 1).await.expect("funded");

    let other = StartRunRequest {
        sender: world.issuer(),
        treasury: treasury.to_owned(),
        run: run.run,
        root: format!("0x{}", "11".repeat(32)),
    };
    let status = world.service().start_run(Request::new(other)).await.expect_err("another list");
    assert_eq!(refusal(&status).reason, "FAILED_PRECONDITION");

    let done = world.paid(&run).await;
    let progress = done.progress.clone().expect("progress");
    assert_eq!((progress.paid, progress.skipped, progress.open), (run.holders, 0, 0));
    for wallet in [alice, bob, carol] {
        assert_eq!(world.euros(wallet.address).await, DUE);
    }
    let evidence = world.evidence(&run).await;
    let sums = evidence.reconciliation.expect("sums");
    let told = (sums.paid.as_str(), sums.unpaid.as_str(), sums.rounding.as_str(), sums.difference.as_str());
    assert_eq!((told, sums.deviating), ((&*(total - 1).to_string(), "0", "1", "0"), 0));
    assert_eq!(evidence.transactions.iter().map(|one| one.paid).sum::<u32>(), run.holders);
    assert_eq!((evidence.approvals.len(), &evidence.approvals[0].root), (1, &run.root));
    // What rounding left over is free again.
    assert_eq!(world.get(treasury).await.coverage.map(|one| (one.balance, one.owed)), Some(("1".into(), "0".into())));
    files_say_the_same(world, &done).await;
    let details = refusal(&world.treasuries().start(&run).await.expect_err("nobody is left"));
    assert_eq!(details.reason, "PERIOD_ALREADY_PAID");
}

async fn files_say_the_same(world: &World, run: &dalp_proto::distribution::Run) {
    let csv = world.exported(run, ExportFormat::Csv).await;
    assert_eq!(csv.lines().count(), 1 + run.holders as usize);
    assert!(csv.lines().skip(1).all(|line| line.split(',').nth(4) == Some("PAID")), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&world.exported(run, ExportFormat::Json).await).expect("a document");
    assert_eq!(json["reconciliation"]["difference"], "0");
    assert_eq!(json["entitlements"].as_array().map(Vec::len), Some(run.holders as usize));
    assert_eq!(json["run"]["root"], run.root.as_str());
}

async fn who_claims_first_is_not_paid_again(world: &World, treasury: &str) {
    let [_, bob, _] = world.holders();
    let early = refusal(&world.claim(treasury, bob, &[1]).await.expect_err("nothing is there"));
    assert_eq!(early.reason, "TREASURY_UNDERFUNDED");
    let run = world.prepared(treasury, coupon(1)).await;
    world.treasuries().fund(treasury, run.total.parse().expect("a number")).await.expect("funded");
    let before = world.euros(bob.address).await;
    let claimed = world.completed(world.claim(treasury, bob, &[1]).await.expect("accepted")).await;
    assert_eq!(claimed["amount"], DUE.to_string());
    let done = world.paid(&run).await;
    let progress = done.progress.expect("progress");
    assert_eq!((progress.paid, progress.unpaid_amount.as_str()), (run.holders, "0"));
    assert_eq!(world.euros(bob.address).await, before + DUE, "once");
    let twice = refusal(&world.claim(treasury, bob, &[1]).await.expect_err("once"));
    assert_eq!((twice.reason.as_str(), twice.metadata["id"].as_str()), ("PERIOD_ALREADY_PAID", "1"));
    let evidence = world.evidence(&run).await;
    assert_eq!(evidence.reconciliation.expect("sums").difference, "0");
}

async fn who_became_ineligible_is_skipped_and_paid_when_cured(world: &World, treasury: &str) {
    let [alice, _, carol] = world.holders();
    let run = world.prepared(treasury, coupon(2)).await;
    world.treasuries().fund(treasury, run.total.parse().expect("a number")).await.expect("funded");
    // The currency does not take carol any more; alice is frozen on the bond.
    revoke(world, carol).await;
    freeze_address(world, alice, true).await;
    let before = (world.euros(alice.address).await, world.euros(carol.address).await);
    let done = world.paid(&run).await;
    let progress = done.progress.expect("progress");
    let told = (progress.paid, progress.skipped, progress.unpaid_amount.as_str());
    assert_eq!(told, (run.holders - 2, 2, &*(2 * DUE).to_string()));
    let mut skipped: Vec<(String, String)> = world
        .entitlements(&run, EntitlementOutcome::Skipped)
        .await
        .into_iter()
        .map(|one| (one.holder, one.reason))
        .collect();
    skipped.sort();
    let mut expected =
        vec![(alice.text.clone(), "HOLDER_FROZEN".to_owned()), (carol.text.clone(), "PAYMENT_REFUSED".to_owned())];
    expected.sort();
    assert_eq!(skipped, expected);
    assert_eq!((world.euros(alice.address).await, world.euros(carol.address).await), before);
    let sums = world.evidence(&run).await.reconciliation.expect("sums");
    assert_eq!((sums.unpaid, sums.difference.as_str()), ((2 * DUE).to_string(), "0"));

    freeze_address(world, alice, false).await;
    attest(world, carol).await;
    let done = world.paid(&run).await;
    assert_eq!(done.progress.expect("progress").paid, run.holders);
    assert_eq!(world.euros(alice.address).await, before.0 + DUE);
    assert_eq!(world.euros(carol.address).await, before.1 + DUE);
    let evidence = world.evidence(&run).await;
    assert_eq!(evidence.approvals.len(), 2, "each pass was approved");
    assert_eq!(evidence.reconciliation.expect("sums").difference, "0");
}

async fn revoke(world: &World, holder: &Wallet) {
    let request = RevokeClaimRequest { issuer: world.issuer(), subject: holder.text.clone(), topic: "kyc".to_owned() };
    let mut identities = IdentityServiceClient::new(world.client.gateway());
    let accepted = identities.revoke_claim(keyed(request, &key())).await.expect("accepted").into_inner();
    world.completed(accepted.operation).await;
}

async fn attest(world: &World, holder: &Wallet) {
    let request = IssueClaimRequest {
        issuer: world.issuer(),
        subject: holder.text.clone(),
        topic: "kyc".to_owned(),
        data: "0x".to_owned(),
        expires_at: 4_000_000_000,
    };
    let mut identities = IdentityServiceClient::new(world.client.gateway());
    let accepted = identities.issue_claim(keyed(request, &key())).await.expect("accepted").into_inner();
    world.completed(accepted.operation).await;
}

async fn freeze_address(world: &World, holder: &Wallet, frozen: bool) {
    let request = SetAddressFrozenRequest {
        sender: world.issuer(),
        asset: world.offerings().asset(),
        holder: holder.text.clone(),
        frozen,
        reason: "sanctions".to_owned(),
    };
    let mut assets = AssetServiceClient::new(world.client.gateway());
    let accepted = assets.set_address_frozen(keyed(request, &key())).await.expect("accepted").into_inner();
    world.completed(accepted.operation).await;
}
