//! What happens past the platform, and signers that are contracts.

use alloy::primitives::{Address, B256, Bytes, U256, hex};
use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use alloy::sol_types::{SolCall as _, SolStruct as _, eip712_domain};
use dalp_contracts::deployer::ENTRY_POINT;
use dalp_devstack::scenario::Wallet;
use dalp_proto::wallet::{
    ApproveUserOperationRequest, CreateSmartWalletRequest, UserOperation, UserOperationState, WalletCall, WalletSigner,
};
use dalp_tests::waiting::until;
use svc_compliance::wallet::operation::{Signed, UserOperation as Operation, together};

use crate::approving::set_owners;
use crate::support::{World, mintCall, text};

alloy::sol! {
    /// What the signers of an account sign for it to vouch for a hash (ERC-1271).
    struct AccountMessage {
        bytes32 hash;
    }
}

/// A wallet of two outside keys, of which both must sign.
async fn of_two_keys(world: &World, name: &str, keys: &[PrivateKeySigner; 2]) -> Wallet {
    let signers = keys.iter().map(|key| WalletSigner { address: text(key.address()), weight: 1 }).collect();
    let request = CreateSmartWalletRequest { name: name.to_owned(), signers, threshold: 2, ..Default::default() };
    world.deployed(request).await
}

fn mint(world: &World, amount: u64) -> WalletCall {
    let data = mintCall { to: world.load.receiver.address, amount: U256::from(amount) }.abi_encode();
    WalletCall { to: text(world.coin), value_wei: String::new(), data: hex::encode_prefixed(data) }
}

async fn proposed(world: &World, wallet: &Wallet, calls: Vec<WalletCall>) -> UserOperation {
    let mut request = world.proposal(calls).await;
    request.wallet = wallet.text.clone();
    world.try_propose(request).await.expect("proposed")
}

fn signed(key: &PrivateKeySigner, hash: B256) -> Signed {
    let signature = key.sign_hash_sync(&hash).expect("signed").as_bytes();
    Signed { signer: key.address(), signature: Bytes::copy_from_slice(&signature) }
}

/// Has the node send a user operation with these keys' signatures, past the platform.
async fn sent_elsewhere(world: &World, wallet: &Wallet, keys: &[PrivateKeySigner], one: &UserOperation) {
    let hash: B256 = one.hash.parse().expect("a hash");
    let operation = Operation {
        chain_id: one.chain_id,
        entry_point: one.entry_point.parse().expect("an address"),
        wallet: wallet.address,
        nonce: one.nonce.parse().expect("a nonce"),
        call_data: {
            let document: serde_json::Value = serde_json::from_str(&one.document_json).expect("a document");
            document["message"]["callData"].as_str().and_then(|text| text.parse().ok()).expect("call data")
        },
        call_gas_limit: one.call_gas_limit,
        verification_gas_limit: one.verification_gas_limit,
    };
    assert_eq!(operation.hash(), hash, "what the answer shows is what is signed");
    let signatures = keys.iter().map(|key| signed(key, hash)).collect();
    let handle = operation.handle(signatures, Address::repeat_byte(0xbe));
    world.chain.send_as_node(Some(ENTRY_POINT), handle.abi_encode().into()).await.expect("sent");
}

/// The approval of a co-signer that is a wallet itself, by the word of its own signers.
fn vouched(one: &UserOperation, board: &Wallet, keys: &[PrivateKeySigner]) -> ApproveUserOperationRequest {
    let domain = eip712_domain! {
        name: "SmartAccount",
        version: "1",
        chain_id: one.chain_id,
        verifying_contract: board.address,
    };
    let hash: B256 = one.hash.parse().expect("a hash");
    let message = AccountMessage { hash }.eip712_signing_hash(&domain);
    ApproveUserOperationRequest {
        user_operation_id: one.user_operation_id.clone(),
        signer: board.text.clone(),
        signature: together(keys.iter().map(|key| signed(key, message)).collect()).to_string(),
    }
}

/// Whoever has the signatures may send it: the platform takes over what the chain says.
pub(crate) async fn what_somebody_else_sends_is_found(world: &World) {
    let keys = [PrivateKeySigner::random(), PrivateKeySigner::random()];
    let wallet = of_two_keys(world, "Sent elsewhere", &keys).await;
    let receiver = world.load.receiver.address;
    let before = world.balance(world.coin, receiver).await;
    let one = proposed(world, &wallet, vec![mint(world, 4)]).await;
    sent_elsewhere(world, &wallet, &keys, &one).await;
    let found = world.stands(&one, UserOperationState::Executed).await;
    assert!(found.submission_id.is_empty() && !found.tx_hash.is_empty() && found.block_number > 0, "{found:?}");
    assert_eq!(world.balance(world.coin, receiver).await, before + 4);

    // Both spend all that there is. The entry point takes the second one too, and its calls fail.
    let coins = mintCall { to: wallet.address, amount: U256::from(6) };
    world.chain.send_as_node(Some(world.coin), coins.abi_encode().into()).await.expect("minted");
    let spend = || vec![world.transfer(world.coin, receiver, 6)];
    let first = proposed(world, &wallet, spend()).await;
    let second = proposed(world, &wallet, spend()).await;
    for one in [&first, &second] {
        sent_elsewhere(world, &wallet, &keys, one).await;
    }
    world.stands(&first, UserOperationState::Executed).await;
    let failed = world.stands(&second, UserOperationState::Failed).await;
    assert_eq!(failed.failure.expect("a reason").reason, "UNFROZEN_BALANCE_INSUFFICIENT");
    assert!(!failed.tx_hash.is_empty() && failed.block_number > 0);
    assert_eq!(world.balance(world.coin, receiver).await, before + 10);
}

/// A wallet that signs for another wallet by its own co-signers' word.
pub(crate) async fn a_contract_signs_by_its_own_word(world: &World) {
    let keys = [PrivateKeySigner::random(), PrivateKeySigner::random()];
    let board = of_two_keys(world, "Board", &keys).await;
    let request = CreateSmartWalletRequest {
        name: "Subsidiary".to_owned(),
        signers: vec![WalletSigner { address: board.text.clone(), weight: 1 }],
        threshold: 1,
        ..Default::default()
    };
    let subsidiary = world.deployed(request).await;
    let coins = mintCall { to: subsidiary.address, amount: U256::from(9) };
    world.chain.send_as_node(Some(world.coin), coins.abi_encode().into()).await.expect("minted");
    let receiver = world.load.receiver.address;
    let before = world.balance(world.coin, receiver).await;
    let one = proposed(world, &subsidiary, vec![world.transfer(world.coin, receiver, 9)]).await;

    assert_eq!(world.approval_refused(vouched(&one, &board, &keys[..1])).await, "SIGNATURE_INVALID", "one of two");
    world.try_approve(vouched(&one, &board, &keys)).await.expect("approved");
    world.stands(&one, UserOperationState::Executed).await;
    assert_eq!(world.balance(world.coin, receiver).await, before + 9);
}

/// A co-signer that is a contract vouches, and then takes its word back: what it vouched for is not sent by it, and is by the others.
pub(crate) async fn a_contract_may_take_its_word_back(world: &World) {
    let (keys, others) = ([(); 2].map(|()| PrivateKeySigner::random()), [(); 2].map(|()| PrivateKeySigner::random()));
    let board = of_two_keys(world, "Fickle board", &keys).await;
    let signers = [board.address, others[0].address(), others[1].address()];
    let request = CreateSmartWalletRequest {
        name: "Of a fickle board".to_owned(),
        signers: signers.map(|signer| WalletSigner { address: text(signer), weight: 1 }).to_vec(),
        threshold: 2,
        ..Default::default()
    };
    let wallet = world.deployed(request).await;
    let coins = mintCall { to: wallet.address, amount: U256::from(3) };
    world.chain.send_as_node(Some(world.coin), coins.abi_encode().into()).await.expect("minted");
    let receiver = world.load.receiver.address;
    let one = proposed(world, &wallet, vec![world.transfer(world.coin, receiver, 3)]).await;
    let hash: B256 = one.hash.parse().expect("a hash");
    world.try_approve(vouched(&one, &board, &keys)).await.expect("approved");

    let change = proposed(world, &board, vec![set_owners(&board, &[(keys[0].address(), 1)], 1)]).await;
    sent_elsewhere(world, &board, &keys, &change).await;
    world.stands(&change, UserOperationState::Executed).await;
    let by = |key: &PrivateKeySigner| ApproveUserOperationRequest {
        user_operation_id: one.user_operation_id.clone(),
        signer: text(key.address()),
        signature: signed(key, hash).signature.to_string(),
    };
    world.try_approve(by(&others[0])).await.expect("approved");
    let look = async || world.look(&one).await.user_operation.expect("it");
    let held = until("it is told why it is not sent", look, |one| one.failure.is_some()).await;
    assert_eq!((held.state(), held.submission_id.as_str()), (UserOperationState::Pending, ""));
    assert_eq!(held.failure.expect("a reason").reason, "SIGNATURE_INVALID");

    world.try_approve(by(&others[1])).await.expect("approved");
    world.stands(&one, UserOperationState::Executed).await;
}
