//! Approvals that suffice, and what is sent then.

use alloy::primitives::{Address, Bytes, hex};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall as _;
use dalp_contracts::bindings::SmartAccount;
use dalp_devstack::client::keyed;
use dalp_devstack::scenario::Wallet;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, ListOperationsRequest};
use dalp_proto::wallet::{ListUserOperationsRequest, UserOperation, UserOperationState, WalletCall};
use dalp_tests::airdrops::key;
use sqlx::{Connection as _, PgConnection};

use crate::support::World;

/// Kills of the service, each after the approval that reaches the threshold.
const KILLS: usize = 3;

pub(crate) async fn the_threshold_sends_it_once(world: &World) {
    let (bond, receiver) = (world.load.token, world.load.receiver.address);
    let before = world.balance(bond, receiver).await;
    let sender_before = world.chain.nonce(world.load.issuer.address).await.expect("a nonce");
    let mut request = world.proposal(vec![world.bonds(60), world.bonds(40)]).await;
    request.note = "two transfers".to_owned();
    let proposed = world.try_propose(request).await.expect("proposed");
    assert_eq!((proposed.calls.len(), proposed.approvals.len()), (2, 0));
    let document: serde_json::Value = serde_json::from_str(&proposed.document_json).expect("a document");
    assert_eq!(document["primaryType"], "PackedUserOperation");

    // One key, twice under one idempotency key: one approval.
    let (approval, repeat_key) = (world.approval(0, &proposed), key());
    let first = world.service().approve_user_operation(keyed(approval.clone(), &repeat_key)).await.expect("approved");
    let again = world.service().approve_user_operation(keyed(approval.clone(), &repeat_key)).await.expect("repeated");
    let id = |answer: tonic::Response<dalp_proto::wallet::ApproveUserOperationResponse>| {
        answer.into_inner().operation.expect("an operation").operation_id
    };
    assert_eq!(id(first), id(again));
    assert_eq!(world.approval_refused(approval).await, "ALREADY_APPROVED");
    let collected = world.weighs(&proposed, 1).await;
    assert_eq!((collected.threshold, collected.user_operation.expect("one").approvals.len()), (3, 1));
    assert_eq!(world.balance(bond, receiver).await, before, "nothing moves below the threshold");

    world.approve_by_platform(&proposed).await;
    let executed = world.stands(&proposed, UserOperationState::Executed).await;
    assert_eq!(world.balance(bond, receiver).await, before + 100);
    assert!(executed.failure.is_none() && executed.block_number > 0 && !executed.tx_hash.is_empty(), "{executed:?}");
    let tx_hash = executed.tx_hash.parse().expect("a hash");
    assert_eq!(world.chain.block_of(tx_hash).await.expect("an answer"), Some(executed.block_number));
    let sender_now = world.chain.nonce(world.load.issuer.address).await.expect("a nonce");
    assert_eq!(sender_now, sender_before + 1, "one transaction of our own sender");
    let submission = GetOperationRequest { operation_id: executed.submission_id.clone() };
    let operation = OperationServiceClient::new(world.client.gateway()).get_operation(submission).await;
    assert_eq!(operation.expect("an operation").into_inner().operation.expect("it").kind, "wallet.submit");

    assert_eq!(world.approval_refused(world.approval(1, &proposed)).await, "USER_OPERATION_CLOSED");
    let of_wallet = ListUserOperationsRequest {
        wallet: world.wallet.text.clone(),
        state: UserOperationState::Executed.into(),
        ..Default::default()
    };
    let listed = world.service().list_user_operations(of_wallet).await.expect("a list").into_inner();
    assert_eq!(listed.user_operations, [executed]);
}

/// Whoever may read operations and events must not come by signatures with which anybody could send.
pub(crate) async fn a_signature_is_shown_to_nobody(world: &World) {
    let proposed = world.propose(vec![world.bonds(1)]).await;
    let approval = world.approval(0, &proposed);
    let secret = approval.signature.trim_start_matches("0x").to_owned();
    let brought = world.try_approve(approval).await.expect("approved");
    let ours = world.try_approve(world.platform_approval(&proposed)).await.expect("approved");
    let executed = world.stands(&proposed, UserOperationState::Executed).await;
    let mut operations = OperationServiceClient::new(world.client.gateway());
    let mut told = vec![format!("{brought:?}"), format!("{ours:?}"), format!("{:?}", world.look(&proposed).await)];
    let ids = [brought.operation, ours.operation].map(|operation| operation.expect("an operation").operation_id);
    for operation_id in ids.iter().cloned().chain([executed.submission_id.clone()]) {
        let answer = operations.get_operation(GetOperationRequest { operation_id }).await.expect("an operation");
        let operation = answer.into_inner().operation.expect("it");
        assert!(!operation.result_json.contains("signature"), "{}", operation.result_json);
        told.push(format!("{operation:?}"));
    }
    let listed = world.service().list_user_operations(ListUserOperationsRequest::default()).await.expect("a list");
    told.push(format!("{:?}", listed.into_inner()));
    let mut database = PgConnection::connect(&world.stack.settings().database_url).await.expect("connects");
    for rows in ["SELECT body::text FROM engine.outbox", "SELECT body::text FROM engine.audit_leaves"] {
        told.extend(sqlx::query_scalar::<_, String>(rows).fetch_all(&mut database).await.expect("rows"));
    }
    let orders = "SELECT order_json::text FROM engine.operations WHERE kind = 'wallet.approve'";
    told.extend(sqlx::query_scalar::<_, String>(orders).fetch_all(&mut database).await.expect("rows"));
    assert!(secret.len() == 130 && told.iter().all(|one| !one.contains(&secret)));
}

/// The wallet changes its own signers while another user operation waits: the approval of who is gone counts no more.
pub(crate) async fn a_signer_that_was_removed_meanwhile_counts_no_more(world: &mut World) {
    let (bond, receiver) = (world.load.token, world.load.receiver.address);
    let before = world.balance(bond, receiver).await;
    let waiting = world.propose(vec![world.bonds(7)]).await;
    world.approve(0, &waiting).await;
    world.weighs(&waiting, 1).await;

    // A stranger may not come to sign: the attestor knows nobody of that address, and the signer has no such key.
    let stranger = PrivateKeySigner::random().address();
    let takeover = world.propose(vec![set_owners(&world.wallet, &[(stranger, 1)], 1)]).await;
    let refused = world.try_approve(world.platform_approval(&takeover)).await.expect("accepted");
    let refused = world.client.finished(refused.operation).await.expect("an end");
    assert_eq!(refused.error.expect("an error").reason, "ATTESTATION_REFUSED");

    let (kept, ours) = (world.outside[1].address(), world.platform_signer().address);
    let change = world.propose(vec![set_owners(&world.wallet, &[(kept, 1), (ours, 2)], 3)]).await;
    world.approve_by_platform(&change).await;
    world.approve(0, &change).await;
    world.stands(&change, UserOperationState::Executed).await;
    let now = world.view().await.on_chain.expect("on chain");
    assert_eq!((now.signers.len(), now.threshold), (2, 3));

    // Two of three: the removed signer's one is gone.
    world.approve_by_platform(&waiting).await;
    let weighed = world.weighs(&waiting, 2).await;
    assert_eq!(weighed.user_operation.expect("it").state(), UserOperationState::Pending);
    assert_eq!(world.approval_refused(world.approval(0, &change)).await, "USER_OPERATION_CLOSED");
    assert_eq!(world.balance(bond, receiver).await, before);
    let fresh = world.propose(vec![world.bonds(1)]).await;
    assert_eq!(world.approval_refused(world.approval(0, &fresh)).await, "NOT_A_SIGNER");
    world.approve(1, &waiting).await;
    world.stands(&waiting, UserOperationState::Executed).await;
    assert_eq!(world.balance(bond, receiver).await, before + 7);
    world.outside.swap(0, 1);
}

/// What a wallet calls on itself for others to sign for it.
pub(crate) fn set_owners(wallet: &Wallet, owners: &[(Address, u64)], threshold: u64) -> WalletCall {
    let owners = SmartAccount::SignerSet {
        signers: owners.iter().map(|(signer, _)| Bytes::copy_from_slice(signer.as_slice())).collect(),
        weights: owners.iter().map(|(_, weight)| *weight).collect(),
        threshold,
    };
    let data = SmartAccount::setOwnersCall { owners }.abi_encode();
    WalletCall { to: wallet.text.clone(), value_wei: String::new(), data: hex::encode_prefixed(data) }
}

pub(crate) async fn a_kill_between_approval_and_submission_sends_it_once(world: &mut World) {
    let (bond, receiver) = (world.load.token, world.load.receiver.address);
    let before = world.balance(bond, receiver).await;
    let mut sent = Vec::new();
    // Nobody looks after user operations while somebody else holds the lease: killed between approval and submission.
    lease(world, "owner = 'nobody', until = now() + interval '1 hour'").await;
    let waiting = approved(world).await;
    let now = world.look(&waiting).await.user_operation.expect("it");
    assert_eq!((now.state(), now.approvals.len(), now.submission_id.as_str()), (UserOperationState::Pending, 2, ""));
    killed(world).await;
    assert_eq!(world.balance(bond, receiver).await, before);
    lease(world, "until = '-infinity'").await;
    sent.push(waiting);
    // Killed at whatever line it stands.
    for _ in 1..KILLS {
        sent.push(approved(world).await);
        killed(world).await;
    }
    let mut submissions = Vec::new();
    for proposed in &sent {
        submissions.push(world.stands(proposed, UserOperationState::Executed).await.submission_id);
    }
    let moved = 11 * KILLS as u64;
    assert_eq!(world.balance(bond, receiver).await, before + moved, "each once");
    let request = ListOperationsRequest { kind: "wallet.submit".to_owned(), page_size: 100, ..Default::default() };
    let listed = OperationServiceClient::new(world.client.gateway()).list_operations(request).await;
    let listed = listed.expect("a list").into_inner().operations;
    for submission in &submissions {
        assert_eq!(listed.iter().filter(|one| one.operation_id == *submission).count(), 1);
    }
}

/// A user operation whose approvals suffice.
async fn approved(world: &World) -> UserOperation {
    let proposed = world.propose(vec![world.bonds(11)]).await;
    world.approve_by_platform(&proposed).await;
    world.approve(0, &proposed).await;
    proposed
}

async fn killed(world: &mut World) {
    world.stack.service("svc-compliance").expect("a service").restart().expect("killed, and started again");
    world.stack.wait_until_serving().await.expect("it serves again");
}

async fn lease(world: &World, change: &'static str) {
    let mut database = PgConnection::connect(&world.stack.settings().database_url).await.expect("connects");
    let change = sqlx::AssertSqlSafe(format!("UPDATE compliance.indexer_leases SET {change}"));
    sqlx::query(change).execute(&mut database).await.expect("changed");
}
