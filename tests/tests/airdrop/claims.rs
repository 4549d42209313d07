//! Claims and vestings, by holders whose keys the platform has.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    AirdropKind, AirdropTerms, ClaimAirdropRequest, RecipientOutcome, ReleaseAirdropRequest, WithdrawLeftoversRequest,
};
use dalp_proto::operation::{Operation, OperationState};
use dalp_tests::airdrops::{Wanted, key};
use dalp_tests::load::START;
use dalp_tests::waiting::until;
use tonic::Status;

use crate::support::{World, now_s, refusal, wallets};

async fn claim(world: &World, airdrop: &str, sender: &str) -> Result<Option<Operation>, Status> {
    let claim = ClaimAirdropRequest { sender: sender.to_owned(), airdrop: airdrop.to_owned(), account: String::new() };
    Ok(world.airdrops().service().claim_airdrop(keyed(claim, &key())).await?.into_inner().operation)
}

async fn refused(world: &World, accepted: Option<Operation>) -> String {
    let operation = world.client.finished(accepted).await.expect("it ends");
    assert_eq!(operation.state(), OperationState::Failed, "{operation:?}");
    operation.error.expect("an error").reason
}

async fn withdraw(world: &World, airdrop: &str) -> Option<Operation> {
    let withdraw = WithdrawLeftoversRequest {
        sender: world.load.issuer.text.clone(),
        airdrop: airdrop.to_owned(),
        currency: String::new(),
    };
    let answer = world.airdrops().service().withdraw_leftovers(keyed(withdraw, &key())).await;
    answer.expect("accepted").into_inner().operation
}

pub(crate) async fn recipients_claim_once_with_their_proof(world: &World) {
    let [one, two] = [&world.load.holders[0], &world.load.holders[1]];
    let others = wallets("claimed", 30);
    let mut rows: Vec<(String, u64)> = others.iter().map(|wallet| (wallet.text.clone(), 3)).collect();
    rows.insert(20, (one.text.clone(), 500));
    let wanted = Wanted { accept_unverified: true, ..Wanted::of(AirdropKind::Claim, &rows, now_s()) };
    let airdrop = world.airdrops().create(&wanted, 600).await.expect("created");
    assert_eq!(refusal(&world.push(&airdrop).await.expect_err("not pushed")).reason, "FAILED_PRECONDITION");

    let claimed = claim(world, &airdrop, &one.text).await.expect("accepted");
    world.airdrops().completed(claimed).await.expect("claimed");
    assert_eq!(world.balance(one.address).await, START + 500);
    let again = claim(world, &airdrop, &one.text).await.expect("accepted");
    assert_eq!(refused(world, again).await, "ALREADY_PAID");
    assert_eq!(refusal(&claim(world, &airdrop, &two.text).await.expect_err("not on the list")).reason, "NOT_FOUND");
    let early = withdraw(world, &airdrop).await;
    assert_eq!(refused(world, early).await, "AIRDROP_NOT_OPEN");
    let paid = |found: &Vec<dalp_proto::distribution::Recipient>| found.len() == 1;
    let found =
        until("the claim is indexed", async || world.recipients(&airdrop, RecipientOutcome::Paid).await, paid).await;
    assert_eq!((found[0].index, found[0].amount.as_str()), (20, "500"));
}

pub(crate) async fn a_vesting_releases_over_time_and_leftovers_return_after_the_window(world: &World) {
    let [one, two] = [&world.load.holders[0], &world.load.holders[1]];
    let rows = [(one.text.clone(), 1_000), (two.text.clone(), 50)];
    let wanted = Wanted::of(AirdropKind::Vesting, &rows, now_s());
    let terms = AirdropTerms { cliff_s: 10_000, duration_s: 100_000, ..wanted.terms.clone() };
    let airdrop = world.airdrops().create(&Wanted { terms, ..wanted }, 1_050).await.expect("created");
    let claimed = claim(world, &airdrop, &one.text).await.expect("accepted");
    world.airdrops().completed(claimed).await.expect("started");
    let started = world.balance(one.address).await;

    let release = async || {
        let release = ReleaseAirdropRequest {
            sender: two.text.clone(),
            airdrop: airdrop.clone(),
            accounts: vec![one.text.clone()],
        };
        let answer = world.airdrops().service().release_airdrop(keyed(release, &key())).await;
        answer.expect("accepted").into_inner().operation
    };
    assert_eq!(refused(world, release().await).await, "NOTHING_DUE", "before the cliff");
    let release = async || {
        world.airdrops().completed(release().await).await.expect("released");
        world.balance(one.address).await - started
    };
    world.pass(50_000).await;
    let half = release().await;
    assert!((500..=520).contains(&half), "half of it: {half}");
    world.pass(50_000).await;
    assert_eq!(release().await, 1_000);

    // The window is over: what nobody claimed goes back.
    let withdrawn = world.airdrops().completed(withdraw(world, &airdrop).await).await.expect("withdrawn");
    assert_eq!(withdrawn["amount"], "50");
    let late = claim(world, &airdrop, &two.text).await.expect("accepted");
    assert_eq!(refused(world, late).await, "AIRDROP_NOT_OPEN");
    let told = |evidence: &dalp_proto::distribution::GetAirdropEvidenceResponse| evidence.withdrawn_amount == "50";
    let evidence = until("the withdrawal is indexed", async || world.evidence(&airdrop).await, told).await;
    assert_eq!((evidence.listed_amount.as_str(), evidence.paid_amount.as_str()), ("1050", "1000"));
    let vesting = world.recipients(&airdrop, RecipientOutcome::Vesting).await;
    assert_eq!((vesting.len(), vesting[0].released.as_str()), (1, "1000"));
}
