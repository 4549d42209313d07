//! A running stack with a bond, whose airdrops go out in small batches.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, U256};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use dalp_devstack::client::Client;
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::distribution::{
    AirdropProgress, GetAirdropEvidenceRequest, GetAirdropEvidenceResponse, GetAirdropRequest, GetAirdropResponse,
    ListRecipientsRequest, PushAirdropRequest, PushState, Recipient, RecipientOutcome,
};
use dalp_tests::airdrops::Airdrops;
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
pub(crate) use dalp_tests::wallets::wallets;
use tonic::{Request, Status};

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) chain: ChainView,
    pub(crate) load: Load,
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A list that pays each wallet its number, from one.
pub(crate) fn rows(wallets: &[Wallet]) -> Vec<(String, u64)> {
    wallets.iter().zip(1..).map(|(wallet, amount)| (wallet.text.clone(), amount)).collect()
}

pub(crate) fn total(rows: &[(String, u64)]) -> u64 {
    rows.iter().map(|(_, amount)| amount).sum()
}

/// Reason and metadata of a refusal.
pub(crate) fn refusal(status: &Status) -> dalp_service::errors::RefusalDetails {
    dalp_service::Refusal::details(status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"))
}

impl World {
    pub(crate) async fn start() -> Self {
        let distribution = "\n[airdrop]\nbatch_gas = 1500000\nbatches_at_once = 3\n".to_owned();
        let stack = Stack::start(&Options { distribution, ..Options::default() }).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&client, &chain, 2, "local").await.expect("a bond");
        Self { stack, client, chain, load }
    }

    pub(crate) fn airdrops(&self) -> Airdrops<'_> {
        Airdrops { client: &self.client, load: &self.load }
    }

    pub(crate) async fn balance(&self, holder: Address) -> u64 {
        self.chain.balance(self.load.token, holder).await.expect("a balance").to()
    }

    pub(crate) async fn push(&self, airdrop: &str) -> Result<AirdropProgress, Status> {
        let push = PushAirdropRequest { sender: self.load.issuer.text.clone(), airdrop: airdrop.to_owned() };
        let answer = self.airdrops().service().push_airdrop(Request::new(push)).await?;
        Ok(answer.into_inner().progress.expect("progress"))
    }

    pub(crate) async fn get(&self, airdrop: &str) -> Result<GetAirdropResponse, Status> {
        let asked = GetAirdropRequest { airdrop: airdrop.to_owned() };
        Ok(self.airdrops().service().get_airdrop(asked).await?.into_inner())
    }

    pub(crate) async fn progress(&self, airdrop: &str) -> AirdropProgress {
        self.get(airdrop).await.expect("it is known").airdrop.expect("an airdrop").progress.expect("progress")
    }

    /// Waits until everybody was tried and the index says what came of it.
    pub(crate) async fn pushed(&self, airdrop: &str) -> AirdropProgress {
        let done = |now: &AirdropProgress| now.push_state() == PushState::Done && now.left == 0;
        until("everybody was tried", async || self.progress(airdrop).await, done).await
    }

    pub(crate) async fn recipients(&self, airdrop: &str, outcome: RecipientOutcome) -> Vec<Recipient> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let asked = ListRecipientsRequest {
                airdrop: airdrop.to_owned(),
                outcome: outcome.into(),
                page_size: 30,
                page_token,
            };
            let page = self.airdrops().service().list_recipients(asked).await.expect("a page").into_inner();
            found.extend(page.recipients);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    pub(crate) async fn evidence(&self, airdrop: &str) -> GetAirdropEvidenceResponse {
        let asked = GetAirdropEvidenceRequest { airdrop: airdrop.to_owned() };
        self.airdrops().service().get_airdrop_evidence(asked).await.expect("a record").into_inner()
    }

    /// Moves the chain's clock.
    pub(crate) async fn pass(&self, seconds: u64) {
        let node: RootProvider =
            ProviderBuilder::default().connect_http(self.stack.chain_url().parse().expect("a URL"));
        let _: serde_json::Value =
            node.raw_request("evm_increaseTime".into(), (U256::from(seconds),)).await.expect("moved");
        let _: serde_json::Value = node.raw_request("evm_mine".into(), ()).await.expect("mined");
    }
}
