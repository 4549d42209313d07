//! A running stack with a bond, its operator, two persons, and a machine that one of them answers for.

use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::configuration::TENANT;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{AssetRole, MintRequest};
use dalp_proto::checker::checker_service_client::CheckerServiceClient;
use dalp_proto::checker::{Policy, RemovePolicyRequest, SetPolicyRequest};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{
    ApproveOperationRequest, GetOperationRequest, Operation, OperationState, RejectOperationRequest,
};
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::offerings::{Cash, Offerings};
use dalp_tests::treasuries::Treasuries;
use tonic::{Request, Status};

/// From so many base units on, a mint of the bond is held.
pub(crate) const LARGE: u64 = 1_000;
/// Base units of the currency that the issuer starts with.
const CASH: u64 = 1_000_000_000;

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) chain: ChainView,
    /// A machine that nobody answers for.
    pub(crate) operator: Client,
    /// A person.
    pub(crate) ann: Client,
    /// A machine of Ann's.
    pub(crate) ann_desk: Client,
    /// Another person, and its key.
    pub(crate) bob: Client,
    pub(crate) bob_key: String,
    pub(crate) load: Load,
    pub(crate) euro: Cash,
}

impl World {
    pub(crate) async fn start() -> Self {
        let mut gateway = String::new();
        let mut principal = |id: &str, more: &str| {
            let key = svc_gateway::api_key::ApiKey::generate().expect("random bytes");
            gateway += &format!(
                "\n[[principals]]\nid = \"{id}\"\ntenant = \"{TENANT}\"\nroles = [\"operator\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n{more}\n",
                key.prefix(),
                key.digest()
            );
            key.expose().to_owned()
        };
        let desk = principal("ann-desk", "owner = \"ann\"");
        let ann = principal("ann", "kind = \"person\"");
        let bob_key = principal("bob", "kind = \"person\"");
        let stack = Stack::start(&Options { gateway, ..Options::default() }).await.expect("the stack starts");
        let operator = stack.client().expect("a client");
        let client = |key: &str| Client::new(stack.channel().expect("a channel"), key).expect("a key");
        let (ann, ann_desk, bob) = (client(&ann), client(&desk), client(&bob_key));
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&operator, &chain, 2, "local").await.expect("a bond");
        let offerings = Offerings { client: &operator, load: &load };
        offerings.grant(AssetRole::Funds, &load.issuer.text).await.expect("funds");
        let holders: Vec<_> = load.holders.iter().chain([&load.issuer]).cloned().collect();
        let euro = offerings.issue_cash("EUR", 2, &holders, CASH).await.expect("euros");
        let world = Self { stack, chain, operator, ann, ann_desk, bob, bob_key, load, euro };
        for policy in world.policies() {
            let set = world.set(&world.ann, policy).await.expect("set");
            assert_eq!(set.state(), OperationState::Completed, "{set:?}");
        }
        world
    }

    /// Large mints of the bond; everything large in euros; a kind of each other service.
    fn policies(&self) -> [Policy; 3] {
        let bond = self.load.token.to_checksum(None);
        // The operator of the devstack is a machine that nobody answers for.
        let named =
            |policy_id: &str| Policy { policy_id: policy_id.to_owned(), unowned_makers: true, ..Policy::default() };
        let except_kinds = vec!["settlement.approve".to_owned()];
        [
            Policy { kinds: vec!["asset.mint".into()], asset: bond, threshold: LARGE.to_string(), ..named("mints") },
            Policy { asset: self.euro.text.clone(), threshold: "5000".into(), except_kinds, ..named("euros") },
            Policy { kinds: vec!["settlement.approve".into(), "feed.create".into()], ..named("kinds") },
        ]
    }

    pub(crate) async fn set(&self, by: &Client, policy: Policy) -> Result<Operation, Status> {
        let request = keyed(SetPolicyRequest { policy: Some(policy) }, &key());
        let answer = CheckerServiceClient::new(by.gateway()).set_policy(request).await?.into_inner();
        Ok(answer.operation.expect("an operation"))
    }

    pub(crate) async fn remove(&self, by: &Client, policy_id: &str) -> Result<Operation, Status> {
        let request = keyed(RemovePolicyRequest { policy_id: policy_id.to_owned() }, &key());
        let answer = CheckerServiceClient::new(by.gateway()).remove_policy(request).await?.into_inner();
        Ok(answer.operation.expect("an operation"))
    }

    pub(crate) fn treasuries(&self) -> Treasuries<'_> {
        Treasuries { client: &self.operator, load: &self.load }
    }

    pub(crate) fn mint_request(&self, amount: u64) -> MintRequest {
        MintRequest {
            sender: self.load.issuer.text.clone(),
            asset: self.load.token.to_checksum(None),
            to: self.load.receiver.text.clone(),
            amount: amount.to_string(),
        }
    }

    pub(crate) async fn mint(&self, by: &Client, amount: u64) -> Result<Operation, Status> {
        self.mint_again(by, amount, &key()).await
    }

    /// Under a key of the caller's.
    pub(crate) async fn mint_again(&self, by: &Client, amount: u64, key: &str) -> Result<Operation, Status> {
        let request = keyed(self.mint_request(amount), key);
        let answer = AssetServiceClient::new(by.gateway()).mint(request).await?.into_inner();
        Ok(answer.operation.expect("an operation"))
    }

    pub(crate) async fn minted(&self) -> u64 {
        self.chain.balance(self.load.token, self.load.receiver.address).await.expect("a balance").to()
    }

    pub(crate) async fn get(&self, id: &str) -> Operation {
        let request = GetOperationRequest { operation_id: id.to_owned() };
        let answer = OperationServiceClient::new(self.bob.gateway()).get_operation(request).await;
        answer.expect("it is there").into_inner().operation.expect("an operation")
    }

    pub(crate) async fn approve(&self, by: &Client, held: &Operation) -> Result<Operation, Status> {
        self.approve_hash(by, held, &hash(held)).await
    }

    pub(crate) async fn approve_hash(&self, by: &Client, held: &Operation, hash: &str) -> Result<Operation, Status> {
        let request = ApproveOperationRequest {
            operation_id: held.operation_id.clone(),
            payload_hash: hash.to_owned(),
            reason: "looked at".into(),
        };
        let answer = OperationServiceClient::new(by.gateway()).approve_operation(Request::new(request)).await?;
        Ok(answer.into_inner().operation.expect("an operation"))
    }

    pub(crate) async fn reject(&self, by: &Client, held: &Operation) -> Result<Operation, Status> {
        let request = RejectOperationRequest {
            operation_id: held.operation_id.clone(),
            payload_hash: hash(held),
            reason: "not this one".into(),
        };
        let answer = OperationServiceClient::new(by.gateway()).reject_operation(Request::new(request)).await?;
        Ok(answer.into_inner().operation.expect("an operation"))
    }

    /// Bob approves it, and it completes. Its result.
    pub(crate) async fn approved(&self, held: &Operation) -> serde_json::Value {
        let begun = self.approve(&self.bob, held).await.expect("approved");
        let done = self.operator.finished(Some(begun)).await.expect("final");
        assert_eq!(done.state(), OperationState::Completed, "{done:?}");
        serde_json::from_str(&done.result_json).expect("a result")
    }
}

pub(crate) fn hash(held: &Operation) -> String {
    held.check.as_ref().expect("a check").payload_hash.clone()
}

/// Nothing of it has begun.
pub(crate) fn is_held(operation: &Operation) {
    assert_eq!(operation.state(), OperationState::AwaitingChecker, "{operation:?}");
    assert!(operation.transactions.is_empty() && operation.result_json.is_empty(), "{operation:?}");
}

pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    reason(&answer.expect_err("refused"))
}
