//! The Operation service through the gateway, on operations that really ran.

use std::collections::HashSet;

use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::stack::Stack;
use dalp_proto::asset::TransferRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation,
    OperationState, WaitOperationRequest, WatchOperationRequest,
};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{PauseLaneRequest, ResumeLaneRequest};
use dalp_tests::load::Load;
use futures::future::try_join_all;

use crate::support::{Keys, with_key};

const CHAIN: u64 = 31_337;
/// Transfers that wait when the last is withdrawn.
const WAITING: usize = 5;

async fn list(client: &Client, request: ListOperationsRequest) -> ListOperationsResponse {
    OperationServiceClient::new(client.gateway()).list_operations(request).await.expect("a page").into_inner()
}

async fn get(client: &Client, id: &str) -> Operation {
    let request = GetOperationRequest { operation_id: id.to_owned() };
    let answer = OperationServiceClient::new(client.gateway()).get_operation(request).await;
    answer.expect("the operation is there").into_inner().operation.expect("an operation")
}

pub(crate) async fn read_and_wait(stack: &Stack, client: &Client, load: &Load, keys: &Keys) {
    let accepted = load.transfer(0, "operation").await.expect("accepted");
    let id = accepted.operation_id.clone();
    let mut operations = OperationServiceClient::new(client.gateway());
    // Watched from its acceptance to its end; each change is told, and the last is final.
    let watch = WatchOperationRequest { operation_id: id.clone() };
    let mut changes = operations.watch_operation(watch).await.expect("a stream").into_inner();
    let mut last = None;
    while let Some(change) = changes.message().await.expect("a change") {
        last = change.operation;
    }
    let last = last.expect("at least the present state");
    assert_eq!(last.state(), OperationState::Completed, "{last:?}");
    assert_eq!(get(client, &id).await, last);
    let transaction = &last.transactions[0];
    assert!(transaction.nonce.is_some() && transaction.block_number.is_some() && transaction.gas_used.is_some());
    assert_eq!((last.kind.as_str(), last.principal.as_str()), (accepted.kind.as_str(), "operator"));
    // A wait for a final one answers at once, also with no time to wait.
    let wait = WaitOperationRequest { operation_id: id.clone(), timeout: Some(prost_types::Duration::default()) };
    assert_eq!(operations.wait_operation(wait).await.expect("it is final").into_inner().operation, Some(last.clone()));
    let long = WaitOperationRequest {
        operation_id: id.clone(),
        timeout: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
    };
    assert_eq!(reason(&operations.wait_operation(long).await.expect_err("too long")), "INVALID_FIELD");

    // Pages of three hold each operation once, newest first, and agree with one large page.
    let all = list(client, ListOperationsRequest { page_size: 500, ..ListOperationsRequest::default() }).await;
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let page =
            list(client, ListOperationsRequest { page_size: 3, page_token, ..ListOperationsRequest::default() }).await;
        assert!(page.operations.len() <= 3);
        paged.extend(page.operations.into_iter().map(|operation| operation.operation_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let ids: Vec<_> = all.operations.iter().map(|operation| operation.operation_id.clone()).collect();
    assert_eq!(paged, ids);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(ids[0], id, "the newest first");
    // By their ids; what came at the same moment may have been stored the other way round.
    let created: Vec<_> = all.operations.iter().filter_map(|operation| Some(operation.created_at?.seconds)).collect();
    assert_eq!(created.len(), all.operations.len());
    assert!(created.is_sorted_by(|newer, older| newer + 1 >= *older), "{created:?}");
    // Filters.
    let of_kind = ListOperationsRequest { kind: accepted.kind.clone(), ..ListOperationsRequest::default() };
    let found = list(client, of_kind).await.operations;
    assert!(!found.is_empty() && found.iter().all(|operation| operation.kind == accepted.kind));
    let completed = ListOperationsRequest {
        state: OperationState::Completed.into(),
        page_size: 500,
        ..ListOperationsRequest::default()
    };
    assert!(list(client, completed).await.operations.iter().all(|one| one.state() == OperationState::Completed));
    let unheard_of = ListOperationsRequest { kind: "asset.fly".to_owned(), ..ListOperationsRequest::default() };
    assert!(list(client, unheard_of).await.operations.is_empty());
    for bad in [
        ListOperationsRequest { page_size: 501, ..ListOperationsRequest::default() },
        ListOperationsRequest { state: 99, ..ListOperationsRequest::default() },
    ] {
        assert_eq!(reason(&operations.list_operations(bad).await.expect_err("refused")), "INVALID_FIELD");
    }
    let token = ListOperationsRequest { page_token: "mine".to_owned(), ..ListOperationsRequest::default() };
    assert_eq!(reason(&operations.list_operations(token).await.expect_err("refused")), "PAGE_TOKEN_INVALID");

    // To another tenant none of it exists.
    let foreign = with_key(stack, &keys.foreign);
    let mut theirs = OperationServiceClient::new(foreign.gateway());
    assert!(list(&foreign, ListOperationsRequest::default()).await.operations.is_empty());
    let refusals = [
        theirs.get_operation(GetOperationRequest { operation_id: id.clone() }).await.map(drop),
        theirs.wait_operation(WaitOperationRequest { operation_id: id.clone(), timeout: None }).await.map(drop),
        theirs.watch_operation(WatchOperationRequest { operation_id: id.clone() }).await.map(drop),
        theirs
            .cancel_operation(CancelOperationRequest { operation_id: id.clone(), reason: String::new() })
            .await
            .map(drop),
    ];
    for refused in refusals {
        assert_eq!(reason(&refused.expect_err("another tenant's operation")), "NOT_FOUND");
    }
    // What is final is not withdrawn.
    let cancel = CancelOperationRequest { operation_id: id, reason: "too late".to_owned() };
    assert_eq!(reason(&operations.cancel_operation(cancel).await.expect_err("final")), "OPERATION_NOT_CANCELLABLE");
}

pub(crate) async fn repeat_and_conflict(client: &Client, load: &Load) {
    let transfer = |amount: &str| TransferRequest {
        sender: load.holders[0].text.clone(),
        asset: load.token.to_checksum(None),
        to: load.receiver.text.clone(),
        amount: amount.to_owned(),
    };
    let ask = async |request| AssetServiceClient::new(client.gateway()).transfer(keyed(request, "repeated")).await;
    let first = ask(transfer("1")).await.expect("accepted");
    assert_eq!(first.metadata().get("idempotency-replayed").expect("always said"), "false");
    let first = first.into_inner().operation.expect("an operation");
    // While it runs, and when it is final.
    for _ in 0..2 {
        let again = ask(transfer("1")).await.expect("a repeat is answered");
        assert_eq!(again.metadata().get("idempotency-replayed").expect("always said"), "true");
        assert_eq!(again.metadata().get("idempotency-key").expect("always said"), "repeated");
        assert_eq!(again.into_inner().operation.expect("an operation").operation_id, first.operation_id);
        client.finished(Some(first.clone())).await.expect("it ends");
    }
    let status = ask(transfer("2")).await.expect_err("another payload");
    assert_eq!((reason(&status).as_str(), status.code()), ("IDEMPOTENCY_KEY_REUSED", tonic::Code::AlreadyExists));
    assert_eq!(get(client, &first.operation_id).await.transactions.len(), 1, "one transaction, however often asked");
}

/// Of what waits on a paused lane the last is withdrawn: it ends CANCELLED at once, the rest completes when the lane goes on.
pub(crate) async fn cancel(stack: &Stack, client: &Client, load: &Load, keys: &Keys) {
    let keeper = with_key(stack, &keys.keeper);
    let (chain_id, sender) = (CHAIN, load.holders[0].text.clone());
    let pause = PauseLaneRequest { chain_id, sender: sender.clone(), reason: "a second thought".to_owned() };
    OperatorServiceClient::new(keeper.gateway()).pause_lane(pause).await.expect("paused");
    let waiting = (0..WAITING).map(|number| async move { load.transfer(0, &format!("waiting-{number}")).await });
    let accepted = try_join_all(waiting).await.expect("all are accepted");
    let last = accepted.last().expect("some wait").operation_id.clone();
    let colleague = with_key(stack, &keys.colleague);
    let not_his = CancelOperationRequest { operation_id: last.clone(), reason: "not mine".to_owned() };
    let refused = OperationServiceClient::new(colleague.gateway()).cancel_operation(not_his).await;
    assert_eq!(reason(&refused.expect_err("acts on another's wallet")), "WALLET_NOT_OWNED");
    let request = CancelOperationRequest { operation_id: last.clone(), reason: "changed our mind".to_owned() };
    let answer = OperationServiceClient::new(client.gateway()).cancel_operation(request).await.expect("withdrawn");
    let withdrawn = answer.into_inner().operation.expect("an operation");
    assert_eq!(withdrawn.state(), OperationState::Cancelled, "{withdrawn:?}");
    assert!(withdrawn.transactions.iter().all(|transaction| transaction.tx_hash.is_empty()), "{withdrawn:?}");
    let resume = ResumeLaneRequest { chain_id, sender, reason: "thought".to_owned() };
    OperatorServiceClient::new(keeper.gateway()).resume_lane(resume).await.expect("resumed");
    for operation in accepted {
        let wanted = if operation.operation_id == last { OperationState::Cancelled } else { OperationState::Completed };
        let ended = client.finished(Some(operation)).await.expect("it ends");
        assert_eq!(ended.state(), wanted, "{ended:?}");
    }
}
