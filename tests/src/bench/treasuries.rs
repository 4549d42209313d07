//! Treasury payouts: the list of a payout for 100,000 holders, alone and on a running stack.

use std::time::Instant;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall as _;
use anyhow::{Context as _, ensure};
use dalp_devstack::client::keyed;
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_domain::store::Tables;
use dalp_proto::asset::AssetRole;
use dalp_proto::distribution::{AnnounceRecordDateRequest, DividendPayout, TreasuryTerms, prepare_run_request};
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

use crate::airdrops::key;
use crate::load::Load;
use crate::offerings::Offerings;
use crate::treasuries::Treasuries;
use crate::wallets::wallets;

alloy::sol! {
    function batchMint(address[] toList, uint256[] amounts);
    function identityRegistry() returns (address);
}

const HOLDERS: u64 = 100_000;
const CHAIN: u64 = 31_337;
const TREASURY: Address = Address::repeat_byte(0x0f);

/// Holders who are minted to in a transaction, and transactions of a block.
const MINTED_AT_ONCE: usize = 100;
const OF_A_BLOCK: usize = 18;
const MINT_GAS: u64 = 16_000_000;

/// The list from the gateway to the chain and back, and its parts that need no chain.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = prepared().await?;
    figures.extend(alone().await?);
    Ok(figures)
}

/// A dividend of 100,000 holders, prepared through the gateway: their movements and recorded balances are read from the chain.
async fn prepared() -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let (client, chain) = (stack.client()?, ChainView::new(stack.chain_url())?);
    let load = Load::prepare(&client, &chain, 0, "local").await?;
    let offerings = Offerings { client: &client, load: &load };
    offerings.grant(AssetRole::Funds, &load.issuer.text).await?;
    let euro = offerings.issue_cash("EUR", 2, &[], 0).await?;
    let treasuries = Treasuries { client: &client, load: &load };
    let terms = TreasuryTerms { asset: offerings.asset(), currency: euro.text.clone(), ..TreasuryTerms::default() };
    let treasury = treasuries.create(&terms).await?;
    treasuries.make_ready(&treasury, &terms).await?;
    mint(&stack, &chain, &load).await?;
    let record_date = chain.time_s().await? + 1_000;
    let announce =
        AnnounceRecordDateRequest { sender: load.issuer.text.clone(), treasury: treasury.clone(), record_date };
    let accepted = treasuries.service().announce_record_date(keyed(announce, &key())).await?.into_inner();
    offerings.completed(accepted.operation).await?;
    chain.pass(2_000).await?;
    let payout = DividendPayout {
        currency: String::new(),
        record_date,
        total: "1000000007".to_owned(),
        reference: "bench".to_owned(),
    };
    let begun = Instant::now();
    let run = treasuries.prepare(&treasury, prepare_run_request::Payout::Dividend(payout)).await?;
    let took_s = begun.elapsed().as_secs_f64();
    let run = run.run.context("the answer carries no run")?;
    ensure!(u64::from(run.holders) == HOLDERS, "{} holders", run.holders);
    let note = "PrepareRun through the gateway at anvil: 100,000 movements and 100,000 recorded balances read and compared, \
                entitlements with their root, stored";
    Ok(vec![Figure::of("treasury.entitle100k_s", "s", vec![took_s], Some(10.0), note)])
}

/// Mints to everybody straight on the development chain, where for this everybody is verified: identities are not what is measured.
async fn mint(stack: &Stack, chain: &ChainView, load: &Load) -> anyhow::Result<()> {
    let node: RootProvider = ProviderBuilder::default().connect_http(stack.chain_url().parse()?);
    let minter = wallets("bench-minter", 1).remove(0);
    Offerings { client: &stack.client()?, load }.grant(AssetRole::Supply, &minter.text).await?;
    chain.fund(minter.address, U256::from(10).pow(U256::from(22))).await?;
    let _: serde_json::Value = node.raw_request("anvil_impersonateAccount".into(), (minter.address,)).await?;
    let asked = TransactionRequest::default().to(load.token).input(identityRegistryCall {}.abi_encode().into());
    let registry = identityRegistryCall::abi_decode_returns(&node.call(asked).await?)?;
    // Answers 512 zeros whatever it is asked: nothing against anybody.
    let (nothing, code) = (Bytes::from_static(&[0x61, 0x02, 0x00, 0x5f, 0xf3]), node.get_code_at(registry).await?);
    let _: serde_json::Value = node.raw_request("anvil_setCode".into(), (registry, nothing)).await?;
    let accounts: Vec<Address> = (0..HOLDERS).map(holder).collect();
    let mut sent = Vec::new();
    for (number, some) in accounts.chunks(MINTED_AT_ONCE).enumerate() {
        let amounts = some.iter().map(|account| U256::from(1 + u64::from(account[19]))).collect();
        let call = batchMintCall { toList: some.to_vec(), amounts };
        let mint = TransactionRequest::default().from(minter.address).to(load.token).gas_limit(MINT_GAS);
        let mint = mint.input(call.abi_encode().into());
        if number == 0 {
            node.call(mint.clone()).await.context("nobody can be minted to")?;
        }
        sent.push(node.send_transaction(mint).await?);
        if number % OF_A_BLOCK == OF_A_BLOCK - 1 {
            let _: serde_json::Value = node.raw_request("evm_mine".into(), ()).await?;
        }
    }
    for pending in sent {
        ensure!(pending.get_receipt().await?.status(), "nobody could be minted to");
    }
    let _: serde_json::Value = node.raw_request("anvil_setCode".into(), (registry, code)).await?;
    Ok(())
}

/// The pure core and the list in PostgreSQL, without a chain.
async fn alone() -> anyhow::Result<Vec<Figure>> {
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
    Ok(vec![Figure::of("treasury.list100k_s", "s", vec![took_s], None, &note)])
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
