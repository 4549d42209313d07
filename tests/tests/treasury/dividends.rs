//! Dividends: a sum divided among the holders of a record date.

use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use dalp_contracts::bindings::{AssetToken, Settlement};
use dalp_devstack::client::keyed;
use dalp_devstack::scenario::Wallet;
use dalp_proto::distribution::{
    DividendPayout, EntitlementOutcome, PayoutKind, SweepTreasuryRequest, prepare_run_request::Payout,
};
use dalp_proto::system::GetSystemRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;
use dalp_tests::airdrops::key;
use dalp_tests::load::START;

use crate::support::{World, refusal, wallets};

fn dividend(record_date: u64, total: u64, reference: &str) -> Payout {
    Payout::Dividend(DividendPayout {
        currency: String::new(),
        record_date,
        total: total.to_string(),
        reference: reference.to_owned(),
    })
}

pub(crate) async fn a_dividend_counts_frozen_and_held_balances(world: &World) {
    let terms = world.terms();
    let treasury = world.treasuries().create(&terms).await.expect("created");
    world.treasuries().make_ready(&treasury, &terms).await.expect("ready");
    let [alice, bob, carol] = world.holders();
    // Of alice's bonds all but one are frozen; dora has all of hers held for a settlement with bob's bank.
    let dora = wallets("dora", 1).remove(0);
    world.load.admit(std::slice::from_ref(&dora)).await.expect("admitted");
    world.freeze(alice, START - 1).await;
    hold(world, &dora, &world.load.receiver, START).await;
    let date = world.now_s().await + 500;
    world.completed(world.announce(&treasury, date).await.expect("accepted")).await;
    let twice = refusal(&world.announce(&treasury, date).await.expect_err("once"));
    assert_eq!(twice.reason, "INVALID_FIELD");
    world.pass(date).await;

    let total = 1_000_003;
    let run = world.prepared(&treasury, dividend(date, total, "2026-h1")).await;
    assert_eq!((run.kind(), run.holders, run.total.as_str()), (PayoutKind::Dividend, 4, "1000003"));
    assert_eq!((run.rounding.as_str(), run.payout_id), ("3", None), "3 of 4 cents");
    let other = world.not_prepared(&treasury, dividend(date, total + 1, "2026-h1")).await;
    assert_eq!(other.reason, "FAILED_PRECONDITION", "the reference stands for another dividend");

    world.treasuries().fund(&treasury, total - 1).await.expect("funded");
    let details = refusal(&world.treasuries().start(&run).await.expect_err("short"));
    assert_eq!((details.reason.as_str(), details.metadata["available"].as_str()), ("TREASURY_UNDERFUNDED", "1000002"));
    world.treasuries().fund(&treasury, 1).await.expect("funded");
    let done = world.paid(&run).await;
    assert_eq!((done.payout_id, done.progress.expect("progress").paid), (Some(1 << 32), 4));
    for wallet in [alice, bob, carol, &dora] {
        assert_eq!(world.euros(wallet.address).await, total / 4, "{}", wallet.text);
    }
    let evidence = world.evidence(&run).await;
    assert_eq!(evidence.reconciliation.expect("sums").difference, "0");
    assert!(world.entitlements(&run, EntitlementOutcome::Skipped).await.is_empty());
    world.unfreeze(alice, START - 1).await;

    sweep(world, &treasury, 4, "TREASURY_UNDERFUNDED").await;
    sweep(world, &treasury, 3, "").await;
    give_away(world).await;
}

/// Sends what is free to the issuer.
async fn sweep(world: &World, treasury: &str, amount: u64, refused: &str) {
    let request = SweepTreasuryRequest {
        sender: world.issuer(),
        treasury: treasury.to_owned(),
        currency: String::new(),
        amount: amount.to_string(),
    };
    match world.service().sweep_treasury(keyed(request, &key())).await {
        Ok(accepted) => {
            let swept = world.completed(accepted.into_inner().operation).await;
            assert_eq!((swept["amount"].as_str(), refused), (Some(&*amount.to_string()), ""));
        }
        Err(status) => assert_eq!(refusal(&status).reason, refused),
    }
}

/// The coupons that follow count from nothing: what the holders were paid here goes back.
pub(crate) async fn give_away(world: &World) {
    for wallet in world.holders() {
        let amount = world.euros(wallet.address).await;
        let request = dalp_proto::asset::TransferRequest {
            sender: wallet.text.clone(),
            asset: world.euro.text.clone(),
            to: world.issuer(),
            amount: amount.to_string(),
        };
        let mut assets = dalp_proto::asset::asset_service_client::AssetServiceClient::new(world.client.gateway());
        let accepted = assets.transfer(keyed(request, &key())).await.expect("accepted").into_inner();
        world.completed(accepted.operation).await;
    }
}

/// Locks bonds of a wallet of nobody in a settlement, straight on the development chain.
async fn hold(world: &World, from: &Wallet, to: &Wallet, amount: u64) {
    let node = world.node();
    let system = SystemServiceClient::new(world.client.gateway()).get_system(GetSystemRequest::default()).await;
    let system = system.expect("a system").into_inner().system.expect("a system").system;
    let book = dalp_contracts::bindings::System::new(system.parse().expect("an address"), &node);
    let settlement = book.get(dalp_contracts::roles::names::SETTLEMENT).call().await.expect("a settlement");
    world.chain.fund(from.address, U256::from(10).pow(U256::from(18))).await.expect("funded");
    let _: serde_json::Value =
        node.raw_request("anvil_impersonateAccount".into(), (from.address,)).await.expect("impersonated");
    let leg = Settlement::Leg {
        asset: world.load.token,
        from: from.address,
        to: to.address,
        amount: U256::from(amount),
        chainId: 0,
    };
    let terms = Settlement::Terms {
        salt: B256::ZERO,
        name: "pledge".into(),
        cutoff: (world.now_s().await + 10_000_000).try_into().expect("a time"),
        autoExecute: false,
        hashKind: 0,
        hashlock: B256::ZERO,
        legs: vec![leg],
    };
    let calls = [
        (settlement, Settlement::createCall { terms: terms.clone() }.abi_encode()),
        (world.load.token, AssetToken::approveCall { spender: settlement, value: U256::from(amount) }.abi_encode()),
        (settlement, Settlement::approveCall { terms }.abi_encode()),
    ];
    for (target, data) in calls {
        let request = TransactionRequest::default().from(from.address).to(target).input(data.into());
        let receipt = node.send_transaction(request).await.expect("sent").get_receipt().await.expect("mined");
        assert!(receipt.status(), "{receipt:?}");
    }
    let token = AssetToken::new(world.load.token, &node);
    assert_eq!(token.heldOf(from.address).call().await.expect("an answer"), U256::from(amount));
}
