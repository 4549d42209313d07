//! A running stack with a bond to sell and two currencies to pay in.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::asset::AssetRole;
use dalp_proto::distribution::offering_service_client::OfferingServiceClient;
use dalp_proto::distribution::{
    BuyRequest, Buyer, ClaimTokensRequest, FinalizeOfferingRequest, GetOfferingRequest, GetOfferingResponse,
    ListBuyersRequest, OfferingCurrency, OfferingState, OfferingTerms, QuotePurchaseRequest, QuotePurchaseResponse,
    RefundRequest, WithdrawProceedsRequest, WithdrawUnsoldRequest,
};
use dalp_proto::operation::{Operation, OperationState};
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::offerings::{Cash, Offerings};
use dalp_tests::waiting::until;
use tonic::Status;

/// Base units of each currency that each holder starts with.
pub(crate) const CASH: u64 = 1_000_000_000_000;

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) chain: ChainView,
    pub(crate) load: Load,
    /// With two decimals.
    pub(crate) euro: Cash,
    /// With six decimals.
    pub(crate) dollar: Cash,
}

/// Reason, metadata and fields of a refusal.
pub(crate) fn refusal(status: &Status) -> dalp_service::errors::RefusalDetails {
    dalp_service::Refusal::details(status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"))
}

/// What the buyers of these sales acknowledge.
pub(crate) fn terms_hash() -> String {
    let hash: B256 = keccak256("terms of the sale");
    hash.to_string()
}

/// The operation that an answer carries.
macro_rules! operation {
    ($answer:expr) => {
        $answer.await.map(|answer| answer.into_inner().operation)
    };
}

type Accepted = Result<Option<Operation>, Status>;

impl World {
    pub(crate) async fn start() -> Self {
        let stack = Stack::start(&Options::default()).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&client, &chain, 3, "local").await.expect("a bond");
        let offerings = Offerings { client: &client, load: &load };
        offerings.grant(AssetRole::Funds, &load.issuer.text).await.expect("funds");
        let euro = offerings.issue_cash("EUR", 2, &load.holders, CASH).await.expect("euros");
        let dollar = offerings.issue_cash("USD", 6, &load.holders, CASH).await.expect("dollars");
        Self { stack, client, chain, load, euro, dollar }
    }

    pub(crate) fn offerings(&self) -> Offerings<'_> {
        Offerings { client: &self.client, load: &self.load }
    }

    pub(crate) fn service(&self) -> OfferingServiceClient<Gateway> {
        self.offerings().service()
    }

    pub(crate) fn issuer(&self) -> String {
        self.load.issuer.text.clone()
    }

    pub(crate) fn holders(&self) -> [&Wallet; 3] {
        [&self.load.holders[0], &self.load.holders[1], &self.load.holders[2]]
    }

    fn node(&self) -> RootProvider {
        ProviderBuilder::default().connect_http(self.stack.chain_url().parse().expect("a URL"))
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
        let _: serde_json::Value = self.node().raw_request("evm_mine".into(), ()).await.expect("mined");
    }

    /// A sale of the bond that starts in a while and takes both currencies: 10.5 euros, 12 dollars.
    pub(crate) async fn terms(&self) -> OfferingTerms {
        let now_s = self.now_s().await;
        let takes =
            |cash: &Cash, price: &str| OfferingCurrency { currency: cash.text.clone(), price: price.to_owned() };
        OfferingTerms {
            asset: self.offerings().asset(),
            starts_at: now_s + 1_000,
            ends_at: now_s + 101_000,
            hard_cap: "1000".to_owned(),
            currencies: vec![takes(&self.euro, "10.5"), takes(&self.dollar, "12")],
            ..OfferingTerms::default()
        }
    }

    pub(crate) async fn balance(&self, of: Address, holder: Address) -> u64 {
        self.chain.balance(of, holder).await.expect("a balance").to()
    }

    pub(crate) async fn get(&self, offering: &str) -> GetOfferingResponse {
        let asked = GetOfferingRequest { offering: offering.to_owned() };
        self.service().get_offering(asked).await.expect("it is known").into_inner()
    }

    pub(crate) async fn state(&self, offering: &str) -> OfferingState {
        self.get(offering).await.status.expect("it stands").state()
    }

    /// Waits until the index has seen what the chain has.
    pub(crate) async fn indexed(&self, offering: &str) -> GetOfferingResponse {
        let height = self.chain.height().await.expect("a height");
        let seen = |answer: &GetOfferingResponse| answer.status.is_some_and(|status| status.indexed_block >= height);
        until("the index is there", async || self.get(offering).await, seen).await
    }

    pub(crate) async fn buyers(&self, offering: &str) -> Vec<Buyer> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let asked = ListBuyersRequest { offering: offering.to_owned(), page_size: 2, page_token };
            let page = self.service().list_buyers(asked).await.expect("a page").into_inner();
            found.extend(page.buyers);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    pub(crate) async fn quote(&self, offering: &str, buyer: &str, cash: &Cash, payment: u64) -> QuotePurchaseResponse {
        let asked = QuotePurchaseRequest {
            offering: offering.to_owned(),
            buyer: buyer.to_owned(),
            currency: cash.text.clone(),
            payment_amount: payment.to_string(),
            terms_hash: terms_hash(),
        };
        self.service().quote_purchase(asked).await.expect("a quote").into_inner()
    }

    /// A purchase that acknowledges the terms.
    pub(crate) fn purchase(&self, offering: &str, buyer: &Wallet, cash: &Cash, payment: u64) -> BuyRequest {
        BuyRequest {
            sender: buyer.text.clone(),
            offering: offering.to_owned(),
            payment_amount: payment.to_string(),
            currency: cash.text.clone(),
            minimum_tokens: String::new(),
            terms_hash: terms_hash(),
        }
    }

    pub(crate) async fn buy(&self, request: BuyRequest) -> Accepted {
        operation!(self.service().buy(keyed(request, &key())))
    }

    /// Buys; tokens and cost.
    pub(crate) async fn bought(&self, request: BuyRequest) -> (String, String) {
        let accepted = self.buy(request).await.expect("accepted");
        let result = self.offerings().completed(accepted).await.expect("bought");
        let text = |name: &str| result[name].as_str().expect("an amount").to_owned();
        (text("tokens"), text("cost"))
    }

    /// The refusal of a purchase before anything is accepted.
    pub(crate) async fn not_bought(&self, request: BuyRequest) -> dalp_service::errors::RefusalDetails {
        refusal(&self.buy(request).await.expect_err("refused"))
    }

    pub(crate) async fn finalize(&self, offering: &str) -> Option<Operation> {
        let request = FinalizeOfferingRequest { sender: self.issuer(), offering: offering.to_owned() };
        let accepted: Accepted = operation!(self.service().finalize_offering(keyed(request, &key())));
        accepted.expect("accepted")
    }

    pub(crate) async fn claim(&self, offering: &str, sender: &Wallet, buyer: &str) -> Option<Operation> {
        let request =
            ClaimTokensRequest { sender: sender.text.clone(), offering: offering.to_owned(), buyer: buyer.to_owned() };
        let accepted: Accepted = operation!(self.service().claim_tokens(keyed(request, &key())));
        accepted.expect("accepted")
    }

    pub(crate) async fn refund(&self, offering: &str, sender: &Wallet, buyer: &str, currency: &str) -> Accepted {
        let request = RefundRequest {
            sender: sender.text.clone(),
            offering: offering.to_owned(),
            buyer: buyer.to_owned(),
            currency: currency.to_owned(),
        };
        operation!(self.service().refund(keyed(request, &key())))
    }

    pub(crate) async fn withdraw_proceeds(&self, offering: &str, cash: &Cash) -> Option<Operation> {
        let request = WithdrawProceedsRequest {
            sender: self.issuer(),
            offering: offering.to_owned(),
            currency: cash.text.clone(),
        };
        let accepted: Accepted = operation!(self.service().withdraw_proceeds(keyed(request, &key())));
        accepted.expect("accepted")
    }

    pub(crate) async fn withdraw_unsold(&self, offering: &str) -> Option<Operation> {
        let request = WithdrawUnsoldRequest { sender: self.issuer(), offering: offering.to_owned() };
        let accepted: Accepted = operation!(self.service().withdraw_unsold(keyed(request, &key())));
        accepted.expect("accepted")
    }

    /// The amount that a completed operation tells of.
    pub(crate) async fn amount(&self, accepted: Option<Operation>) -> u64 {
        let result = self.offerings().completed(accepted).await.expect("completed");
        result["amount"].as_str().expect("an amount").parse().expect("a number")
    }

    /// Why an operation failed.
    pub(crate) async fn failure(&self, accepted: Option<Operation>) -> String {
        let operation = self.client.finished(accepted).await.expect("it ends");
        assert_eq!(operation.state(), OperationState::Failed, "{operation:?}");
        operation.error.expect("an error").reason
    }
}
