//! A running stack with two chains: a bond on the first, a foreign currency on the second, and two parties that have one each.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, hex};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy::sol_types::{SolCall, SolEvent as _};
use dalp_contracts::bindings::Settlement::{self, SecretRevealed, SettlementCreated};
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, SECOND_CHAIN_ID, Stack};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::settlement::settlement_service_client::SettlementServiceClient;
use dalp_proto::settlement::{
    ApproveRequest, Attention, AttentionKind, GetPairEvidenceRequest, GetPairEvidenceResponse, GetPairRequest,
    HashKind, ListAttentionRequest, OpenPairRequest, Pair, PairSide, PairState, SettlementLeg,
};
use dalp_proto::system::BootstrapRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;
use dalp_testing::Signal;
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
use tonic::Status;

/// The chain of the bond.
pub(crate) const FIRST: u64 = dalp_chain::testing::ANVIL_CHAIN_ID;
/// The chain of the currency.
pub(crate) const SECOND: u64 = SECOND_CHAIN_ID;
/// As the stack is configured.
pub(crate) const MARGIN_S: u64 = 120;
pub(crate) const CONFIRMATION_S: u64 = 30;
pub(crate) const GAP_S: u64 = 600;
/// Until the first cutoff, of each exchange.
pub(crate) const LENGTH_S: u64 = 1_000;
/// Blocks between the steps of a reclaim.
pub(crate) const RECLAIM_BLOCKS: u64 = 60;
/// What is exchanged.
pub(crate) const BONDS: u64 = 100;
pub(crate) const COINS: u64 = 5_000;
/// Coins that bob starts with.
const MINTED: u64 = 1_000_000;

/// Creation code of OpenZeppelin's ERC-20 that anybody may mint.
const PLAIN_CURRENCY: &str = include_str!("../settlement/plain_currency.hex");

alloy::sol! {
    function mint(address to, uint256 amount) external;
}

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) load: Load,
    first: ChainView,
    second: ChainView,
    /// On the second chain.
    pub(crate) coin: Address,
}

/// What the parties have: bonds on the first chain, coins on the second, alice's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) bonds: [u64; 2],
    pub(crate) coins: [u64; 2],
}

pub(crate) type Accepted = Result<Option<Operation>, Status>;

impl Holdings {
    /// Once both legs have moved.
    pub(crate) fn exchanged(self) -> Self {
        let [bonds, coins] = [self.bonds, self.coins];
        Self { bonds: [bonds[0] - BONDS, bonds[1] + BONDS], coins: [coins[0] + COINS, coins[1] - COINS] }
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let settlement = format!(
            "pairs = {{ cutoff_gap_s = {GAP_S}, reveal_margin_s = {MARGIN_S}, confirmation_s = {CONFIRMATION_S}, notice_s = 300, every_ms = 200 }}\n"
        );
        let options = Options { second_chain: true, finality_depth: 2, settlement, ..Options::default() };
        let stack = Stack::start(&options).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let first = ChainView::new(stack.chain_url()).expect("a chain");
        let second = ChainView::new(stack.second_chain_url().expect("a second chain")).expect("a chain");
        let load = Load::prepare(&client, &first, 2, "local").await.expect("a bond");
        for wallet in load.holders.iter().chain([&load.issuer]) {
            second.fund(wallet.address, U256::from(10).pow(U256::from(21))).await.expect("funded");
        }
        let mut world = Self { stack, client, load, first, second, coin: Address::ZERO };
        let bootstrap = BootstrapRequest { admin: world.load.issuer.text.clone(), chain_id: SECOND };
        let accepted = SystemServiceClient::new(world.client.gateway()).bootstrap(keyed(bootstrap, &key())).await;
        world.done(accepted.map(|answer| answer.into_inner().operation)).await;
        let code: Bytes = hex::decode(PLAIN_CURRENCY.trim()).expect("hex").into();
        world.coin = world.send(SECOND, None, code).await.expect("an address");
        let mint = mintCall { to: world.bob().address, amount: U256::from(MINTED) };
        world.send(SECOND, Some(world.coin), mint.abi_encode().into()).await;
        world
    }

    pub(crate) fn alice(&self) -> &Wallet {
        &self.load.holders[0]
    }

    pub(crate) fn bob(&self) -> &Wallet {
        &self.load.holders[1]
    }

    pub(crate) fn service(&self) -> SettlementServiceClient<Gateway> {
        SettlementServiceClient::new(self.client.gateway())
    }

    fn view(&self, chain: u64) -> &ChainView {
        if chain == FIRST { &self.first } else { &self.second }
    }

    pub(crate) fn node(&self, chain: u64) -> RootProvider {
        let url = if chain == FIRST { self.stack.chain_url() } else { self.stack.second_chain_url().expect("a chain") };
        ProviderBuilder::default().connect_http(url.parse().expect("a URL"))
    }

    /// Sends a transaction of somebody whom the platform does not know. The created contract, of a creation.
    pub(crate) async fn send(&self, chain: u64, to: Option<Address>, data: Bytes) -> Option<Address> {
        let node = self.node(chain);
        let from = node.get_accounts().await.expect("accounts")[0];
        let mut request = TransactionRequest::default().from(from).input(data.into()).gas_limit(9_000_000);
        request.to = Some(to.map_or(TxKind::Create, TxKind::Call));
        let hash: B256 = node.raw_request("eth_sendTransaction".into(), (request,)).await.expect("sent");
        let ask = async || node.get_transaction_receipt(hash).await.expect("an answer");
        let receipt = until("the transaction is in a block", ask, Option::is_some).await.expect("a receipt");
        assert!(receipt.status(), "it succeeded");
        receipt.contract_address
    }

    pub(crate) async fn now_s(&self, chain: u64) -> u64 {
        let block = self.node(chain).get_block_by_number(BlockNumberOrTag::Latest).await.expect("an answer");
        block.expect("a block").header.timestamp
    }

    /// The time by the chain that is ahead.
    pub(crate) async fn latest_s(&self) -> u64 {
        self.now_s(FIRST).await.max(self.now_s(SECOND).await)
    }

    /// Moves the clock of a chain to a time, if it is not later already.
    pub(crate) async fn pass_to(&self, chain: u64, time_s: u64) {
        let seconds = time_s.saturating_sub(self.now_s(chain).await);
        let moved: Result<serde_json::Value, _> =
            self.node(chain).raw_request("evm_increaseTime".into(), (U256::from(seconds),)).await;
        moved.expect("moved");
        self.mine(chain, 1).await;
    }

    /// Moves both clocks.
    pub(crate) async fn both_pass_to(&self, time_s: u64) {
        for chain in [FIRST, SECOND] {
            self.pass_to(chain, time_s).await;
        }
    }

    pub(crate) async fn mine(&self, chain: u64, blocks: u64) {
        let mined: Result<serde_json::Value, _> =
            self.node(chain).raw_request("anvil_mine".into(), (U256::from(blocks),)).await;
        mined.expect("mined");
    }

    /// Halts a chain, or lets it go on.
    pub(crate) fn halt(&self, chain: u64, halted: bool) {
        let pid = self.stack.chain_pids()[usize::from(chain != FIRST)];
        assert!(dalp_testing::signal(pid, if halted { Signal::STOP } else { Signal::CONT }), "the chain runs");
    }

    pub(crate) async fn holdings(&self) -> Holdings {
        let of = async |chain: u64, asset: Address, holder: &Wallet| -> u64 {
            self.view(chain).balance(asset, holder.address).await.expect("a balance").to()
        };
        let (bond, coin, alice, bob) = (self.load.token, self.coin, self.alice(), self.bob());
        Holdings {
            bonds: [of(FIRST, bond, alice).await, of(FIRST, bond, bob).await],
            coins: [of(SECOND, coin, alice).await, of(SECOND, coin, bob).await],
        }
    }

    /// Bonds of alice on the first chain for coins of bob on the second: she shows the secret there.
    pub(crate) async fn order(&self, name: &str) -> OpenPairRequest {
        let leg = |asset: Address, from: &Wallet, to: &Wallet, amount: u64, chain_id| SettlementLeg {
            asset: asset.to_checksum(None),
            from: from.text.clone(),
            to: to.text.clone(),
            amount: amount.to_string(),
            chain_id,
        };
        let cutoff = self.latest_s().await + LENGTH_S;
        let side = |chain_id, cutoff| Some(PairSide { chain_id, cutoff, opened_by_counterparty: false });
        OpenPairRequest {
            sender: self.load.issuer.text.clone(),
            name: name.to_owned(),
            legs: vec![
                leg(self.load.token, self.alice(), self.bob(), BONDS, FIRST),
                leg(self.coin, self.bob(), self.alice(), COINS, SECOND),
            ],
            reveal: side(SECOND, cutoff),
            carry: side(FIRST, cutoff + GAP_S + 100),
            hash_kind: HashKind::Keccak256.into(),
            hash: String::new(),
        }
    }

    pub(crate) async fn try_open(&self, order: OpenPairRequest) -> Result<Pair, Status> {
        let opened = self.service().open_pair(keyed(order, &key())).await?.into_inner();
        self.done(Ok(opened.operation)).await;
        Ok(opened.pair.expect("an exchange"))
    }

    pub(crate) async fn open(&self, name: &str) -> Pair {
        self.try_open(self.order(name).await).await.expect("opened")
    }

    pub(crate) async fn approve(&self, wallet: &Wallet, settlement_id: &str) -> Accepted {
        let request = ApproveRequest {
            sender: wallet.text.clone(),
            settlement_id: settlement_id.to_owned(),
            keep_allowances: false,
        };
        self.service().approve(keyed(request, &key())).await.map(|answer| answer.into_inner().operation)
    }

    /// Alice locks her bonds.
    pub(crate) async fn alice_locks(&self, pair: &Pair) {
        self.done(self.approve(self.alice(), &id_of(&pair.carry)).await).await;
    }

    /// Bob locks his coins.
    pub(crate) async fn bob_locks(&self, pair: &Pair) {
        self.done(self.approve(self.bob(), &id_of(&pair.reveal)).await).await;
    }

    /// The result of an operation that must complete.
    pub(crate) async fn done(&self, accepted: Accepted) -> serde_json::Value {
        let operation = self.client.finished(accepted.expect("accepted")).await.expect("it ends");
        assert_eq!(operation.state(), OperationState::Completed, "{operation:?}");
        serde_json::from_str(&operation.result_json).unwrap_or_default()
    }

    pub(crate) async fn pair(&self, pair_id: &str) -> Pair {
        let asked = GetPairRequest { pair_id: pair_id.to_owned() };
        self.service().get_pair(asked).await.expect("it is known").into_inner().pair.expect("an exchange")
    }

    pub(crate) async fn until_stands(&self, pair: &Pair, wanted: PairState) {
        let what = format!("{} is {wanted:?}", pair.name);
        until(&what, async || self.pair(&pair.pair_id).await, |pair| pair.state() == wanted).await;
    }

    /// Waits until it stands so or further, while a service may be away.
    pub(crate) async fn until_any(&self, pair: &Pair, wanted: &[PairState]) -> PairState {
        let what = format!("{} is one of {wanted:?}", pair.name);
        let asked = GetPairRequest { pair_id: pair.pair_id.clone() };
        let ask = async || {
            let answer = self.service().get_pair(asked.clone()).await.ok();
            answer.and_then(|answer| answer.into_inner().pair).map(|pair| pair.state())
        };
        until(&what, ask, |state| state.is_some_and(|state| wanted.contains(&state))).await.expect("a state")
    }

    pub(crate) async fn evidence(&self, pair: &Pair) -> GetPairEvidenceResponse {
        let asked = GetPairEvidenceRequest { pair_id: pair.pair_id.clone() };
        self.service().get_pair_evidence(asked).await.expect("evidence").into_inner()
    }

    /// What of an exchange needs attention.
    pub(crate) async fn attention(&self, pair: &Pair) -> Vec<Attention> {
        let all = self
            .service()
            .list_attention(ListAttentionRequest { page_size: 500, ..Default::default() })
            .await
            .expect("a list")
            .into_inner()
            .attention;
        all.into_iter().filter(|one| one.pair_id == pair.pair_id).collect()
    }

    pub(crate) async fn until_needs(&self, pair: &Pair, kind: AttentionKind, chain: u64) -> Attention {
        let needed = |all: &Vec<Attention>| all.iter().find(|one| one.kind() == kind && one.chain_id == chain).cloned();
        let what = format!("{} needs {kind:?}", pair.name);
        let all = until(&what, async || self.attention(pair).await, |all| needed(all).is_some()).await;
        needed(&all).expect("it is there")
    }

    /// What a settlement contract told when a settlement was opened.
    pub(crate) async fn terms(&self, chain: u64, contract: Address, id: B256) -> Settlement::Terms {
        let filter =
            Filter::new().address(contract).event_signature(SettlementCreated::SIGNATURE_HASH).topic1(id).from_block(0);
        let logs = self.node(chain).get_logs(&filter).await.expect("logs");
        SettlementCreated::decode_log(&logs[0].inner).expect("a creation").data.terms
    }

    /// The secret where it was shown on a chain.
    pub(crate) async fn shown(
        &self,
        chain: u64,
        settlement: &Option<dalp_proto::settlement::PairSettlement>,
    ) -> Option<B256> {
        let settlement = settlement.as_ref().expect("a settlement");
        let id: B256 = settlement.settlement_id.parse().ok()?;
        let filter = Filter::new().event_signature(SecretRevealed::SIGNATURE_HASH).topic1(id).from_block(0);
        let logs = self.node(chain).get_logs(&filter).await.expect("logs");
        logs.first().map(|log| SecretRevealed::decode_log(&log.inner).expect("a secret").data.secret)
    }

    /// Nobody's secret came out, and everybody has what it had.
    pub(crate) async fn nothing_happened(&self, pair: &Pair, before: Holdings) {
        assert_eq!(self.shown(SECOND, &pair.reveal).await, None, "the secret was never shown");
        assert_eq!(self.shown(FIRST, &pair.carry).await, None, "the secret was never shown");
        assert_eq!(self.holdings().await, before, "everybody has everything back");
        assert_eq!(self.attention(pair).await, [], "nothing needs attention any more");
    }

    /// Waits until both legs have moved for good.
    pub(crate) async fn exchanged(&self, pair: &Pair, before: Holdings) {
        self.until_stands(pair, PairState::Settled).await;
        assert_eq!(self.holdings().await, before.exchanged(), "both assets moved");
        assert_eq!(self.attention(pair).await, [], "nothing needs attention any more");
    }

    /// Lets the way back be gone on a chain: the delay between its steps passes as soon as the first is in a block.
    pub(crate) async fn goes_back(&self, pair: &Pair, chain: u64) {
        let side = if chain == FIRST { pair.carry.clone() } else { pair.reveal.clone() };
        let id = side.expect("a side").settlement_id;
        let asked = dalp_proto::settlement::GetSettlementRequest { settlement_id: id };
        let ask = async || {
            let answer = self.service().get_settlement(asked.clone()).await.ok()?.into_inner();
            answer.status.map(|status| status.reclaim_from_block)
        };
        until("the way back was started", ask, |from| from.is_some_and(|from| from > 0)).await;
        self.mine(chain, RECLAIM_BLOCKS).await;
    }
}

pub(crate) fn id_of(side: &Option<dalp_proto::settlement::PairSettlement>) -> String {
    side.as_ref().expect("a side").settlement_id.clone()
}

pub(crate) fn contract_of(side: &Option<dalp_proto::settlement::PairSettlement>) -> Address {
    side.as_ref().expect("a side").contract.parse().expect("an address")
}

pub(crate) fn cutoff_of(side: &Option<dalp_proto::settlement::PairSettlement>) -> u64 {
    side.as_ref().and_then(|side| side.side).expect("a side").cutoff
}
