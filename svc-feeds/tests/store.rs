//! The tables on a real PostgreSQL: the index with its reorgs, events in one order, places in commit order.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256, Bytes, I256, U256};
use dalp_chain::BlockRef;
use dalp_domain::Tables;
use dalp_engine::testing::TestPostgres;
use dalp_service::{Reason, Refusal, stop::Stop};
use std::time::Duration;
use svc_feeds::{
    domain::feed::{History, Pair, SignedTerms, Terms},
    store::{
        MIGRATIONS, SCHEMA, Store, StoreError,
        alerts::{Danger, LastSigner},
        events::{EventKind, Kept},
        index::{DirectoryLog, IndexBatch, SeenFeed, Told},
        latest::{Asked, Latest, LatestReads, LatestRound},
        rounds::StoredRound,
        systems::FeedSystem,
    },
};

const CHAIN: u64 = 31_337;
const TENANT: &str = "acme";
const FEED: Address = Address::repeat_byte(0xfe);
const ISSUER: Address = Address::repeat_byte(0x11);

async fn store() -> (TestPostgres, Store) {
    let postgres = TestPostgres::start();
    let store = Store::from(Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap());
    store.migrate(&MIGRATIONS).await.unwrap();
    assert!(store.lease_indexer(CHAIN, "one", Duration::from_secs(60)).await.unwrap());
    (postgres, store)
}

async fn latest(store: &Store) -> u64 {
    let asked = Asked { tenant: TENANT.to_owned(), feed: FEED };
    let latest = store.latest(CHAIN, &[asked]).await.unwrap().remove(0).unwrap();
    latest.round.map_or(0, |round| round.round_id)
}

fn pair() -> Pair {
    Pair { subject: Address::repeat_byte(0x5a), topic_id: U256::from(7) }
}

fn terms() -> Terms {
    let signed = SignedTerms {
        registry: Address::repeat_byte(0x22),
        schema_hash: B256::repeat_byte(3),
        history: History::Bounded { size: 4 },
        require_positive: true,
        drift_allowance_s: 30,
    };
    Terms { pair: pair(), decimals: 18, description: "EUR/CHF".into(), signed: Some(signed) }
}

fn block(number: u64) -> BlockRef {
    BlockRef { number, hash: B256::with_last_byte(number as u8) }
}

fn round(round_id: u64, nonce: u64, block: u64) -> StoredRound {
    StoredRound {
        round_id,
        value: I256::MIN,
        observed_at: 1_000 + round_id,
        issuer: ISSUER,
        signer: Some(Address::repeat_byte(0x33)),
        nonce,
        deadline: U256::MAX,
        signature: Bytes::from(vec![9; 65]),
        block,
        tx_hash: B256::repeat_byte(4),
    }
}

fn registered(number: u64) -> IndexBatch {
    IndexBatch {
        blocks: vec![block(number)],
        feeds: vec![SeenFeed { tenant: TENANT.into(), feed: FEED, terms: terms(), block: number }],
        directory: vec![speaks(number, FEED, 0)],
        ..Default::default()
    }
}

fn speaks(block: u64, feed: Address, phase: u16) -> DirectoryLog {
    DirectoryLog { tenant: TENANT.into(), block, pair: pair(), told: Told::Speaks { feed, phase } }
}

fn rounds(number: u64, rounds: Vec<StoredRound>) -> IndexBatch {
    let rounds = rounds.into_iter().map(|round| (TENANT.to_owned(), FEED, round)).collect();
    IndexBatch { blocks: vec![block(number)], rounds, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_that_many_calls_see_first_are_written_once() {
    let (_postgres, store) = store().await;
    for number in 0..20 {
        let [system, directory, factory] = [1, 2, 3].map(|part| Address::left_padding_from(&[number, part]));
        let (batch, identity_registry, topic_schemes) = (system, system, system);
        let system = FeedSystem { system, directory, factory, batch, identity_registry, topic_schemes };
        let tenant = format!("tenant-{number}");
        let writes = (0..5).map(|_| {
            let (store, tenant, system) = (store.clone(), tenant.clone(), system.clone());
            tokio::spawn(async move { store.put_system(&tenant, CHAIN, &system).await })
        });
        for written in futures::future::join_all(writes).await {
            written.unwrap().unwrap();
        }
        assert_eq!(store.system(&tenant, CHAIN).await.unwrap().unwrap().directory, directory);
        let other = store.put_system("other", CHAIN, &system).await.unwrap_err();
        assert!(matches!(other, StoreError::Malformed { .. }), "{other:?}");
    }
}

#[tokio::test]
async fn a_round_is_kept_as_it_was_told_and_taken_back_with_its_block() {
    let (_postgres, store) = store().await;
    store.commit_index(CHAIN, "one", &registered(1)).await.unwrap();
    let feed = store.feed(TENANT, CHAIN, FEED).await.unwrap().unwrap();
    assert_eq!((feed.terms, feed.stale_after_s), (terms(), None));
    assert_eq!(latest(&store).await, 0, "no round yet");
    let first = round(1, 1, 2);
    assert_eq!(store.commit_index(CHAIN, "one", &rounds(2, vec![first.clone(), round(2, 2, 2)])).await.unwrap(), 0);
    assert_eq!(store.commit_index(CHAIN, "one", &rounds(3, vec![round(3, 3, 3)])).await.unwrap(), 0);
    assert_eq!(latest(&store).await, 3);
    assert_eq!(store.round(TENANT, CHAIN, FEED, 1).await.unwrap(), Some(first));
    assert_eq!(store.round(TENANT, CHAIN, FEED, 9).await.unwrap(), None);
    assert_eq!(store.feed("rival", CHAIN, FEED).await.unwrap(), None, "another tenant's");

    let back = IndexBatch { rewind_to: Some(Some(2)), ..Default::default() };
    store.commit_index(CHAIN, "one", &back).await.unwrap();
    assert_eq!(latest(&store).await, 2);
    let kinds: Vec<EventKind> =
        store.events(TENANT, CHAIN, 0, &[], 10).await.unwrap().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Round, EventKind::Round, EventKind::Round, EventKind::Retracted]);
    assert_eq!(store.kept_events(TENANT, CHAIN).await.unwrap(), Kept { before: 0, newest: 4 });
    assert!(store.events(TENANT, CHAIN, 0, &[ISSUER], 10).await.unwrap().is_empty(), "of another feed");

    let all = IndexBatch { rewind_to: Some(None), ..Default::default() };
    store.commit_index(CHAIN, "one", &all).await.unwrap();
    assert_eq!(store.feed(TENANT, CHAIN, FEED).await.unwrap(), None);
    assert_eq!(store.indexed_head(CHAIN).await.unwrap(), None);
}

#[tokio::test]
async fn a_missing_round_is_told() {
    let (_postgres, store) = store().await;
    store.commit_index(CHAIN, "one", &registered(1)).await.unwrap();
    assert_eq!(store.commit_index(CHAIN, "one", &rounds(2, vec![round(1, 1, 2), round(3, 3, 2)])).await.unwrap(), 1);
    let events = store.events(TENANT, CHAIN, 0, &[FEED], 10).await.unwrap();
    let gap = events.last().unwrap();
    assert_eq!(
        (gap.kind, gap.body["nonce"].as_str(), gap.body["nonce_before"].as_str()),
        (EventKind::NonceGap, Some("3"), Some("1"))
    );
}

#[tokio::test]
async fn whoever_speaks_for_a_pair_is_the_last_one_and_a_reorg_gives_it_back() {
    let (_postgres, store) = store().await;
    let other = Address::repeat_byte(0xef);
    store.commit_index(CHAIN, "one", &registered(1)).await.unwrap();
    let seen = SeenFeed { tenant: TENANT.into(), feed: other, terms: Terms { signed: None, ..terms() }, block: 2 };
    let adapter = DirectoryLog { told: Told::Adapter { adapter: ISSUER, decimals: 18 }, ..speaks(2, other, 1) };
    let replaced = IndexBatch {
        blocks: vec![block(2)],
        feeds: vec![seen],
        directory: vec![speaks(2, other, 1), adapter],
        ..Default::default()
    };
    store.commit_index(CHAIN, "one", &replaced).await.unwrap();
    let entry = store.entry(TENANT, CHAIN, pair()).await.unwrap().unwrap();
    assert_eq!((entry.feed.feed, entry.phase, entry.adapter, entry.since_block), (other, 1, Some(ISSUER), 2));
    let silent = DirectoryLog { told: Told::Silent, ..speaks(3, other, 1) };
    let silent = IndexBatch { blocks: vec![block(3)], directory: vec![silent], ..Default::default() };
    store.commit_index(CHAIN, "one", &silent).await.unwrap();
    assert_eq!(store.entry(TENANT, CHAIN, pair()).await.unwrap(), None);
    for (to, feed) in [(2, other), (1, FEED)] {
        let back = IndexBatch { rewind_to: Some(Some(to)), ..Default::default() };
        store.commit_index(CHAIN, "one", &back).await.unwrap();
        assert_eq!(store.entry(TENANT, CHAIN, pair()).await.unwrap().unwrap().feed.feed, feed);
    }
    assert_eq!(store.entries(TENANT, CHAIN, None, Some(pair()), 10).await.unwrap(), []);
}

#[tokio::test]
async fn only_the_leader_writes() {
    let (_postgres, store) = store().await;
    assert!(!store.lease_indexer(CHAIN, "two", Duration::from_secs(60)).await.unwrap());
    let late = store.commit_index(CHAIN, "two", &registered(1)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(CHAIN))), "{late:?}");
    assert!(store.leads(CHAIN, "one").await.unwrap() && !store.leads(CHAIN, "two").await.unwrap());
    store.release_indexer(CHAIN, "one").await.unwrap();
    assert!(store.lease_indexer(CHAIN, "two", Duration::from_secs(60)).await.unwrap());
}

#[tokio::test]
async fn staleness_and_lost_signers_are_told_once() {
    let (_postgres, store) = store().await;
    store.commit_index(CHAIN, "one", &registered(1)).await.unwrap();
    store.set_staleness(TENANT, CHAIN, FEED, Some(60)).await.unwrap();
    assert_eq!(store.judge_staleness(CHAIN, 5_000).await.unwrap(), 0, "no round, no age");
    store.commit_index(CHAIN, "one", &rounds(2, vec![round(1, 1, 2)])).await.unwrap();
    for (now_s, stale) in [(1_061, 0), (1_062, 1), (9_000, 1), (1_001, 0)] {
        assert_eq!(store.judge_staleness(CHAIN, now_s).await.unwrap(), stale, "{now_s}");
    }
    let [last] = &store.last_signers(CHAIN).await.unwrap()[..] else { panic!("one feed") };
    assert_eq!((last.feed, last.issuer, last.pair), (FEED, ISSUER, pair()));
    let replaced = LastSigner { signer: ISSUER, ..last.clone() };
    let (losing, lost) = (EventKind::SignerLosing, EventKind::SignerLost);
    let judged = [(last, losing), (last, lost), (last, lost), (&replaced, lost)].map(|(last, kind)| (last, Some(kind)));
    for (signer, kind) in judged.into_iter().chain([(last, None), (last, Some(lost))]) {
        let danger = kind.map(|kind| Danger { kind, why: "gone", operation_id: Some(uuid::Uuid::from_u128(7)) });
        store.judge_signer(CHAIN, signer, danger.as_ref()).await.unwrap();
    }
    let events = store.events(TENANT, CHAIN, 1, &[], 10).await.unwrap();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Stale, EventKind::Fresh, losing, lost, lost, lost]);
    assert_eq!(events[2].body["operation_id"], uuid::Uuid::from_u128(7).to_string());
    store.set_staleness(TENANT, CHAIN, FEED, None).await.unwrap();
    assert_eq!(store.feed(TENANT, CHAIN, FEED).await.unwrap().unwrap().stale_after_s, None);
}

#[tokio::test]
async fn old_events_go_and_rounds_stay() {
    let (_postgres, store) = store().await;
    let keep = Duration::from_secs(60);
    assert_eq!(store.trim_events(CHAIN, keep, 10).await.unwrap(), 0, "nothing there");
    store.commit_index(CHAIN, "one", &registered(1)).await.unwrap();
    store.commit_index(CHAIN, "one", &rounds(2, (1..=4).map(|id| round(id, id, 2)).collect())).await.unwrap();
    sqlx::query("UPDATE feeds.events SET at = at - interval '1 hour' WHERE number <= 3")
        .execute(&store.pool())
        .await
        .unwrap();
    assert_eq!(store.trim_events(CHAIN, keep, 2).await.unwrap(), 2, "some at a time");
    assert_eq!(store.trim_events(CHAIN, keep, 2).await.unwrap(), 1);
    assert_eq!(store.trim_events(CHAIN, keep, 2).await.unwrap(), 0);
    assert_eq!(store.kept_events(TENANT, CHAIN).await.unwrap(), Kept { before: 3, newest: 4 });
    let left = store.events(TENANT, CHAIN, 0, &[], 10).await.unwrap();
    assert_eq!(left.iter().map(|event| event.number).collect::<Vec<_>>(), [4]);
    assert_eq!(store.rounds(TENANT, CHAIN, FEED, None, 10).await.unwrap().len(), 4, "an audit needs them");
    // Numbers go on where they were.
    store.commit_index(CHAIN, "one", &rounds(3, vec![round(5, 5, 3)])).await.unwrap();
    assert_eq!(store.kept_events(TENANT, CHAIN).await.unwrap(), Kept { before: 3, newest: 5 });
}

#[tokio::test]
async fn only_words_of_ours_are_stored() {
    let (_postgres, store) = store().await;
    let put = async |number: i64, kind: &str| {
        let insert = "INSERT INTO feeds.events (tenant_id, chain_id, number, feed, kind, body) VALUES ('acme', 1, $1, '', $2, '{}')";
        sqlx::query(insert).bind(number).bind(kind).execute(&store.pool()).await.is_ok()
    };
    for (number, kind) in (0..).zip(EventKind::ALL) {
        assert!(put(number, kind.name()).await, "{kind:?}");
    }
    assert!(!put(99, "unheard_of").await);
    store.commit_index(CHAIN, "one", &registered(1)).await.unwrap();
    let set = async |mode: &str| {
        sqlx::query("UPDATE feeds.feeds SET history_mode = $1").bind(mode).execute(&store.pool()).await.is_ok()
    };
    for history in [History::LatestOnly, History::Bounded { size: 4 }, History::Full] {
        assert!(set(history.name()).await, "{history:?}");
    }
    assert!(!set("forgetful").await);
}

#[tokio::test]
async fn who_asks_at_the_same_time_is_answered_each_with_his_own() {
    let (_postgres, store) = store().await;
    let unnamed = Address::repeat_byte(0xff);
    let rounds = [1, 2].map(|number| (TENANT.into(), FEED, round(number, number, 1)));
    let batch = IndexBatch { rounds: rounds.into(), ..registered(1) };
    store.commit_index(CHAIN, "one", &batch).await.unwrap();
    store.set_staleness(TENANT, CHAIN, FEED, Some(90)).await.unwrap();

    let (reads, turns) = LatestReads::new(store, CHAIN);
    let stop = Stop::new();
    let serving = tokio::spawn(turns.run(stop.clone()));
    let asked = [(TENANT, FEED), ("other", FEED), (TENANT, unnamed), (TENANT, FEED)]
        .map(|(tenant, feed)| reads.of(tenant, feed));
    let answers = futures::future::try_join_all(asked).await.unwrap();
    let newest = round(2, 2, 1);
    let known = Latest {
        decimals: 18,
        is_signed: true,
        stale_after_s: Some(90),
        round: Some(LatestRound {
            round_id: 2,
            value: newest.value,
            observed_at: newest.observed_at,
            block: newest.block,
        }),
    };
    assert_eq!(answers, [Some(known.clone()), None, None, Some(known)]);

    stop.request();
    serving.await.unwrap();
    let refusal = Refusal::from(reads.of(TENANT, FEED).await.unwrap_err());
    assert_eq!(refusal.reason(), Reason::DatabaseUnavailable);
}
