//! Which feed speaks for a pair, and the address that follows it.

use alloy::primitives::{Address, I256, aliases::U80};
use dalp_contracts::bindings::ScalarFeedAdapter;
use dalp_devstack::client::reason;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{AssetClass, AssetRole, AssetTerms, BondTerms, CreateAssetRequest, RoleGrant, asset_terms};
use dalp_proto::feeds::{
    CreateAdapterRequest, CreateFeedRequest, DirectoryEntry, FeedKind, GetAdapterRequest, HistoryMode,
    ListFeedsRequest, RegisterFeedRequest, RemoveFeedRequest, ReplaceFeedRequest, ResolveFeedRequest,
};
use tonic::Status;

use crate::read_price;
use crate::support::{PRICE, Wanted, World, fresh, now_s, text, until};

async fn resolve(world: &World, subject: &str, topic: &str) -> Result<DirectoryEntry, Status> {
    let asked = ResolveFeedRequest { subject: subject.to_owned(), topic_name: topic.to_owned(), ..Default::default() };
    Ok(world.directory().resolve_feed(asked).await?.into_inner().entry.expect("an entry"))
}

/// Waits until the index names a feed for a pair.
async fn speaks(world: &World, subject: &str, topic: &str, feed: Address) -> DirectoryEntry {
    let named = |entry: &Result<DirectoryEntry, Status>| {
        entry.as_ref().is_ok_and(|entry| entry.feed.as_ref().is_some_and(|one| one.feed == text(feed)))
    };
    until("the directory names the feed", async || resolve(world, subject, topic).await, named).await.expect("named")
}

async fn adapter_answer(world: &World, adapter: Address) -> (U80, I256, u64) {
    let answer = world.call(adapter, ScalarFeedAdapter::latestRoundDataCall {}).await;
    (answer._0, answer._1, answer._3.saturating_to())
}

pub(crate) async fn feeds_are_registered_replaced_and_removed(world: &World) {
    let subject = text(Address::repeat_byte(0xd1));
    let wanted = Wanted {
        topic: PRICE.into(),
        subject: subject.clone(),
        decimals: 2,
        mode: HistoryMode::Full,
        ..Wanted::default()
    };
    let first = world.feed(wanted.clone()).await;
    assert_eq!(speaks(world, &subject, PRICE, first).await.phase, 0);
    let observed_at = now_s() - 30;
    world.publish(first, "100", observed_at).await;

    // One adapter, however often it is asked for.
    let pair = CreateAdapterRequest {
        sender: world.issuer.text.clone(),
        subject: subject.clone(),
        topic_name: PRICE.to_owned(),
        ..Default::default()
    };
    let asked = GetAdapterRequest { subject: subject.clone(), topic_name: PRICE.to_owned(), ..Default::default() };
    assert_eq!(reason(&world.directory().get_adapter(asked.clone()).await.expect_err("none yet")), "NOT_FOUND");
    let mut made = Vec::new();
    for _ in 0..2 {
        let accepted = world.directory().create_adapter(fresh(pair.clone())).await.expect("accepted").into_inner();
        made.push(world.done(accepted.operation).await);
    }
    assert_eq!(made[0]["adapter"], made[1]["adapter"]);
    assert!(made[1]["tx_hash"].is_null(), "the second needs no transaction: {made:?}");
    let adapter: Address = made[0]["adapter"].as_str().expect("an adapter").parse().expect("an address");
    assert_eq!(world.directory().get_adapter(asked).await.expect("there").into_inner().adapter, text(adapter));
    assert_eq!(adapter_answer(world, adapter).await, (U80::from(1), I256::try_from(100).expect("small"), observed_at));

    // A program outside reads the adapter, as it would any aggregator.
    let outside = async |max_age_s| read_price::read(&world.node, adapter, max_age_s).await;
    let price = outside(86_400).await.expect("a price");
    assert_eq!((price.text.as_str(), price.round_id, price.observed_at), ("1.00", U80::from(1), observed_at));
    assert!(outside(1).await.expect_err("too old").to_string().contains("s old"));

    // Another feed takes its place; who reads the adapter sees growing rounds.
    let second = world.feed(Wanted { replace: true, ..wanted }).await;
    let entry = speaks(world, &subject, PRICE, second).await;
    assert_eq!((entry.phase, entry.adapter.as_str()), (1, text(adapter).as_str()));
    world.publish(second, "200", observed_at).await;
    let (round, value, _) = adapter_answer(world, adapter).await;
    assert_eq!((round, value), ((U80::from(1) << 64) | U80::from(1), I256::try_from(200).expect("small")));
    let after = outside(86_400).await.expect("a price");
    assert!(after.text == "2.00" && after.round_id > price.round_id, "{after:?}");
    // The replaced feed stays readable, and an auditor still finds its rounds.
    assert_eq!(world.latest(first).await.expect("a round").value, "100");

    let back = ReplaceFeedRequest {
        sender: world.issuer.text.clone(),
        subject: subject.clone(),
        topic_name: PRICE.to_owned(),
        feed: text(first),
        ..Default::default()
    };
    let accepted = world.directory().replace_feed(fresh(back)).await.expect("accepted").into_inner();
    world.done(accepted.operation).await;
    assert_eq!(speaks(world, &subject, PRICE, first).await.phase, 2);
    external(world, adapter, first).await;

    let remove = RemoveFeedRequest {
        sender: world.issuer.text.clone(),
        subject: subject.clone(),
        topic_name: PRICE.to_owned(),
        ..Default::default()
    };
    let accepted = world.directory().remove_feed(fresh(remove.clone())).await.expect("accepted").into_inner();
    world.done(accepted.operation).await;
    let gone =
        |entry: &Result<DirectoryEntry, Status>| entry.as_ref().is_err_and(|status| reason(status) == "NOT_FOUND");
    until("the pair is silent", async || resolve(world, &subject, PRICE).await, gone).await.expect_err("silent");
    assert_eq!(reason(&world.directory().remove_feed(fresh(remove)).await.expect_err("none")), "NOT_FOUND");
    pages(world).await;
}

/// An aggregator that is no issuer-signed feed: the adapter of another pair.
async fn external(world: &World, aggregator: Address, pinned: Address) {
    let subject = text(Address::repeat_byte(0xd2));
    let register = |feed: Address| RegisterFeedRequest {
        sender: world.issuer.text.clone(),
        subject: subject.clone(),
        topic_name: "fx".to_owned(),
        feed: text(feed),
        ..Default::default()
    };
    // What is pinned to another pair, or is no feed at all, the directory refuses.
    for (feed, error) in [(pinned, "FeedPinnedElsewhere"), (world.issuer_identity, "FeedNotScalar")] {
        let accepted = world.directory().register_feed(fresh(register(feed))).await.expect("accepted").into_inner();
        assert_eq!(world.refused(accepted.operation).await.1, error);
    }
    let accepted = world.directory().register_feed(fresh(register(aggregator))).await.expect("accepted").into_inner();
    world.done(accepted.operation).await;
    let entry = speaks(world, &subject, "fx", aggregator).await;
    let feed = entry.feed.expect("a feed");
    assert_eq!((feed.kind(), feed.decimals, feed.schema_hash.as_str()), (FeedKind::External, 2, ""));
    assert_eq!(world.latest(aggregator).await.expect("the chain answers").value, "100");
    let status = world.feeds().submit_update(fresh(world.update(aggregator, "1", 1))).await.expect_err("no issuer");
    assert_eq!(reason(&status), "FAILED_PRECONDITION");
    let again = world.directory().register_feed(fresh(register(aggregator))).await.expect_err("there is one");
    assert_eq!(reason(&again), "ALREADY_EXISTS");
}

async fn pages(world: &World) {
    let page = async |size: u32, token: &str| {
        let asked = ListFeedsRequest { page_size: size, page_token: token.to_owned(), ..Default::default() };
        world.directory().list_feeds(asked).await.expect("a page").into_inner()
    };
    let all: Vec<_> = page(500, "").await.entries;
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let next = page(3, &token).await;
        paged.extend(next.entries);
        token = next.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert!(all.len() > 5 && paged == all, "{} and {}", paged.len(), all.len());
    let bad = ListFeedsRequest { page_token: "mine".to_owned(), ..Default::default() };
    assert_eq!(reason(&world.directory().list_feeds(bad).await.expect_err("no token")), "PAGE_TOKEN_INVALID");
}

pub(crate) async fn governance_manages_its_own_subject(world: &World) {
    let asset = asset(world).await;
    let own = |subject: &str| CreateFeedRequest {
        sender: world.other.text.clone(),
        ..world.creation(&Wanted {
            topic: PRICE.into(),
            subject: subject.to_owned(),
            mode: HistoryMode::Full,
            ..Wanted::default()
        })
    };
    let accepted = world.feeds().create_feed(fresh(own(&asset))).await.expect("its own subject").into_inner();
    world.done(accepted.operation).await;
    let foreign = text(Address::repeat_byte(0xd9));
    let status = world.feeds().create_feed(fresh(own(&foreign))).await.expect_err("another's subject");
    assert_eq!(reason(&status), "ROLE_MISSING", "{status:?}");
    let global = world.feeds().create_feed(fresh(CreateFeedRequest { subject: String::new(), ..own(&asset) })).await;
    assert_eq!(reason(&global.expect_err("everybody's subject")), "ROLE_MISSING");
}

/// An asset over which the second wallet holds governance.
async fn asset(world: &World) -> String {
    let terms = BondTerms {
        maturity_date: "2090-05-01".to_owned(),
        denomination: "1000".to_owned(),
        currency: "CHF".to_owned(),
        ..BondTerms::default()
    };
    let request = CreateAssetRequest {
        issuer: world.issuer.text.clone(),
        name: "Priced bond".to_owned(),
        symbol: "PRCD".to_owned(),
        asset_class: AssetClass::Bond.into(),
        isin: "CH0012032048".to_owned(),
        terms: Some(AssetTerms { terms: Some(asset_terms::Terms::Bond(terms)) }),
        claim_topics: vec!["kyc".to_owned()],
        roles: vec![RoleGrant { role: AssetRole::Governance.into(), account: world.other.text.clone() }],
        ..CreateAssetRequest::default()
    };
    let accepted = AssetServiceClient::new(world.client.gateway()).create_asset(fresh(request)).await;
    let result = world.done(accepted.expect("accepted").into_inner().operation).await;
    let asset: Address = result["asset"].as_str().expect("an asset").parse().expect("an address");
    text(asset)
}
