//! Reads, sends and the follower against a real anvil.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use dalp_chain::{
    BlockId, BlockNumberOrTag, BlockRef, CallError, Fees, Filter, Finality, SendOutcome, TransactionRequest, Upstreams,
    fees,
    follower::{Batch, Change, Follower, FollowerSink, Turn},
    testing::{ANVIL_CHAIN_ID, ANVIL_KEY, Anvil},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Runtime: emit one log with topic 1 and no data.  PUSH1 1 PUSH1 0 PUSH1 0 LOG1 STOP
const EMITTER: &str = "0x600160006000a100";

fn key() -> PrivateKeySigner {
    ANVIL_KEY.parse().expect("a key")
}

fn signed(nonce: u64, to: TxKind, input: Bytes, fees: Fees) -> (B256, Bytes) {
    let Fees::Eip1559 { max_fee_wei, priority_fee_wei } = fees else { panic!("anvil has a base fee") };
    let transaction = TxEip1559 {
        chain_id: ANVIL_CHAIN_ID,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: max_fee_wei,
        max_priority_fee_per_gas: priority_fee_wei,
        to,
        value: U256::ZERO,
        input,
        ..Default::default()
    };
    let signature = key().sign_hash_sync(&transaction.signature_hash()).expect("signs");
    let envelope: TxEnvelope = transaction.into_signed(signature).into();
    (*envelope.tx_hash(), envelope.encoded_2718().into())
}

async fn start(args: &[&str]) -> (Anvil, Upstreams) {
    let anvil = Anvil::start(args);
    let pool = Upstreams::connect(anvil.config()).await.expect("connects");
    (anvil, pool)
}

async fn rpc(pool: &Upstreams, method: &'static str, params: Value) -> Value {
    pool.request(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
}

async fn market(pool: &Upstreams) -> Fees {
    fees::price(&pool.fee_inputs().await.expect("inputs"), &pool.config().fees).expect("a price")
}

/// Puts the emitter's code at an address.
async fn emitter(pool: &Upstreams) -> Address {
    let address = Address::repeat_byte(0xee);
    rpc(pool, "anvil_setCode", json!([address, EMITTER])).await;
    address
}

#[tokio::test]
async fn a_transaction_from_price_to_receipt() {
    let (_anvil, pool) = start(&[]).await;
    assert_eq!(pool.chain_id().await.expect("answers"), ANVIL_CHAIN_ID);
    let target = emitter(&pool).await;
    let request = TransactionRequest::default().from(key().address()).to(target);
    assert_eq!(pool.call(&request, BlockId::latest()).await.expect("runs"), Bytes::new());
    assert!(pool.estimate_gas(&request, BlockId::latest()).await.expect("estimates") > 21_000);
    assert_eq!(pool.code(target, BlockId::latest()).await.expect("answers").to_string(), EMITTER);
    assert!(pool.balance(key().address(), BlockId::latest()).await.expect("answers") > U256::ZERO);

    let (hash, bytes) = signed(0, target.into(), Bytes::new(), market(&pool).await);
    assert_eq!(pool.receipt(hash).await.expect("answers"), None);
    assert_eq!(pool.transaction(hash).await.expect("answers"), None);
    assert_eq!(pool.send_raw(bytes.clone()).await, SendOutcome::Accepted);
    included(&pool, 1).await;
    let receipt = pool.receipt(hash).await.expect("answers").expect("included");
    assert!(receipt.succeeded && receipt.logs.len() == 1 && receipt.effective_gas_price_wei.is_some());
    let block = pool.block(receipt.block_number.into()).await.expect("answers").expect("exists");
    assert_eq!((block.hash, block.transactions.as_slice()), (receipt.block_hash, [hash].as_slice()));
    assert_eq!(pool.block_receipts(BlockId::hash(block.hash)).await.expect("answers"), Some(vec![receipt.clone()]));
    assert_eq!(pool.receipts([hash, B256::ZERO]).await.expect("answers"), [Some(receipt.clone()), None]);
    let known = pool.transaction(hash).await.expect("answers").expect("known");
    assert_eq!((known.nonce, known.block_hash, known.to), (0, Some(block.hash), Some(target)));
    assert_eq!(pool.logs(&Filter::new().at_block_hash(block.hash)).await.expect("answers"), receipt.logs);
    assert_eq!(pool.send_raw(bytes).await, SendOutcome::NonceTooLow);
    assert_eq!(pool.block(1_000_000.into()).await.expect("answers"), None);
    assert_eq!(pool.final_height().await.expect("answers"), Some(block.number));
}

/// What is final, which of the blocks asked for are, and what an account did by then: all by the word of one node.
#[tokio::test]
async fn finality_and_what_stands_below_it_come_from_one_node() {
    let anvil = Anvil::start(["--no-mining"]);
    let mut config = anvil.config();
    config.finality = Finality::Depth(2);
    let pool = Upstreams::connect(config).await.expect("connects");
    let (hash, raw) = signed(0, TxKind::Call(Address::repeat_byte(1)), Bytes::new(), market(&pool).await);
    assert_eq!(pool.send_raw(raw).await, SendOutcome::Accepted);
    rpc(&pool, "anvil_mine", json!([2])).await;
    let heights =
        |headers: Vec<dalp_chain::BlockHeader>| headers.iter().map(|header| header.number).collect::<Vec<_>>();
    assert_eq!(heights(pool.final_blocks(&[0, 1, 2]).await.expect("headers")), [0], "the head is 2");
    let young = pool.final_account(key().address(), &[hash]).await.expect("answers").expect("0 is final");
    assert_eq!((young.next_nonce, young.receipts.len()), (0, 1), "included, and not final yet");
    rpc(&pool, "anvil_mine", json!([1])).await;
    assert_eq!(heights(pool.final_blocks(&[1, 2, 9]).await.expect("headers")), [1]);
    let settled = pool.final_account(key().address(), &[hash, B256::ZERO]).await.expect("answers").expect("1 is final");
    assert_eq!((settled.next_nonce, settled.receipts[0].transaction_hash), (1, hash));
}

/// anvil's estimator breaks off where a limit that it tries is nearly used up at a store.
#[tokio::test]
async fn gas_of_a_call_that_ends_with_a_store_is_found() {
    let (_anvil, pool) = start(&[]).await;
    let target = Address::repeat_byte(0xcc);
    // Counts calls in the first slot.  PUSH0 SLOAD PUSH1 1 ADD PUSH0 SSTORE STOP
    rpc(&pool, "anvil_setCode", json!([target, "0x5f546001015f5500"])).await;
    rpc(&pool, "anvil_setStorageAt", json!([target, "0x0", B256::with_last_byte(1)])).await;
    let request = TransactionRequest::default().from(key().address()).to(target);
    let gas = pool.estimate_gas(&request, BlockId::latest()).await.expect("estimates");
    let call = async |limit| {
        let limited = request.clone().gas_limit(limit);
        pool.call(&limited, BlockId::latest()).await
    };
    assert!((21_000 + 5_000..21_000 * 2).contains(&gas), "{gas}");
    assert_eq!(call(gas).await, Ok(Bytes::new()), "it suffices");
    assert!(call(21_000 + 2_300).await.is_err());
}

#[tokio::test]
async fn reverts_come_with_their_data() {
    let (_anvil, pool) = start(&[]).await;
    let request: TransactionRequest =
        serde_json::from_value(json!({"data": "0x63deadbeef6000526004601cfd"})).expect("a request");
    let revert = CallError::Revert(Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef]));
    assert_eq!(pool.call(&request, BlockId::latest()).await, Err(revert.clone()));
    assert_eq!(pool.estimate_gas(&request, BlockId::latest()).await, Err(revert));
}

#[tokio::test]
async fn a_bumped_replacement_is_taken_and_a_lesser_one_is_refused() {
    let (_anvil, pool) = start(&["--no-mining"]).await;
    let price = market(&pool).await;
    let target = TxKind::Call(Address::repeat_byte(1));
    let (_, first) = signed(0, target, Bytes::new(), price);
    assert_eq!(pool.send_raw(first.clone()).await, SendOutcome::Accepted);
    assert_eq!(pool.send_raw(first).await, SendOutcome::AlreadyKnown);
    let (_, rival) = signed(0, target, Bytes::from_static(&[1]), price);
    assert_eq!(pool.send_raw(rival).await, SendOutcome::ReplacementUnderpriced);
    let bumped = fees::bump(&price, &market(&pool).await, u128::MAX).expect("below the cap");
    let (hash, replacement) = signed(0, target, Bytes::from_static(&[1]), bumped);
    assert_eq!(pool.send_raw(replacement).await, SendOutcome::Accepted);
    rpc(&pool, "evm_mine", json!([])).await;
    assert!(pool.receipt(hash).await.expect("answers").is_some());
    let (_, poor) = signed(1, target, Bytes::new(), Fees::Eip1559 { max_fee_wei: 1, priority_fee_wei: 0 });
    assert_eq!(pool.send_raw(poor).await, SendOutcome::Underpriced);
    let (_, rich) =
        signed(1, target, Bytes::new(), Fees::Eip1559 { max_fee_wei: u128::from(u64::MAX), priority_fee_wei: 0 });
    assert!(matches!(pool.send_raw(rich).await, SendOutcome::Accepted | SendOutcome::InsufficientFunds { .. }));
}

#[tokio::test]
async fn a_thousand_transactions_are_one_block_of_receipts() {
    let (_anvil, pool) = start(&["--no-mining"]).await;
    let target = emitter(&pool).await;
    let price = market(&pool).await;
    let (hashes, bytes): (Vec<_>, Vec<_>) =
        (0..1_000).map(|nonce| signed(nonce, target.into(), Bytes::new(), price)).unzip();
    let outcomes = pool.send_raw_batch(bytes).await;
    assert!(
        outcomes.iter().all(|outcome| *outcome == SendOutcome::Accepted),
        "{:?}",
        outcomes.iter().find(|outcome| **outcome != SendOutcome::Accepted)
    );
    let mut included = Vec::new();
    while included.len() < hashes.len() {
        rpc(&pool, "evm_mine", json!([])).await;
        let receipts = pool.block_receipts(BlockId::latest()).await.expect("answers").expect("exists");
        assert!(!receipts.is_empty(), "every block takes some");
        included.extend(receipts.into_iter().map(|receipt| receipt.transaction_hash));
    }
    assert_eq!(included, hashes);
}

/// A sink in memory that undoes what is retracted, and may refuse to commit.
#[derive(Default)]
struct Memory {
    blocks: Vec<BlockRef>,
    /// Transactions whose log was decoded, by block.
    events: BTreeMap<u64, Vec<B256>>,
    set_aside: usize,
    retracted: usize,
    fail_next: bool,
    /// Commits, but the answer is lost.
    lose_next_answer: bool,
    undecodable: Option<B256>,
}

#[derive(Debug, thiserror::Error)]
#[error("the database is away")]
struct Away;

#[async_trait::async_trait]
impl FollowerSink for Memory {
    type Error = Away;

    async fn applied(&mut self) -> Result<Vec<BlockRef>, Away> {
        Ok(self.blocks.clone())
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), Away> {
        if std::mem::take(&mut self.fail_next) {
            return Err(Away);
        }
        for change in batch.changes {
            match change {
                Change::Applied { block, logs } => {
                    assert!(self.blocks.last().is_none_or(|last| last.number < block.number), "in order");
                    self.blocks.push(block);
                    for log in logs {
                        let hash = log.transaction_hash.expect("an included log");
                        if self.undecodable == Some(hash) {
                            self.set_aside += 1;
                        } else {
                            self.events.entry(block.number).or_default().push(hash);
                        }
                    }
                }
                Change::Retracted { block } => {
                    assert_eq!(self.blocks.pop(), Some(block), "newest first");
                    self.events.remove(&block.number);
                    self.retracted += 1;
                }
            }
        }
        assert_eq!(self.blocks.last().copied(), batch.cursor);
        if std::mem::take(&mut self.lose_next_answer) { Err(Away) } else { Ok(()) }
    }
}

impl Memory {
    fn all_events(&self) -> Vec<B256> {
        self.events.values().flatten().copied().collect()
    }
}

/// What the chain says now, read independently of the follower.
async fn events_on_chain(pool: &Upstreams) -> Vec<B256> {
    let logs = pool.logs(&Filter::new().from_block(0)).await.expect("answers");
    logs.into_iter().filter_map(|log| log.transaction_hash).collect()
}

async fn emit(pool: &Upstreams, target: Address, count: u64) -> Vec<B256> {
    let mut hashes = Vec::new();
    for _ in 0..count {
        hashes.extend(emit_block(pool, target, 1).await);
    }
    hashes
}

/// Sends together, so that several may share a block.
async fn emit_block(pool: &Upstreams, target: Address, count: u64) -> Vec<B256> {
    let price = Fees::Eip1559 { max_fee_wei: 100_000_000_000, priority_fee_wei: 1_000_000_000 };
    let first = pool.nonce(key().address(), BlockNumberOrTag::Latest).await.expect("answers");
    let (hashes, bytes): (Vec<_>, Vec<_>) =
        (first..first + count).map(|nonce| signed(nonce, target.into(), Bytes::new(), price)).unzip();
    assert!(pool.send_raw_batch(bytes).await.iter().all(SendOutcome::is_in_a_pool));
    included(pool, first + count).await;
    hashes
}

/// anvil mines after it has answered the send, so a test waits for the account's counter.
async fn included(pool: &Upstreams, nonce: u64) {
    let all_in = async {
        while pool.nonce(key().address(), BlockNumberOrTag::Latest).await.expect("answers") < nonce {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all_in).await.expect("anvil mines");
}

#[tokio::test]
async fn reorg_leaves_holes() {
    let (_anvil, pool) = start(&[]).await;
    let target = emitter(&pool).await;
    let mut follower = Follower::new(pool.clone(), Filter::new(), 0, Memory::default());
    emit(&pool, target, 10).await;
    follower.sync().await.expect("follows");
    assert_eq!(follower.sink().all_events().len(), 10);
    for depth in [1, 3, 5] {
        rpc(&pool, "anvil_reorg", json!([depth, []])).await;
        // Same height, other blocks; then some more on top.
        follower.sync().await.expect("follows the fork");
        assert_eq!(follower.sink().all_events(), events_on_chain(&pool).await, "after a reorg of {depth}");
        emit(&pool, target, 4).await;
        follower.sync().await.expect("follows");
        assert_eq!(follower.sink().all_events(), events_on_chain(&pool).await, "after growing on it");
    }
    assert_eq!(follower.sink().retracted, 1 + 3 + 5);
    let tip = pool.block(BlockNumberOrTag::Latest).await.expect("answers").expect("exists").block_ref();
    assert_eq!(follower.sync().await.expect("idle"), Some(tip));
}

#[tokio::test]
async fn a_reorg_while_the_follower_was_away_is_undone_after_a_restart() {
    let (_anvil, pool) = start(&[]).await;
    let target = emitter(&pool).await;
    let snapshot = {
        emit(&pool, target, 5).await;
        rpc(&pool, "evm_snapshot", json!([])).await
    };
    emit(&pool, target, 5).await;
    let mut follower = Follower::new(pool.clone(), Filter::new(), 0, Memory::default());
    follower.sync().await.expect("follows");
    let sink = std::mem::take(follower.sink());
    drop(follower);
    rpc(&pool, "evm_revert", json!([snapshot])).await;
    rpc(&pool, "anvil_mine", json!(["0x3"])).await;
    emit(&pool, target, 9).await;
    let mut follower = Follower::new(pool.clone(), Filter::new(), 0, sink);
    follower.sync().await.expect("follows the other branch");
    assert_eq!(follower.sink().all_events(), events_on_chain(&pool).await);
    assert_eq!((follower.sink().all_events().len(), follower.sink().retracted), (14, 5));
}

#[tokio::test]
async fn one_bad_event_blocks_all() {
    let (_anvil, pool) = start(&[]).await;
    let target = emitter(&pool).await;
    let hashes = emit(&pool, target, 5).await;
    let sink = Memory { undecodable: Some(hashes[2]), ..Memory::default() };
    let mut follower = Follower::new(pool.clone(), Filter::new(), 0, sink);
    follower.sync().await.expect("goes on");
    assert_eq!((follower.sink().set_aside, follower.sink().all_events().len()), (1, 4));
}

#[tokio::test]
async fn a_failed_commit_is_repeated_and_nothing_is_doubled() {
    let (_anvil, pool) = start(&[]).await;
    let target = emitter(&pool).await;
    let hashes = emit(&pool, target, 3).await;
    let mut follower = Follower::new(pool.clone(), Filter::new(), 0, Memory { fail_next: true, ..Memory::default() });
    follower.turn().await.expect_err("the sink is away");
    follower.sink().lose_next_answer = true;
    follower.turn().await.expect_err("the answer is lost");
    follower.sync().await.expect("the sink is back");
    assert_eq!(follower.sink().all_events(), hashes);
}

#[tokio::test]
async fn a_long_way_is_caught_up_in_ranges() {
    let (_anvil, pool) = start(&[]).await;
    let target = emitter(&pool).await;
    let early = emit(&pool, target, 2).await;
    for _ in 0..8 {
        rpc(&pool, "anvil_mine", json!(["0xfa"])).await; // 2,000 empty blocks in all
    }
    let late = emit(&pool, target, 2).await;
    let mut follower = Follower::new(pool.clone(), Filter::new(), 0, Memory::default());
    let mut turns = 0;
    while follower.turn().await.expect("follows") != Turn::Idle {
        turns += 1;
    }
    assert_eq!(follower.sink().all_events(), [early, late].concat());
    assert!(turns < 15, "{turns} turns");
    assert!(follower.sink().blocks.len() < 1_000, "old empty blocks are not committed one by one");
}

#[tokio::test]
async fn a_running_follower_keeps_up_and_stops_when_told() {
    let (_anvil, pool) = start(&[]).await;
    let target = emitter(&pool).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (seen, mut events) = tokio::sync::mpsc::unbounded_channel();
    struct Channel(tokio::sync::mpsc::UnboundedSender<usize>);
    #[async_trait::async_trait]
    impl FollowerSink for Channel {
        type Error = Away;
        async fn applied(&mut self) -> Result<Vec<BlockRef>, Away> {
            Ok(Vec::new())
        }
        async fn commit(&mut self, batch: Batch) -> Result<(), Away> {
            let logs = batch
                .changes
                .iter()
                .map(|change| if let Change::Applied { logs, .. } = change { logs.len() } else { 0 })
                .sum();
            self.0.send(logs).map_err(|_| Away)
        }
    }
    let follower = Follower::new(pool.clone(), Filter::new(), 0, Channel(seen));
    let running = tokio::spawn(follower.run(async move {
        let _ = stopped.await;
    }));
    emit(&pool, target, 3).await;
    let mut total = 0;
    while total < 3 {
        total += events.recv().await.expect("the follower runs");
    }
    stop.send(()).expect("the follower waits for it");
    running.await.expect("ends");
}
