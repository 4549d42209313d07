//! The tables of sales on a real PostgreSQL: terms that read back as they were written, invariants as constraints, and an index that a
//! reorg takes back.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256, U256};
use dalp_chain::BlockRef;
use dalp_domain::store::Tables;
use dalp_engine::testing::TestPostgres;
use std::time::Duration;
use svc_distribution::{
    index::{IndexBatch, Place},
    offering::{
        flows::CreateOrder,
        state::Phase,
        store::{
            buyers::{Payment, Raised, StoredBuyer, Turns},
            index::{Delivery, OfferingEvents, Proceeds, PurchaseEvent, RefundEvent, Turn, TurnKind},
            offerings::{is_replaced, put_offering},
        },
        terms::{CreateOffering, Currency, Lockup, Presale, Rate, Rates, Terms, allow_list_tree},
    },
    store::{MIGRATIONS, SCHEMA, Store},
};
use uuid::Uuid;

const CHAIN: u64 = 31_337;
const TENANT: &str = "acme";
const SALE: Address = Address::repeat_byte(0x0f);
const NEXT: Address = Address::repeat_byte(0x10);
const EURO: Address = Address::repeat_byte(0xe1);
const FRANC: Address = Address::repeat_byte(0xf1);
const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb1);

async fn store() -> (TestPostgres, Store) {
    let postgres = TestPostgres::start();
    let tables = Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap();
    tables.migrate(&MIGRATIONS).await.unwrap();
    assert!(tables.lease_indexer(CHAIN, "one", Duration::from_secs(60)).await.unwrap());
    (postgres, Store::from(tables))
}

fn order(offering: Address, replaces: Option<Address>) -> CreateOrder {
    let rate = |currency, decimals| Rate { currency, decimals, ratio: U256::MAX - U256::from(decimals) };
    let asked = |currency, price: &str| Currency { currency, price: price.parse().unwrap() };
    let terms = Terms {
        asset: Address::repeat_byte(0xa5),
        minted: true,
        proceeds_to: ALICE,
        unsold_to: BOB,
        starts_at: 100,
        ends_at: 200,
        hard_cap: (U256::ONE << 120_usize) - U256::ONE,
        soft_cap: U256::from(5),
        minimum: U256::from(2),
        maximum: U256::from(9),
        terms_hash: B256::repeat_byte(7),
        presale: Some(Presale { ends_at: 150, discount_bps: 9_999, allow_list: allow_list_tree(&[ALICE, BOB]).root() }),
        lockup: Some(Lockup { starts_at: 200, cliff_s: 1, duration_s: 2 }),
        currencies: vec![asked(EURO, "99.75"), asked(FRANC, "0.5")],
    };
    CreateOrder {
        chain_id: CHAIN,
        factory: Address::repeat_byte(0xfa),
        offering,
        salt: B256::ZERO,
        rates: Rates { asset_decimals: 18, currencies: vec![rate(EURO, 6), rate(FRANC, 255)] },
        command: CreateOffering { sender: ALICE, terms, replaces },
    }
}

async fn put(store: &Store, order: &CreateOrder, number: u128) -> Result<(), sqlx::Error> {
    let mut connection = store.pool.acquire().await.unwrap();
    put_offering(&mut connection, TENANT, Uuid::from_u128(number), order, &[ALICE, BOB]).await
}

fn at(block: u64, log_index: u64) -> Place {
    Place { block, log_index, tx_hash: B256::with_last_byte(block as u8) }
}

fn block(number: u64, offerings: OfferingEvents) -> IndexBatch {
    let blocks = vec![BlockRef { number, hash: B256::with_last_byte(number as u8) }];
    IndexBatch { blocks, offerings, ..Default::default() }
}

fn turn(block: u64, log_index: u64, kind: TurnKind) -> Turn {
    Turn { at: at(block, log_index), offering: SALE, kind }
}

fn purchase(place: (u64, u64), buyer: Address, currency: Address, tokens: u64, cost: u64) -> PurchaseEvent {
    let (tokens, cost) = (U256::from(tokens), U256::from(cost));
    PurchaseEvent { at: at(place.0, place.1), offering: SALE, buyer, currency, tokens, cost }
}

fn refund(place: (u64, u64), buyer: Address, currency: Address, amount: u64) -> RefundEvent {
    RefundEvent {
        at: at(place.0, place.1),
        offering: SALE,
        buyer,
        currency,
        paid_to: buyer,
        amount: U256::from(amount),
    }
}

#[tokio::test]
async fn a_sale_reads_back_as_it_was_written() {
    let (_postgres, store) = store().await;
    let order = order(SALE, None);
    put(&store, &order, 7).await.unwrap();
    let stored = store.offering(TENANT, CHAIN, SALE).await.unwrap().unwrap();
    assert_eq!((&stored.terms, &stored.rates), (&order.command.terms, &order.rates));
    assert_eq!((stored.sender, stored.allow_listed, stored.created_block), (ALICE, 2, None));
    assert_eq!(store.offering_of_operation(TENANT, Uuid::from_u128(7)).await.unwrap(), Some(stored));
    assert_eq!(store.offering("rival", CHAIN, SALE).await.unwrap(), None, "another tenant's");
    assert_eq!(store.allow_list(CHAIN, SALE).await.unwrap(), [ALICE, BOB]);
    assert!(store.is_allow_listed(CHAIN, SALE, BOB).await.unwrap());
    assert!(!store.is_allow_listed(CHAIN, SALE, EURO).await.unwrap());
}

#[tokio::test]
async fn a_sale_is_replaced_once_and_sales_are_listed_newest_first() {
    let (_postgres, store) = store().await;
    put(&store, &order(SALE, None), 7).await.unwrap();
    put(&store, &order(NEXT, Some(SALE)), 8).await.unwrap();
    assert_eq!(store.offering(TENANT, CHAIN, SALE).await.unwrap().unwrap().replaced_by, Some(NEXT));
    let again = put(&store, &order(Address::repeat_byte(0x11), Some(SALE)), 9).await.unwrap_err();
    assert!(is_replaced(&dalp_engine::StoreError::from(again)));
    let listed = async |asset, below, limit| {
        let page = store.offerings(TENANT, CHAIN, asset, below, limit).await.unwrap();
        page.iter().map(|one| (one.offering, one.number)).collect::<Vec<_>>()
    };
    let all = listed(None, i64::MAX, 10).await;
    assert_eq!(all.iter().map(|one| one.0).collect::<Vec<_>>(), [NEXT, SALE]);
    assert_eq!(listed(None, all[0].1, 10).await, all[1..]);
    assert_eq!(listed(Some(EURO), i64::MAX, 10).await, []);
    assert_eq!(listed(Some(Address::repeat_byte(0xa5)), i64::MAX, 1).await, all[..1]);
}

#[tokio::test]
async fn buyers_and_what_came_in_are_taken_back_with_their_blocks() {
    let (_postgres, store) = store().await;
    put(&store, &order(SALE, None), 7).await.unwrap();
    assert_eq!(store.turns(CHAIN, SALE).await.unwrap(), Turns { phase: Phase::Setup, paused: false });
    let known = store.known_offerings(CHAIN, &[SALE, NEXT].into()).await.unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [(SALE, Address::repeat_byte(0xfa))]);
    let first = OfferingEvents {
        created: vec![(SALE, 1)],
        turns: vec![turn(1, 0, TurnKind::Activated), turn(1, 1, TurnKind::Paused)],
        ..Default::default()
    };
    store.commit_index(CHAIN, "one", &block(1, first)).await.unwrap();
    assert_eq!(store.turns(CHAIN, SALE).await.unwrap(), Turns { phase: Phase::Active, paused: true });
    let second = OfferingEvents {
        turns: vec![turn(2, 0, TurnKind::Resumed)],
        purchases: vec![
            purchase((2, 1), ALICE, EURO, 3, 30),
            purchase((2, 2), ALICE, FRANC, 4, 44),
            purchase((2, 3), ALICE, EURO, 1, 10),
            purchase((2, 4), BOB, EURO, 2, 20),
        ],
        ..Default::default()
    };
    store.commit_index(CHAIN, "one", &block(2, second)).await.unwrap();
    let paid_to = BOB;
    let third = || OfferingEvents {
        turns: vec![turn(3, 0, TurnKind::Refunding)],
        refunds: vec![refund((3, 1), ALICE, EURO, 40), refund((3, 2), ALICE, FRANC, 44)],
        deliveries: vec![Delivery { at: at(3, 3), offering: SALE, buyer: BOB, paid_to, tokens: U256::from(2) }],
        proceeds: vec![
            Proceeds { at: at(3, 4), offering: SALE, currency: Some(EURO), paid_to, amount: U256::from(7) },
            Proceeds { at: at(3, 5), offering: SALE, currency: None, paid_to, amount: U256::from(8) },
        ],
        ..Default::default()
    };
    store.commit_index(CHAIN, "one", &block(3, third())).await.unwrap();
    // As a migration has the chain read once more: what is kept already stays as it is.
    sqlx::query("DELETE FROM indexed_blocks").execute(&store.pool).await.unwrap();
    store.commit_index(CHAIN, "one", &block(3, third())).await.unwrap();

    assert_eq!(store.turns(CHAIN, SALE).await.unwrap(), Turns { phase: Phase::Refunding, paused: false });
    let sums = store.sums(CHAIN, SALE).await.unwrap();
    assert_eq!((sums.buyers, sums.delivered), (2, U256::from(2)));
    let raised = |raised, refunded, withdrawn| Raised {
        raised: U256::from(raised),
        refunded: U256::from(refunded),
        withdrawn: U256::from(withdrawn),
    };
    assert_eq!(
        sums.currencies.into_iter().collect::<Vec<_>>(),
        [(EURO, raised(60, 40, 7)), (FRANC, raised(44, 44, 0))]
    );
    let paid = |currency, paid, refunded| Payment { currency, paid: U256::from(paid), refunded: U256::from(refunded) };
    let alice = StoredBuyer {
        buyer: ALICE,
        purchases: 3,
        bought: U256::from(8),
        delivered: U256::ZERO,
        payments: vec![paid(EURO, 40, 40), paid(FRANC, 44, 44)],
    };
    let bob = StoredBuyer {
        buyer: BOB,
        purchases: 1,
        bought: U256::from(2),
        delivered: U256::from(2),
        payments: vec![paid(EURO, 20, 0)],
    };
    assert_eq!(store.buyers(CHAIN, SALE, None, 10).await.unwrap(), [alice.clone(), bob.clone()]);
    assert_eq!(store.buyers(CHAIN, SALE, None, 1).await.unwrap(), [alice]);
    assert_eq!(store.buyers(CHAIN, SALE, Some(ALICE), 10).await.unwrap(), [bob]);

    let back = |to| IndexBatch { rewind_to: Some(to), ..Default::default() };
    store.commit_index(CHAIN, "one", &back(Some(2))).await.unwrap();
    assert_eq!(store.turns(CHAIN, SALE).await.unwrap(), Turns { phase: Phase::Active, paused: false });
    let sums = store.sums(CHAIN, SALE).await.unwrap();
    assert_eq!((sums.delivered, sums.currencies[&EURO]), (U256::ZERO, raised(60, 0, 0)));
    store.commit_index(CHAIN, "one", &back(Some(1))).await.unwrap();
    assert_eq!(store.turns(CHAIN, SALE).await.unwrap(), Turns { phase: Phase::Active, paused: true });
    assert_eq!(store.buyers(CHAIN, SALE, None, 10).await.unwrap(), []);
    assert_eq!(store.offering(TENANT, CHAIN, SALE).await.unwrap().unwrap().created_block, Some(1));
    store.commit_index(CHAIN, "one", &back(None)).await.unwrap();
    assert_eq!(store.offering(TENANT, CHAIN, SALE).await.unwrap().unwrap().created_block, None);
    assert_eq!(store.sums(CHAIN, SALE).await.unwrap().buyers, 0);
}

#[tokio::test]
async fn a_sale_that_tells_what_cannot_be_does_not_stop_the_index() {
    let (_postgres, store) = store().await;
    put(&store, &order(SALE, None), 7).await.unwrap();
    let told = OfferingEvents {
        turns: vec![turn(1, 0, TurnKind::Activated), turn(1, 1, TurnKind::Refunding)],
        refunds: vec![refund((1, 2), ALICE, EURO, 40)],
        ..Default::default()
    };
    store.commit_index(CHAIN, "one", &block(1, told)).await.unwrap();
    let turned = |kind| OfferingEvents { turns: vec![turn(2, 0, kind)], ..Default::default() };
    let bought = |tokens, cost| OfferingEvents {
        purchases: vec![purchase((2, 0), ALICE, EURO, tokens, cost)],
        ..Default::default()
    };
    let (turns, sums) = (store.turns(CHAIN, SALE).await.unwrap(), store.sums(CHAIN, SALE).await.unwrap());
    for (number, (what, events)) in (2..).zip([
        ("a second activation", turned(TurnKind::Activated)),
        ("success after refunds", turned(TurnKind::Succeeded)),
        ("a purchase of nothing", bought(0, 1)),
        ("a purchase for nothing", bought(1, 0)),
        ("a second refund", OfferingEvents { refunds: vec![refund((2, 0), ALICE, EURO, 1)], ..Default::default() }),
    ]) {
        store.commit_index(CHAIN, "one", &block(number, events)).await.unwrap();
        assert_eq!(store.turns(CHAIN, SALE).await.unwrap(), turns, "{what}");
        assert_eq!(store.sums(CHAIN, SALE).await.unwrap(), sums, "{what}");
    }
    assert!(store.commit_index(CHAIN, "two", &block(9, OfferingEvents::default())).await.is_err(), "only the leader");
}
