//! User operations that end otherwise than by being carried out.

use dalp_devstack::client::reason;
use dalp_proto::wallet::{CancelUserOperationRequest, UserOperationState};
use dalp_tests::waiting::until;

use crate::support::{COINS, World};

/// Both spend all that the wallet has of a currency: the second one was fine when it was proposed and signed. It is not sent, so its approvals are not used up.
pub(crate) async fn a_call_that_would_fail_waits_and_says_why(world: &World) {
    let receiver = world.load.receiver.address;
    let spend = || world.transfer(world.coin, receiver, COINS);
    let first = world.propose(vec![spend()]).await;
    let second = world.propose(vec![spend()]).await;
    for proposed in [&first, &second] {
        world.approve_by_platform(proposed).await;
        world.weighs(proposed, 2).await;
    }
    world.approve(0, &first).await;
    world.stands(&first, UserOperationState::Executed).await;
    assert_eq!(world.balance(world.coin, receiver).await, COINS);

    world.approve(1, &second).await;
    let look = async || world.look(&second).await.user_operation.expect("it");
    let held = until("it is held", look, |one| one.failure.is_some()).await;
    let failure = held.failure.clone().expect("a reason");
    assert_eq!(failure.reason, "UNFROZEN_BALANCE_INSUFFICIENT");
    assert!(failure.metadata.contains_key("contract_error"), "{failure:?}");
    assert_eq!((held.state(), held.submission_id.as_str()), (UserOperationState::Pending, ""));
    assert_eq!(world.balance(world.coin, receiver).await, COINS, "nothing moved twice");

    let cancel = CancelUserOperationRequest {
        user_operation_id: second.user_operation_id.clone(),
        reason: "spent before".to_owned(),
    };
    world.service().cancel_user_operation(cancel).await.expect("cancelled");

    // What fails now is refused at once, in the contract's own words.
    let refused = world.try_propose(world.proposal(vec![spend()]).await).await.expect_err("refused");
    assert_eq!(reason(&refused), "UNFROZEN_BALANCE_INSUFFICIENT");
}

pub(crate) async fn what_is_cancelled_is_not_sent(world: &World) {
    let (bond, receiver) = (world.load.token, world.load.receiver.address);
    let before = world.balance(bond, receiver).await;
    let proposed = world.propose(vec![world.bonds(5)]).await;
    world.approve(0, &proposed).await;
    let cancel = |why: &str| CancelUserOperationRequest {
        user_operation_id: proposed.user_operation_id.clone(),
        reason: why.to_owned(),
    };
    let refused = world.service().cancel_user_operation(cancel("")).await.expect_err("refused");
    assert_eq!(reason(&refused), "INVALID_FIELD");
    for _ in 0..2 {
        let answer = world.service().cancel_user_operation(cancel("another plan")).await.expect("cancelled");
        assert_eq!(answer.into_inner().user_operation.expect("it").state(), UserOperationState::Cancelled);
    }
    assert_eq!(world.approval_refused(world.approval(1, &proposed)).await, "USER_OPERATION_CLOSED");
    assert_eq!(world.approval_refused(world.platform_approval(&proposed)).await, "USER_OPERATION_CLOSED");
    assert_eq!(world.balance(bond, receiver).await, before);
}

pub(crate) async fn below_the_threshold_it_expires(world: &World) {
    let now = world.chain.time_s().await.expect("a time");
    let mut request = world.proposal(vec![world.bonds(3)]).await;
    request.deadline = now + 600;
    let proposed = world.try_propose(request).await.expect("proposed");
    world.approve(0, &proposed).await;
    world.weighs(&proposed, 1).await;
    world.chain.pass(601).await.expect("time passes");
    let expired = world.stands(&proposed, UserOperationState::Expired).await;
    assert!(expired.tx_hash.is_empty() && expired.submission_id.is_empty());
    assert_eq!(world.approval_refused(world.approval(1, &proposed)).await, "USER_OPERATION_EXPIRED");
    let cancel = CancelUserOperationRequest {
        user_operation_id: proposed.user_operation_id.clone(),
        reason: "too late".to_owned(),
    };
    let refused = world.service().cancel_user_operation(cancel).await.expect_err("refused");
    assert_eq!(reason(&refused), "USER_OPERATION_CLOSED");
}
