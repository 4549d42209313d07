//! Pushes: paid once each, whoever refuses.

use dalp_proto::distribution::{AirdropKind, PauseAirdropRequest, PushState, RecipientOutcome, WatchAirdropRequest};
use dalp_tests::airdrops::Wanted;
use dalp_tests::waiting::until;
use tonic::Request;

use crate::support::{World, now_s, refusal, rows, total, wallets};

pub(crate) async fn a_push_that_is_short_by_one_unit_moves_nothing(world: &World) {
    let everyone = wallets("short", 5);
    world.load.verify(&everyone).await.expect("verified");
    let rows = rows(&everyone);
    let wanted = Wanted::of(AirdropKind::Push, &rows, now_s());
    let airdrop = world.airdrops().create(&wanted, total(&rows) - 1).await.expect("created");
    // Between a block and its index it is to be repeated.
    let pushed = async || world.push(&airdrop).await.map_err(|status| refusal(&status));
    let told = until(
        "it is refused for its money",
        pushed,
        |answer| !matches!(answer, Err(details) if details.reason == "BLOCK_NOT_INDEXED"),
    );
    let details = told.await.expect_err("refused");
    let told = (details.metadata["needed"].as_str(), details.metadata["available"].as_str());
    assert_eq!((details.reason.as_str(), told), ("TREASURY_UNDERFUNDED", ("15", "14")));
    assert_eq!(world.balance(everyone[0].address).await, 0, "nothing moved");
    world.airdrops().fund(&airdrop, 1).await.expect("funded");
    world.push(&airdrop).await.expect("begins");
    assert_eq!(world.pushed(&airdrop).await.paid, 5);
    assert_eq!(refusal(&world.push(&airdrop).await.expect_err("nobody is left")).reason, "FAILED_PRECONDITION");
}

pub(crate) async fn a_push_skips_whom_the_asset_refuses_and_pays_him_when_he_is_cured(world: &World) {
    let everyone = wallets("skip", 70);
    let (before, rest) = everyone.split_at(30);
    let (stranger, after) = rest.split_at(1);
    world.load.verify(before).await.expect("verified");
    world.load.verify(after).await.expect("verified");
    let rows = rows(&everyone);
    let wanted = Wanted { accept_unverified: true, ..Wanted::of(AirdropKind::Push, &rows, now_s()) };
    let airdrop = world.airdrops().create(&wanted, total(&rows)).await.expect("created");
    let watch = WatchAirdropRequest { airdrop: airdrop.clone() };
    let mut watched = world.airdrops().service().watch_airdrop(watch).await.expect("a stream").into_inner();
    world.push(&airdrop).await.expect("begins");

    let now = world.pushed(&airdrop).await;
    assert_eq!((now.paid, now.skipped, now.left, now.sent), (69, 1, 0, 70));
    let skipped = world.recipients(&airdrop, RecipientOutcome::Skipped).await;
    assert_eq!((skipped.len(), skipped[0].index, skipped[0].account.as_str()), (1, 30, stranger[0].text.as_str()));
    assert!(skipped[0].reason.contains("ComplianceRefused"), "{}", skipped[0].reason);
    let evidence = world.evidence(&airdrop).await;
    let sums = (evidence.listed_amount.as_str(), evidence.paid_amount.as_str(), evidence.unpaid_amount.as_str());
    assert_eq!(sums, ("2485", "2454", "31"));
    assert!(evidence.transactions.len() >= 3, "several batches: {:?}", evidence.transactions);
    assert_eq!(evidence.transactions.iter().map(|one| one.paid).sum::<u32>(), 69);

    // Cured, and paid by the next push; nobody else is touched.
    world.load.verify(stranger).await.expect("verified");
    world.push(&airdrop).await.expect("begins again");
    let all = |now: &dalp_proto::distribution::AirdropProgress| now.paid == 70;
    until("he is paid, too", async || world.progress(&airdrop).await, all).await;
    for (wallet, (_, amount)) in everyone.iter().zip(&rows) {
        assert_eq!(world.balance(wallet.address).await, *amount, "{}", wallet.text);
    }
    let last = world.evidence(&airdrop).await;
    assert_ne!(last.outcomes_digest, evidence.outcomes_digest);
    assert_eq!(last.unpaid_amount, "0");
    let mut seen = Vec::new();
    while let Some(told) = watched.message().await.expect("the stream goes on") {
        seen.push(told.progress.expect("progress").paid);
    }
    assert!(
        seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&70),
        "it ends with all paid: {seen:?}"
    );
}

pub(crate) async fn a_paused_push_goes_on_where_it_stood(world: &World) {
    let everyone = wallets("paused", 120);
    world.load.verify(&everyone).await.expect("verified");
    let rows = rows(&everyone);
    let wanted = Wanted::of(AirdropKind::Push, &rows, now_s());
    let airdrop = world.airdrops().create(&wanted, total(&rows)).await.expect("created");
    // No block comes: what was handed over waits, and nothing further is handed over while it does.
    world.chain.mine_every(0).await.expect("no blocks");
    world.push(&airdrop).await.expect("begins");
    let some_sent = |now: &dalp_proto::distribution::AirdropProgress| now.sent > 0;
    until("batches are handed over", async || world.progress(&airdrop).await, some_sent).await;
    let pause = PauseAirdropRequest { airdrop: airdrop.clone() };
    let paused = world.airdrops().service().pause_airdrop(Request::new(pause)).await.expect("paused").into_inner();
    assert_eq!(paused.progress.expect("progress").push_state(), PushState::Paused);
    world.chain.mine_every(1).await.expect("blocks again");
    let settled = |now: &dalp_proto::distribution::AirdropProgress| now.paid == now.sent && now.paid > 0;
    let waiting = until("what was handed over is paid", async || world.progress(&airdrop).await, settled).await;
    assert!(waiting.paid < 120 && waiting.push_state() == PushState::Paused, "{waiting:?}");
    assert_eq!(world.push(&airdrop).await.expect("goes on").push_state(), PushState::Running);
    assert_eq!(world.pushed(&airdrop).await.paid, 120);
    assert_eq!(world.evidence(&airdrop).await.paid_amount, total(&rows).to_string());
}
