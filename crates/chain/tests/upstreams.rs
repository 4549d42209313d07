//! The pool against nodes that misbehave.

use alloy::primitives::Bytes;
use dalp_chain::{
    BlockId, ChainError, ConnectError, NodeErrorKind, SendOutcome, Upstreams,
    testing::{Reply, ScriptedNode, config},
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

const CHAIN: u64 = 7;

/// A node of our chain at block 100, with answers of its own for some methods.
async fn node(script: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> ScriptedNode {
    ScriptedNode::start(move |method, _| script(method).unwrap_or_else(|| usual(method))).await
}

fn usual(method: &str) -> Reply {
    match method {
        "eth_chainId" => Reply::Result(json!("0x7")),
        "eth_blockNumber" => Reply::Result(json!("0x64")),
        "eth_getTransactionCount" => Reply::Result(json!("0x5")),
        "eth_sendRawTransaction" => Reply::Result(json!(format!("0x{:064x}", 1))),
        _ => Reply::Error(-32601, "Method not found"),
    }
}

async fn connect(nodes: &[&ScriptedNode]) -> Upstreams {
    let names = ["a", "b", "c"];
    Upstreams::connect(config(CHAIN, names.into_iter().zip(nodes.iter().map(|node| node.url.as_str()))))
        .await
        .expect("connects")
}

fn errors(pool: &Upstreams) -> Vec<u32> {
    pool.status().iter().map(|status| status.consecutive_errors).collect()
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the condition comes true");
}

#[tokio::test]
async fn one_nonce_too_low_pauses_all_upstreams() {
    let says = |method: &str| (method == "eth_sendRawTransaction").then_some(Reply::Error(-32603, "nonce too low"));
    let (a, b) = (node(says).await, node(says).await);
    let pool = connect(&[&a, &b]).await;
    for _ in 0..20 {
        assert_eq!(pool.send_raw(Bytes::from_static(&[1])).await, SendOutcome::NonceTooLow);
    }
    assert_eq!(errors(&pool), [0, 0]);
    assert_eq!(pool.nonce(Default::default(), dalp_chain::BlockNumberOrTag::Latest).await.expect("reads go on"), 5);
}

#[tokio::test]
async fn one_bad_upstream_disables_the_wallet() {
    for bad in [Reply::Status(503), Reply::Status(429), Reply::Close, Reply::Result(json!({"not": "a number"}))] {
        let script = bad.clone();
        let a =
            node(move |method| (!matches!(method, "eth_chainId" | "eth_blockNumber")).then(|| script.clone())).await;
        let b = node(|_| None).await;
        let pool = connect(&[&a, &b]).await;
        assert_eq!(
            pool.nonce(Default::default(), dalp_chain::BlockNumberOrTag::Latest).await.expect("the other one answers"),
            5,
            "{bad:?}"
        );
        assert!(pool.send_raw(Bytes::from_static(&[1])).await.is_in_a_pool(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_node_that_is_down_at_start_is_used_once_it_answers() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let a = node(move |_| is_down.load(Ordering::SeqCst).then_some(Reply::Close)).await;
    let pool = connect(&[&a]).await;
    let error = pool.block_number().await.expect_err("nobody answers");
    assert!(matches!(error, ChainError::Unavailable(_)) && error.is_retryable());
    down.store(false, Ordering::SeqCst);
    assert_eq!(pool.block_number().await.expect("answers again"), 100);
    assert_eq!(errors(&pool), [0]);
}

#[tokio::test]
async fn definite_answers_are_not_asked_elsewhere() {
    let a = node(|method| (method == "eth_call").then_some(Reply::Error(3, "execution reverted"))).await;
    let b = node(|method| (method == "eth_call").then_some(Reply::Error(3, "execution reverted"))).await;
    let pool = connect(&[&a, &b]).await;
    let probes = a.requests() + b.requests();
    let error = pool.call(&Default::default(), BlockId::latest()).await.expect_err("reverts");
    assert_eq!(error, dalp_chain::CallError::Revert(Bytes::new()));
    assert!(!error.is_retryable());
    assert_eq!(errors(&pool), [0, 0]);
    // The prober may have ticked in between, at most once per node.
    assert!(a.requests() + b.requests() <= probes + 3);
}

#[tokio::test]
async fn vague_answers_are_asked_elsewhere() {
    let a =
        node(|method| (method == "eth_getTransactionCount").then_some(Reply::Error(-32000, "header not found"))).await;
    let b = node(|_| None).await;
    let pool = connect(&[&a, &b]).await;
    assert_eq!(pool.nonce(Default::default(), dalp_chain::BlockNumberOrTag::Latest).await.expect("b knows"), 5);
    let alone = connect(&[&a]).await;
    let error = alone.nonce(Default::default(), dalp_chain::BlockNumberOrTag::Latest).await.expect_err("a does not");
    assert!(matches!(error, ChainError::Node(error) if error.kind == NodeErrorKind::BlockUnavailable));
}

/// What the nodes below say of everything that a nonce is judged by.
fn settled(method: &str, nonce: &str, head: &str) -> Option<Reply> {
    match method {
        "eth_getTransactionCount" => Some(Reply::Result(json!(nonce))),
        "eth_getBlockByNumber" => Some(Reply::Result(json!({
            "number": head, "hash": format!("0x{:064x}", 2), "parentHash": format!("0x{:064x}", 1), "timestamp": "0x1",
            "gasLimit": "0x1", "gasUsed": "0x0", "baseFeePerGas": "0x1", "logsBloom": format!("0x{:0512x}", 0), "transactions": [],
            "stateRoot": format!("0x{:064x}", 3),
        }))),
        "eth_getTransactionReceipt" => Some(Reply::Result(Value::Null)),
        _ => None,
    }
}

#[tokio::test]
async fn a_node_that_invents_nonces_makes_none_look_used() {
    let latest = dalp_chain::BlockNumberOrTag::Latest;
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let liar = node(|method| settled(method, "0x8", "0x64")).await;
    let honest = node(
        move |method| {
            if is_down.load(Ordering::SeqCst) { Some(Reply::Close) } else { settled(method, "0x5", "0x64") }
        },
    )
    .await;
    let pool = connect(&[&liar, &honest]).await;
    assert_eq!(pool.least_nonce(Default::default(), latest).await.expect("both answer"), 5);
    let account = pool.final_account(Default::default(), &[]).await.expect("both answer").expect("both know the block");
    assert_eq!((account.next_nonce, account.receipts), (5, Vec::new()));
    // Whoever does not answer is no witness: the lanes go on with the nodes that there are.
    down.store(true, Ordering::SeqCst);
    assert_eq!(pool.least_nonce(Default::default(), latest).await.expect("one answers"), 8);
    let account = pool.final_account(Default::default(), &[]).await.expect("one answers").expect("it knows the block");
    assert_eq!(account.next_nonce, 8);
}

#[tokio::test]
async fn what_one_node_does_not_know_as_final_yet_is_not_judged() {
    let ahead = node(|method| settled(method, "0x8", "0x64")).await;
    let behind = node(|method| settled(method, "0x5", "0x63")).await;
    let pool = connect(&[&ahead, &behind]).await;
    assert_eq!(pool.final_account(Default::default(), &[]).await.expect("both answer"), None);
}

#[tokio::test]
async fn wrong_chain_at_start_is_quarantined_and_all_wrong_is_an_error() {
    let wrong = node(|method| (method == "eth_chainId").then(|| Reply::Result(json!("0x9")))).await;
    let right = node(|_| None).await;
    let pool = connect(&[&wrong, &right]).await;
    assert_eq!(pool.status()[0].wrong_chain, Some(9));
    assert_eq!(pool.block_number().await.expect("the right one answers"), 100);
    let error = Upstreams::connect(config(CHAIN, [("a", wrong.url.as_str())])).await.err().expect("no right upstream");
    assert_eq!(error, ConnectError::WrongChain { expected: CHAIN, found: vec![("a".into(), 9)] });
}

#[tokio::test]
async fn another_chain_after_a_reconnect_gets_no_transaction_and_is_forgiven_later() {
    let chain = Arc::new(AtomicU64::new(CHAIN));
    let sends = Arc::new(AtomicU64::new(0));
    let closed = Arc::new(AtomicBool::new(false));
    let (chain_now, send_count, close_now) = (chain.clone(), sends.clone(), closed.clone());
    let a = node(move |method| match method {
        _ if close_now.load(Ordering::SeqCst) => Some(Reply::Close),
        "eth_chainId" => Some(Reply::Result(json!(format!("0x{:x}", chain_now.load(Ordering::SeqCst))))),
        "eth_sendRawTransaction" => {
            send_count.fetch_add(1, Ordering::SeqCst);
            None
        }
        _ => None,
    })
    .await;
    let pool = connect(&[&a]).await;
    closed.store(true, Ordering::SeqCst);
    pool.block_number().await.expect_err("the connection is lost");
    chain.store(9, Ordering::SeqCst); // another node behind the same name
    closed.store(false, Ordering::SeqCst);
    assert!(matches!(pool.send_raw(Bytes::from_static(&[1])).await, SendOutcome::Unknown(_)));
    assert_eq!(sends.load(Ordering::SeqCst), 0);
    assert_eq!(pool.status()[0].wrong_chain, Some(9));
    chain.store(CHAIN, Ordering::SeqCst);
    pool.probe().await;
    assert_eq!(pool.send_raw(Bytes::from_static(&[1])).await, SendOutcome::Accepted);
}

#[tokio::test]
async fn sends_go_to_all_and_one_that_takes_it_is_enough() {
    let a = node(|method| (method == "eth_sendRawTransaction").then_some(Reply::Error(-32000, "txpool is full"))).await;
    let b = node(|method| (method == "eth_sendRawTransaction").then_some(Reply::Error(-32000, "already known"))).await;
    let c = node(|method| (method == "eth_sendRawTransaction").then_some(Reply::Hang)).await;
    let pool = connect(&[&a, &b, &c]).await;
    assert_eq!(pool.send_raw(Bytes::from_static(&[1])).await, SendOutcome::AlreadyKnown);
    let alone = connect(&[&a, &c]).await;
    // Nobody took it and one hangs: the refusal is known after the grace, long before the timeout.
    let started = std::time::Instant::now();
    assert_eq!(alone.send_raw(Bytes::from_static(&[1])).await, SendOutcome::PoolFull);
    assert!(started.elapsed() < alone.config().request_timeout());
}

#[tokio::test]
async fn client_per_call_melts_throughput() {
    let a = node(|_| None).await;
    let pool = connect(&[&a]).await;
    for _ in 0..200 {
        pool.block_number().await.expect("answers");
    }
    // One for the calls; where a probe overlaps with them, or a slow machine closes one, some more.
    assert!(a.connections() <= 10, "{} connections for 200 calls", a.connections());
    let before = a.requests();
    let outcomes = pool.send_raw_batch(vec![Bytes::from_static(&[1]); 2_000]).await;
    assert!(outcomes.iter().all(SendOutcome::is_in_a_pool));
    assert!(a.requests() - before <= 30, "{} requests for 2,000 transactions", a.requests() - before);
}

#[tokio::test]
async fn a_batch_that_a_node_finds_too_long_is_halved() {
    let a = ScriptedNode::start_with_batch_limit(40, |method, _| usual(method)).await;
    let pool = connect(&[&a]).await;
    let answers = pool.batch(vec![("eth_blockNumber", Value::Array(vec![])); 600]).await.expect("answers");
    assert_eq!(answers.len(), 600);
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|raw| raw.get() == "\"0x64\"")));
}

#[tokio::test]
async fn a_rate_limited_node_is_left_alone_and_comes_back() {
    let limited = Arc::new(AtomicBool::new(false));
    let limit_now = limited.clone();
    let a = node(move |_| limit_now.load(Ordering::SeqCst).then_some(Reply::Status(429))).await;
    let pool = connect(&[&a]).await;
    limited.store(true, Ordering::SeqCst);
    pool.probe().await;
    let during = a.requests();
    limited.store(false, Ordering::SeqCst);
    // The only node has asked for a pause: the read waits for it instead of failing or hammering.
    assert_eq!(pool.block_number().await.expect("answers after the pause"), 100);
    assert!(a.requests() - during <= 3);
    until(async || errors(&pool) == [0]).await;
}
