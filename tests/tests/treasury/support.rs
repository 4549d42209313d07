//! A running stack with a bond, a treasury's currency, and a chain whose clock can be moved.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, U256};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{AssetRole, FreezePartialRequest, TransferRequest, UnfreezePartialRequest};
use dalp_proto::distribution::treasury_service_client::TreasuryServiceClient;
use dalp_proto::distribution::{
    AnnounceRecordDateRequest, ClaimPayoutsRequest, CouponPayout, Entitlement, EntitlementOutcome, ExportFormat,
    ExportRunRequest, GetRunEvidenceRequest, GetRunEvidenceResponse, GetRunRequest, GetTreasuryRequest,
    GetTreasuryResponse, ListEntitlementsRequest, Run, RunState, TreasuryTerms, prepare_run_request::Payout,
};
use dalp_proto::operation::{Operation, OperationState};
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::offerings::{Cash, Offerings};
use dalp_tests::treasuries::Treasuries;
use dalp_tests::waiting::until;
pub(crate) use dalp_tests::wallets::wallets;
use tonic::Status;

/// Base units of the currency that the issuer starts with.
pub(crate) const CASH: u64 = 1_000_000_000_000_000;

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) chain: ChainView,
    pub(crate) load: Load,
    /// With two decimals.
    pub(crate) euro: Cash,
    /// The operator of another tenant.
    pub(crate) foreign: Client,
}

/// Reason, metadata and fields of a refusal.
pub(crate) fn refusal(status: &Status) -> dalp_service::errors::RefusalDetails {
    dalp_service::Refusal::details(status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"))
}

pub(crate) fn coupon(period: u32) -> Payout {
    Payout::Coupon(CouponPayout { period })
}

pub(crate) type Accepted = Result<Option<Operation>, Status>;

impl World {
    pub(crate) async fn start() -> Self {
        let distribution = "\n[treasury]\nbatch_gas = 900000\nbatches_at_once = 3\n".to_owned();
        let key = svc_gateway::api_key::ApiKey::generate().expect("random bytes");
        let gateway = format!(
            "\n[[tenants]]\nid = \"other-bank\"\n[[principals]]\nid = \"foreign\"\ntenant = \"other-bank\"\nroles = [\"operator\"]\n\
             prefix = \"{}\"\napi_key_sha256 = \"{}\"\n",
            key.prefix(),
            key.digest()
        );
        let options = Options { distribution, gateway, ..Options::default() };
        let stack = Stack::start(&options).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let foreign = Client::new(stack.channel().expect("a channel"), key.expose()).expect("a key");
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&client, &chain, 3, "local").await.expect("a bond");
        let offerings = Offerings { client: &client, load: &load };
        offerings.grant(AssetRole::Funds, &load.issuer.text).await.expect("funds");
        offerings.grant(AssetRole::Custodian, &load.issuer.text).await.expect("custodian");
        let issuer = std::slice::from_ref(&load.issuer);
        let euro = offerings.issue_cash("EUR", 2, issuer, CASH).await.expect("euros");
        Self { stack, client, chain, load, euro, foreign }
    }

    pub(crate) fn offerings(&self) -> Offerings<'_> {
        Offerings { client: &self.client, load: &self.load }
    }

    pub(crate) fn treasuries(&self) -> Treasuries<'_> {
        Treasuries { client: &self.client, load: &self.load }
    }

    pub(crate) fn service(&self) -> TreasuryServiceClient<Gateway> {
        self.treasuries().service()
    }

    pub(crate) fn issuer(&self) -> String {
        self.load.issuer.text.clone()
    }

    pub(crate) fn holders(&self) -> [&Wallet; 3] {
        [&self.load.holders[0], &self.load.holders[1], &self.load.holders[2]]
    }

    pub(crate) fn node(&self) -> RootProvider {
        ProviderBuilder::default().connect_http(self.stack.chain_url().parse().expect("a URL"))
    }

    /// The time of the latest block.
    pub(crate) async fn now_s(&self) -> u64 {
        let block = self.node().get_block_by_number(BlockNumberOrTag::Latest).await.expect("an answer");
        block.expect("a block").header.timestamp
    }

    /// Moves the chain's clock to just behind a time.
    pub(crate) async fn pass(&self, time_s: u64) {
        let seconds = (time_s + 1).saturating_sub(self.now_s().await);
        let _: serde_json::Value =
            self.node().raw_request("evm_increaseTime".into(), (U256::from(seconds),)).await.expect("moved");
        let _: serde_json::Value = self.node().raw_request("evm_mine".into(), ()).await.expect("mined");
    }

    /// Terms in euros, without maturity.
    pub(crate) fn terms(&self) -> TreasuryTerms {
        TreasuryTerms {
            asset: self.offerings().asset(),
            currency: self.euro.text.clone(),
            sweep_to: String::new(),
            maturity: 0,
            redemption_price: String::new(),
        }
    }

    pub(crate) async fn balance(&self, of: Address, holder: Address) -> u64 {
        self.chain.balance(of, holder).await.expect("a balance").to()
    }

    pub(crate) async fn euros(&self, holder: Address) -> u64 {
        self.balance(self.euro.address, holder).await
    }

    pub(crate) async fn bonds(&self, holder: Address) -> u64 {
        self.balance(self.load.token, holder).await
    }

    pub(crate) async fn get(&self, treasury: &str) -> GetTreasuryResponse {
        let asked = GetTreasuryRequest { treasury: treasury.to_owned() };
        self.service().get_treasury(asked).await.expect("it is known").into_inner()
    }

    pub(crate) async fn announce(&self, treasury: &str, record_date: u64) -> Accepted {
        let request = AnnounceRecordDateRequest { sender: self.issuer(), treasury: treasury.to_owned(), record_date };
        self.service().announce_record_date(keyed(request, &key())).await.map(|answer| answer.into_inner().operation)
    }

    pub(crate) async fn prepared(&self, treasury: &str, payout: Payout) -> Run {
        self.treasuries().prepare(treasury, payout).await.expect("prepared").run.expect("a run")
    }

    /// The refusal of a run that cannot be prepared.
    pub(crate) async fn not_prepared(&self, treasury: &str, payout: Payout) -> dalp_service::errors::RefusalDetails {
        refusal(&self.treasuries().prepare(treasury, payout).await.expect_err("refused"))
    }

    /// A run with outcomes as of a block that has everything that happened up to now.
    pub(crate) async fn run(&self, run: &Run) -> Run {
        let height = self.chain.height().await.expect("a height");
        let ask = async || {
            let asked = GetRunRequest { treasury: run.treasury.clone(), run: run.run };
            self.service().get_run(asked).await.expect("it is known").into_inner()
        };
        until("the index is there", ask, |answer| answer.indexed_block >= height).await.run.expect("a run")
    }

    /// Starts a run and waits until everybody was tried.
    pub(crate) async fn paid(&self, run: &Run) -> Run {
        self.treasuries().start(run).await.expect("begins");
        let done = |run: &Run| {
            let progress = run.progress.clone().expect("progress");
            assert_ne!(progress.state(), RunState::Stopped, "{progress:?}");
            progress.state() == RunState::Done
        };
        until("the run is done", async || self.run(run).await, done).await
    }

    pub(crate) async fn entitlements(&self, run: &Run, outcome: EntitlementOutcome) -> Vec<Entitlement> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let asked = ListEntitlementsRequest {
                treasury: run.treasury.clone(),
                run: run.run,
                outcome: outcome.into(),
                page_size: 2,
                page_token,
            };
            let page = self.service().list_entitlements(asked).await.expect("a page").into_inner();
            found.extend(page.entitlements);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    pub(crate) async fn evidence(&self, run: &Run) -> GetRunEvidenceResponse {
        let asked = GetRunEvidenceRequest { treasury: run.treasury.clone(), run: run.run };
        self.service().get_run_evidence(asked).await.expect("a record").into_inner()
    }

    pub(crate) async fn exported(&self, run: &Run, format: ExportFormat) -> String {
        let asked = ExportRunRequest { treasury: run.treasury.clone(), run: run.run, format: format.into() };
        let mut pieces = self.service().export_run(asked).await.expect("a stream").into_inner();
        let mut file = Vec::new();
        while let Some(piece) = pieces.message().await.expect("a piece") {
            file.extend(piece.data);
        }
        String::from_utf8(file).expect("text")
    }

    pub(crate) async fn claim(&self, treasury: &str, sender: &Wallet, payout_ids: &[u64]) -> Accepted {
        let request = ClaimPayoutsRequest {
            sender: sender.text.clone(),
            treasury: treasury.to_owned(),
            holder: String::new(),
            payout_ids: payout_ids.to_vec(),
        };
        self.service().claim_payouts(keyed(request, &key())).await.map(|answer| answer.into_inner().operation)
    }

    pub(crate) async fn transfer(&self, from: &Wallet, to: &Wallet, amount: u64) -> Accepted {
        let request = TransferRequest {
            sender: from.text.clone(),
            asset: self.offerings().asset(),
            to: to.text.clone(),
            amount: amount.to_string(),
        };
        let mut assets = AssetServiceClient::new(self.client.gateway());
        assets.transfer(keyed(request, &key())).await.map(|answer| answer.into_inner().operation)
    }

    pub(crate) async fn freeze(&self, holder: &Wallet, amount: u64) {
        let request = FreezePartialRequest {
            sender: self.issuer(),
            asset: self.offerings().asset(),
            holder: holder.text.clone(),
            amount: amount.to_string(),
            reason: "dispute".to_owned(),
        };
        let mut assets = AssetServiceClient::new(self.client.gateway());
        let accepted = assets.freeze_partial(keyed(request, &key())).await.expect("accepted").into_inner();
        self.completed(accepted.operation).await;
    }

    pub(crate) async fn unfreeze(&self, holder: &Wallet, amount: u64) {
        let request = UnfreezePartialRequest {
            sender: self.issuer(),
            asset: self.offerings().asset(),
            holder: holder.text.clone(),
            amount: amount.to_string(),
            reason: "settled".to_owned(),
        };
        let mut assets = AssetServiceClient::new(self.client.gateway());
        let accepted = assets.unfreeze_partial(keyed(request, &key())).await.expect("accepted").into_inner();
        self.completed(accepted.operation).await;
    }

    pub(crate) async fn completed(&self, accepted: Option<Operation>) -> serde_json::Value {
        self.offerings().completed(accepted).await.expect("completed")
    }

    /// Why an operation failed.
    pub(crate) async fn failure(&self, accepted: Option<Operation>) -> String {
        let operation = self.client.finished(accepted).await.expect("it ends");
        assert_eq!(operation.state(), OperationState::Failed, "{operation:?}");
        operation.error.expect("an error").reason
    }
}
