//! What is refused, and how it is told.

use alloy::primitives::{Address, Bytes, U256, hex};
use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use alloy::sol_types::SolCall as _;
use dalp_contracts::bindings::AssetToken::approveCall;
use dalp_devstack::client::{keyed, reason};
use dalp_proto::checker::checker_service_client::CheckerServiceClient;
use dalp_proto::checker::{Policy, SetPolicyRequest};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{OperationState, RejectOperationRequest};
use dalp_proto::wallet::smart_wallet_service_client::SmartWalletServiceClient;
use dalp_proto::wallet::{
    ApproveUserOperationRequest, CancelUserOperationRequest, DeploySmartWalletRequest, GetSmartWalletRequest,
    UserOperationState, WalletCall,
};
use dalp_tests::airdrops::key;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::{World, text};

pub(crate) async fn a_wallet_that_is_not_deployed_is_told_at_preflight(world: &mut World) {
    let before = world.view().await;
    assert!(!before.on_chain.expect("on chain").deployed);
    let refused = world.try_propose(world.proposal(vec![world.bonds(1)]).await).await.expect_err("refused");
    assert_eq!(reason(&refused), "WALLET_NOT_DEPLOYED");

    let mut other = world.creation();
    other.threshold = 2;
    let refused = world.service().create_smart_wallet(other).await.expect_err("the name is taken");
    assert_eq!(reason(&refused), "ALREADY_EXISTS");
    let unknown = text(Address::repeat_byte(0x77));
    let refused = world.service().get_smart_wallet(GetSmartWalletRequest { wallet: unknown.clone() }).await;
    assert_eq!(reason(&refused.expect_err("unknown")), "NOT_FOUND");
    let mut proposal = world.proposal(vec![world.bonds(1)]).await;
    proposal.wallet = unknown;
    assert_eq!(reason(&world.try_propose(proposal).await.expect_err("unknown")), "NOT_FOUND");

    world.deploy().await;
    let on_chain = world.view().await.on_chain.expect("on chain");
    assert!(on_chain.deployed);
    assert_eq!((on_chain.signers.len(), on_chain.threshold), (3, 3));
    let request = DeploySmartWalletRequest { sender: world.sender(), wallet: world.wallet.text.clone() };
    let refused = world.service().deploy_smart_wallet(keyed(request, &key())).await.expect_err("deployed");
    assert_eq!(reason(&refused), "ALREADY_EXISTS");
}

pub(crate) async fn what_does_not_count_is_told(world: &World) {
    let proposed = world.propose(vec![world.bonds(2)]).await;
    let stranger = PrivateKeySigner::random();
    let hash = proposed.hash.parse().expect("a hash");
    let signed =
        |signer: &PrivateKeySigner| hex::encode_prefixed(signer.sign_hash_sync(&hash).expect("signed").as_bytes());
    let by = |signer: Address, signature: String| ApproveUserOperationRequest {
        user_operation_id: proposed.user_operation_id.clone(),
        signer: text(signer),
        signature,
    };
    assert_eq!(world.approval_refused(by(stranger.address(), signed(&stranger))).await, "NOT_A_SIGNER");
    // A signer's name under another's signature, and a signature over something else.
    let one = world.outside[0].address();
    assert_eq!(world.approval_refused(by(one, signed(&stranger))).await, "SIGNATURE_INVALID");
    let other = world.propose(vec![world.bonds(3)]).await;
    assert_eq!(world.approval_refused(by(one, world.signature(0, &other))).await, "SIGNATURE_INVALID");
    assert_eq!(world.approval_refused(by(one, "0x1234".to_owned())).await, "SIGNATURE_INVALID");
    // The platform signs with its own keys only.
    assert_eq!(world.approval_refused(by(one, String::new())).await, "KEY_NOT_FOUND");
    // Whoever may use every wallet is one person all the same, and not each of the signers.
    let ours =
        ApproveUserOperationRequest { signature: String::new(), ..by(world.platform_signer().address, String::new()) };
    let refused =
        SmartWalletServiceClient::new(world.people[0].gateway()).approve_user_operation(keyed(ours, &key())).await;
    let refused = refused.expect_err("another's key");
    assert_eq!(reason(&refused), "WALLET_NOT_OWNED");
    assert!(refused.message().contains("whoever else may use the wallet"), "{refused:?}");
    let nobody =
        ApproveUserOperationRequest { user_operation_id: Uuid::new_v4().to_string(), ..by(one, signed(&stranger)) };
    assert_eq!(world.approval_refused(nobody).await, "NOT_FOUND");
    let mut late = world.proposal(vec![world.bonds(1)]).await;
    late.deadline = world.chain.time_s().await.expect("a time");
    assert_eq!(reason(&world.try_propose(late).await.expect_err("over")), "INVALID_FIELD");
    let look = world.look(&proposed).await;
    assert_eq!((look.approved_weight, look.user_operation.expect("it").approvals.len()), (0, 0));
}

pub(crate) async fn what_takes_too_much_gas_is_not_proposed(world: &World) {
    // Creation code of a contract that counts down from 1,300,000, which takes more than 30,000,000 gas.
    let code = "0x6d6213d6205b6001900380600457005f52600e6012f3";
    let code = Bytes::from(hex::decode(code).expect("hex"));
    let idler = world.chain.send_as_node(None, code).await.expect("created").expect("an address");
    let idle = WalletCall { to: text(idler), value_wei: String::new(), data: String::new() };
    let mut proposal = world.proposal(vec![idle]).await;
    let refused = world.try_propose(proposal.clone()).await.expect_err("refused");
    assert_eq!(reason(&refused), "INVALID_FIELD");
    assert!(refused.message().contains("too much gas"), "{refused:?}");
    // Who names the limit is told by the field itself.
    proposal.call_gas_limit = 30_000_001;
    assert_eq!(reason(&world.try_propose(proposal).await.expect_err("refused")), "INVALID_FIELD");
}

/// What is open is looked at all the time: a wallet with a hundred gets no more until some have ended.
pub(crate) async fn there_is_an_end_to_what_is_open(world: &World) {
    let proposed = world.propose(vec![world.bonds(4)]).await;
    let mut database = PgConnection::connect(&world.stack.settings().database_url).await.expect("connects");
    let filled = sqlx::query(
        "INSERT INTO compliance.user_operations (user_operation_id, tenant_id, chain_id, wallet, proposed_by, command, user_operation, hash, from_block)
         SELECT gen_random_uuid(), o.tenant_id, o.chain_id, o.wallet, 'filler', o.command, o.user_operation, '0x' || encode(sha256(convert_to(n::text, 'utf8')), 'hex'), o.from_block
         FROM compliance.user_operations o, generate_series(1, 100 - (SELECT count(*) FROM compliance.user_operations w
            WHERE (w.tenant_id, w.wallet) = (o.tenant_id, o.wallet) AND w.state IN ('PENDING', 'SUBMITTED'))) n
         WHERE o.user_operation_id = $1::uuid",
    )
    .bind(&proposed.user_operation_id)
    .execute(&mut database)
    .await
    .expect("filled");
    assert!(filled.rows_affected() > 0);
    let refused = world.try_propose(world.proposal(vec![world.bonds(5)]).await).await.expect_err("refused");
    assert_eq!(reason(&refused), "TENANT_QUOTA_EXCEEDED");
    let ended =
        "UPDATE compliance.user_operations SET state = 'CANCELLED', ended_at = now() WHERE proposed_by = 'filler'";
    sqlx::query(ended).execute(&mut database).await.expect("ended");
    world.propose(vec![world.bonds(5)]).await;
}

/// Calls that an attestor refuses of a wallet of one key, it refuses of a smart wallet: as a statement of a co-signer, and as what is sent.
pub(crate) async fn what_the_attestor_would_not_have_moved_is_not_signed(world: &World) {
    let stranger = Address::repeat_byte(0x66);
    let gift = world.propose(vec![world.transfer(world.coin, stranger, 1)]).await;
    let accepted = world.try_approve(world.platform_approval(&gift)).await.expect("accepted");
    let refused = world.client.finished(accepted.operation).await.expect("an end");
    assert_eq!(refused.state(), OperationState::Failed);
    assert_eq!(refused.error.expect("an error").reason, "ATTESTATION_REFUSED");
    let approvals = world.look(&gift).await.user_operation.expect("it").approvals;
    assert!(approvals.iter().all(|approval| !approval.signed), "{approvals:?}");
    assert_eq!(world.balance(world.coin, stranger).await, 0);
    assert_eq!(world.look(&gift).await.user_operation.expect("it").state(), UserOperationState::Pending);
}

/// Other approvals are none of these: what somebody else holds has ids of its own, and here nothing is known under them.
pub(crate) async fn what_others_hold_is_not_released_here(world: &World) {
    let operation = world.load.transfer(0, &key()).await.expect("accepted");
    let approval = ApproveUserOperationRequest {
        user_operation_id: operation.operation_id.clone(),
        signer: world.platform_signer().text.clone(),
        signature: String::new(),
    };
    assert_eq!(world.approval_refused(approval).await, "NOT_FOUND");
    let cancel =
        CancelUserOperationRequest { user_operation_id: operation.operation_id.clone(), reason: "not mine".to_owned() };
    let refused = world.service().cancel_user_operation(cancel).await.expect_err("refused");
    assert_eq!(reason(&refused), "NOT_FOUND");
    let moved = world.client.finished(Some(operation)).await.expect("it ends");
    assert_eq!(moved.state(), OperationState::Completed, "{moved:?}");
}

/// A policy over a currency holds what lets somebody take it, and nobody's key of the platform signs before it is released.
pub(crate) async fn what_a_policy_holds_is_signed_by_no_key_of_ours(world: &World) {
    let [ann, bob] = &world.people;
    let policy = Policy {
        policy_id: "coins".to_owned(),
        asset: text(world.coin),
        threshold: "5000".to_owned(),
        unowned_makers: true,
        ..Policy::default()
    };
    let request = keyed(SetPolicyRequest { policy: Some(policy) }, &key());
    let set = CheckerServiceClient::new(ann.gateway()).set_policy(request).await.expect("set").into_inner();
    assert_eq!(set.operation.expect("an operation").state(), OperationState::Completed);
    let lets = |value: u64| {
        let data = approveCall { spender: world.load.receiver.address, value: U256::from(value) }.abi_encode();
        WalletCall { to: text(world.coin), value_wei: String::new(), data: hex::encode_prefixed(data) }
    };
    world.propose(vec![lets(4_999)]).await;
    let request = keyed(world.proposal(vec![lets(5_000)]).await, &key());
    let answer = world.service().propose_user_operation(request).await.expect("accepted").into_inner();
    let (held, proposed) = (answer.operation.expect("an operation"), answer.user_operation.expect("it"));
    assert_eq!(held.state(), OperationState::AwaitingChecker, "{held:?}");
    assert_eq!(world.approval_refused(world.platform_approval(&proposed)).await, "AWAITING_CHECKER");
    let reject = RejectOperationRequest {
        operation_id: held.operation_id.clone(),
        payload_hash: held.check.expect("a check").payload_hash,
        reason: "not this one".to_owned(),
    };
    OperationServiceClient::new(bob.gateway()).reject_operation(reject).await.expect("refused");
    world.stands(&proposed, UserOperationState::Cancelled).await;
}
