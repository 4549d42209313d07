//! What is told without being asked for.

use alloy::primitives::Address;
use dalp_proto::feeds::{FeedEventKind, HistoryMode, SetStalenessRequest, WatchFeedsRequest, WatchFeedsResponse};
use dalp_proto::identity::RemoveTrustedIssuerRequest;
use sqlx::{Connection as _, PgConnection};
use tonic::Streaming;

use crate::support::{PRICE, Wanted, World, fresh, now_s, text, until};

/// The next event of a kind; those of other kinds in between are counted.
async fn next(events: &mut Streaming<WatchFeedsResponse>, kind: FeedEventKind) -> WatchFeedsResponse {
    let found = async {
        loop {
            let event = events.message().await.expect("an event").expect("the stream goes on");
            if event.kind() == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), found).await.unwrap_or_else(|_| panic!("no {kind:?}"))
}

pub(crate) async fn staleness_rejections_and_lost_signers_are_told(world: &World) {
    let subject = text(Address::repeat_byte(0xa1));
    let wanted = Wanted { topic: PRICE.into(), subject, mode: HistoryMode::Full, positive: true, ..Wanted::default() };
    let feed = world.feed(wanted).await;
    let watch = |cursor: &str| WatchFeedsRequest { feeds: vec![text(feed)], cursor: cursor.to_owned() };
    let mut events = world.feeds().watch_feeds(watch("")).await.expect("a stream").into_inner();

    // An old observation is accepted, and stale once somebody says after how long.
    let observed_at = now_s() - 500;
    world.publish(feed, "1", observed_at).await;
    let first = next(&mut events, FeedEventKind::Round).await;
    let round = first.round.expect("a round");
    assert_eq!((round.value.as_str(), round.round_id.as_str(), first.feed), ("1", "1", text(feed)));
    let set = SetStalenessRequest { feed: text(feed), stale_after_s: 400 };
    world.feeds().set_staleness(set).await.expect("set");
    let stale = next(&mut events, FeedEventKind::Stale).await;
    assert_eq!(
        (stale.details["observed_at"].as_str(), stale.details["stale_after_s"].as_str()),
        (observed_at.to_string().as_str(), "400")
    );

    // A refused update is told with its reason, a newer one ends the staleness.
    let refused = world.submit(world.update(feed, "0", now_s())).await;
    world.refused(refused).await;
    let rejected = next(&mut events, FeedEventKind::Rejected).await;
    assert_eq!(
        (rejected.details["reason"].as_str(), rejected.details["contract_error"].as_str()),
        ("FEED_VALUE_NOT_POSITIVE", "ValueNotPositive")
    );
    world.publish(feed, "2", now_s() - 5).await;
    next(&mut events, FeedEventKind::Fresh).await;

    // Whoever comes back goes on where it left.
    let mut again = world.feeds().watch_feeds(watch(&first.cursor)).await.expect("a stream").into_inner();
    assert_eq!(next(&mut again, FeedEventKind::Stale).await, stale);
    let bad = world.feeds().watch_feeds(watch("999999999")).await.expect_err("ahead of everything");
    assert_eq!(dalp_devstack::client::reason(&bad), "PAGE_TOKEN_INVALID");

    // The issuer that signed last loses its trust: told while the operation that takes it is under way, and when it is done.
    let update = world.unsigned(feed, PRICE, 3, now_s() - 5).await;
    let accepted = world.submit_signed(world.signed(feed, &update)).await;
    world.done(accepted).await;
    let distrust =
        RemoveTrustedIssuerRequest { sender: world.issuer.text.clone(), issuer: text(world.outside.address()) };
    let _: Option<bool> = world.rpc("evm_setIntervalMining", (0,)).await; // no block, so that it stays under way
    let accepted = world.identities().remove_trusted_issuer(fresh(distrust)).await.expect("accepted").into_inner();
    let operation = accepted.operation.expect("an operation");
    let losing = next(&mut events, FeedEventKind::SignerLosing).await;
    let outsider = text(world.outside.address());
    assert_eq!((&losing.details["signer"], &losing.details["operation_id"]), (&outsider, &operation.operation_id));
    let _: Option<bool> = world.rpc("evm_setIntervalMining", (1,)).await;
    world.done(Some(operation)).await;
    let lost = next(&mut events, FeedEventKind::SignerLost).await;
    assert_eq!(lost.details["signer"], outsider);
    // Told once, and healed by the trust given back.
    world.trust(&outsider).await;
    let update = world.unsigned(feed, PRICE, 4, now_s() - 5).await;
    let accepted = world.submit_signed(world.signed(feed, &update)).await;
    world.done(accepted).await;
}

/// Whoever was away longer than events are kept hears of it, instead of missing some silently.
pub(crate) async fn a_cursor_behind_what_is_kept_is_refused(world: &World) {
    let mut database = PgConnection::connect(&world.stack.settings().database_url).await.expect("connects");
    let aged = sqlx::query("UPDATE feeds.events SET at = at - interval '60 days' WHERE number <= 2");
    assert_eq!(aged.execute(&mut database).await.expect("written").rows_affected(), 2);
    let watch = || WatchFeedsRequest { feeds: Vec::new(), cursor: "1".to_owned() };
    let refused =
        async || world.feeds().watch_feeds(watch()).await.err().map(|status| dalp_devstack::client::reason(&status));
    until("they are deleted", refused, |told| told.as_deref() == Some("PAGE_TOKEN_INVALID")).await;
    let watch = WatchFeedsRequest { cursor: "2".to_owned(), ..watch() };
    let mut events = world.feeds().watch_feeds(watch).await.expect("a stream").into_inner();
    let first = events.message().await.expect("an event").expect("the stream goes on");
    assert_eq!(first.cursor, "3", "what is kept is told whole");
}
