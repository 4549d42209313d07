//! Load on a running stack: a bond whose holders transfer to one receiver, a lane per holder.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use anyhow::{Context, ensure};
use dalp_devstack::client::{Client, keyed};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{
    AssetClass, AssetRole, AssetTerms, BondTerms, CreateAssetRequest, MintRequest, RoleGrant, TransferRequest,
    asset_terms,
};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{AddTrustedIssuerRequest, IssueClaimRequest, RegisterIdentityRequest, RegisterTopicRequest};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::signer::CreateKeyRequest;
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::system::BootstrapRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::Status;

use crate::waiting::{is_to_repeat, repeated};

/// Base units each holder starts with.
pub const START: u64 = 1_000_000_000;
/// Wallets that are verified together.
const VERIFIED_AT_ONCE: usize = 80;

/// How long a step of verifying may take, when so many wallets are verified: on a busy machine each of them waits for the others.
const STEP_WITHIN: Duration = Duration::from_secs(120);
const LONGER_FOR_EACH: Duration = Duration::from_millis(60);
const REPEAT_AFTER: Duration = Duration::from_millis(100);

/// A bond under load.
#[derive(Debug, Clone)]
pub struct Load {
    client: Client,
    /// The token contract.
    pub token: Address,
    /// Issues the bond, and administers the system.
    pub issuer: Wallet,
    /// One lane each.
    pub holders: Vec<Wallet>,
    /// Receives every transfer.
    pub receiver: Wallet,
}

/// What a wallet needs to be verified.
#[derive(Clone, Copy)]
struct Steps<'a> {
    client: &'a Client,
    issuer: &'a Wallet,
    patience: Duration,
}

/// How long a step may take when so many wallets are verified.
#[must_use]
pub fn patience_for(wallets: usize) -> Duration {
    STEP_WITHIN + LONGER_FOR_EACH * u32::try_from(wallets).unwrap_or(u32::MAX)
}

// === impl Load ===

impl Load {
    /// Creates keys with a provider, the system, identities, claims and a bond without rules beside the KYC topic, and mints to each holder.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn prepare(client: &Client, chain: &ChainView, lanes: usize, provider: &str) -> anyhow::Result<Self> {
        Self::prepare_with(client, chain, &vec![provider; lanes]).await
    }

    /// As [`Load::prepare`], with a holder's key at each of these providers.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn prepare_with(client: &Client, chain: &ChainView, providers: &[&str]) -> anyhow::Result<Self> {
        let issuer = wallet(client, chain, "load-issuer", "local").await?;
        let receiver = wallet(client, chain, "load-receiver", "local").await?;
        let mut holders = Vec::new();
        for (lane, provider) in providers.iter().enumerate() {
            holders.push(wallet(client, chain, &format!("load-holder-{lane}"), provider).await?);
        }
        let accepted = SystemServiceClient::new(client.gateway())
            .bootstrap(keyed(BootstrapRequest { admin: issuer.text.clone(), chain_id: 0 }, "load-bootstrap"))
            .await?
            .into_inner();
        completed(client, accepted.operation).await?;
        identify(client, &issuer, &[&receiver, &issuer]).await?;
        let token = issue(client, &issuer).await?;
        let load = Self { client: client.clone(), token, issuer, holders, receiver };
        load.admit(&load.holders).await?;
        Ok(load)
    }

    /// The same bond, asked for through another connection.
    #[must_use]
    pub fn through(&self, client: &Client) -> Self {
        Self { client: client.clone(), ..self.clone() }
    }

    /// Verifies wallets, also such whose keys the platform does not hold.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn verify(&self, wallets: &[Wallet]) -> anyhow::Result<()> {
        self.verify_telling(wallets, patience_for(wallets.len()), || ()).await
    }

    /// The same, with so much patience for each step, and told of each wallet that is verified.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn verify_telling(
        &self,
        wallets: &[Wallet],
        patience: Duration,
        verified: impl Fn(),
    ) -> anyhow::Result<()> {
        let steps = Steps { client: &self.client, issuer: &self.issuer, patience };
        let each = stream::iter(wallets).map(|wallet| {
            let verified = &verified;
            async move {
                steps.register_identity(wallet).await?;
                steps.attest(wallet).await?;
                verified();
                anyhow::Ok(())
            }
        });
        each.buffer_unordered(VERIFIED_AT_ONCE).try_collect().await
    }

    /// Verifies wallets, also such whose keys the platform does not hold, and mints to each.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn admit(&self, wallets: &[Wallet]) -> anyhow::Result<()> {
        self.verify(wallets).await?;
        try_join_all(wallets.iter().map(|holder| async {
            let request = MintRequest {
                sender: self.issuer.text.clone(),
                asset: self.token.to_checksum(None),
                to: holder.text.clone(),
                amount: START.to_string(),
            };
            let key = format!("load-mint-{}", holder.text);
            let accepted =
                AssetServiceClient::new(self.client.gateway()).mint(keyed(request, &key)).await?.into_inner();
            completed(&self.client, accepted.operation).await
        }))
        .await?;
        Ok(())
    }

    /// Asks for one transfer of one base unit on a lane.
    ///
    /// # Errors
    /// As the platform refuses it.
    pub async fn transfer(&self, lane: usize, key: &str) -> Result<Operation, Status> {
        self.transfer_of(1, lane, key).await
    }

    /// The same, of so many base units.
    ///
    /// # Errors
    /// As the platform refuses it.
    pub async fn transfer_of(&self, amount: u64, lane: usize, key: &str) -> Result<Operation, Status> {
        let request = TransferRequest {
            sender: self.holders[lane].text.clone(),
            asset: self.token.to_checksum(None),
            to: self.receiver.text.clone(),
            amount: amount.to_string(),
        };
        let answer = AssetServiceClient::new(self.client.gateway()).transfer(keyed(request, key)).await?;
        answer.into_inner().operation.ok_or_else(|| Status::internal("the answer carries no operation"))
    }

    /// What the receiver has got, straight from the chain.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn received(&self, chain: &ChainView) -> anyhow::Result<U256> {
        chain.balance(self.token, self.receiver.address).await
    }
}

async fn wallet(client: &Client, chain: &ChainView, name: &str, provider: &str) -> anyhow::Result<Wallet> {
    let request = CreateKeyRequest { wallet: name.to_owned(), provider: provider.to_owned(), owner: String::new() };
    let key = KeyServiceClient::new(client.gateway())
        .create_key(keyed(request, name))
        .await?
        .into_inner()
        .key
        .context("the answer carries no key")?;
    let wallet = Wallet { address: key.address.parse()?, text: key.address };
    chain.fund(wallet.address, U256::from(10u64).pow(U256::from(21u64))).await?;
    Ok(wallet)
}

/// Registers topic, trusted issuer and the first identities: the issuer attests KYC itself.
async fn identify(client: &Client, issuer: &Wallet, first: &[&Wallet]) -> anyhow::Result<()> {
    let identities = || IdentityServiceClient::new(client.gateway());
    let topic = RegisterTopicRequest {
        sender: issuer.text.clone(),
        name: "kyc".to_owned(),
        signature: "(uint64 expiresAt)".to_owned(),
    };
    completed(client, identities().register_topic(keyed(topic, "load-topic")).await?.into_inner().operation).await?;
    let steps = Steps { client, issuer, patience: patience_for(first.len()) };
    try_join_all(first.iter().map(|wallet| steps.register_identity(wallet))).await?;
    let trust = AddTrustedIssuerRequest {
        sender: issuer.text.clone(),
        issuer: issuer.text.clone(),
        topics: vec!["kyc".to_owned()],
    };
    completed(client, identities().add_trusted_issuer(keyed(trust, "load-trust")).await?.into_inner().operation)
        .await?;
    try_join_all(first.iter().map(|wallet| steps.attest(wallet))).await.map(drop)
}

// === impl Steps ===

impl Steps<'_> {
    async fn register_identity(&self, wallet: &Wallet) -> anyhow::Result<()> {
        let request =
            RegisterIdentityRequest { sender: self.issuer.text.clone(), wallet: wallet.text.clone(), country: 756 };
        let key = format!("load-identity-{}", wallet.text);
        let answered = repeated(self.patience, || {
            let mut identities = IdentityServiceClient::new(self.client.gateway());
            let request = keyed(request.clone(), &key);
            async move { identities.register_identity(request).await }
        });
        self.completed(answered.await?.into_inner().operation).await
    }

    async fn attest(&self, wallet: &Wallet) -> anyhow::Result<()> {
        let request = IssueClaimRequest {
            issuer: self.issuer.text.clone(),
            subject: wallet.text.clone(),
            topic: "kyc".to_owned(),
            data: "0x".to_owned(),
            expires_at: 0,
        };
        let key = format!("load-claim-{}", wallet.text);
        let answered = repeated(self.patience, || {
            let mut identities = IdentityServiceClient::new(self.client.gateway());
            let request = keyed(request.clone(), &key);
            async move { identities.issue_claim(request).await }
        });
        self.completed(answered.await?.into_inner().operation).await
    }

    /// Waits for an operation; that a wait is refused for a moment does not end it.
    async fn completed(&self, accepted: Option<Operation>) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let left = self.patience.saturating_sub(begun.elapsed());
            match self.client.finished_within(accepted.clone(), left).await {
                Err(error) if error.downcast_ref().is_some_and(is_to_repeat) && !left.is_zero() => {
                    tokio::time::sleep(REPEAT_AFTER).await;
                }
                Err(error) => return Err(error),
                Ok(operation) => return ensure_completed(operation).map(drop),
            }
        }
    }
}

async fn issue(client: &Client, issuer: &Wallet) -> anyhow::Result<Address> {
    let request = CreateAssetRequest {
        issuer: issuer.text.clone(),
        name: "Load bond".to_owned(),
        symbol: "LOAD".to_owned(),
        asset_class: AssetClass::Bond.into(),
        isin: "CH0012032048".to_owned(),
        terms: Some(AssetTerms {
            terms: Some(asset_terms::Terms::Bond(BondTerms {
                maturity_date: "2090-05-01".to_owned(),
                denomination: "1000".to_owned(),
                currency: "CHF".to_owned(),
                ..BondTerms::default()
            })),
        }),
        claim_topics: vec!["kyc".to_owned()],
        roles: [AssetRole::Supply, AssetRole::Sale, AssetRole::Governance]
            .map(|role| RoleGrant { role: role.into(), account: issuer.text.clone() })
            .to_vec(),
        unpause: true,
        ..CreateAssetRequest::default()
    };
    let accepted =
        AssetServiceClient::new(client.gateway()).create_asset(keyed(request, "load-issue")).await?.into_inner();
    let operation = completed(client, accepted.operation).await?;
    let result: serde_json::Value = serde_json::from_str(&operation.result_json)?;
    Ok(result["asset"].as_str().context("the result names no asset")?.parse()?)
}

async fn completed(client: &Client, accepted: Option<Operation>) -> anyhow::Result<Operation> {
    ensure_completed(client.finished(accepted).await?)
}

fn ensure_completed(operation: Operation) -> anyhow::Result<Operation> {
    ensure!(operation.state() == OperationState::Completed, "{} did not complete: {operation:?}", operation.kind);
    Ok(operation)
}
