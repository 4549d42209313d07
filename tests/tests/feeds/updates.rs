//! Publishing and reading.

use dalp_devstack::client::{keyed, reason};
use dalp_proto::feeds::{
    BatchValue, FeedKind, GetLatestRequest, GetRoundRequest, HistoryMode, ListRoundsRequest, SetStalenessRequest,
    SubmitBatchRequest, VerifyRoundRequest,
};
use futures::future::join_all;

use crate::support::{PRICE, Wanted, World, fresh, now_s, text};

pub(crate) async fn a_value_is_published_and_read(world: &World) {
    let wanted = Wanted { topic: PRICE.into(), decimals: 18, mode: HistoryMode::Full, ..Wanted::default() };
    let feed = world.feed(wanted).await;
    let settings = world.settings(feed).await;
    assert_eq!(
        (settings.decimals, settings.kind(), settings.history_mode()),
        (18, FeedKind::IssuerSigned, HistoryMode::Full)
    );
    assert_eq!((settings.description.as_str(), settings.subject.as_str()), ("EUR/CHF", ""));
    assert_eq!(reason(&world.latest(feed).await.expect_err("no round yet")), "FEED_ROUND_UNAVAILABLE");

    // The widest values pass, negative ones where they are allowed.
    let observed_at = now_s() - 100;
    let least = alloy::primitives::I256::MIN.to_string();
    assert_eq!(world.publish(feed, "-15000", observed_at).await, 1);
    assert_eq!(world.publish(feed, &least, observed_at).await, 2);
    assert_eq!(world.publish(feed, "0", observed_at + 1).await, 3);
    let latest = world.latest(feed).await.expect("a round");
    assert_eq!((latest.value.as_str(), latest.round_id.as_str(), latest.decimals), ("0", "3", 18));
    assert!(latest.age_s >= 99 && !latest.stale && latest.max_age_s == 0, "{latest:?}");
    let asked = GetLatestRequest { feed: text(feed), max_age_s: 50 };
    assert!(world.feeds().get_latest(asked.clone()).await.expect("a round").into_inner().stale);
    let set = SetStalenessRequest { feed: text(feed), stale_after_s: 10 };
    world.feeds().set_staleness(set.clone()).await.expect("set");
    let latest = world.latest(feed).await.expect("a round");
    assert_eq!((latest.max_age_s, latest.stale), (10, true));
    world.feeds().set_staleness(SetStalenessRequest { stale_after_s: 0, ..set }).await.expect("ended");

    // The contract and the index say the same of every round.
    for (round, value) in [(1, "-15000"), (2, least.as_str()), (3, "0")] {
        let asked = GetRoundRequest { feed: text(feed), round_id: round.to_string(), on_chain: false };
        let indexed =
            world.feeds().get_round(asked.clone()).await.expect("indexed").into_inner().round.expect("a round");
        let kept = world.feeds().get_round(GetRoundRequest { on_chain: true, ..asked }).await.expect("kept");
        let kept = kept.into_inner().round.expect("a round");
        assert_eq!((indexed.value.as_str(), indexed.observed_at), (value, kept.observed_at));
        assert_eq!((kept.value.as_str(), indexed.nonce.as_str()), (value, round.to_string().as_str()));
        assert_eq!((&indexed.issuer, &indexed.signer), (&text(world.issuer_identity), &world.issuer.text));
        let verified = world
            .feeds()
            .verify_round(VerifyRoundRequest { feed: text(feed), round_id: round.to_string() })
            .await
            .expect("verified")
            .into_inner();
        assert!(verified.valid && verified.recovered == world.issuer.text, "{verified:?}");
    }
    // Pages of two hold each round once, newest first.
    let page = async |token: &str| {
        let asked = ListRoundsRequest { feed: text(feed), page_size: 2, page_token: token.to_owned() };
        world.feeds().list_rounds(asked).await.expect("a page").into_inner()
    };
    let first = page("").await;
    let second = page(&first.next_page_token).await;
    let ids: Vec<_> = first.rounds.iter().chain(&second.rounds).map(|round| round.round_id.as_str()).collect();
    assert_eq!((ids, second.next_page_token.as_str()), (vec!["3", "2", "1"], ""));
    // The same key is the same update, another payload is not.
    let again = async |value: &str| {
        let update = world.update(feed, value, observed_at + 2);
        world.feeds().submit_update(keyed(update, "one-update")).await
    };
    let (one, two) =
        (again("4").await.expect("accepted").into_inner(), again("4").await.expect("the same").into_inner());
    assert_eq!(
        one.operation.as_ref().map(|one| &one.operation_id),
        two.operation.as_ref().map(|two| &two.operation_id)
    );
    assert_eq!(reason(&again("5").await.expect_err("another payload")), "IDEMPOTENCY_KEY_REUSED");
    world.done(one.operation).await;
    assert_eq!(world.next_nonce(feed, world.issuer_identity).await, 5, "one nonce for both");
}

/// Both send from wallets of their own, so nothing but the queue keeps their order.
pub(crate) async fn publishers_who_race_all_land_in_order(world: &World) {
    let feed =
        world.feed(Wanted { topic: "nav".into(), decimals: 2, mode: HistoryMode::Full, ..Wanted::default() }).await;
    let start = now_s() - 1_000;
    let mut accepted = Vec::new();
    for turn in 0..4u64 {
        // Two at once: which of them is accepted first is open, so both observe the same moment.
        let both = [&world.issuer, &world.other].map(|sender| {
            let mut update = world.update(feed, &(turn + 1).to_string(), start + turn);
            update.sender = sender.text.clone();
            update.issuer = world.issuer.text.clone();
            world.submit(update)
        });
        accepted.extend(join_all(both).await);
    }
    let mut rounds = Vec::new();
    for operation in accepted {
        let result = world.done(operation).await;
        rounds.push(result["round_id"].as_str().expect("a round").parse::<u64>().expect("a number"));
    }
    world.indexed(feed, 8).await;
    let all = world.feeds().list_rounds(ListRoundsRequest { feed: text(feed), ..Default::default() }).await;
    let all = all.expect("rounds").into_inner().rounds;
    let observed: Vec<u64> = all.iter().rev().map(|round| round.observed_at - start).collect();
    assert_eq!(observed, [0, 0, 1, 1, 2, 2, 3, 3], "in the order of acceptance");
    rounds.sort_unstable();
    assert_eq!(rounds, (1..=8).collect::<Vec<_>>(), "none is lost");

    // Somebody outside uses a nonce of another issuer meanwhile: nobody hears of it.
    let update = world.unsigned(feed, "nav", 77, start + 10).await;
    let outside = world.submit_signed(world.signed(feed, &update)).await;
    let inside = world.submit(world.update(feed, "78", start + 10)).await;
    world.done(outside).await;
    world.done(inside).await;
}

pub(crate) async fn history_modes_differ_on_chain_and_not_in_the_index(world: &World) {
    let observed_at = now_s() - 50;
    let on_chain = |feed, round: u64| GetRoundRequest { feed: text(feed), round_id: round.to_string(), on_chain: true };
    let latest_only = Wanted { topic: "spread".into(), mode: HistoryMode::LatestOnly, ..Wanted::default() };
    let feed = world.feed(latest_only).await;
    for value in ["1", "2"] {
        world.publish(feed, value, observed_at).await;
    }
    let before = (world.state(feed).await, world.settings(feed).await.decimals);
    let status = world.feeds().get_round(on_chain(feed, 2)).await.expect_err("not kept");
    let details = dalp_service::Refusal::details(&status).expect("typed");
    assert_eq!(
        (details.reason.as_str(), details.metadata["contract_error"].as_str()),
        ("FEED_ROUND_UNAVAILABLE", "HistoryNotSupported")
    );
    assert_eq!((world.state(feed).await, 0), before, "and whole numbers");

    let bounded = Wanted { topic: "fx".into(), mode: HistoryMode::Bounded, size: 2, ..Wanted::default() };
    let ring = world.feed(bounded).await;
    for value in ["1", "2", "3"] {
        world.publish(ring, value, observed_at).await;
    }
    assert!(world.feeds().get_round(on_chain(ring, 2)).await.is_ok(), "still in the ring");
    let before = world.state(ring).await;
    for gone in [1, 4, 0] {
        let status = world.feeds().get_round(on_chain(ring, gone)).await.expect_err("not kept");
        let details = dalp_service::Refusal::details(&status).expect("typed");
        assert_eq!(
            (details.reason.as_str(), details.metadata["contract_error"].as_str()),
            ("FEED_ROUND_UNAVAILABLE", "RoundNotFound")
        );
    }
    assert_eq!(world.state(ring).await, before);
    // The index keeps all of them, each with a signature that holds.
    for (feed, rounds) in [(feed, 2), (ring, 3)] {
        for round in 1..=rounds {
            let asked = VerifyRoundRequest { feed: text(feed), round_id: round.to_string() };
            assert!(world.feeds().verify_round(asked).await.expect("stored").into_inner().valid);
        }
    }
    let never = VerifyRoundRequest { feed: text(ring), round_id: "9".to_owned() };
    assert_eq!(reason(&world.feeds().verify_round(never).await.expect_err("no such round")), "FEED_ROUND_UNAVAILABLE");
}

pub(crate) async fn a_batch_takes_what_it_can(world: &World) {
    let mut feeds = Vec::new();
    for subject in 1..=3u8 {
        let subject = text(alloy::primitives::Address::repeat_byte(subject));
        let wanted =
            Wanted { topic: "plain".into(), subject, mode: HistoryMode::Full, positive: true, ..Wanted::default() };
        feeds.push(world.feed(wanted).await);
    }
    let observed_at = now_s() - 10;
    let batch = |values: [&str; 3]| SubmitBatchRequest {
        sender: world.issuer.text.clone(),
        values: feeds
            .iter()
            .zip(values)
            .map(|(feed, value)| BatchValue { feed: text(*feed), value: value.to_owned(), observed_at })
            .collect(),
        ..Default::default()
    };
    let accepted = world.feeds().submit_batch(fresh(batch(["1", "0", "3"]))).await.expect("accepted").into_inner();
    // What comes behind the batch on one of its feeds waits for it.
    let behind = world.submit(world.update(feeds[2], "4", observed_at)).await;
    let result = world.done(accepted.operation).await;
    assert_eq!(result["accepted"], 2, "{result}");
    assert_eq!(result["items"][1]["error"]["reason"], "FEED_VALUE_NOT_POSITIVE", "{result}");
    assert_eq!((&result["items"][0]["round_id"], &result["items"][2]["round_id"]), (&"1".into(), &"1".into()));
    assert_eq!(world.done(behind).await["round_id"], "2");
    // The refused item has used no nonce.
    assert_eq!(world.next_nonce(feeds[1], world.issuer_identity).await, 1);
    let again = world.feeds().submit_batch(fresh(batch(["5", "6", "7"]))).await.expect("accepted").into_inner();
    assert_eq!(world.done(again.operation).await["accepted"], 3);
}
