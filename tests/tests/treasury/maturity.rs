//! Redemption by schedule: missed, short, opened and paid by itself; a list that is given up, and a holder who lost the wallet after it was made.

use dalp_devstack::client::keyed;
use dalp_devstack::scenario::Wallet;
use dalp_proto::asset::AssetRole;
use dalp_proto::distribution::{
    AutomateRedemptionRequest, AutomateRedemptionResponse, DiscardRunRequest, DuePayment, DueState, EntitlementOutcome,
    GetRunRequest, PayoutKind, Run, RunState, TreasuryTerms, prepare_run_request::Payout,
};
use dalp_proto::identity::RecoverWalletRequest;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::offerings::Offerings;
use dalp_tests::treasuries::Treasuries;
use dalp_tests::waiting::until;
use tonic::Status;

use crate::schedules::due;
use crate::support::{World, refusal, wallets};

/// Of each holder.
const NOTES: u64 = 1_000;
/// Cents for a note.
const PRICE: u64 = 10;
const HOLDERS: u64 = 3;

async fn automate(world: &World, treasury: &str, alert_s: u32) -> Result<AutomateRedemptionResponse, Status> {
    let request = AutomateRedemptionRequest { sender: world.issuer(), treasury: treasury.to_owned(), alert_s };
    Ok(world.service().automate_redemption(request).await?.into_inner())
}

async fn discard(world: &World, run: &Run, reason: &str) -> Result<Run, Status> {
    let request = DiscardRunRequest { treasury: run.treasury.clone(), run: run.run, reason: reason.to_owned() };
    Ok(world.service().discard_run(request).await?.into_inner().run.expect("a run"))
}

async fn recover(world: &World, lost: &Wallet, new: &Wallet) {
    let request = RecoverWalletRequest {
        sender: world.issuer(),
        lost_wallet: lost.text.clone(),
        new_wallet: new.text.clone(),
        assets: vec![],
        reason: "keys lost".to_owned(),
    };
    let mut identities = IdentityServiceClient::new(world.client.gateway());
    let accepted = identities.recover_wallet(keyed(request, &key())).await.expect("accepted").into_inner();
    world.completed(accepted.operation).await;
}

/// A note whose holders have the same number of it each.
async fn issued(world: &World, holders: &[Wallet]) -> Load {
    world.load.verify(holders).await.expect("verified");
    let note = world.offerings().issue_cash("NTE", 0, holders, NOTES).await.expect("notes");
    let mut load = world.load.clone();
    load.token = note.address;
    let offerings = Offerings { client: &world.client, load: &load };
    offerings.grant(AssetRole::Custodian, &world.issuer()).await.expect("custodian");
    load
}

pub(crate) async fn a_redemption_opens_by_itself_and_follows_a_wallet_that_was_lost(world: &World) {
    let everyone = wallets("maturity", 4);
    let (holders, new) = (&everyone[..3], &everyone[3]);
    let load = issued(world, holders).await;
    let treasuries = Treasuries { client: &world.client, load: &load };
    let maturity = world.now_s().await + 10_000;
    let asset = load.token.to_checksum(None);
    let terms = TreasuryTerms { asset, maturity, redemption_price: "0.1".to_owned(), ..world.terms() };
    let treasury = treasuries.create(&terms).await.expect("created");
    treasuries.make_ready(&treasury, &terms).await.expect("ready");

    let endless = TreasuryTerms { maturity: 0, redemption_price: String::new(), ..terms.clone() };
    let endless = treasuries.create(&endless).await.expect("created");
    let refused = refusal(&automate(world, &endless, 0).await.expect_err("it never matures"));
    assert_eq!(refused.reason, "FAILED_PRECONDITION");
    let planned = automate(world, &treasury, 20_000).await.expect("decided").payments;
    let told: Vec<_> = planned.iter().map(|one| (one.kind(), one.due_at, one.state())).collect();
    assert_eq!(told, [(PayoutKind::Redemption, maturity, DueState::Waiting)]);
    let is_short = |all: &Vec<DuePayment>| all[0].short;
    until("the alert", async || due(world, &treasury).await, is_short).await;

    // Maturity is missed: the treasury is short. A list that was made by hand meanwhile is given up, and another made.
    world.pass(maturity).await;
    let short = |all: &Vec<DuePayment>| all[0].error_reason == "TREASURY_UNDERFUNDED";
    until("it is short", async || due(world, &treasury).await, short).await;
    let first = until_prepared(&treasuries, &treasury).await;
    let blank = refusal(&discard(world, &first, "").await.expect_err("no reason"));
    assert_eq!((blank.reason.as_str(), blank.violations[0].0.as_str()), ("INVALID_FIELD", "reason"));
    let gone = discard(world, &first, "the wrong day").await.expect("given up");
    assert_eq!(gone.progress.as_ref().map(|now| now.state()), Some(RunState::Discarded));
    assert_eq!(gone.discard.as_ref().map(|one| one.reason.as_str()), Some("the wrong day"));
    assert_eq!(discard(world, &first, "again").await.expect("already"), gone);
    assert_eq!(refusal(&treasuries.start(&gone).await.expect_err("given up")).reason, "FAILED_PRECONDITION");
    let second = until_prepared(&treasuries, &treasury).await;
    assert_eq!((second.run, &second.root), (first.run + 1, &first.root));

    // The list names the lost wallet; its notes are in the new one when it is paid.
    recover(world, &holders[0], new).await;
    let all = HOLDERS * NOTES * PRICE;
    treasuries.fund(&treasury, all).await.expect("funded");
    let started = |all: &Vec<DuePayment>| all[0].state() == DueState::Started;
    let payments = until("it is started", async || due(world, &treasury).await, started).await;
    assert_eq!((payments.len(), payments[0].run), (1, second.run), "the list that was made");
    assert!(!payments[0].open_operation_id.is_empty(), "{payments:?}");
    let ask = async || {
        let asked = GetRunRequest { treasury: treasury.clone(), run: second.run };
        world.service().get_run(asked).await.expect("known").into_inner().run.expect("a run")
    };
    let done = |run: &Run| run.progress.as_ref().is_some_and(|now| now.state() == RunState::Done && now.paid == 3);
    until("everybody is paid", ask, done).await;
    for wallet in [&holders[1], &holders[2], new] {
        assert_eq!(world.euros(wallet.address).await, NOTES * PRICE, "once");
        assert_eq!(world.balance(load.token, wallet.address).await, 0, "burned");
    }
    assert_eq!(
        (world.euros(holders[0].address).await, world.euros(treasury.parse().expect("an address")).await),
        (0, 0)
    );
    let paid = world.entitlements(&second, EntitlementOutcome::Paid).await;
    let lost = paid.iter().find(|one| one.holder == holders[0].text).expect("on the list");
    assert_eq!((&lost.paid_to, lost.paid_amount.as_str()), (&new.text, &*(NOTES * PRICE).to_string()));
    let evidence = world.evidence(&second).await;
    let sums = evidence.reconciliation.expect("sums");
    let told = (sums.paid.as_str(), sums.unpaid.as_str(), sums.difference.as_str(), sums.deviating);
    assert_eq!((told, evidence.approvals.len()), ((&*all.to_string(), "0", "0", 0), 1));
    assert_eq!(refusal(&discard(world, &second, "late").await.expect_err("paid")).reason, "RUN_MONEY_MOVED");
}

/// The list of a redemption, once a final block is behind maturity.
async fn until_prepared(treasuries: &Treasuries<'_>, treasury: &str) -> Run {
    let ask = async || treasuries.prepare(treasury, Payout::Redemption(Default::default())).await;
    let answer = until("a final block is behind maturity", ask, |answer| match answer {
        Ok(_) => true,
        Err(status) => refusal(status).reason != "NOT_MATURED",
    });
    answer.await.expect("prepared").run.expect("a run")
}
