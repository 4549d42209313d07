//! What stands behind an approval: refused or queued, as the lane is set.

use dalp_devstack::client::reason;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{ListOperationsRequest, OperationState};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{
    BehindApproval, ExplainLaneRequest, HoldKind, Lane, ListLanesRequest, SetLanePolicyRequest,
};
use dalp_service::Refusal;
use dalp_tests::waiting::until;
use tonic::Code;

use super::{CHAIN, Desk};

impl Desk<'_> {
    async fn sets(&self, behind_approval: BehindApproval) -> Lane {
        let client = self.stack.client().expect("a client");
        let request = SetLanePolicyRequest {
            chain_id: CHAIN,
            sender: self.load.holders[self.lane].text.clone(),
            reason: "callers come again".to_owned(),
            behind_approval: behind_approval.into(),
            // Of keys at custodians no nonce moves.
            hold_nonce_for_s: 60,
        };
        let answer = OperatorServiceClient::new(client.gateway()).set_lane_policy(request).await.expect("set");
        answer.into_inner().lane.expect("a lane")
    }

    async fn operations(&self) -> usize {
        let client = self.stack.client().expect("a client");
        let list = ListOperationsRequest { page_size: 500, ..ListOperationsRequest::default() };
        let listed = OperationServiceClient::new(client.gateway()).list_operations(list).await.expect("a list");
        listed.into_inner().operations.len()
    }

    /// The lane as it is listed, and what its approval says of those behind it.
    async fn shown(&self) -> (Lane, String) {
        let client = self.stack.client().expect("a client");
        let mut lanes = OperatorServiceClient::new(client.gateway());
        let sender = self.load.holders[self.lane].text.clone();
        let explain = ExplainLaneRequest { chain_id: CHAIN, sender: sender.clone() };
        let explained = lanes.explain_lane(explain).await.expect("a lane").into_inner();
        let approval = explained.holds.into_iter().find(|hold| hold.kind() == HoldKind::Approval).expect("it is held");
        let list = ListLanesRequest { busy_only: true, ..ListLanesRequest::default() };
        let listed = lanes.list_lanes(list).await.expect("lanes").into_inner().lanes;
        (listed.into_iter().find(|lane| lane.sender == sender).expect("it is busy"), approval.message)
    }

    /// Waits for the end of an operation, and has whatever waits meanwhile approved.
    async fn approved(&self, id: &str) {
        let look = async || {
            self.custodian.approve().await;
            self.operation(id).await
        };
        let ends = |one: &Option<dalp_proto::operation::Operation>| {
            one.as_ref().is_some_and(|one| one.state() == OperationState::Completed)
        };
        until("it goes on once it is approved", look, ends).await;
    }
}

/// A lane that refuses accepts again what it refused, once the approval is there; one that queues has accepted it before.
pub(crate) async fn an_approval(desk: &mut Desk<'_>) {
    let (got, _) = desk.seen().await;
    let set = desk.sets(BehindApproval::Refuse).await.policy.expect("a policy");
    assert_eq!((set.behind_approval(), set.reason.as_str()), (BehindApproval::Refuse, "callers come again"));
    assert!(!set.set_by.is_empty() && set.set_at.is_some(), "{set:?}");
    let ahead = desk.asked("ahead").await;
    desk.waits(&ahead).await;
    let (lane, said) = desk.shown().await;
    assert_eq!(lane.policy.expect("a policy").behind_approval(), BehindApproval::Refuse);
    assert!(said.contains("is refused"), "{said}");

    let (stored, key) = (desk.operations().await, format!("{}-behind", desk.name));
    let refused = desk.load.transfer(desk.lane, &key).await.expect_err("the lane takes nothing behind it");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "CUSTODY_APPROVAL_PENDING"), "{refused:?}");
    assert_eq!(refused.metadata().get("idempotency-key").expect("the key"), &key);
    let details = Refusal::details(&refused).expect("details");
    assert!(details.retry_after.is_some(), "{details:?}");
    let record = desk.record(&ahead).await.transaction.expect("a transaction");
    let sender = &desk.load.holders[desk.lane].text;
    assert_eq!(details.metadata["lane"].to_lowercase(), format!("{CHAIN}/{}", sender.to_lowercase()));
    assert_eq!(details.metadata["held_transaction_id"], record.transaction_id);
    assert_eq!(details.metadata["provider"], desk.name);
    assert!(!details.metadata.contains_key("operation_id"), "there is none: {details:?}");
    assert_eq!(desk.operations().await, stored, "nothing is stored");
    assert_eq!(desk.asked("ahead").await.operation_id, ahead.operation_id, "a repeat is answered");

    // Nothing of that depends on the process that refused it.
    desk.stack.service("svc-compliance").expect("a service").restart().expect("it starts again");
    desk.stack.wait_until_serving().await.expect("it serves again");
    let again = async || desk.load.transfer(desk.lane, &key).await.err().map(|refused| reason(&refused));
    let refused = |said: &Option<String>| said.as_deref() == Some("CUSTODY_APPROVAL_PENDING");
    until("it is refused again", again, refused).await;

    desk.approved(&ahead.operation_id).await;
    let behind = desk.load.transfer(desk.lane, &key).await.expect("the same request under the same key");
    desk.approved(&behind.operation_id).await;

    desk.sets(BehindApproval::Queue).await;
    let ahead = desk.asked("ahead-of-a-queue").await;
    desk.waits(&ahead).await;
    assert!(desk.shown().await.1.contains("behind it waits"));
    let behind = desk.asked("in-a-queue").await;
    for operation in [&ahead, &behind] {
        desk.approved(&operation.operation_id).await;
    }
    assert_eq!(desk.seen().await.0, got + 4, "each once");
}
