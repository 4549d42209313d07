//! Who takes part: keys, money for fees, the tenant's system, identities and claims.

use alloy::primitives::{Address, U256};
use anyhow::Context;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{AddTrustedIssuerRequest, IssueClaimRequest, RegisterIdentityRequest, RegisterTopicRequest};
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::{CreateKeyRequest, Key};
use dalp_proto::system::BootstrapRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;

use super::{ChainView, Outcome, Steps};
use crate::client::{Client, keyed};

/// Numeric country codes of ISO 3166-1: Switzerland, and the one the bond bars.
const SWITZERLAND: u32 = 756;
/// Barred by the bond's country rule.
pub(super) const BARRED: u32 = 408;

/// A key of the tenant.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// EIP-55 text, as the wire carries it.
    pub text: String,
    /// The same as an address.
    pub address: Address,
}

/// Everyone in the scenario.
#[derive(Debug, Clone)]
pub struct Parties {
    /// Issues the bond; key in the HSM.
    pub issuer: Wallet,
    /// Signs KYC claims.
    pub verifier: Wallet,
    /// Verified investor.
    pub alice: Wallet,
    /// Verified investor.
    pub bob: Wallet,
    /// Verified investor of a barred country.
    pub carol: Wallet,
    /// Investor without KYC.
    pub dave: Wallet,
    /// The wallet that alice gets when she has lost hers.
    pub alice_new: Wallet,
}

/// Creates keys, funds them, bootstraps the system and identifies everyone.
///
/// # Errors
/// When a key cannot be created or funded; later failures are rows of the report.
pub(super) async fn create(client: &Client, chain: &ChainView, steps: &mut Steps) -> anyhow::Result<Parties> {
    let mut wallets = Vec::new();
    for (name, provider) in [
        ("issuer", "pkcs11"),
        ("verifier", "local"),
        ("alice", "local"),
        ("bob", "local"),
        ("carol", "local"),
        ("dave", "local"),
        ("alice-new", "local"),
    ] {
        let mut created = None;
        let step = async {
            let key = create_key(client, name, provider).await?;
            let outcome = Outcome::said(format!("created in {}", key.provider));
            created = Some(Wallet { address: key.address.parse()?, text: key.address });
            Ok(outcome)
        };
        steps.run(&format!("create the key of {name}"), &format!("created in {provider}"), step).await;
        let wallet = created.with_context(|| format!("no key of {name}"))?;
        chain.fund(wallet.address, U256::from(10u64).pow(U256::from(20u64))).await?;
        wallets.push(wallet);
    }
    let [issuer, verifier, alice, bob, carol, dave, alice_new] =
        <[Wallet; 7]>::try_from(wallets).map_err(|_| anyhow::anyhow!("seven keys were asked for"))?;
    let parties = Parties { issuer, verifier, alice, bob, carol, dave, alice_new };
    bootstrap(client, &parties, steps).await;
    identify(client, &parties, steps).await;
    attest(client, &parties, steps).await;
    Ok(parties)
}

async fn create_key(client: &Client, name: &str, provider: &str) -> anyhow::Result<Key> {
    let request = CreateKeyRequest { wallet: name.to_owned(), provider: provider.to_owned(), owner: String::new() };
    KeyServiceClient::new(client.gateway())
        .create_key(keyed(request, &format!("key-{name}")))
        .await?
        .into_inner()
        .key
        .context("the answer carries no key")
}

async fn bootstrap(client: &Client, parties: &Parties, steps: &mut Steps) {
    steps
        .run("bootstrap the system", "completed", async {
            let request = BootstrapRequest { admin: parties.issuer.text.clone(), chain_id: 0 };
            let accepted =
                SystemServiceClient::new(client.gateway()).bootstrap(keyed(request, "bootstrap")).await?.into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
}

async fn identify(client: &Client, parties: &Parties, steps: &mut Steps) {
    for (name, wallet, country) in [
        ("issuer", &parties.issuer, SWITZERLAND),
        ("verifier", &parties.verifier, SWITZERLAND),
        ("alice", &parties.alice, SWITZERLAND),
        ("bob", &parties.bob, SWITZERLAND),
        ("carol", &parties.carol, BARRED),
        ("dave", &parties.dave, SWITZERLAND),
    ] {
        steps
            .run(&format!("register the identity of {name}"), "completed", async {
                let request = RegisterIdentityRequest {
                    sender: parties.issuer.text.clone(),
                    wallet: wallet.text.clone(),
                    country,
                };
                let accepted = IdentityServiceClient::new(client.gateway())
                    .register_identity(keyed(request, &format!("identity-{name}")))
                    .await?
                    .into_inner();
                Ok(Outcome::of(&client.finished(accepted.operation).await?))
            })
            .await;
    }
}

async fn attest(client: &Client, parties: &Parties, steps: &mut Steps) {
    steps
        .run("register the topic kyc", "completed", async {
            let request = RegisterTopicRequest {
                sender: parties.issuer.text.clone(),
                name: "kyc".to_owned(),
                signature: "(uint64 expiresAt)".to_owned(),
            };
            let accepted = IdentityServiceClient::new(client.gateway())
                .register_topic(keyed(request, "topic-kyc"))
                .await?
                .into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
    steps
        .run("trust the verifier for kyc", "completed", async {
            let request = AddTrustedIssuerRequest {
                sender: parties.issuer.text.clone(),
                issuer: parties.verifier.text.clone(),
                topics: vec!["kyc".to_owned()],
            };
            let accepted = IdentityServiceClient::new(client.gateway())
                .add_trusted_issuer(keyed(request, "trust-verifier"))
                .await?
                .into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
    for (name, wallet) in [("alice", &parties.alice), ("bob", &parties.bob), ("carol", &parties.carol)] {
        steps
            .run(&format!("claim kyc for {name}"), "completed", async {
                let request = IssueClaimRequest {
                    issuer: parties.verifier.text.clone(),
                    subject: wallet.text.clone(),
                    topic: "kyc".to_owned(),
                    data: "0x".to_owned(),
                    expires_at: 0,
                };
                let accepted = IdentityServiceClient::new(client.gateway())
                    .issue_claim(keyed(request, &format!("kyc-{name}")))
                    .await?
                    .into_inner();
                Ok(Outcome::of(&client.finished(accepted.operation).await?))
            })
            .await;
    }
}
