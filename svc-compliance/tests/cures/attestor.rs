//! An issuer of claims and prices whose key the platform does not have.

use super::{
    SWITZERLAND,
    support::{TENANT, desk::Desk, outside},
};
use alloy::{
    primitives::{Address, B256, Bytes, I256, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use dalp_contracts::{
    bindings::{AssetToken, Identity, IdentityRegistry, IssuerSignedScalarFeed, IssuerSignedScalarFeedFactory},
    encode::{claim_signing_hash, topic_id},
    roles::names,
};
use serde_json::json;

/// Trusted for collateral and prices.
pub struct Attestor(PrivateKeySigner);

impl Attestor {
    /// Registers and funds it, and trusts it for its topics.
    pub async fn open(desk: &Desk) -> Self {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x77)).unwrap();
        let stack = &desk.stack;
        stack.node("anvil_impersonateAccount", json!([signer.address()])).await;
        stack.node("anvil_setBalance", json!([signer.address(), U256::from(10_u64.pow(18))])).await;
        stack.register(TENANT, desk.admin, signer.address(), u32::from(SWITZERLAND)).await;
        let topics = [("collateral", "(uint256 amount)"), ("price", "(int256 value)"), ("worth", "(int256 value)")];
        desk.topics(&topics, signer.address()).await;
        Self(signer)
    }

    /// A feed about the asset on a topic, without an answer.
    pub async fn feed(&self, desk: &Desk, topic: &str) -> Address {
        let config = IssuerSignedScalarFeedFactory::FeedConfig {
            salt: B256::ZERO,
            subject: desk.token,
            topicId: topic_id(topic),
            decimals: 2,
            historyMode: 0,
            historySize: 0,
            requirePositive: true,
            driftAllowance: 0,
            description: "price of a unit".into(),
        };
        let factory = desk.stack.contract(names::SCALAR_FEED_FACTORY).await;
        let create = IssuerSignedScalarFeedFactory::createCall { config };
        let receipt = desk.stack.send(desk.officer, factory, &create).await;
        outside::event::<IssuerSignedScalarFeedFactory::FeedCreated>(&receipt).feed
    }

    /// Submits a price of now.
    pub async fn price(&self, desk: &Desk, feed: Address) {
        let (stack, issuer) = (&desk.stack, self.identity(desk).await);
        let terms = stack.read(feed, IssuerSignedScalarFeed::termsCall {}).await;
        let nonce = stack.read(feed, IssuerSignedScalarFeed::issuerNonceCall { issuer }).await;
        let update = IssuerSignedScalarFeed::FeedUpdate {
            topicId: terms.topicId,
            schemaHash: terms.schemaHash,
            value: I256::try_from(10_000).unwrap(),
            observedAt: U256::from(desk.now().await),
            nonce: nonce + U256::ONE,
            deadline: U256::ZERO,
        };
        let digest = stack.read(feed, IssuerSignedScalarFeed::digestOfCall { update: update.clone() }).await;
        let signature = self.0.sign_hash_sync(&digest).unwrap().as_bytes().to_vec().into();
        let submit = IssuerSignedScalarFeed::submitCall { issuer, update, signature };
        stack.send(desk.officer, feed, &submit).await;
    }

    /// Attests collateral on the asset's identity.
    pub async fn attest(&self, desk: &Desk, data: Bytes) {
        let stack = &desk.stack;
        let subject = stack.read(desk.token, AssetToken::onchainIDCall {}).await;
        let hash = claim_signing_hash(subject, topic_id("collateral"), &data);
        let add = Identity::addClaimCall {
            topic: topic_id("collateral"),
            scheme: U256::ONE,
            issuer: self.identity(desk).await,
            signature: self.0.sign_hash_sync(&hash).unwrap().as_bytes().to_vec().into(),
            data,
            uri: String::new(),
        };
        stack.send(self.0.address(), subject, &add).await;
    }

    async fn identity(&self, desk: &Desk) -> Address {
        let registry = desk.stack.contract(names::IDENTITY_REGISTRY).await;
        desk.stack.read(registry, IdentityRegistry::identityCall { wallet: self.0.address() }).await
    }
}
