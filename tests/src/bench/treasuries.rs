//! Treasury payouts: the list of a coupon for 100,000 holders, from the asset's movements to the stored list.

use std::time::Instant;

use alloy::primitives::{Address, B256, U256, keccak256};
use anyhow::ensure;
use dalp_devstack::report::Figure;
use dalp_domain::store::Tables;
use dalp_testing::TestPostgres;
use svc_distribution::store::{MIGRATIONS, SCHEMA, Store};
use svc_distribution::treasury::cap_table::{CapTable, Moved};
use svc_distribution::treasury::entitlement::{Fraction, entitle};
use svc_distribution::treasury::flows::CreateOrder;
use svc_distribution::treasury::readers::RecordBlock;
use svc_distribution::treasury::store::runs::NewRun;
use svc_distribution::treasury::store::treasuries::put_treasury;
use svc_distribution::treasury::terms::{CreateTreasury, Payout, Terms, Units};
use uuid::Uuid;

const HOLDERS: u64 = 100_000;
const CHAIN: u64 = 31_337;
const TREASURY: Address = Address::repeat_byte(0x0f);

/// The pure core and the list in PostgreSQL; reading balances is up to the node.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let postgres = TestPostgres::start();
    let store = store(&postgres.url()).await?;
    let movements = movements();
    let begun = Instant::now();
    let mut table = CapTable::default();
    for moved in &movements {
        table.apply(*moved)?;
    }
    let replayed_s = begun.elapsed().as_secs_f64();
    let fraction = Fraction { numerator: U256::from(12_345_678), denominator: U256::from(1_000_003) };
    let list = entitle(fraction, &table.holdings())?;
    let computed_s = begun.elapsed().as_secs_f64();
    let sum: u128 = list.rows.iter().map(|row| row.amount).sum();
    ensure!(sum + list.rounding == list.total, "the sums differ");
    let new = NewRun {
        tenant: "bench".to_owned(),
        treasury: TREASURY,
        payout: Payout::Coupon { period: 0 },
        currency: Address::repeat_byte(0xe1),
        record_date: 1,
        record: RecordBlock { number: 1, hash: B256::ZERO, timestamp_s: 1 },
        fraction,
        list,
        principal: "bench".to_owned(),
    };
    let run = store.put_run(CHAIN, &new).await?;
    let took_s = begun.elapsed().as_secs_f64();
    ensure!(u64::from(run.holders) == HOLDERS, "{} holders", run.holders);
    let note = format!(
        "300,000 movements replayed (in {replayed_s:.1} s), 100,000 entitlements with their root (by {computed_s:.1} s), stored in PostgreSQL"
    );
    Ok(vec![Figure::of("treasury.entitle100k_s", "s", vec![took_s], Some(10.0), &note)])
}

fn holder(number: u64) -> Address {
    Address::from_word(keccak256(number.to_be_bytes()))
}

/// Everybody is minted to, and passes something on twice.
fn movements() -> Vec<Moved> {
    let mint = |number| Moved { from: Address::ZERO, to: holder(number), amount: U256::from(1_000_000 + number) };
    let pass = |number: u64, step: u64| Moved {
        from: holder(number),
        to: holder((number * 7 + step) % HOLDERS),
        amount: U256::from(number % 97),
    };
    let passed = (0..2).flat_map(|step| (0..HOLDERS).map(move |number| pass(number, step)));
    (0..HOLDERS).map(mint).chain(passed).collect()
}

async fn store(url: &str) -> anyhow::Result<Store> {
    let tables = Tables::lazy(SCHEMA, url, 5)?;
    tables.migrate(&MIGRATIONS).await?;
    let store = Store::from(tables);
    let terms = Terms {
        asset: Address::repeat_byte(0xa5),
        currency: Address::repeat_byte(0xe1),
        sweep_to: Address::repeat_byte(0xbb),
        maturity: None,
    };
    let order = CreateOrder {
        chain_id: CHAIN,
        factory: Address::repeat_byte(0xfa),
        treasury: TREASURY,
        salt: B256::ZERO,
        units: Units { asset_decimals: 0, currency_decimals: 2, redemption_ratio: U256::ZERO },
        command: CreateTreasury { sender: Address::repeat_byte(0xcc), terms },
    };
    let mut connection = store.pool.acquire().await?;
    put_treasury(&mut connection, "bench", Uuid::nil(), &order).await?;
    drop(connection);
    Ok(store)
}
