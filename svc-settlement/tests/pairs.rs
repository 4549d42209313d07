//! Exchanges on a real PostgreSQL: what was given up is never shown, what was shown stays so, and each thing is sent once at a time.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256, U256};
use dalp_domain::store::Tables;
use dalp_engine::{Failure, testing::TestPostgres};
use serde_json::json;
use svc_settlement::{
    flows::{OpenPairOrder, SideOrder},
    pairs::{
        Phase, Role,
        agreement::{OpenPair, SideAsked},
    },
    store::{
        MIGRATIONS, SCHEMA, Store,
        findings::Needs,
        pairs::{StoredAction, StoredPair, expose, put_action, put_pair},
    },
    terms::{HashKind, HashLock, Leg},
};
use uuid::Uuid;

const TENANT: &str = "acme";
const CONTRACT: Address = Address::repeat_byte(0x5e);
const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb1);
const HASH: B256 = B256::repeat_byte(9);
const ID: Uuid = Uuid::from_u128(7);

/// The engine's outbox, as far as it is written here.
const OUTBOX: &str = "CREATE SCHEMA engine; CREATE TABLE engine.outbox (tenant text, topic text, subject text, operation_id uuid, body jsonb)";

async fn store() -> (TestPostgres, Store) {
    let postgres = TestPostgres::start();
    let tables = Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap();
    tables.migrate(&MIGRATIONS).await.unwrap();
    sqlx::raw_sql(OUTBOX).execute(&tables.pool).await.unwrap();
    let store = Store::from(tables);
    for chain in [1, 2] {
        assert!(store.put_contract(TENANT, chain, CONTRACT).await.unwrap());
    }
    (postgres, store)
}

fn order(ours: bool) -> OpenPairOrder {
    let leg = |from, to, chain_id| Leg { asset: BOB, from, to, amount: U256::ONE, chain_id };
    let side = |chain_id, cutoff, opened_by_counterparty| SideAsked { chain_id, cutoff, opened_by_counterparty };
    let command = OpenPair {
        sender: ALICE,
        name: "Pair".to_owned(),
        legs: vec![leg(ALICE, BOB, 1), leg(BOB, ALICE, 2)],
        sides: [side(2, 1_000, true), side(1, 2_000, false)],
        hash_kind: HashKind::Sha256,
        hash: (!ours).then_some(HASH),
    };
    let side = |chain_id, salt: Option<B256>| SideOrder {
        chain_id,
        contract: CONTRACT,
        salt,
        settlement_id: salt,
        from_block: 3,
    };
    let secret_id = ours.then(|| Uuid::from_u128(1));
    OpenPairOrder { command, hash: HASH, secret_id, sides: [side(2, None), side(1, Some(B256::repeat_byte(4)))] }
}

async fn open(store: &Store, ours: bool) -> StoredPair {
    let mut connection = store.pool.acquire().await.unwrap();
    put_pair(&mut connection, TENANT, ID, &order(ours)).await.unwrap();
    pair(store).await
}

async fn pair(store: &Store) -> StoredPair {
    store.pair(TENANT, ID).await.unwrap().unwrap()
}

async fn shows(store: &Store, pair: &StoredPair) -> bool {
    let mut connection = store.pool.acquire().await.unwrap();
    expose(&mut connection, pair, &json!([])).await.is_ok()
}

#[tokio::test]
async fn an_exchange_reads_back_with_its_settlements() {
    let (_postgres, store) = store().await;
    let stored = open(&store, true).await;
    assert_eq!((&stored.command, stored.hash, stored.phase), (&order(true).command, HASH, Phase::Locking));
    assert_eq!(stored.sides[0].settlement_id, None);
    let ours = store.settlement(TENANT, B256::repeat_byte(4)).await.unwrap().unwrap();
    assert_eq!((ours.chain_id, ours.operation_id, ours.deed.terms.cutoff), (1, Some(ID), 2_000));
    assert!(store.has_pair(TENANT, HashLock { kind: HashKind::Sha256, hash: HASH }).await.unwrap());
    assert_eq!(store.pair_of_settlement(TENANT, B256::repeat_byte(4)).await.unwrap(), Some(stored.clone()));
    assert_eq!(store.pair("rival", ID).await.unwrap(), None, "another tenant's");
    assert_eq!(store.pairs(TENANT, Some(Phase::Settled), i64::MAX, 9).await.unwrap(), []);
    assert_eq!(store.pairs_going_on(0, 9).await.unwrap(), std::slice::from_ref(&stored));

    store.put_mirror(&stored, Role::Reveal, HASH).await.unwrap();
    store.put_mirror(&stored, Role::Reveal, B256::ZERO).await.unwrap();
    assert_eq!(pair(&store).await.sides[0].settlement_id, Some(HASH), "the first one stays");
    let kinds: Vec<_> = store.pair_events(ID, 0, 99).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["opened", "mirror_found"]);
    let told: Vec<String> = sqlx::query_scalar("SELECT topic FROM engine.outbox WHERE operation_id = $1")
        .bind(ID)
        .fetch_all(&store.pool)
        .await
        .unwrap();
    assert_eq!(told, ["settlement.pair.opened", "settlement.pair.mirror_found"]);
}

#[tokio::test]
async fn what_was_given_up_is_never_shown() {
    let (_postgres, store) = store().await;
    let locking = open(&store, true).await;
    assert!(store.put_phase(&locking, Phase::Returning, &json!({})).await.unwrap());
    assert!(!shows(&store, &locking).await, "whoever gave it up was faster");
    let forced = sqlx::query("UPDATE pairs SET phase = 'REVEALING', exposed = true").execute(&store.pool).await;
    assert!(forced.is_err(), "not even by hand");
    assert!(!pair(&store).await.exposed);
}

#[tokio::test]
async fn what_was_shown_stays_so() {
    let (_postgres, store) = store().await;
    let locking = open(&store, true).await;
    assert!(shows(&store, &locking).await);
    assert!(!store.put_phase(&locking, Phase::Returning, &json!({})).await.unwrap(), "decided on what stood before");
    let revealing = pair(&store).await;
    assert_eq!((revealing.phase, revealing.exposed, revealing.seen), (Phase::Revealing, true, false));
    assert!(store.put_phase(&revealing, Phase::Carrying, &json!({})).await.unwrap());
    assert!(pair(&store).await.seen);
    for backwards in ["UPDATE pairs SET exposed = false", "UPDATE pairs SET seen = false"] {
        assert!(sqlx::raw_sql(backwards).execute(&store.pool).await.is_err(), "{backwards}");
    }
}

#[tokio::test]
async fn a_counterparty_s_secret_is_not_ours_to_show() {
    let (_postgres, store) = store().await;
    let theirs = open(&store, false).await;
    assert!(!shows(&store, &theirs).await);
    assert!(sqlx::raw_sql("UPDATE pairs SET exposed = true").execute(&store.pool).await.is_err());
}

#[tokio::test]
async fn each_thing_is_sent_once_at_a_time() {
    let (_postgres, store) = store().await;
    let stored = open(&store, true).await;
    let put = async |attempt, operation| {
        let mut connection = store.pool.acquire().await.unwrap();
        put_action(&mut connection, ID, "carry/carry", attempt, 1, Uuid::from_u128(operation)).await.is_ok()
    };
    assert!(put(1, 11).await);
    assert!(!put(2, 12).await, "the first is under way");
    let action = store.pair_actions(ID).await.unwrap().pop().unwrap();
    let failure = Failure::new("NOT_APPROVED", "no");
    store.settle_action(stored.pair_id, &action, Some(&failure)).await.unwrap();
    assert!(put(2, 12).await);
    let actions = store.pair_actions(ID).await.unwrap();
    let seen: Vec<_> = actions.iter().map(|one| (one.name.as_str(), one.attempt, one.settled)).collect();
    assert_eq!(seen, [("open", 1, false), ("carry/carry", 1, true), ("carry/carry", 2, false)]);
    assert_eq!(actions[1].failure.as_ref().map(|failure| failure.reason.as_str()), Some("NOT_APPROVED"));
}

#[tokio::test]
async fn attention_is_raised_and_cleared_once() {
    let (_postgres, store) = store().await;
    let stored = open(&store, true).await;
    let near = Needs::from([(("cutoff_near", 1), "soon".to_owned())]);
    for needs in [&near, &near, &Needs::new(), &Needs::new()] {
        store.put_attention(&stored, needs).await.unwrap();
        let listed = store.attention(TENANT, 0, 99).await.unwrap();
        assert_eq!(listed.len(), needs.len());
        assert_eq!(store.attention_of(ID).await.unwrap(), listed);
        assert_eq!(store.attention("rival", 0, 99).await.unwrap().len(), 0);
    }
    let kinds: Vec<_> = store.pair_events(ID, 0, 99).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["opened", "raised", "cleared"]);
    store.put_attention(&stored, &near).await.unwrap();
    assert_eq!(store.attention_counts().await.unwrap(), [("cutoff_near".to_owned(), 1)]);
}

#[tokio::test]
async fn what_grows_is_read_in_pages() {
    let (_postgres, store) = store().await;
    let stored = open(&store, true).await;
    let needs = [("cutoff_near", 1), ("cutoff_near", 2), ("stuck", 0)].map(|key| (key, "soon".to_owned()));
    for so_far in 1..=needs.len() {
        store.put_attention(&stored, &Needs::from_iter(needs[..so_far].iter().cloned())).await.unwrap();
    }
    let all = store.attention(TENANT, 0, 99).await.unwrap();
    let found: Vec<_> = all.iter().map(|one| (one.kind.as_str(), one.chain_id)).collect();
    assert_eq!(found, [("cutoff_near", 1), ("cutoff_near", 2), ("stuck", 0)], "oldest first");
    assert_eq!(store.attention(TENANT, all[0].number, 1).await.unwrap(), all[1..2]);

    let events = store.pair_events(ID, 0, 99).await.unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!(store.pair_events(ID, events[0].number, 2).await.unwrap(), events[1..3]);
    assert_eq!(store.last_pair_events(ID, 3).await.unwrap(), events[1..], "in order");
    assert_eq!(store.pair_events(Uuid::nil(), 0, 99).await.unwrap(), []);

    let mut connection = store.pool.acquire().await.unwrap();
    for (number, name) in ["carry/carry", "deliver/carry"].into_iter().enumerate() {
        put_action(&mut connection, ID, name, 1, 1, Uuid::from_u128(number as u128)).await.unwrap();
    }
    let names = |actions: Vec<StoredAction>| actions.into_iter().map(|one| one.name).collect::<Vec<_>>();
    let first = store.pair_actions(ID).await.unwrap()[0].number;
    assert_eq!(names(store.pair_actions_after(ID, first, 1).await.unwrap()), ["carry/carry"]);
    assert_eq!(names(store.last_pair_actions(ID, 2).await.unwrap()), ["carry/carry", "deliver/carry"]);
}
