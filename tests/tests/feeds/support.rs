//! A running stack with a publisher, and an issuer outside whose key the platform does not hold.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, I256, U256, aliases::U80};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use alloy::sol_types::SolCall;
use dalp_contracts::bindings::IssuerSignedScalarFeed;
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::feeds::feed_directory_service_client::FeedDirectoryServiceClient;
use dalp_proto::feeds::feed_service_client::FeedServiceClient;
use dalp_proto::feeds::{
    CreateFeedRequest, Feed, GetFeedRequest, GetLatestRequest, GetLatestResponse, GetNonceRequest, GetRoundRequest,
    HistoryMode, SubmitSignedUpdateRequest, SubmitUpdateRequest,
};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{
    AddTrustedIssuerRequest, GetIdentityRequest, RegisterIdentityRequest, RegisterTopicRequest,
};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::signer::CreateKeyRequest;
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::system::BootstrapRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;
use svc_feeds::domain::update::Update;
use tonic::Status;
use uuid::Uuid;

pub(crate) use dalp_tests::waiting::until;

/// The topic of most feeds.
pub(crate) const PRICE: &str = "price";

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) node: RootProvider,
    /// Administers the system, manages feeds and issues.
    pub(crate) issuer: Wallet,
    /// A second wallet, with an identity that nobody trusts.
    pub(crate) other: Wallet,
    /// An issuer whose key the platform does not hold.
    pub(crate) outside: PrivateKeySigner,
    /// Its identity.
    pub(crate) outside_identity: Address,
    /// Identity of the issuer.
    pub(crate) issuer_identity: Address,
}

/// A feed, as far as tests ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) topic: String,
    pub(crate) subject: String,
    pub(crate) decimals: u32,
    pub(crate) mode: HistoryMode,
    pub(crate) size: u32,
    pub(crate) positive: bool,
    pub(crate) drift_s: u32,
    pub(crate) replace: bool,
}

/// What must not change when an update is refused, as the service tells it and as the feed itself does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    latest: Option<(String, String, u64)>,
    next_nonces: [u64; 2],
    /// Round, answer, and when it was observed.
    on_chain: (U80, I256, U256),
    nonces_on_chain: [U256; 2],
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

pub(crate) fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// A fresh key of a request.
pub(crate) fn fresh<T>(message: T) -> tonic::Request<T> {
    keyed(message, &Uuid::new_v4().to_string())
}

impl World {
    pub(crate) async fn start() -> Self {
        let stack = Stack::start(&Options::default()).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let node = ProviderBuilder::default().connect_http(stack.chain_url().parse().expect("a URL"));
        let issuer = wallet(&client, &chain, "issuer").await;
        let other = wallet(&client, &chain, "other").await;
        let outside = PrivateKeySigner::random();
        let world = Self {
            stack,
            client,
            node,
            issuer,
            other,
            outside,
            outside_identity: Address::ZERO,
            issuer_identity: Address::ZERO,
        };
        let bootstrap = BootstrapRequest { admin: world.issuer.text.clone(), chain_id: 0 };
        let accepted = SystemServiceClient::new(world.client.gateway()).bootstrap(fresh(bootstrap)).await;
        world.done(accepted.expect("accepted").into_inner().operation).await;
        for name in [PRICE, "nav", "spread", "fx", "plain"] {
            world.topic(name, "(int256 value)").await;
        }
        world.topic("kyc", "(bytes payload)").await;
        let outsider = text(world.outside.address());
        for wallet in [world.issuer.text.clone(), world.other.text.clone(), outsider.clone()] {
            let register = RegisterIdentityRequest { sender: world.issuer.text.clone(), wallet, country: 756 };
            let accepted = world.identities().register_identity(fresh(register)).await;
            world.done(accepted.expect("accepted").into_inner().operation).await;
        }
        for issuer in [world.issuer.text.clone(), outsider.clone()] {
            world.trust(&issuer).await;
        }
        let (issuer_identity, outside_identity) =
            (world.identity(&world.issuer.text).await, world.identity(&outsider).await);
        Self { issuer_identity, outside_identity, ..world }
    }

    pub(crate) fn feeds(&self) -> FeedServiceClient<Gateway> {
        FeedServiceClient::new(self.client.gateway())
    }

    pub(crate) fn directory(&self) -> FeedDirectoryServiceClient<Gateway> {
        FeedDirectoryServiceClient::new(self.client.gateway())
    }

    pub(crate) fn identities(&self) -> IdentityServiceClient<Gateway> {
        IdentityServiceClient::new(self.client.gateway())
    }

    pub(crate) async fn topic(&self, name: &str, schema: &str) {
        let (name, signature) = (name.to_owned(), schema.to_owned());
        let topic = RegisterTopicRequest { sender: self.issuer.text.clone(), name, signature };
        let accepted = self.identities().register_topic(fresh(topic)).await;
        self.done(accepted.expect("accepted").into_inner().operation).await;
    }

    pub(crate) async fn trust(&self, issuer: &str) {
        let topics = [PRICE, "nav", "spread", "fx", "plain"].map(str::to_owned).to_vec();
        let trust = AddTrustedIssuerRequest { sender: self.issuer.text.clone(), issuer: issuer.to_owned(), topics };
        let accepted = self.identities().add_trusted_issuer(fresh(trust)).await;
        self.done(accepted.expect("accepted").into_inner().operation).await;
    }

    async fn identity(&self, wallet: &str) -> Address {
        let asked = GetIdentityRequest { wallet: wallet.to_owned() };
        let found = self.identities().get_identity(asked).await.expect("registered").into_inner();
        found.identity.expect("an identity").identity.parse().expect("an address")
    }

    /// Waits until an operation is final, and fails unless it has succeeded. Its result.
    pub(crate) async fn done(&self, accepted: Option<Operation>) -> serde_json::Value {
        let operation = self.client.finished(accepted).await.expect("it ends");
        assert_eq!(operation.state(), OperationState::Completed, "{operation:?}");
        serde_json::from_str(&operation.result_json).expect("a result")
    }

    /// Waits until an operation is final, and fails unless it was refused. Reason and name of the contract's error.
    pub(crate) async fn refused(&self, accepted: Option<Operation>) -> (String, String) {
        let operation = self.client.finished(accepted).await.expect("it ends");
        assert_eq!(operation.state(), OperationState::Failed, "{operation:?}");
        let error = operation.error.expect("an error");
        (error.reason, error.metadata.get("contract_error").cloned().unwrap_or_default())
    }

    pub(crate) fn creation(&self, wanted: &Wanted) -> CreateFeedRequest {
        let Wanted { topic, subject, decimals, mode, size, positive, drift_s, replace } = wanted.clone();
        CreateFeedRequest {
            sender: self.issuer.text.clone(),
            subject,
            topic_name: topic,
            decimals,
            description: "EUR/CHF".to_owned(),
            history_mode: mode.into(),
            history_size: size,
            require_positive: positive,
            drift_allowance_s: drift_s,
            replace,
            ..Default::default()
        }
    }

    /// Creates a feed.
    pub(crate) async fn feed(&self, wanted: Wanted) -> Address {
        let accepted = self.feeds().create_feed(fresh(self.creation(&wanted))).await.expect("accepted").into_inner();
        let result = self.done(accepted.operation).await;
        result["feed"].as_str().expect("a feed").parse().expect("an address")
    }

    pub(crate) fn update(&self, feed: Address, value: &str, observed_at: u64) -> SubmitUpdateRequest {
        SubmitUpdateRequest {
            feed: text(feed),
            value: value.to_owned(),
            observed_at,
            sender: self.issuer.text.clone(),
            ..Default::default()
        }
    }

    pub(crate) async fn submit(&self, update: SubmitUpdateRequest) -> Option<Operation> {
        self.feeds().submit_update(fresh(update)).await.expect("accepted").into_inner().operation
    }

    /// Publishes a value and waits until it is final and indexed. Its round.
    pub(crate) async fn publish(&self, feed: Address, value: &str, observed_at: u64) -> u64 {
        let accepted = self.submit(self.update(feed, value, observed_at)).await;
        let result = self.done(accepted).await;
        let round: u64 = result["round_id"].as_str().expect("a round").parse().expect("a number");
        self.indexed(feed, round).await;
        round
    }

    /// Waits until the index has a round.
    pub(crate) async fn indexed(&self, feed: Address, round: u64) {
        let asked = || GetRoundRequest { feed: text(feed), round_id: round.to_string(), on_chain: false };
        until("the round is indexed", async || self.feeds().get_round(asked()).await.is_ok(), |found| *found).await;
    }

    pub(crate) async fn latest(&self, feed: Address) -> Result<GetLatestResponse, Status> {
        let asked = GetLatestRequest { feed: text(feed), max_age_s: 0 };
        Ok(self.feeds().get_latest(asked).await?.into_inner())
    }

    pub(crate) async fn settings(&self, feed: Address) -> Feed {
        let asked = GetFeedRequest { feed: text(feed) };
        self.feeds().get_feed(asked).await.expect("settings").into_inner().feed.expect("a feed")
    }

    pub(crate) async fn next_nonce(&self, feed: Address, issuer: Address) -> u64 {
        let asked = GetNonceRequest { feed: text(feed), issuer: text(issuer) };
        self.feeds().get_nonce(asked).await.expect("a nonce").into_inner().next_nonce
    }

    pub(crate) async fn state(&self, feed: Address) -> State {
        let latest = self.latest(feed).await.ok();
        let [issuer, outside] = [self.issuer_identity, self.outside_identity];
        let answer = self.call(feed, IssuerSignedScalarFeed::latestRoundDataCall {}).await;
        let nonce = async |issuer| self.call(feed, IssuerSignedScalarFeed::issuerNonceCall { issuer }).await;
        State {
            latest: latest.map(|latest| (latest.round_id, latest.value, latest.observed_at)),
            next_nonces: [self.next_nonce(feed, issuer).await, self.next_nonce(feed, outside).await],
            on_chain: (answer._0, answer._1, answer._3),
            nonces_on_chain: [nonce(issuer).await, nonce(outside).await],
        }
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.stack.settings().chain_id
    }

    /// An update of the issuer outside, unsigned.
    pub(crate) async fn unsigned(&self, feed: Address, topic: &str, value: i64, observed_at: u64) -> Update {
        Update {
            topic_id: dalp_contracts::encode::topic_id(topic),
            schema_hash: alloy::primitives::keccak256("(int256 value)"),
            value: I256::try_from(value).expect("small"),
            observed_at,
            nonce: self.next_nonce(feed, self.outside_identity).await,
            deadline: U256::ZERO,
        }
    }

    /// The request that submits an update of the issuer outside, signed by it.
    pub(crate) fn signed(&self, feed: Address, update: &Update) -> SubmitSignedUpdateRequest {
        let signature = self.outside.sign_hash_sync(&update.digest(self.chain_id(), feed)).expect("signed");
        SubmitSignedUpdateRequest {
            sender: self.issuer.text.clone(),
            feed: text(feed),
            issuer: text(self.outside_identity),
            topic_id: update.topic_id.to_string(),
            schema_hash: update.schema_hash.to_string(),
            value: update.value.to_string(),
            observed_at: update.observed_at,
            nonce: update.nonce,
            deadline: update.deadline.saturating_to(),
            signature: alloy::hex::encode_prefixed(signature.as_bytes()),
        }
    }

    pub(crate) async fn submit_signed(&self, request: SubmitSignedUpdateRequest) -> Option<Operation> {
        self.feeds().submit_signed_update(fresh(request)).await.expect("accepted").into_inner().operation
    }

    // === what the platform knows nothing of ===

    /// Asks a contract.
    pub(crate) async fn call<C: SolCall>(&self, target: Address, call: C) -> C::Return {
        let request = TransactionRequest::default().with_to(target).with_input(call.abi_encode());
        let answer = self.node.call(request).await.expect("it answers");
        C::abi_decode_returns(&answer).expect("it answers so")
    }

    /// Sends a transaction from an account of the development node, and waits for its block.
    pub(crate) async fn send(&self, target: Option<Address>, input: Vec<u8>) -> Address {
        let from = self.node.get_accounts().await.expect("accounts")[0];
        let mut request = TransactionRequest::default().with_from(from).with_input(input).with_gas_limit(5_000_000);
        request.to = Some(target.map_or(alloy::primitives::TxKind::Create, alloy::primitives::TxKind::Call));
        let sent: B256 = self.rpc("eth_sendTransaction", (request,)).await;
        let receipt = until(
            "the transaction is in a block",
            async || self.node.get_transaction_receipt(sent).await.expect("the node answers"),
            Option::is_some,
        );
        let receipt = receipt.await.expect("a receipt");
        assert!(receipt.status(), "{receipt:?}");
        receipt.contract_address.unwrap_or_default()
    }

    pub(crate) async fn rpc<P, R>(&self, method: &'static str, params: P) -> R
    where
        P: serde::Serialize + Clone + std::fmt::Debug + Send + Sync + Unpin + 'static,
        R: serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + Unpin + 'static,
    {
        self.node.raw_request(method.into(), params).await.expect(method)
    }
}

pub(crate) async fn wallet(client: &Client, chain: &ChainView, name: &str) -> Wallet {
    let request = CreateKeyRequest { wallet: name.to_owned(), provider: "local".to_owned(), owner: String::new() };
    let created = KeyServiceClient::new(client.gateway()).create_key(fresh(request)).await.expect("a key");
    let key = created.into_inner().key.expect("a key");
    let wallet = Wallet { address: key.address.parse().expect("an address"), text: key.address };
    chain.fund(wallet.address, U256::from(10u64).pow(U256::from(21u64))).await.expect("funded");
    wallet
}
