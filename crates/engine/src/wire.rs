//! Operations as the wire shows them: one mapping for every service that answers with one.

mod operator;

use crate::{
    checker::{CheckView, DecisionView},
    flow::Failure,
    model::{ActionView, OperationView, TransactionView},
    states::{OperationState, TransactionState},
};
use alloy::primitives::{Address, U256};
use dalp_proto::{operation as wire, timestamp};

impl From<OperationView> for wire::Operation {
    fn from(view: OperationView) -> Self {
        Self {
            operation_id: view.operation_id.to_string(),
            kind: view.kind,
            state: wire::OperationState::from(view.state).into(),
            transactions: view.transactions.into_iter().map(Into::into).collect(),
            result_json: view.result.map(|result| result.to_string()).unwrap_or_default(),
            error: view.error.map(Into::into),
            created_at: Some(timestamp(view.created_at)),
            updated_at: Some(timestamp(view.updated_at)),
            principal: view.principal,
            check: view.check.map(Into::into),
        }
    }
}

impl From<CheckView> for wire::Check {
    fn from(view: CheckView) -> Self {
        let amount = |(asset, units): (Address, U256)| wire::CheckedAmount {
            asset: asset.to_checksum(None),
            amount: units.to_string(),
        };
        Self {
            policies: view.policies,
            checkers: view.checkers,
            payload_hash: view.payload_hash.to_string(),
            command_json: view.command.to_string(),
            method: view.method,
            amounts: view.question.amounts.iter().map(amount).collect(),
            wallet_owners: view.question.owners.into_iter().collect(),
            expires_at: Some(timestamp(view.expires_at)),
            decisions: view.decisions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DecisionView> for wire::CheckDecision {
    fn from(DecisionView { principal, person, approved, reason, at }: DecisionView) -> Self {
        Self { principal, person, approved, reason, at: Some(timestamp(at)) }
    }
}

impl From<TransactionView> for wire::Transaction {
    fn from(view: TransactionView) -> Self {
        Self {
            transaction_id: view.transaction_id.to_string(),
            step: view.step,
            chain_id: view.lane.chain_id,
            sender: view.lane.sender.to_checksum(None),
            target: view.target.map(|target| target.to_checksum(None)).unwrap_or_default(),
            state: wire::TransactionState::from(view.state).into(),
            sub_status: view.sub_status,
            nonce: view.nonce,
            tx_hash: view.tx_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            block_number: view.block_number,
            gas_used: view.gas_used,
            history: view.history.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ActionView> for wire::Action {
    fn from(ActionView { action, tries, last_error, at }: ActionView) -> Self {
        Self { action, tries, last_error, at: Some(timestamp(at)) }
    }
}

impl From<Failure> for wire::OperationError {
    fn from(Failure { reason, message, metadata }: Failure) -> Self {
        Self { reason, message, metadata: metadata.into_iter().collect() }
    }
}

impl From<OperationState> for wire::OperationState {
    fn from(state: OperationState) -> Self {
        match state {
            OperationState::Running => Self::Running,
            OperationState::AwaitingChecker => Self::AwaitingChecker,
            OperationState::Completed => Self::Completed,
            OperationState::Failed => Self::Failed,
            OperationState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<TransactionState> for wire::TransactionState {
    fn from(state: TransactionState) -> Self {
        match state {
            TransactionState::Received => Self::Received,
            TransactionState::Queued => Self::Queued,
            TransactionState::Preparing => Self::Preparing,
            TransactionState::PendingApproval => Self::PendingApproval,
            TransactionState::Signing => Self::Signing,
            TransactionState::Broadcasting => Self::Broadcasting,
            TransactionState::Confirming => Self::Confirming,
            TransactionState::Completed => Self::Completed,
            TransactionState::Failed => Self::Failed,
            TransactionState::Cancelled => Self::Cancelled,
            TransactionState::DeadLetter => Self::DeadLetter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_name_on_the_wire() {
        for state in TransactionState::ALL {
            let wire = wire::TransactionState::from(*state);
            assert_eq!(wire.as_str_name(), format!("TRANSACTION_STATE_{}", state.as_str()));
        }
    }
}
