//! The list of holders across reorgs and across replicas: no holes, nothing twice.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall as _,
};
use dalp_chain::BlockNumberOrTag;
use dalp_contracts::bindings::AssetToken;
use dalp_proto::holder;
use dalp_service::stop::Stop;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{Stack, eventually, text};
use svc_compliance::{
    indexer,
    readers::ChainReader,
    store::{StoreError, holdings::IndexBatch},
};

/// The node's own doing: blocks, snapshots, transactions of accounts it plays.
async fn node(stack: &Stack, method: &'static str, params: Value) -> Value {
    stack.upstreams.request(method, params).await.unwrap()
}

/// A transfer that the engine knows nothing of, in a block of its own.
async fn transfer(stack: &Stack, token: Address, from: Address, to: Address, amount: u64) {
    node(stack, "anvil_impersonateAccount", json!([from])).await;
    let data = AssetToken::transferCall { to, amount: U256::from(amount) }.abi_encode();
    let call = json!([{"from": from, "to": token, "data": alloy::hex::encode_prefixed(data)}]);
    let hash: B256 = stack.upstreams.request("eth_sendTransaction", call).await.unwrap();
    eventually("the transfer is in a block", async || stack.upstreams.receipt(hash).await.unwrap()).await;
}

/// Waits until the index stands at the head, and compares it with the chain.
async fn agrees(stack: &Stack, token: Address, accounts: &[Address]) -> BTreeMap<Address, U256> {
    eventually("the index stands at the head", async || {
        let head = stack.upstreams.block(BlockNumberOrTag::Latest).await.unwrap().unwrap();
        let at: Option<String> = sqlx::query_scalar(
            "SELECT hash FROM compliance.indexed_blocks WHERE number = $1 AND number = (SELECT max(number) FROM compliance.indexed_blocks)",
        )
        .bind(i64::try_from(head.number).unwrap())
        .fetch_optional(&stack.store.pool())
        .await
        .unwrap();
        (at?.parse::<B256>().unwrap() == head.hash).then_some(())
    })
    .await;
    let chain = ChainReader::new(stack.upstreams.clone());
    let mut expected = BTreeMap::new();
    for account in accounts {
        let balance = chain.read(token, AssetToken::balanceOfCall { account: *account }).await.unwrap();
        if !balance.is_zero() {
            expected.insert(*account, balance);
        }
    }
    let request = holder::ListHoldersRequest { asset: text(token), ..Default::default() };
    let listed = stack.holders().list_holders(stack.fresh(request)).await.unwrap().into_inner();
    let found: BTreeMap<Address, U256> =
        listed.holders.iter().map(|one| (one.holder.parse().unwrap(), one.balance.parse().unwrap())).collect();
    assert_eq!((found.len(), &found), (listed.holders.len(), &expected), "at block {}", listed.block_number);
    // Every block that is remembered is the chain's, without a gap.
    let blocks: Vec<(i64, String)> =
        sqlx::query_as("SELECT number, hash FROM compliance.indexed_blocks ORDER BY number")
            .fetch_all(&stack.store.pool())
            .await
            .unwrap();
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].0, pair[0].0 + 1, "a hole in the index");
    }
    for (number, hash) in blocks.iter().rev().take(20) {
        let header = stack.upstreams.block(BlockNumberOrTag::Number(*number as u64)).await.unwrap().unwrap();
        assert_eq!(*hash, format!("{:#x}", header.hash), "block {number}");
    }
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_is_repaired_without_holes_or_doubles() {
    let stack = Stack::start(4).await;
    let accounts = stack.wallets.clone();
    let [_, holder, first, second] = accounts[..] else { panic!("four wallets") };
    let token = stack.bond().await;
    let before = agrees(&stack, token, &accounts).await;
    assert_eq!(before[&holder], U256::from(1000));

    // Two transfers are indexed, then their blocks are replaced by others with other transfers.
    let snapshot = node(&stack, "evm_snapshot", json!([])).await;
    transfer(&stack, token, holder, first, 100).await;
    transfer(&stack, token, holder, second, 50).await;
    assert_eq!(agrees(&stack, token, &accounts).await[&first], U256::from(100));
    assert_eq!(node(&stack, "evm_revert", json!([snapshot])).await, json!(true));
    node(&stack, "evm_increaseTime", json!([60])).await;
    for amount in [1, 2, 3] {
        transfer(&stack, token, holder, second, amount).await;
    }
    let after = agrees(&stack, token, &accounts).await;
    assert_eq!((after.get(&first), after[&second], after[&holder]), (None, U256::from(6), U256::from(994)));

    // The same transfers in other blocks: applied once.
    transfer(&stack, token, holder, first, 10).await;
    node(&stack, "anvil_mine", json!([3])).await;
    agrees(&stack, token, &accounts).await;
    node(&stack, "anvil_reorg", json!([4, []])).await;
    node(&stack, "anvil_mine", json!([1])).await;
    transfer(&stack, token, holder, first, 10).await;
    let after = agrees(&stack, token, &accounts).await;
    assert_eq!((after[&first], after[&second], after[&holder]), (U256::from(10), U256::from(6), U256::from(984)));
    let total: U256 = after.values().copied().sum();
    assert_eq!(total, U256::from(1000));

    // The index can be made again while a replica works on it, as docs/how-to/rebuild-the-holder-index.md says.
    let page = include_str!("../../docs/how-to/rebuild-the-holder-index.md");
    let statements = page.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    sqlx::raw_sql(statements).execute(&stack.store.pool()).await.unwrap();
    assert_eq!(agrees(&stack, token, &accounts).await, after);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_replica_takes_the_lease_over() {
    let stack = Stack::start(3).await;
    let accounts = stack.wallets.clone();
    let [_, holder, receiver] = accounts[..] else { panic!("three wallets") };
    let token = stack.bond().await;
    agrees(&stack, token, &accounts).await;
    let chain_id = stack.upstreams.config().chain_id;
    let stop = Stop::new();
    let second =
        tokio::spawn(indexer::run(stack.store.clone(), stack.upstreams.clone(), 0, "second".into(), stop.clone()));
    let owner = async || -> String {
        let owner = sqlx::query_scalar("SELECT owner FROM compliance.indexer_leases WHERE until > now()");
        owner.fetch_optional(&stack.store.pool()).await.unwrap().unwrap_or_default()
    };
    assert_eq!(owner().await, "test", "one indexes at a time");

    // The first one dies; nobody indexes until its lease has run out, which is not waited for here.
    stack.indexer.abort();
    transfer(&stack, token, holder, receiver, 7).await;
    sqlx::query("UPDATE compliance.indexer_leases SET until = now()").execute(&stack.store.pool()).await.unwrap();
    eventually("the second replica leads", async || (owner().await == "second").then_some(())).await;
    assert_eq!(agrees(&stack, token, &accounts).await[&receiver], U256::from(7));

    // What the dead one still wanted to commit is refused.
    let late = stack.store.commit_index(chain_id, "test", &IndexBatch::default()).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(_))), "{late:?}");

    // One that stops gives the lease back, so that a third need not wait.
    stop.request();
    second.await.unwrap();
    assert_eq!(owner().await, "");
    let third =
        tokio::spawn(indexer::run(stack.store.clone(), stack.upstreams.clone(), 0, "third".into(), Stop::new()));
    transfer(&stack, token, holder, receiver, 1).await;
    assert_eq!(agrees(&stack, token, &accounts).await[&receiver], U256::from(8));
    third.abort();
    stack.end().await;
}
