//! The null chain, with an ordinary library as its client: what a node says to good and bad transactions, and what it remembers.

use std::time::Duration;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::TxSignerSync as _;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::types::{BlockTransactionsKind, Filter, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolCall as _, SolEvent as _};
use dalp_chain::testing::Anvil;
use dalp_tests::null_chain::{Fault, NullChain, Options};
use dalp_tests::waiting::until;

const CHAIN: u64 = 31_337;
const TOKEN: Address = Address::repeat_byte(0x70);
const PAYEE: Address = Address::repeat_byte(0xfe);
const GWEI: u128 = 1_000_000_000;

sol! {
    event Transfer(address indexed from, address indexed to, uint256 value);
    function transfer(address to, uint256 amount) external returns (bool);
}

struct Bench {
    chain: NullChain,
    node: RootProvider,
    key: PrivateKeySigner,
}

impl Bench {
    async fn start() -> Self {
        let options = Options { block_time: Duration::from_millis(50), ..Options::default() };
        let chain = NullChain::start(options).await.expect("a free port");
        Self::on(chain, PrivateKeySigner::random())
    }

    fn on(chain: NullChain, key: PrivateKeySigner) -> Self {
        let node = ProviderBuilder::default().connect_http(chain.url().parse().expect("a URL"));
        Self { chain, node, key }
    }

    fn signed(&self, nonce: u64, fee_wei: u128) -> Bytes {
        let mut transaction = TxEip1559 {
            chain_id: CHAIN,
            nonce,
            gas_limit: 100_000,
            max_fee_per_gas: fee_wei,
            max_priority_fee_per_gas: fee_wei,
            to: TxKind::Call(TOKEN),
            input: transferCall { to: PAYEE, amount: U256::from(nonce + 1) }.abi_encode().into(),
            ..Default::default()
        };
        let signature = self.key.sign_transaction_sync(&mut transaction).expect("signs");
        TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
    }

    async fn send(&self, nonce: u64, fee_wei: u128) -> Result<B256, String> {
        let sent = self.node.send_raw_transaction(&self.signed(nonce, fee_wei)).await;
        sent.map(|pending| *pending.tx_hash()).map_err(|error| error.to_string())
    }

    async fn nonce(&self, block: BlockNumberOrTag) -> u64 {
        self.node.get_transaction_count(self.key.address()).block_id(block.into()).await.expect("a count")
    }

    async fn until_nonce(&self, wanted: u64) {
        let reached = async {
            let mut looks = tokio::time::interval(Duration::from_millis(10));
            while self.nonce(BlockNumberOrTag::Latest).await != wanted {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("mined in time");
    }
}

#[tokio::test]
async fn what_is_sent_is_mined_and_told_of() {
    let bench = Bench::start().await;
    let first = bench.send(0, 3 * GWEI).await.expect("taken");
    let second = bench.send(1, 3 * GWEI).await.expect("taken");
    bench.until_nonce(2).await;

    let receipt = bench.node.get_transaction_receipt(second).await.expect("answers").expect("mined");
    assert!(receipt.status());
    assert_eq!((receipt.from, receipt.to), (bench.key.address(), Some(TOKEN)));
    let event = receipt.inner.logs()[0].log_decode::<Transfer>().expect("a token's event").inner.data;
    assert_eq!((event.from, event.to, event.value), (bench.key.address(), PAYEE, U256::from(2)));

    let hash = receipt.block_hash.expect("a block");
    let block = bench.node.get_block(hash.into()).full().await.expect("answers").expect("exists");
    let whole: Vec<B256> =
        block.transactions.as_transactions().expect("whole").iter().map(|one| *one.inner.hash()).collect();
    assert!(whole.contains(&second));
    let parent = bench.node.get_block_by_number((block.header.number - 1).into()).await.expect("answers");
    assert_eq!(parent.expect("exists").header.hash, block.header.parent_hash);
    let receipts = bench.node.get_block_receipts(BlockId::from(hash)).await.expect("answers").expect("exists");
    assert_eq!(receipts.iter().map(|one| one.transaction_hash).collect::<Vec<_>>(), whole);
    let filter = Filter::new().event_signature(Transfer::SIGNATURE_HASH).from_block(0);
    assert_eq!(bench.node.get_logs(&filter).await.expect("answers").len(), 2);
    let nobody = Filter::new().address(PAYEE).from_block(0);
    assert!(bench.node.get_logs(&nobody).await.expect("answers").is_empty());

    let included = bench.chain.included().await;
    assert_eq!(included.iter().map(|one| (one.hash, one.nonce)).collect::<Vec<_>>(), [(first, 0), (second, 1)]);
    assert!(bench.chain.arrival(first) <= bench.chain.arrival(second));
    assert!(bench.chain.arrival(B256::ZERO).is_none());
    assert_eq!(bench.chain.calls()["eth_sendRawTransaction"], 2);
}

#[tokio::test]
async fn what_stands_behind_a_gap_is_kept_until_the_gap_is_filled() {
    let bench = Bench::start().await;
    for nonce in [2, 1] {
        bench.send(nonce, 3 * GWEI).await.expect("kept");
    }
    assert_eq!(bench.nonce(BlockNumberOrTag::Pending).await, 0);
    assert_eq!(bench.chain.waiting().await, 2);
    bench.send(0, 3 * GWEI).await.expect("taken");
    bench.until_nonce(3).await;
    assert_eq!(bench.chain.waiting().await, 0);
    let nonces: Vec<u64> = bench.chain.included().await.iter().map(|one| one.nonce).collect();
    assert_eq!(nonces, [0, 1, 2]);
    assert_eq!(bench.nonce(BlockNumberOrTag::Earliest).await, 0);
}

#[tokio::test]
async fn bad_transactions_are_refused_in_a_nodes_words() {
    let bench = Bench::start().await;
    bench.send(0, 3 * GWEI).await.expect("taken");
    assert!(bench.send(0, 3 * GWEI).await.expect_err("twice").contains("already known"));
    bench.until_nonce(1).await;
    assert!(bench.send(0, 4 * GWEI).await.expect_err("used").contains("nonce too low: next nonce 1, tx nonce 0"));
    bench.send(2, 10 * GWEI).await.expect("kept");
    let outbid_a_little = bench.send(2, 10 * GWEI + 1).await.expect_err("a little more");
    assert!(outbid_a_little.contains("replacement transaction underpriced"), "{outbid_a_little}");
    let outbid = bench.send(2, 11 * GWEI).await.expect("outbids");
    bench.send(1, 3 * GWEI).await.expect("fills the gap");
    bench.until_nonce(3).await;
    assert_eq!(bench.chain.included().await.last().map(|one| one.hash), Some(outbid));
    assert!(bench.send(3, GWEI - 1).await.expect_err("cheap").contains("less than block base fee"));
    let garbage = bench.node.send_raw_transaction(&[2, 1]).await.expect_err("garbage").to_string();
    assert!(garbage.contains("failed to decode"), "{garbage}");
    let unknown = bench.node.raw_request::<_, ()>("eth_mine".into(), ()).await.expect_err("no such method").to_string();
    assert!(unknown.contains("-32601"), "{unknown}");
}

#[tokio::test]
async fn prices_estimates_and_tags_are_answered() {
    let options = Options { block_time: Duration::from_millis(20), finalized_behind: 2, ..Options::default() };
    let bench = Bench::on(NullChain::start(options).await.expect("a free port"), PrivateKeySigner::random());
    assert_eq!(bench.node.get_chain_id().await.expect("answers"), CHAIN);
    let fees = bench.node.estimate_eip1559_fees().await.expect("answers");
    assert!(fees.max_fee_per_gas >= 2 * GWEI);
    let history = bench.node.get_fee_history(4, BlockNumberOrTag::Latest, &[50.0]).await.expect("answers");
    assert_eq!((history.base_fee_per_gas.len(), history.reward.map(|rows| rows.len())), (5, Some(4)));
    assert!(bench.node.get_gas_price().await.expect("answers") >= GWEI);
    let request = TransactionRequest::default().from(bench.key.address()).to(TOKEN);
    assert!(bench.node.estimate_gas(request.clone()).await.expect("answers") >= 21_000);
    assert_eq!(bench.node.call(request).await.expect("answers"), Bytes::from(B256::with_last_byte(1)));
    let until = async {
        loop {
            let head = bench.node.get_block_by_number(BlockNumberOrTag::Finalized).await.expect("answers");
            if head.expect("a block").header.number > 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until).await.expect("a final block");
    let finalized = bench.node.get_block_by_number(BlockNumberOrTag::Finalized).await.expect("answers");
    assert!(finalized.expect("a block").header.number + 2 <= bench.node.get_block_number().await.expect("answers"));
    let far = bench.node.get_block_by_number(1_000_000.into()).await.expect("answers");
    assert!(far.is_none(), "no block above the head");
}

#[tokio::test]
async fn faults_come_when_asked_for() {
    const SEND: &str = "eth_sendRawTransaction";
    let bench = Bench::start().await;
    bench.chain.inject(SEND, Fault::Refuse { code: -32_000, message: "txpool is full".to_owned() }, 1);
    assert!(bench.send(0, 3 * GWEI).await.expect_err("refused").contains("txpool is full"));
    bench.chain.inject(SEND, Fault::Drop, 1);
    let dropped = bench.send(0, 3 * GWEI).await.expect("acknowledged");
    assert!(bench.chain.arrival(dropped).is_some());
    assert_eq!(bench.chain.waiting().await, 0, "and forgotten");
    bench.chain.inject(SEND, Fault::Break, 1);
    bench.send(0, 3 * GWEI).await.expect_err("no answer");
    bench.until_nonce(1).await;
    bench.chain.inject("eth_chainId", Fault::Delay(Duration::from_millis(300)), 1);
    let begun = tokio::time::Instant::now();
    bench.node.get_chain_id().await.expect("answers late");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // Once only: who comes second is answered while the first one waits.
    let asked = bench.chain.calls()["eth_chainId"];
    bench.chain.inject("eth_chainId", Fault::Delay(Duration::from_secs(3_600)), 1);
    let node = bench.node.clone();
    let first = tokio::spawn(async move { node.get_chain_id().await });
    until("the first one has come", async || bench.chain.calls()["eth_chainId"], |calls| *calls > asked).await;
    bench.node.get_chain_id().await.expect("answers");
    assert!(!first.is_finished());
    first.abort();
}

#[tokio::test]
async fn it_continues_another_chain_and_asks_it_what_it_cannot_know() {
    let anvil = tokio::task::spawn_blocking(|| Anvil::start([] as [&str; 0])).await.expect("anvil");
    let options = Options { block_time: Duration::from_millis(50), ..Options::default() };
    let chain = NullChain::in_front_of(&anvil.url, options).await.expect("a free port");
    let bench = Bench::on(chain, PrivateKeySigner::random());
    let rich = U256::from(10u64).pow(U256::from(20u64));
    let funded: Result<(), _> = bench.node.raw_request("anvil_setBalance".into(), (bench.key.address(), rich)).await;
    funded.expect("passed to anvil");
    bench.send(0, 3 * GWEI).await.expect("taken by anvil");
    bench.until_nonce(1).await;
    let before = bench.node.get_block_by_number(BlockNumberOrTag::Latest).await.expect("answers").expect("a block");
    assert!(bench.chain.included().await.is_empty(), "mined by anvil");

    bench.chain.take_over().await.expect("anvil answers");
    assert_eq!(bench.nonce(BlockNumberOrTag::Pending).await, 1, "counts on from anvil");
    let balance = bench.node.get_balance(bench.key.address()).await.expect("answers");
    assert!(balance > U256::ZERO && balance < rich, "as anvil knows it");
    bench.send(1, 3 * GWEI).await.expect("taken");
    bench.until_nonce(2).await;
    assert_eq!(bench.chain.included().await.len(), 1);
    let at_fork = bench.node.get_transaction_count(bench.key.address()).block_id(before.header.number.into()).await;
    assert_eq!(at_fork.expect("answers"), 1);
    let above = bench.node.get_block((before.header.number + 1).into()).kind(BlockTransactionsKind::Hashes).await;
    assert_eq!(above.expect("answers").expect("a block").header.parent_hash, before.header.hash);
    let below = bench.node.get_block(before.header.hash.into()).await.expect("answers").expect("anvil's block");
    assert_eq!(below.header.number, before.header.number);
    let filter = Filter::new().event_signature(Transfer::SIGNATURE_HASH).from_block(0);
    let events = bench.node.get_logs(&filter).await.expect("answers");
    assert_eq!(events.len(), 1, "anvil executed the first call, and there is no token");
}
