//! The tables on a real PostgreSQL: lists stored once, batches planned once, and an index that a reorg takes back.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256, U256};
use dalp_chain::BlockRef;
use dalp_domain::store::Tables;
use dalp_engine::testing::TestPostgres;
use std::time::Duration;
use svc_distribution::{
    airdrop::{
        flows::CreateOrder,
        list::{Announced, Format, ListReader, Recipients},
        store::{
            airdrops::{StoredAirdrop, put_airdrop},
            index::{AirdropEvents, Payout, PayoutKind, Withdrawal},
            outcomes::Outcome,
            pushes::{NewPush, PushState, StoredPush},
        },
        terms::{CreateAirdrop, Kind, Terms},
        tree::Parts,
    },
    index::{IndexBatch, Place},
    store::{MIGRATIONS, SCHEMA, Store},
};
use uuid::Uuid;

const CHAIN: u64 = 31_337;
const TENANT: &str = "acme";
const AIRDROP: Address = Address::repeat_byte(0xad);
const SENDER: Address = Address::repeat_byte(0x55);

fn list(count: u64) -> Recipients {
    let mut reader = ListReader::new(Format::Csv, 0);
    for number in 1..=count {
        reader.push(format!("{:#x},{number}\n", Address::from_word(U256::from(number).into())).as_bytes()).unwrap();
    }
    reader.finish(Announced(Some(count)), false).unwrap()
}

/// Tables with an airdrop to so many recipients, in trees of four rows.
async fn airdrop(count: u64) -> (TestPostgres, Store, StoredAirdrop) {
    let postgres = TestPostgres::start();
    let tables = Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap();
    tables.migrate(&MIGRATIONS).await.unwrap();
    assert!(tables.lease_indexer(CHAIN, "one", Duration::from_secs(60)).await.unwrap());
    let store = Store::from(tables);
    let list = list(count);
    let list_id = store.put_list(TENANT, &list).await.unwrap();
    let terms = Terms {
        asset: Address::repeat_byte(0xa5),
        kind: Kind::Push,
        leftover_to: SENDER,
        starts_at: 10,
        ends_at: 20,
        cliff_s: 0,
        duration_s: 0,
        cap: U256::MAX,
    };
    let order = CreateOrder {
        chain_id: CHAIN,
        factory: Address::repeat_byte(0xfa),
        airdrop: AIRDROP,
        salt: B256::ZERO,
        roots: vec![B256::repeat_byte(1), B256::repeat_byte(2)],
        rows_per_root: 4,
        command: CreateAirdrop {
            sender: SENDER,
            terms: terms.clone(),
            digest: list.digest(),
            recipients: 0,
            total: U256::ZERO,
        },
    };
    let mut connection = store.pool.acquire().await.unwrap();
    put_airdrop(&mut connection, TENANT, Uuid::from_u128(7), list_id, &order).await.unwrap();
    let stored = store.airdrop(TENANT, CHAIN, AIRDROP).await.unwrap().unwrap();
    assert_eq!((&stored.terms, &stored.roots, stored.digest), (&terms, &order.roots, list.digest()));
    assert_eq!((stored.recipients, stored.total), (count, U256::from(list.total)));
    assert_eq!(store.airdrop_of_operation(TENANT, Uuid::from_u128(7)).await.unwrap(), Some(stored.clone()));
    assert_eq!(store.airdrop("rival", CHAIN, AIRDROP).await.unwrap(), None, "another tenant's");
    (postgres, store, stored)
}

fn told(block: u64, row: u64, kind: PayoutKind) -> Payout {
    let at = Place { block, log_index: row, tx_hash: B256::with_last_byte(block as u8) };
    let skipped = kind == PayoutKind::Skipped;
    let amount = if skipped { U256::ZERO } else { U256::from(row + 1) };
    Payout { at, airdrop: AIRDROP, row, kind, amount, reason: if skipped { "no".into() } else { String::new() } }
}

fn block(number: u64, payouts: Vec<Payout>) -> IndexBatch {
    let blocks = vec![BlockRef { number, hash: B256::with_last_byte(number as u8) }];
    IndexBatch { blocks, airdrops: AirdropEvents { payouts, ..Default::default() }, ..Default::default() }
}

fn new_push() -> NewPush {
    NewPush { tenant: TENANT.into(), airdrop: AIRDROP, principal: "ops".into(), sender: SENDER, rows_per_batch: 3 }
}

async fn push(store: &Store) -> StoredPush {
    store.push(CHAIN, AIRDROP).await.unwrap().unwrap()
}

#[tokio::test]
async fn equal_rows_are_one_list_and_unused_ones_are_forgotten() {
    let (_postgres, store, stored) = airdrop(6).await;
    assert_eq!(store.put_list(TENANT, &list(6)).await.unwrap(), stored.list_id);
    assert_ne!(store.put_list("rival", &list(6)).await.unwrap(), stored.list_id, "another tenant's");
    let unused = store.put_list(TENANT, &list(5)).await.unwrap();
    assert_eq!(store.forget_lists().await.unwrap(), 0, "younger than a day");
    sqlx::query("UPDATE distribution.lists SET stored_at = now() - interval '2 days'")
        .execute(&store.pool)
        .await
        .unwrap();
    assert_eq!(store.forget_lists().await.unwrap(), 2);
    assert!(store.rows(unused, 0, 10).await.unwrap().is_empty());
    let rows = store.rows(stored.list_id, 4, u64::MAX).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.place, row.recipient.amount)).collect::<Vec<_>>(), [(4, 5), (5, 6)]);
    let named = [rows[1].recipient.account, SENDER];
    assert_eq!(store.rows_of(stored.list_id, &named).await.unwrap(), [rows[1]]);
}

#[tokio::test]
async fn batches_take_each_row_once_and_stay_within_a_tree() {
    let (_postgres, store, stored) = airdrop(8).await;
    let list = (stored.list_id, Parts { rows_per_root: 4 });
    store.commit_index(CHAIN, "one", &block(1, vec![told(1, 1, PayoutKind::Paid)])).await.unwrap();
    assert_eq!(store.unpaid(CHAIN, AIRDROP, stored.list_id).await.unwrap().amount, U256::from(34));
    store.begin_push(CHAIN, &new_push()).await.unwrap();
    store.begin_push(CHAIN, &new_push()).await.unwrap();
    let running = store.running_pushes(CHAIN).await.unwrap();
    assert_eq!((running.len(), running[0].push, running[0].state), (1, 1, PushState::Running));
    let mut batches = Vec::new();
    while let Some(batch) = store.plan_batch(CHAIN, &running[0], list).await.unwrap() {
        batches.push(batch.places);
        if batches.len() == 1 {
            store.pause_push(CHAIN, AIRDROP).await.unwrap();
            assert_eq!(store.plan_batch(CHAIN, &running[0], list).await.unwrap(), None, "paused");
            store.resume_push(CHAIN, AIRDROP).await.unwrap();
        }
    }
    assert_eq!(batches, [vec![0, 2, 3], vec![4, 5, 6], vec![7]]);
    let open = store.open_batches(CHAIN, &running[0]).await.unwrap();
    store.note_batch(CHAIN, &running[0], open[1].batch, Uuid::from_u128(9)).await.unwrap();
    assert_eq!(store.counts(CHAIN, AIRDROP).await.unwrap().sent, 3);
    store.settle_batch(CHAIN, &running[0], open[1].batch).await.unwrap();
    assert_eq!(store.open_batches(CHAIN, &running[0]).await.unwrap().len(), 2);
    let failure = dalp_engine::Failure::new("AIRDROP_NOT_OPEN", "closed");
    store.end_push(CHAIN, &running[0], Some(&failure)).await.unwrap();
    let stopped = push(&store).await;
    assert_eq!((stopped.state, stopped.failure), (PushState::Stopped, Some(failure)));
    store.begin_push(CHAIN, &new_push()).await.unwrap();
    assert_eq!((push(&store).await.push, push(&store).await.state), (2, PushState::Running));
}

/// As a migration has the chain read once more: what is kept already stays as it is.
async fn read_again(store: &Store) {
    sqlx::query("DELETE FROM indexed_blocks").execute(&store.pool).await.unwrap();
}

#[tokio::test]
async fn what_was_told_is_taken_back_with_its_block() {
    let (_postgres, store, stored) = airdrop(4).await;
    let mut created = block(1, vec![told(1, 0, PayoutKind::Skipped)]);
    created.airdrops.created.push((AIRDROP, 1));
    store.commit_index(CHAIN, "one", &created).await.unwrap();
    let second = vec![told(2, 0, PayoutKind::Paid), told(2, 1, PayoutKind::Started), told(2, 3, PayoutKind::Skipped)];
    store.commit_index(CHAIN, "one", &block(2, second)).await.unwrap();
    let at = Place { block: 3, log_index: 0, tx_hash: B256::ZERO };
    let withdrawal = Withdrawal { at, airdrop: AIRDROP, currency: stored.terms.asset, amount: U256::from(5) };
    let mut third = block(3, vec![told(3, 1, PayoutKind::Released)]);
    third.airdrops.payouts[0].at.log_index = 1;
    third.airdrops.withdrawals.push(withdrawal);
    store.commit_index(CHAIN, "one", &third).await.unwrap();
    read_again(&store).await;
    store.commit_index(CHAIN, "one", &third).await.unwrap();

    let outcomes = async |only| {
        let found = store.outcomes(CHAIN, &stored, 0, only, 10).await.unwrap();
        found.iter().map(|one| (one.row.place, one.outcome, one.reason.clone())).collect::<Vec<_>>()
    };
    let said = |place, outcome, reason: &str| (place, outcome, reason.to_owned());
    let all = [
        said(0, Outcome::Paid, ""),
        said(1, Outcome::Vesting, ""),
        said(2, Outcome::Open, ""),
        said(3, Outcome::Skipped, "no"),
    ];
    assert_eq!(outcomes(None).await, all);
    assert_eq!(outcomes(Some(Outcome::Skipped)).await, [said(3, Outcome::Skipped, "no")]);
    let counts = store.counts(CHAIN, AIRDROP).await.unwrap();
    assert_eq!(
        (counts.paid, counts.skipped, counts.paid_amount, counts.released_amount),
        (2, 1, U256::from(3), U256::from(2))
    );
    assert_eq!(store.withdrawn(CHAIN, AIRDROP, stored.terms.asset).await.unwrap(), U256::from(5));
    let transactions = store.paying_transactions(CHAIN, AIRDROP, 10).await.unwrap();
    let told_by: Vec<_> = transactions.iter().map(|one| (one.block, one.paid, one.skipped, one.amount)).collect();
    assert_eq!(told_by, [(1, 0, 1, U256::ZERO), (2, 2, 1, U256::from(1)), (3, 0, 0, U256::from(2))]);
    let digest = store.outcomes_digest(CHAIN, &stored).await.unwrap();

    let back = IndexBatch { rewind_to: Some(Some(1)), ..Default::default() };
    store.commit_index(CHAIN, "one", &back).await.unwrap();
    assert_eq!(outcomes(Some(Outcome::Paid)).await, []);
    assert_eq!(outcomes(Some(Outcome::Skipped)).await, [said(0, Outcome::Skipped, "no")]);
    assert_ne!(store.outcomes_digest(CHAIN, &stored).await.unwrap(), digest);
    assert_eq!(store.withdrawn(CHAIN, AIRDROP, stored.terms.asset).await.unwrap(), U256::ZERO);
    assert_eq!(store.airdrop(TENANT, CHAIN, AIRDROP).await.unwrap().unwrap().created_block, Some(1));
    store.commit_index(CHAIN, "one", &IndexBatch { rewind_to: Some(None), ..Default::default() }).await.unwrap();
    assert_eq!(store.airdrop(TENANT, CHAIN, AIRDROP).await.unwrap().unwrap().created_block, None);
    let late = store.commit_index(CHAIN, "two", &block(1, vec![])).await;
    assert!(late.is_err(), "only the leader writes");
}

#[tokio::test]
async fn an_airdrop_that_tells_what_cannot_be_does_not_stop_the_index() {
    let (_postgres, store, _) = airdrop(4).await;
    store.commit_index(CHAIN, "one", &block(1, vec![told(1, 0, PayoutKind::Paid)])).await.unwrap();
    let before = store.counts(CHAIN, AIRDROP).await.unwrap();
    let huge = Payout {
        at: Place { log_index: 9, ..told(2, 2, PayoutKind::Paid).at },
        amount: U256::MAX,
        ..told(2, 2, PayoutKind::Paid)
    };
    store.commit_index(CHAIN, "one", &block(2, vec![told(2, 0, PayoutKind::Paid), huge])).await.unwrap();
    assert_eq!(store.counts(CHAIN, AIRDROP).await.unwrap(), before, "what was told first, and once");
    let nul = Payout { reason: "no\0".into(), ..told(3, 3, PayoutKind::Skipped) };
    store.commit_index(CHAIN, "one", &block(3, vec![told(3, 1, PayoutKind::Paid), nul])).await.unwrap();
    assert_eq!(store.counts(CHAIN, AIRDROP).await.unwrap().paid, before.paid + 1);
}
