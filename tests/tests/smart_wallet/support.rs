//! A running stack with the canonical entry point, a bond, a foreign currency, and a wallet of three signers: two keys that the platform does not hold (weight 1 each)
//! and one that it does (weight 2), of whom a weight of 3 must sign.

use std::path::Path;

use alloy::primitives::{Address, B256, Bytes, U256, address, b256, hex};
use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use alloy::sol_types::SolCall;
use dalp_contracts::bindings::AssetToken::transferCall;
use dalp_contracts::deployer::ENTRY_POINT;
use dalp_devstack::client::{Client, Gateway, keyed, reason};
use dalp_devstack::configuration::TENANT;
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::wallet::smart_wallet_service_client::SmartWalletServiceClient;
use dalp_proto::wallet::{
    ApproveUserOperationRequest, ApproveUserOperationResponse, CreateSmartWalletRequest, DeploySmartWalletRequest,
    GetSmartWalletRequest, GetUserOperationRequest, GetUserOperationResponse, ProposeUserOperationRequest,
    SmartWalletView, UserOperation, UserOperationState, WalletCall, WalletSigner,
};
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
use tonic::Status;

/// The deterministic deployer of the entry point's address, which the development chain has, and the salt it was deployed with everywhere.
const DEPLOYER: Address = address!("0x4e59b44847b379578588920cA78FbF26c0B4956C");
const SALT: B256 = b256!("0x0a59dbff790c23c976a548690c27297883cc66b4c67024f9117b0238995e35e9");
/// What the npm package holds; it is read when the test runs, and nothing of it is built in.
const ARTIFACT: &str = "../contracts/node_modules/@account-abstraction/contracts/artifacts/EntryPoint.json";
/// Creation code of `PlainCurrency` in `contracts/test/gas/Settlement.gas.t.sol`: OpenZeppelin's ERC-20 that anybody may mint.
const PLAIN_CURRENCY: &str = include_str!("../settlement/plain_currency.hex");
/// What the wallet has of the foreign currency.
pub(crate) const COINS: u64 = 50;
/// Far enough for every part but the one that lets time pass.
const LONG_S: u64 = 100_000;

alloy::sol! {
    /// Of a currency that anybody may mint.
    function mint(address to, uint256 amount) external;
}

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    /// Two people, of whom one sets policies and the other decides.
    pub(crate) people: [Client; 2],
    pub(crate) chain: ChainView,
    pub(crate) load: Load,
    /// Signers whose keys the platform does not hold.
    pub(crate) outside: [PrivateKeySigner; 2],
    /// The smart wallet.
    pub(crate) wallet: Wallet,
    /// A currency that is none of the system's assets.
    pub(crate) coin: Address,
}

pub(crate) fn text(address: Address) -> String {
    address.to_checksum(None)
}

impl World {
    /// The wallet is noted and not deployed.
    pub(crate) async fn start() -> Self {
        let mut gateway = String::new();
        let keys = ["ann", "bob"].map(|id| {
            let key = svc_gateway::api_key::ApiKey::generate().expect("random bytes");
            gateway += &format!(
                "\n[[principals]]\nid = \"{id}\"\ntenant = \"{TENANT}\"\nroles = [\"operator\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\nkind = \"person\"\n",
                key.prefix(),
                key.digest()
            );
            key.expose().to_owned()
        });
        let stack = Stack::start(&Options { gateway, ..Options::default() }).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let people = keys.map(|key| Client::new(stack.channel().expect("a channel"), &key).expect("a key"));
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        deploy_entry_point(&chain).await;
        let load = Load::prepare(&client, &chain, 2, "local").await.expect("a bond");
        let outside = [PrivateKeySigner::random(), PrivateKeySigner::random()];
        let code = Bytes::from(hex::decode(PLAIN_CURRENCY.trim()).expect("hex"));
        let coin = chain.send_as_node(None, code).await.expect("created").expect("an address");
        let wallet = Wallet { address: Address::ZERO, text: String::new() };
        let mut world = Self { stack, client, people, chain, load, outside, wallet, coin };
        let request = world.creation();
        let created = world.service().create_smart_wallet(request.clone()).await.expect("noted").into_inner();
        let noted = created.wallet.expect("a wallet");
        world.wallet = Wallet { address: noted.wallet.parse().expect("an address"), text: noted.wallet.clone() };
        let again = world.service().create_smart_wallet(request).await.expect("the same").into_inner();
        assert_eq!(again.wallet, Some(noted), "a repeat answers alike");
        world
    }

    pub(crate) fn creation(&self) -> CreateSmartWalletRequest {
        let signer = |address: Address, weight| WalletSigner { address: text(address), weight };
        let [one, other] = &self.outside;
        CreateSmartWalletRequest {
            name: "Treasury".to_owned(),
            signers: vec![
                signer(one.address(), 1),
                signer(other.address(), 1),
                signer(self.platform_signer().address, 2),
            ],
            threshold: 3,
            ..Default::default()
        }
    }

    /// The signer whose key the platform holds.
    pub(crate) fn platform_signer(&self) -> &Wallet {
        &self.load.holders[0]
    }

    pub(crate) fn service(&self) -> SmartWalletServiceClient<Gateway> {
        SmartWalletServiceClient::new(self.client.gateway())
    }

    /// Deploys the wallet, makes it a verified holder of the bond, and gives it some of the foreign currency.
    pub(crate) async fn deploy(&self) {
        let request = DeploySmartWalletRequest { sender: self.sender(), wallet: self.wallet.text.clone() };
        let accepted = self.service().deploy_smart_wallet(keyed(request, &key())).await.expect("accepted");
        let result = self.done(accepted.into_inner().operation).await;
        assert_eq!(result["wallet"].as_str().map(str::parse), Some(Ok(self.wallet.address)));
        self.load.admit(std::slice::from_ref(&self.wallet)).await.expect("the wallet holds bonds");
        let mint = mintCall { to: self.wallet.address, amount: U256::from(COINS) };
        self.chain.send_as_node(Some(self.coin), mint.abi_encode().into()).await.expect("minted");
    }

    /// A further wallet, deployed.
    pub(crate) async fn deployed(&self, request: CreateSmartWalletRequest) -> Wallet {
        let created = self.service().create_smart_wallet(request).await.expect("noted").into_inner();
        let text = created.wallet.expect("a wallet").wallet;
        let request = DeploySmartWalletRequest { sender: self.sender(), wallet: text.clone() };
        let accepted = self.service().deploy_smart_wallet(keyed(request, &key())).await.expect("accepted");
        self.done(accepted.into_inner().operation).await;
        Wallet { address: text.parse().expect("an address"), text }
    }

    /// Who pays for what the wallet does.
    pub(crate) fn sender(&self) -> String {
        self.load.issuer.text.clone()
    }

    pub(crate) async fn view(&self) -> SmartWalletView {
        let request = GetSmartWalletRequest { wallet: self.wallet.text.clone() };
        let answer = self.service().get_smart_wallet(request).await.expect("a wallet").into_inner();
        answer.wallet.expect("a view")
    }

    /// A transfer of a token by the wallet.
    pub(crate) fn transfer(&self, token: Address, to: Address, amount: u64) -> WalletCall {
        let data = transferCall { to, amount: U256::from(amount) }.abi_encode();
        WalletCall { to: text(token), value_wei: String::new(), data: hex::encode_prefixed(data) }
    }

    /// A transfer of bonds to somebody who may have them.
    pub(crate) fn bonds(&self, amount: u64) -> WalletCall {
        self.transfer(self.load.token, self.load.receiver.address, amount)
    }

    pub(crate) async fn proposal(&self, calls: Vec<WalletCall>) -> ProposeUserOperationRequest {
        ProposeUserOperationRequest {
            sender: self.sender(),
            wallet: self.wallet.text.clone(),
            calls,
            deadline: self.chain.time_s().await.expect("a time") + LONG_S,
            ..Default::default()
        }
    }

    pub(crate) async fn try_propose(&self, request: ProposeUserOperationRequest) -> Result<UserOperation, Status> {
        let answer = self.service().propose_user_operation(keyed(request, &key())).await?.into_inner();
        let proposed = answer.user_operation.expect("a user operation");
        let operation = answer.operation.expect("an operation");
        assert_eq!(
            (operation.state(), &operation.operation_id),
            (OperationState::Completed, &proposed.user_operation_id)
        );
        assert_eq!(proposed.state(), UserOperationState::Pending);
        Ok(proposed)
    }

    pub(crate) async fn propose(&self, calls: Vec<WalletCall>) -> UserOperation {
        self.try_propose(self.proposal(calls).await).await.expect("proposed")
    }

    /// The signature of one of the outside signers over the hash that the proposal shows.
    pub(crate) fn signature(&self, outside: usize, proposed: &UserOperation) -> String {
        let hash: B256 = proposed.hash.parse().expect("a hash");
        hex::encode_prefixed(self.outside[outside].sign_hash_sync(&hash).expect("signed").as_bytes())
    }

    pub(crate) fn approval(&self, outside: usize, proposed: &UserOperation) -> ApproveUserOperationRequest {
        ApproveUserOperationRequest {
            user_operation_id: proposed.user_operation_id.clone(),
            signer: text(self.outside[outside].address()),
            signature: self.signature(outside, proposed),
        }
    }

    pub(crate) fn platform_approval(&self, proposed: &UserOperation) -> ApproveUserOperationRequest {
        ApproveUserOperationRequest {
            user_operation_id: proposed.user_operation_id.clone(),
            signer: self.platform_signer().text.clone(),
            signature: String::new(),
        }
    }

    pub(crate) async fn try_approve(
        &self,
        request: ApproveUserOperationRequest,
    ) -> Result<ApproveUserOperationResponse, Status> {
        Ok(self.service().approve_user_operation(keyed(request, &key())).await?.into_inner())
    }

    /// Approves with an outside key; its operation ends at once.
    pub(crate) async fn approve(&self, outside: usize, proposed: &UserOperation) {
        let answer = self.try_approve(self.approval(outside, proposed)).await.expect("approved");
        assert_eq!(answer.operation.expect("an operation").state(), OperationState::Completed);
    }

    /// Approves with the platform's key, and waits until it has signed.
    pub(crate) async fn approve_by_platform(&self, proposed: &UserOperation) {
        let answer = self.try_approve(self.platform_approval(proposed)).await.expect("approved");
        self.done(answer.operation).await;
    }

    /// The reason of a refusal.
    pub(crate) async fn approval_refused(&self, request: ApproveUserOperationRequest) -> String {
        reason(&self.try_approve(request).await.expect_err("refused"))
    }

    pub(crate) async fn look(&self, proposed: &UserOperation) -> GetUserOperationResponse {
        let request = GetUserOperationRequest { user_operation_id: proposed.user_operation_id.clone() };
        self.service().get_user_operation(request).await.expect("a user operation").into_inner()
    }

    /// Waits until a user operation stands so.
    pub(crate) async fn stands(&self, proposed: &UserOperation, state: UserOperationState) -> UserOperation {
        let ask = async || self.look(proposed).await.user_operation.expect("a user operation");
        until(&format!("{} becomes {state:?}", proposed.note), ask, |one| one.state() == state).await
    }

    /// Waits until so much weight has signed.
    pub(crate) async fn weighs(&self, proposed: &UserOperation, weight: u64) -> GetUserOperationResponse {
        until("the weight is collected", async || self.look(proposed).await, |one| one.approved_weight == weight).await
    }

    pub(crate) async fn done(&self, accepted: Option<Operation>) -> serde_json::Value {
        let operation = self.client.finished(accepted).await.expect("an end");
        assert_eq!(operation.state(), OperationState::Completed, "{operation:?}");
        serde_json::from_str(&operation.result_json).expect("a result")
    }

    pub(crate) async fn balance(&self, token: Address, holder: Address) -> u64 {
        self.chain.balance(token, holder).await.expect("a balance").to()
    }
}

/// Deploys the canonical entry point where it stands on every chain, by the way its authors took.
async fn deploy_entry_point(chain: &ChainView) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(ARTIFACT);
    let artifact = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: `make setup` installs it", path.display()));
    let artifact: serde_json::Value = serde_json::from_str(&artifact).expect("an artifact");
    let code = hex::decode(artifact["bytecode"].as_str().expect("bytecode")).expect("hex");
    let made = DEPLOYER.create2_from_code(SALT, &code);
    assert_eq!(made, ENTRY_POINT, "not the canonical entry point");
    let order = [SALT.as_slice(), &code].concat();
    chain.send_as_node(Some(DEPLOYER), order.into()).await.expect("deployed");
}
