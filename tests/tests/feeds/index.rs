//! The index across reorgs, and the audit that asks nobody.

use alloy::primitives::Address;
use alloy::sol_types::SolCall as _;
use dalp_contracts::bindings::IssuerSignedScalarFeed::submitCall;
use dalp_proto::feeds::{FeedEventKind, HistoryMode, ListRoundsRequest, VerifyRoundRequest, WatchFeedsRequest};
use sqlx::{Connection as _, PgConnection};
use svc_feeds::domain::update::Update;

use crate::support::{PRICE, Wanted, World, now_s, text, until};

/// An update that reaches the chain without the platform.
async fn send(world: &World, feed: Address, update: &Update) {
    let request = world.signed(feed, update);
    let signature: alloy::primitives::Bytes = request.signature.parse().expect("hex");
    let submit = submitCall { issuer: world.outside_identity, update: update.on_chain(), signature };
    world.send(Some(feed), submit.abi_encode()).await;
}

async fn values(world: &World, feed: Address) -> Vec<String> {
    let asked = ListRoundsRequest { feed: text(feed), ..Default::default() };
    let rounds = world.feeds().list_rounds(asked).await.expect("rounds").into_inner().rounds;
    rounds.into_iter().rev().map(|round| round.value).collect()
}

pub(crate) async fn a_reorg_takes_rounds_back(world: &World) {
    let feed = world.feed(Wanted { topic: PRICE.into(), mode: HistoryMode::LatestOnly, ..Wanted::default() }).await;
    let observed_at = now_s() - 100;
    world.publish(feed, "1", observed_at).await;
    let watch = WatchFeedsRequest { feeds: vec![text(feed)], cursor: String::new() };
    let mut events = world.feeds().watch_feeds(watch).await.expect("a stream").into_inner();

    // Two rounds are indexed, then their blocks are replaced by others with another round.
    let snapshot: String = world.rpc("evm_snapshot", ()).await;
    let mut update = world.unsigned(feed, PRICE, 2, observed_at).await;
    send(world, feed, &update).await;
    update.nonce += 1;
    send(world, feed, &update).await;
    world.indexed(feed, 3).await;
    assert_eq!(values(world, feed).await, ["1", "2", "2"]);
    let reverted: bool = world.rpc("evm_revert", (snapshot,)).await;
    assert!(reverted);
    let update = world.unsigned(feed, PRICE, 7, observed_at).await;
    send(world, feed, &update).await;
    let replaced = |found: &Vec<String>| *found == ["1", "7"];
    until("the index follows the new branch", async || values(world, feed).await, replaced).await;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = events.message().await.expect("an event").expect("the stream goes on");
        let round = event.round.clone().map(|round| (round.round_id, round.value)).unwrap_or_default();
        seen.push((event.kind(), round.0, round.1));
    }
    let event = |kind, id: &str, value: &str| (kind, id.to_owned(), value.to_owned());
    let expected = [
        event(FeedEventKind::Round, "2", "2"),
        event(FeedEventKind::Round, "3", "2"),
        event(FeedEventKind::Retracted, "3", "2"),
        event(FeedEventKind::Retracted, "2", "2"),
        event(FeedEventKind::Round, "2", "7"),
    ];
    assert_eq!(seen, expected);
    // The service goes on where the chain stands.
    assert_eq!(world.publish(feed, "8", observed_at).await, 3);
}

pub(crate) async fn a_round_is_verified_without_the_chain(world: &World) {
    let wanted = Wanted { topic: "nav".into(), mode: HistoryMode::LatestOnly, ..Wanted::default() };
    let feed = world.feed(wanted).await;
    world.publish(feed, "41", now_s() - 5).await;
    let asked = VerifyRoundRequest { feed: text(feed), round_id: "1".to_owned() };
    let verified = world.feeds().verify_round(asked.clone()).await.expect("stored").into_inner();
    assert!(verified.valid && verified.recovered == world.issuer.text, "{verified:?}");
    // Whoever changes what is stored is found out.
    let mut database = PgConnection::connect(&world.stack.settings().database_url).await.expect("connects");
    let lied = sqlx::query("UPDATE feeds.rounds SET value = 42 WHERE feed = $1")
        .bind(format!("{feed:#x}"))
        .execute(&mut database)
        .await
        .expect("written");
    assert_eq!(lied.rows_affected(), 1);
    let verified = world.feeds().verify_round(asked).await.expect("stored").into_inner();
    assert!(!verified.valid && verified.recovered != world.issuer.text, "{verified:?}");
}
