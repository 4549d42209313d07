//! A settlement as a way around the rules of foreign tokens: what is approved moves later, whoever settles it.

use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U40, hex},
    providers::{Provider as _, ProviderBuilder, RootProvider},
    rpc::types::TransactionRequest,
    sol_types::SolCall as _,
};
use dalp_contracts::{
    bindings::{
        AssetToken::approveCall as allowCall,
        Settlement::{Leg, Terms, approveCall, createCall},
        System,
    },
    roles::names,
};
use dalp_devstack::client::keyed;
use dalp_proto::signer::{CreateKeyRequest, SignStatus, key_service_client::KeyServiceClient};

use crate::{STRANGER, Taken, system_of};

/// Creation code of OpenZeppelin's ERC-20 that anybody may mint.
const CURRENCY: &str = include_str!("../settlement/plain_currency.hex");
/// Far behind every block of this chain.
const CUTOFF_S: u64 = 9_999_999_999;
const AMOUNT: u64 = 100;

alloy::sol! {
    function mint(address to, uint256 amount) external;
}

pub(crate) async fn a_settlement_gives_foreign_tokens_to_nobody_unknown(taken: &Taken) {
    let holder = taken.load.holders[0].address;
    let node: RootProvider = ProviderBuilder::default().connect_http(taken.stack.chain_url().parse().expect("a URL"));
    let asked = System::getCall { name: names::SETTLEMENT }.abi_encode();
    let request = TransactionRequest::default().to(system_of(taken).await).input(Bytes::from(asked).into());
    let settlement = Address::from_word(B256::from_slice(&node.call(request).await.expect("an answer")));

    let code: Bytes = hex::decode(CURRENCY.trim()).expect("hex").into();
    let coin = taken.chain.send_as_node(None, code).await.expect("sent").expect("an address");
    let mint = mintCall { to: holder, amount: U256::from(1_000) }.abi_encode();
    taken.chain.send_as_node(Some(coin), mint.into()).await.expect("minted");
    // The allowance itself is the settlement contract's to have.
    let allow = allowCall { spender: settlement, value: U256::MAX }.abi_encode();
    let signed = taken.sign(&taken.request(holder, taken.call(Some(coin), 0, allow.clone()))).await;
    assert_eq!(signed.expect("an outcome").status(), SignStatus::Approved);
    let done: Result<serde_json::Value, _> = node.raw_request("anvil_impersonateAccount".into(), (holder,)).await;
    done.expect("impersonated");
    let allowed = TransactionRequest::default().from(holder).to(coin).input(Bytes::from(allow).into());
    let sent: B256 = node.raw_request("eth_sendTransaction".into(), (allowed,)).await.expect("sent");
    let allowed = async || node.get_transaction_receipt(sent).await.expect("an answer");
    dalp_tests::waiting::until("the allowance is given", allowed, Option::is_some).await;

    let key = CreateKeyRequest { wallet: "unregistered".into(), provider: "local".into(), owner: String::new() };
    let keys = KeyServiceClient::new(taken.stack.client().expect("a client").gateway());
    let own = { keys }.create_key(keyed(key, "unregistered")).await.expect("a key").into_inner().key.expect("a key");
    let own: Address = own.address.parse().expect("an address");
    let approval = async |asset: Address, receivers: &[Address]| {
        let leg = |to: &Address| Leg { asset, from: holder, to: *to, amount: U256::from(AMOUNT), chainId: 0 };
        let terms = Terms {
            salt: B256::left_padding_from(uuid::Uuid::new_v4().as_bytes()),
            name: "Taken over".to_owned(),
            cutoff: U40::from(CUTOFF_S),
            autoExecute: true,
            hashKind: 0,
            hashlock: B256::ZERO,
            legs: receivers.iter().map(leg).collect(),
        };
        // Opening binds nobody, so anybody may.
        let open = createCall { terms: terms.clone() }.abi_encode();
        taken.chain.send_as_node(Some(settlement), open.into()).await.expect("opened");
        taken.call(Some(settlement), 0, approveCall { terms }.abi_encode())
    };
    // Registered, and a key of the tenant that is not registered: the signer has it.
    let payload = approval(coin, &[taken.load.receiver.address, own]).await;
    let outcome = taken.sign(&taken.request(holder, payload)).await.expect("an outcome");
    assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
    for receivers in [&[STRANGER][..], &[taken.load.receiver.address, STRANGER]] {
        let payload = approval(coin, receivers).await;
        assert_eq!(taken.refused(holder, payload).await, "KEY_UNKNOWN", "the contract would take it");
    }
}
