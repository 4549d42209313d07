//! A running stack with a bond, two tokenised currencies, a foreign one, and five parties that have some of each.

use std::collections::BTreeMap;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, U256, hex};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{IssueClaimRequest, RevokeClaimRequest};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::settlement::settlement_service_client::SettlementServiceClient;
use dalp_proto::settlement::{
    ApproveRequest, CreateSettlementRequest, GetSettlementRequest, GetSettlementResponse, ListSettlementsRequest,
    PreviewSettlementRequest, PreviewSettlementResponse, ReclaimRequest, SettlementLeg, SettlementState,
    SettlementTerms, preview_settlement_request::Subject,
};
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::offerings::{Cash, Offerings};
use dalp_tests::waiting::until;
use tonic::Status;

/// Base units of each currency that each party starts with.
pub(crate) const CASH: u64 = 1_000_000_000;
/// A chain that the platform knows nothing of.
pub(crate) const FAR: u64 = 4_242;

/// Creation code of `PlainCurrency` in `contracts/test/gas/Settlement.gas.t.sol`: OpenZeppelin's ERC-20 that anybody may mint.
const PLAIN_CURRENCY: &str = include_str!("plain_currency.hex");

alloy::sol! {
    function mint(address to, uint256 amount) external;
}

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) chain: ChainView,
    pub(crate) load: Load,
    pub(crate) bond: Cash,
    pub(crate) euro: Cash,
    pub(crate) dollar: Cash,
    /// A currency that is none of the system's assets.
    pub(crate) coin: Cash,
}

/// What every party and the settlement contract have of every asset.
pub(crate) type Holdings = BTreeMap<(Address, Address), u64>;

pub(crate) type Accepted = Result<Option<Operation>, Status>;
pub(crate) type Details = dalp_service::errors::RefusalDetails;

/// Reason, metadata and fields of a refusal.
pub(crate) fn refusal(status: &Status) -> Details {
    dalp_service::Refusal::details(status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"))
}

/// The refusal of something that must not be accepted.
pub(crate) fn refused(accepted: Accepted) -> Details {
    refusal(&accepted.expect_err("refused"))
}

/// The operation that an answer carries.
macro_rules! operation {
    ($answer:expr) => {
        $answer.await.map(|answer| answer.into_inner().operation)
    };
}

/// Calls of the service that need no more than sender and settlement.
macro_rules! calls {
    ($($name:ident($request:ident)),+) => {$(
        pub(crate) async fn $name(&self, sender: &Wallet, id: &str) -> Accepted {
            use dalp_proto::settlement::$request as Request;
            let request = Request { sender: sender.text.clone(), settlement_id: id.to_owned() };
            operation!(self.service().$name(keyed(request, &key())))
        }
    )+};
}

pub(crate) use operation;

impl World {
    pub(crate) async fn start() -> Self {
        let stack = Stack::start(&Options::default()).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&client, &chain, 5, "local").await.expect("a bond");
        let offerings = Offerings { client: &client, load: &load };
        let euro = offerings.issue_cash("EUR", 2, &load.holders, CASH).await.expect("euros");
        let dollar = offerings.issue_cash("USD", 6, &load.holders, CASH).await.expect("dollars");
        let bond = Cash { text: offerings.asset(), address: load.token };
        let coin = Cash { text: String::new(), address: Address::ZERO };
        let mut world = Self { stack, client, chain, load, bond, euro, dollar, coin };
        world.coin = world.deploy_coin().await;
        world
    }

    async fn deploy_coin(&self) -> Cash {
        let code: Bytes = hex::decode(PLAIN_CURRENCY.trim()).expect("hex").into();
        let address = self.send(None, code).await.expect("an address");
        for holder in &self.load.holders {
            self.send(Some(address), mintCall { to: holder.address, amount: U256::from(CASH) }.abi_encode().into())
                .await;
        }
        Cash { text: address.to_checksum(None), address }
    }

    pub(crate) fn offerings(&self) -> Offerings<'_> {
        Offerings { client: &self.client, load: &self.load }
    }

    pub(crate) fn service(&self) -> SettlementServiceClient<Gateway> {
        SettlementServiceClient::new(self.client.gateway())
    }

    pub(crate) fn parties(&self) -> [&Wallet; 5] {
        std::array::from_fn(|place| &self.load.holders[place])
    }

    fn node(&self) -> RootProvider {
        ProviderBuilder::default().connect_http(self.stack.chain_url().parse().expect("a URL"))
    }

    /// An account of the development chain itself, which the platform does not know.
    pub(crate) async fn outsider(&self) -> Address {
        self.node().get_accounts().await.expect("accounts")[0]
    }

    /// Sends a transaction of the outsider past the platform. The created contract, of a creation.
    pub(crate) async fn send(&self, to: Option<Address>, data: Bytes) -> Option<Address> {
        let mut request =
            TransactionRequest::default().from(self.outsider().await).input(data.into()).gas_limit(9_000_000);
        request.to = Some(to.map_or(alloy::primitives::TxKind::Create, alloy::primitives::TxKind::Call));
        let node = self.node();
        let hash: B256 = node.raw_request("eth_sendTransaction".into(), (request,)).await.expect("sent");
        let ask = async || node.get_transaction_receipt(hash).await.expect("an answer");
        let receipt = until("the transaction is in a block", ask, Option::is_some).await.expect("a receipt");
        assert!(receipt.status(), "it succeeded");
        receipt.contract_address
    }

    /// The time of the latest block.
    pub(crate) async fn now_s(&self) -> u64 {
        let block = self.node().get_block_by_number(BlockNumberOrTag::Latest).await.expect("an answer");
        block.expect("a block").header.timestamp
    }

    /// Moves the chain's clock to a time.
    pub(crate) async fn pass_to(&self, time_s: u64) {
        let seconds = time_s.saturating_sub(self.now_s().await);
        let _: serde_json::Value =
            self.node().raw_request("evm_increaseTime".into(), (U256::from(seconds),)).await.expect("moved");
        self.mine(1).await;
    }

    /// Makes blocks.
    pub(crate) async fn mine(&self, blocks: u64) {
        let _: serde_json::Value =
            self.node().raw_request("anvil_mine".into(), (U256::from(blocks),)).await.expect("mined");
    }

    /// What everybody has.
    pub(crate) async fn holdings(&self) -> Holdings {
        let contract = self.contract().await;
        let mut found = Holdings::new();
        for asset in [&self.bond, &self.euro, &self.dollar, &self.coin] {
            for holder in self.parties().map(|party| party.address).into_iter().chain([contract]) {
                let balance = self.chain.balance(asset.address, holder).await.expect("a balance");
                found.insert((asset.address, holder), balance.to());
            }
        }
        found
    }

    /// What everybody has once legs have moved. Nothing is made or lost, whatever the legs are.
    pub(crate) fn moved(mut holdings: Holdings, terms: &SettlementTerms) -> Holdings {
        for leg in terms.legs.iter().filter(|leg| leg.chain_id == 0) {
            let of = |account: &str| (leg.asset.parse().expect("an address"), account.parse().expect("an address"));
            let amount: u64 = leg.amount.parse().expect("an amount");
            *holdings.entry(of(&leg.from)).or_default() -= amount;
            *holdings.entry(of(&leg.to)).or_default() += amount;
        }
        holdings
    }

    /// The tenant's settlement contract.
    pub(crate) async fn contract(&self) -> Address {
        let asked = ListSettlementsRequest { page_size: 1, ..Default::default() };
        let page = self.service().list_settlements(asked).await.expect("a page").into_inner();
        let first = page.settlements.first().and_then(|one| one.settlement.clone());
        first.map_or(Address::ZERO, |settlement| settlement.contract.parse().expect("an address"))
    }

    pub(crate) fn leg(asset: &Cash, from: &Wallet, to: &Wallet, amount: u64) -> SettlementLeg {
        SettlementLeg {
            asset: asset.text.clone(),
            from: from.text.clone(),
            to: to.text.clone(),
            amount: amount.to_string(),
            chain_id: 0,
        }
    }

    pub(crate) async fn terms(&self, name: &str, legs: Vec<SettlementLeg>) -> SettlementTerms {
        let cutoff = self.now_s().await + 10_000;
        SettlementTerms { name: name.to_owned(), cutoff, legs, ..SettlementTerms::default() }
    }

    /// Bonds of the first party against the foreign currency of the second.
    pub(crate) async fn delivery(&self, name: &str) -> SettlementTerms {
        let [alice, bob, ..] = self.parties();
        let legs = vec![Self::leg(&self.bond, alice, bob, 100), Self::leg(&self.coin, bob, alice, 5_000)];
        self.terms(name, legs).await
    }

    pub(crate) async fn try_create(&self, terms: &SettlementTerms) -> Result<String, Status> {
        let sender = self.load.issuer.text.clone();
        let request = CreateSettlementRequest { sender, terms: Some(terms.clone()) };
        let created = self.service().create_settlement(keyed(request, &key())).await?.into_inner();
        let result = self.done(Ok(created.operation)).await;
        assert_eq!(result["settlement_id"], created.settlement_id.as_str());
        Ok(created.settlement_id)
    }

    pub(crate) async fn create(&self, terms: &SettlementTerms) -> String {
        self.try_create(terms).await.expect("created")
    }

    pub(crate) async fn approve(&self, sender: &Wallet, id: &str) -> Accepted {
        let request =
            ApproveRequest { sender: sender.text.clone(), settlement_id: id.to_owned(), keep_allowances: false };
        operation!(self.service().approve(keyed(request, &key())))
    }

    pub(crate) async fn reclaim(&self, sender: &Wallet, party: &Wallet, id: &str) -> Accepted {
        let request =
            ReclaimRequest { sender: sender.text.clone(), settlement_id: id.to_owned(), party: party.text.clone() };
        operation!(self.service().reclaim(keyed(request, &key())))
    }

    calls!(
        revoke(RevokeRequest),
        execute(ExecuteRequest),
        cancel(CancelRequest),
        vote_cancel(VoteCancelRequest),
        withdraw_vote(WithdrawVoteRequest),
        start_reclaim(StartReclaimRequest)
    );

    /// Creates a settlement and has parties approve it, one after the other.
    pub(crate) async fn approved(&self, terms: &SettlementTerms, by: &[&Wallet]) -> String {
        let id = self.create(terms).await;
        for party in by {
            self.done(self.approve(party, &id).await).await;
        }
        id
    }

    /// The result of an operation that must complete.
    pub(crate) async fn done(&self, accepted: Accepted) -> serde_json::Value {
        self.offerings().completed(accepted.expect("accepted")).await.expect("completed")
    }

    /// Why an operation failed.
    pub(crate) async fn failure(&self, accepted: Accepted) -> String {
        let operation = self.client.finished(accepted.expect("accepted")).await.expect("it ends");
        assert_eq!(operation.state(), OperationState::Failed, "{operation:?}");
        operation.error.expect("an error").reason
    }

    pub(crate) async fn get(&self, id: &str) -> GetSettlementResponse {
        let asked = GetSettlementRequest { settlement_id: id.to_owned() };
        self.service().get_settlement(asked).await.expect("it is known").into_inner()
    }

    pub(crate) async fn state(&self, id: &str) -> SettlementState {
        self.get(id).await.status.expect("it stands").state()
    }

    /// Waits until the index has seen what the chain has.
    pub(crate) async fn indexed(&self, id: &str) -> GetSettlementResponse {
        let height = self.chain.height().await.expect("a height");
        until("the index is there", async || self.get(id).await, |answer| answer.indexed_block >= height).await
    }

    /// Identifiers of settlements of a party in a state, over pages of two.
    pub(crate) async fn listed(&self, party: &Wallet, state: SettlementState) -> Vec<String> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let (party, state) = (party.text.clone(), state.into());
            let asked = ListSettlementsRequest { party, state, page_size: 2, page_token, chain_id: 0 };
            let page = self.service().list_settlements(asked).await.expect("a page").into_inner();
            found.extend(page.settlements.into_iter().map(|one| one.settlement.expect("a settlement").settlement_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    pub(crate) async fn preview(&self, id: &str) -> PreviewSettlementResponse {
        let asked = PreviewSettlementRequest { subject: Some(Subject::SettlementId(id.to_owned())) };
        self.service().preview_settlement(asked).await.expect("a preview").into_inner()
    }

    /// Gives a party its KYC claim, or takes it.
    pub(crate) async fn set_verified(&self, party: &Wallet, verified: bool) {
        let (issuer, subject, topic) = (self.load.issuer.text.clone(), party.text.clone(), "kyc".to_owned());
        let mut identities = IdentityServiceClient::new(self.client.gateway());
        let accepted: Accepted = if verified {
            // A claim that was revoked stays so: another one says something else.
            let data = format!("0x{}", key().replace('-', ""));
            let request = IssueClaimRequest { issuer, subject, topic, data, expires_at: 0 };
            operation!(identities.issue_claim(keyed(request, &key())))
        } else {
            let request = RevokeClaimRequest { issuer, subject, topic };
            operation!(identities.revoke_claim(keyed(request, &key())))
        };
        self.done(accepted).await;
    }
}
