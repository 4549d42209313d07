//! Operations as the wire shows them.

use dalp_engine::{Failure, OperationState, OperationView, TransactionState, TransactionView};
use dalp_proto::operation as proto;
use time::OffsetDateTime;

/// An operation on the wire.
pub(super) fn to_wire(view: OperationView) -> proto::Operation {
    proto::Operation {
        operation_id: view.operation_id.to_string(),
        kind: view.kind,
        state: match view.state {
            OperationState::Running => proto::OperationState::Running,
            OperationState::Completed => proto::OperationState::Completed,
            OperationState::Failed => proto::OperationState::Failed,
            OperationState::Cancelled => proto::OperationState::Cancelled,
        }
        .into(),
        transactions: view.transactions.into_iter().map(transaction).collect(),
        result_json: view.result.map(|result| result.to_string()).unwrap_or_default(),
        error: view.error.map(error),
        created_at: Some(timestamp(view.created_at)),
        updated_at: Some(timestamp(view.updated_at)),
        principal: view.principal,
    }
}

fn transaction(view: TransactionView) -> proto::Transaction {
    proto::Transaction {
        transaction_id: view.transaction_id.to_string(),
        step: view.step,
        chain_id: view.lane.chain_id,
        sender: view.lane.sender.to_checksum(None),
        target: view.target.map(|target| target.to_checksum(None)).unwrap_or_default(),
        state: state(view.state).into(),
        sub_status: view.sub_status,
        nonce: view.nonce,
        tx_hash: view.tx_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        block_number: view.block_number,
        gas_used: view.gas_used,
        history: view
            .history
            .into_iter()
            .map(|action| proto::Action {
                action: action.action,
                tries: action.tries,
                last_error: action.last_error,
                at: Some(timestamp(action.at)),
            })
            .collect(),
    }
}

fn state(state: TransactionState) -> proto::TransactionState {
    match state {
        TransactionState::Received => proto::TransactionState::Received,
        TransactionState::Queued => proto::TransactionState::Queued,
        TransactionState::Preparing => proto::TransactionState::Preparing,
        TransactionState::PendingApproval => proto::TransactionState::PendingApproval,
        TransactionState::Signing => proto::TransactionState::Signing,
        TransactionState::Broadcasting => proto::TransactionState::Broadcasting,
        TransactionState::Confirming => proto::TransactionState::Confirming,
        TransactionState::Completed => proto::TransactionState::Completed,
        TransactionState::Failed => proto::TransactionState::Failed,
        TransactionState::Cancelled => proto::TransactionState::Cancelled,
        TransactionState::DeadLetter => proto::TransactionState::DeadLetter,
    }
}

fn error(failure: Failure) -> proto::OperationError {
    proto::OperationError {
        reason: failure.reason,
        message: failure.message,
        metadata: failure.metadata.into_iter().collect(),
    }
}

/// A time on the wire.
pub(super) fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}
