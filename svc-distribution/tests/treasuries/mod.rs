//! What the store tests of treasuries begin with.
#![allow(dead_code)] // each test takes what it needs

use alloy::primitives::{Address, B256, U256};
use dalp_chain::BlockRef;
use dalp_domain::store::Tables;
use dalp_engine::testing::TestPostgres;
use std::time::Duration;
use svc_distribution::{
    index::{IndexBatch, Place},
    store::{MIGRATIONS, SCHEMA, Store},
    treasury::{
        entitlement::{Fraction, Holding, entitle},
        flows::CreateOrder,
        readers::RecordBlock,
        store::{
            index::{Payment, Told, TreasuryEvents},
            passes::NewPass,
            runs::{NewRun, StoredRun},
            treasuries::put_treasury,
        },
        terms::{CreateTreasury, Maturity, Payout, Terms, Units},
    },
};
use uuid::Uuid;

pub(crate) const CHAIN: u64 = 31_337;
pub(crate) const TENANT: &str = "acme";
pub(crate) const TREASURY: Address = Address::repeat_byte(0x0f);
pub(crate) const EURO: Address = Address::repeat_byte(0xe1);

pub(crate) fn holder(n: u8) -> Address {
    Address::repeat_byte(n)
}

pub(crate) fn order() -> CreateOrder {
    let maturity = Maturity { at: 9_000, redemption_price: "1000.5".parse().unwrap() };
    let terms = Terms { asset: holder(0xa5), currency: EURO, sweep_to: holder(0xbb), maturity: Some(maturity) };
    CreateOrder {
        chain_id: CHAIN,
        factory: holder(0xfa),
        treasury: TREASURY,
        salt: B256::ZERO,
        units: Units { asset_decimals: 0, currency_decimals: 2, redemption_ratio: U256::MAX },
        command: CreateTreasury { sender: holder(0xcc), terms },
    }
}

pub(crate) async fn store() -> (TestPostgres, Store) {
    let postgres = TestPostgres::start();
    let tables = Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap();
    tables.migrate(&MIGRATIONS).await.unwrap();
    assert!(tables.lease_indexer(CHAIN, "one", Duration::from_secs(60)).await.unwrap());
    let store = Store::from(tables);
    let mut connection = store.pool.acquire().await.unwrap();
    put_treasury(&mut connection, TENANT, Uuid::from_u128(7), &order()).await.unwrap();
    (postgres, store)
}

/// Five holders of 1, 2, ... units at 10/3 a unit: 3, 6, 10, 13, 16 and 2 of rounding.
pub(crate) fn new_run(payout: Payout) -> NewRun {
    let fraction = Fraction { numerator: U256::from(10), denominator: U256::from(3) };
    let holdings: Vec<_> = (1..=5).map(|n| Holding { holder: holder(n), units: U256::from(n) }).collect();
    NewRun {
        tenant: TENANT.into(),
        treasury: TREASURY,
        payout,
        currency: EURO,
        record_date: 500,
        record: RecordBlock { number: 50, hash: B256::repeat_byte(5), timestamp_s: 499 },
        fraction,
        list: entitle(fraction, &holdings).unwrap(),
        principal: "ops".into(),
    }
}

pub(crate) fn pass(rows_per_batch: u32) -> NewPass {
    NewPass { principal: "chief".into(), sender: holder(0xcc), rows_per_batch, alone: true }
}

pub(crate) fn payment(log_index: u64, payout_id: Option<u64>, n: u8, amount: u64, units: Option<u64>) -> Payment {
    let told = Told::Paid { to: holder(n), amount: U256::from(amount), units: units.map(U256::from) };
    Payment { at: at(60, log_index), treasury: TREASURY, payout_id, holder: holder(n), told }
}

pub(crate) fn skipped(log_index: u64, payout_id: Option<u64>, n: u8) -> Payment {
    let told = Told::Skipped { reason: "HOLDER_FROZEN".into() };
    Payment { at: at(60, log_index), treasury: TREASURY, payout_id, holder: holder(n), told }
}

pub(crate) fn at(block: u64, log_index: u64) -> Place {
    Place { block, log_index, tx_hash: B256::with_last_byte(block as u8) }
}

pub(crate) async fn index(store: &Store, payments: Vec<Payment>) {
    let treasuries = TreasuryEvents { created: vec![(TREASURY, 60)], payments, ..Default::default() };
    let blocks = vec![BlockRef { number: 60, hash: B256::with_last_byte(60) }];
    store.commit_index(CHAIN, "one", &IndexBatch { blocks, treasuries, ..Default::default() }).await.unwrap();
}

pub(crate) async fn again(store: &Store, run: &StoredRun) -> StoredRun {
    store.run(CHAIN, TREASURY, run.run).await.unwrap().unwrap()
}
