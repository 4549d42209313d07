//! The tables on a real PostgreSQL: settlements that read back as they were written, invariants as constraints, and an index that a
//! reorg takes back.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256, U256};
use dalp_chain::BlockRef;
use dalp_domain::store::Tables;
use dalp_engine::testing::TestPostgres;
use std::time::Duration;
use svc_settlement::{
    commands::CreateSettlement,
    flows::CreateOrder,
    state::{EventKind, State, Told},
    store::{
        MIGRATIONS, SCHEMA, Store,
        contracts::FollowedContract,
        events::Place,
        index::{Happened, IndexBatch, Opened},
        settlements::{Wanted, put_settlement},
    },
    terms::{Deed, HashKind, HashLock, Leg, Terms},
};
use uuid::Uuid;

const CHAIN: u64 = 31_337;
const TENANT: &str = "acme";
const CONTRACT: Address = Address::repeat_byte(0x5e);
const BOND: Address = Address::repeat_byte(0x0b);
const CASH: Address = Address::repeat_byte(0x0c);
const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb1);
const CAROL: Address = Address::repeat_byte(0xc1);
/// An empty list.
const NONE: [B256; 0] = [];

async fn store() -> (TestPostgres, Store) {
    let postgres = TestPostgres::start();
    let tables = Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap();
    tables.migrate(&MIGRATIONS).await.unwrap();
    assert!(tables.lease_indexer(CHAIN, "one", Duration::from_secs(60)).await.unwrap());
    let store = Store::from(tables);
    assert!(store.put_contract(TENANT, CHAIN, CONTRACT).await.unwrap());
    (postgres, store)
}

/// Bonds of Alice against cash of `payer`, and with a secret also something elsewhere.
fn deed(salt: u8, payer: Address, secret: bool) -> Deed {
    let leg = |asset, from, to, amount, chain_id| Leg { asset, from, to, amount, chain_id };
    let mut legs = vec![leg(BOND, ALICE, payer, U256::from(10), 0), leg(CASH, payer, ALICE, U256::from(u128::MAX), 0)];
    if secret {
        legs.push(leg(CASH, payer, ALICE, U256::MAX, u64::MAX));
    }
    let hash_lock = secret.then_some(HashLock { kind: HashKind::Sha256, hash: B256::repeat_byte(9) });
    let terms = Terms { name: format!("Trade {salt}"), cutoff: 1_000, auto_execute: !secret, hash_lock, legs };
    Deed { salt: B256::repeat_byte(salt), terms }
}

async fn order(store: &Store, deed: &Deed, number: u128) -> B256 {
    order_at(store, CONTRACT, deed, number).await
}

async fn order_at(store: &Store, contract: Address, deed: &Deed, number: u128) -> B256 {
    let order = CreateOrder {
        chain_id: CHAIN,
        contract,
        salt: deed.salt,
        settlement_id: deed.id(),
        command: CreateSettlement { sender: CAROL, terms: deed.terms.clone() },
    };
    let mut connection = store.pool.acquire().await.unwrap();
    put_settlement(&mut connection, TENANT, Uuid::from_u128(number), &order).await.unwrap();
    deed.id()
}

fn happened(deed: &Deed, place: (u64, u64), kind: EventKind, party: Option<Address>) -> Happened {
    let at = Place { block: place.0, log_index: place.1, tx_hash: B256::with_last_byte(place.0 as u8) };
    let leg = matches!(kind, EventKind::LegDelivered | EventKind::LegDeliverable).then_some(1);
    let reclaim_from = (kind == EventKind::ReclaimStarted).then_some(77);
    let asset = (kind == EventKind::HoldBroken).then_some(BOND);
    let told = Told { kind, party, asset, leg, reason: String::new(), reclaim_from };
    Happened { at, contract: CONTRACT, settlement_id: deed.id(), told }
}

fn opened(deed: &Deed, block: u64) -> Opened {
    let (tenant, settlement_id) = (TENANT.to_owned(), deed.id());
    Opened { tenant, contract: CONTRACT, settlement_id, creator: CAROL, deed: deed.clone(), block }
}

/// A block in which a settlement is opened, and others with what happened in them.
fn block(number: u64, opens: &[&Deed], events: Vec<Happened>) -> IndexBatch {
    let created =
        opens.iter().zip(0..).map(|(deed, log)| happened(deed, (number, log), EventKind::Created, Some(CAROL)));
    IndexBatch {
        blocks: vec![BlockRef { number, hash: B256::with_last_byte(number as u8) }],
        opened: opens.iter().map(|deed| opened(deed, number)).collect(),
        happened: created.chain(events).collect(),
        ..Default::default()
    }
}

async fn commit(store: &Store, batch: IndexBatch) {
    store.commit_index(CHAIN, "one", &batch).await.unwrap();
}

async fn state(store: &Store, deed: &Deed) -> (State, Option<u64>) {
    let stored = store.settlement(TENANT, deed.id()).await.unwrap().unwrap();
    (stored.state, stored.created_block)
}

#[tokio::test]
async fn a_settlement_reads_back_as_it_was_written() {
    let (_postgres, store) = store().await;
    for (number, deed) in [(1, deed(1, BOB, false)), (2, deed(2, BOB, true))] {
        let id = order(&store, &deed, number).await;
        let stored = store.settlement(TENANT, id).await.unwrap().unwrap();
        assert_eq!((&stored.deed, stored.creator, stored.contract), (&deed, CAROL, CONTRACT));
        assert_eq!((stored.created_block, stored.deed.id()), (None, id));
        assert_eq!(store.settlement_of_operation(TENANT, Uuid::from_u128(number)).await.unwrap(), Some(stored));
        assert_eq!(store.settlement("rival", id).await.unwrap(), None, "another tenant's");
        let known = async |contract| {
            let asked = [(contract, id), (CONTRACT, B256::ZERO)];
            store.known_settlements(CHAIN, &asked).await.unwrap().len()
        };
        assert_eq!((known(CONTRACT).await, known(CASH).await), (1, 0), "at this contract only");
    }
}

#[tokio::test]
async fn settlements_are_listed_by_party_and_state_newest_first() {
    let (_postgres, store) = store().await;
    let (first, second, third) = (deed(1, BOB, false), deed(2, CAROL, false), deed(3, BOB, false));
    for (number, deed) in [(1, &first), (2, &second), (3, &third)] {
        order(&store, deed, number).await;
    }
    let listed = async |party, state: Option<State>, now_s, below, limit| {
        let wanted = Wanted { party, state: state.map(|state| (state, now_s)) };
        let page = store.settlements(TENANT, CHAIN, wanted, below, limit).await.unwrap();
        page.into_iter().map(|one| (one.settlement_id, one.number)).collect::<Vec<_>>()
    };
    let ids = async |party, state, now_s| {
        listed(party, state, now_s, i64::MAX, 10).await.into_iter().map(|one| one.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, Some(State::Active), 0).await, NONE, "the chain has none of them yet");
    let locked = [(1, Some(ALICE)), (2, Some(BOB))];
    let mut events: Vec<_> =
        locked.iter().map(|(log, party)| happened(&first, (5, 10 + log), EventKind::Approved, *party)).collect();
    events.push(happened(&first, (5, 20), EventKind::Locked, None));
    commit(&store, block(5, &[&first, &second, &third], events)).await;

    let all = listed(None, None, 0, i64::MAX, 10).await;
    assert_eq!(all.iter().map(|one| one.0).collect::<Vec<_>>(), [third.id(), second.id(), first.id()]);
    assert_eq!(listed(None, None, 0, all[0].1, 1).await, all[1..2]);
    assert_eq!(ids(Some(BOB), None, 0).await, [third.id(), first.id()]);
    assert_eq!(ids(Some(CASH), None, 0).await, NONE);
    assert_eq!(ids(None, Some(State::Approved), 999).await, [first.id()]);
    assert_eq!(ids(Some(BOB), Some(State::Active), 999).await, [third.id()]);
    // At the cutoff all that is pending expires.
    assert_eq!(ids(None, Some(State::Approved), 1_000).await, NONE);
    assert_eq!(ids(None, Some(State::Expired), 999).await, NONE);
    assert_eq!(ids(None, Some(State::Expired), 1_000).await.len(), 3);
    let back = [(1, EventKind::ReclaimStarted, None), (2, EventKind::Reclaimed, Some(ALICE))];
    let back = back.map(|(log, kind, party)| happened(&first, (6, log), kind, party));
    commit(&store, block(6, &[], back.into())).await;
    assert_eq!(ids(None, Some(State::Expired), 1_000).await.len(), 3, "one of them has begun to go back");
    assert_eq!(ids(Some(CAROL), Some(State::Executed), 1_000).await, NONE);
}

#[tokio::test]
async fn a_reorg_takes_events_back_and_states_with_them() {
    let (_postgres, store) = store().await;
    let (ours, foreign) = (deed(1, BOB, true), deed(2, BOB, false));
    order(&store, &ours, 1).await;
    commit(&store, block(5, &[&ours], vec![])).await;
    let approvals = [(1, ALICE), (2, BOB)];
    let mut events: Vec<_> =
        approvals.iter().map(|(log, party)| happened(&ours, (6, *log), EventKind::Approved, Some(*party))).collect();
    events.push(happened(&ours, (6, 3), EventKind::Locked, None));
    commit(&store, block(6, &[&foreign], events)).await;
    let revealed = [EventKind::Revealed, EventKind::LegDelivered].map(|kind| (kind, kind as u64));
    let revealed = revealed.map(|(kind, log)| happened(&ours, (7, log), kind, None));
    commit(&store, block(7, &[], revealed.into())).await;
    assert_eq!(state(&store, &ours).await, (State::PartlyDelivered, Some(5)));
    commit(&store, block(8, &[], vec![happened(&ours, (8, 1), EventKind::HoldBroken, Some(ALICE))])).await;
    assert_eq!(state(&store, &ours).await, (State::Breached, Some(5)));
    assert_eq!(store.events(CHAIN, CONTRACT, ours.id()).await.unwrap()[6].told.asset, Some(BOND));
    commit(&store, IndexBatch { rewind_to: Some(Some(7)), ..Default::default() }).await;
    assert_eq!(state(&store, &foreign).await, (State::Active, Some(6)));
    let history = store.events(CHAIN, CONTRACT, ours.id()).await.unwrap();
    let kinds: Vec<_> = history.iter().map(|event| event.told.kind).collect();
    let wanted = [
        EventKind::Created,
        EventKind::Approved,
        EventKind::Approved,
        EventKind::Locked,
        EventKind::Revealed,
        EventKind::LegDelivered,
    ];
    assert_eq!((kinds.as_slice(), history[5].told.leg), (&wanted[..], Some(1)));

    let listed = store.settlement(TENANT, ours.id()).await.unwrap().unwrap();
    assert_eq!(store.events_from(&listed, Place::default(), 99).await.unwrap(), history);
    assert_eq!(store.events_from(&listed, history[2].at, 3).await.unwrap(), history[2..5], "a page");

    let rewind = |to| IndexBatch { rewind_to: Some(Some(to)), ..Default::default() };
    commit(&store, rewind(6)).await;
    assert_eq!(state(&store, &ours).await, (State::Approved, Some(5)));
    commit(&store, rewind(5)).await;
    assert_eq!(state(&store, &ours).await, (State::Active, Some(5)));
    assert_eq!(store.settlement(TENANT, foreign.id()).await.unwrap(), None, "nobody ordered it here");
    commit(&store, rewind(4)).await;
    assert_eq!(state(&store, &ours).await, (State::Active, None), "ordered, and not on chain");
    assert_eq!(store.indexed_head(CHAIN).await.unwrap(), None);
    // It is opened again in another block.
    commit(&store, block(8, &[&ours], vec![])).await;
    assert_eq!(state(&store, &ours).await, (State::Active, Some(8)));
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_the_tables() {
    let (_postgres, store) = store().await;
    let trade = deed(1, BOB, true);
    order(&store, &trade, 1).await;
    commit(&store, block(5, &[&trade], vec![])).await;
    let refused =
        async |number, event| store.commit_index(CHAIN, "one", &block(number, &[], vec![event])).await.is_err();
    assert!(refused(6, happened(&trade, (6, 1), EventKind::Approved, None)).await, "an approval of nobody");
    let stranger = happened(&deed(7, BOB, false), (6, 1), EventKind::Locked, None);
    assert!(refused(6, stranger).await, "of a settlement that nobody opened");
    assert!(store.commit_index(CHAIN, "two", &block(6, &[], vec![])).await.is_err(), "without the lease");
    assert_eq!(store.indexed_head(CHAIN).await.unwrap(), Some(5));
}

#[tokio::test]
async fn a_lying_contract_stops_only_itself() {
    let (_postgres, store) = store().await;
    let (trade, honest) = (deed(1, BOB, true), deed(2, BOB, false));
    commit(&store, block(5, &[&trade], vec![happened(&trade, (5, 9), EventKind::Executed, None)])).await;
    // All of it in one batch, with something that is true.
    let lies = vec![
        happened(&trade, (6, 10), EventKind::Created, Some(ALICE)),
        happened(&trade, (6, 11), EventKind::Executed, None),
        happened(&trade, (6, 12), EventKind::Cancelled, None),
        happened(&trade, (6, 13), EventKind::LegDelivered, None),
        happened(&trade, (6, 14), EventKind::LegDelivered, None),
        happened(&honest, (6, 15), EventKind::Approved, Some(ALICE)),
    ];
    let mut batch = block(6, &[&honest], lies);
    batch.opened.push(Opened { creator: ALICE, ..opened(&trade, 6) });
    assert_eq!(store.commit_index(CHAIN, "one", &batch).await.unwrap(), 4, "told again, though it happens only once");
    assert_eq!(state(&store, &honest).await, (State::Active, Some(6)));
    assert_eq!(store.events(CHAIN, CONTRACT, honest.id()).await.unwrap().len(), 2);
    let stored = store.settlement(TENANT, trade.id()).await.unwrap().unwrap();
    assert_eq!((stored.creator, stored.created_block), (CAROL, Some(5)), "opened once");
    // A reorg takes back the lies, and what was before them stays.
    commit(&store, IndexBatch { rewind_to: Some(Some(5)), ..Default::default() }).await;
    assert_eq!(state(&store, &trade).await, (State::Executed, Some(5)));
    commit(&store, IndexBatch { rewind_to: Some(Some(4)), ..Default::default() }).await;
    assert_eq!(store.settlement(TENANT, trade.id()).await.unwrap(), None);
}

#[tokio::test]
async fn a_contract_is_followed_once_its_log_was_read() {
    let (_postgres, store) = store().await;
    let contract = |followed| FollowedContract { contract: CONTRACT, tenant: TENANT.into(), followed };
    assert!(store.put_contract(TENANT, CHAIN, CONTRACT).await.unwrap());
    assert_eq!(store.contracts(CHAIN).await.unwrap(), [contract(false)]);
    let follow = IndexBatch { followed: vec![CONTRACT], ..block(5, &[], vec![]) };
    commit(&store, follow).await;
    assert_eq!(store.contracts(CHAIN).await.unwrap(), [contract(true)]);
}

#[tokio::test]
async fn a_replaced_contract_keeps_its_settlements_and_the_new_one_is_followed() {
    let (_postgres, store) = store().await;
    let (old, new) = (deed(1, BOB, false), deed(2, BOB, false));
    order(&store, &old, 1).await;
    let follow = IndexBatch { followed: vec![CONTRACT], ..block(5, &[&old], vec![]) };
    commit(&store, follow).await;

    let successor = Address::repeat_byte(0x5f);
    assert!(store.put_contract(TENANT, CHAIN, successor).await.unwrap());
    order_at(&store, successor, &new, 2).await;
    let followed = |contract, followed| FollowedContract { contract, tenant: TENANT.into(), followed };
    assert_eq!(store.contracts(CHAIN).await.unwrap(), [followed(CONTRACT, true), followed(successor, false)]);
    let at = async |deed: &Deed| store.settlement(TENANT, deed.id()).await.unwrap().unwrap().contract;
    assert_eq!((at(&old).await, at(&new).await), (CONTRACT, successor));
    let approved = happened(&old, (6, 1), EventKind::Approved, Some(ALICE));
    commit(&store, block(6, &[], vec![approved])).await;
    assert_eq!(store.events(CHAIN, CONTRACT, old.id()).await.unwrap().len(), 2, "the former one still counts");

    // Somebody repeats the terms at the successor: what was ordered stays where it is.
    commit(
        &store,
        IndexBatch { opened: vec![Opened { contract: successor, ..opened(&old, 7) }], ..block(7, &[], vec![]) },
    )
    .await;
    assert_eq!(at(&old).await, CONTRACT);
}

#[tokio::test]
async fn a_contract_is_one_tenant_s() {
    let (_postgres, store) = store().await;
    assert!(!store.put_contract("rival", CHAIN, CONTRACT).await.unwrap(), "the first one holds it");
    assert!(store.put_contract(TENANT, CHAIN, CONTRACT).await.unwrap());
    let stranger = IndexBatch {
        opened: vec![Opened { tenant: "rival".into(), ..opened(&deed(1, BOB, false), 5) }],
        ..block(5, &[], vec![])
    };
    assert!(store.commit_index(CHAIN, "one", &stranger).await.is_err(), "nor can a settlement say otherwise");
}
