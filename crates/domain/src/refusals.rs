//! What contracts and the engine's store refuse with, in the words of the error catalogue.

use dalp_contracts::{
    Refusal as ContractRefusal,
    reasons::{Meaning, meaning_of},
};
use dalp_engine::{
    AdmitError, Failure,
    custody::{KeyProvider, LaneHeld},
};
use dalp_service::{Reason, Refusal};

/// The reason of the error catalogue that an error of the contracts is answered with.
#[must_use]
pub fn reason_of(contract_error: &str) -> Reason {
    match meaning_of(contract_error) {
        Some(Meaning::Reason(reason)) => reason.parse().unwrap_or(Reason::SimulationReverted),
        Some(Meaning::Internal(_)) => Reason::Internal,
        None => Reason::SimulationReverted,
    }
}

/// What a contract refused with, as the failure of a step: its reason, its name and its arguments.
#[must_use]
pub fn failure_of(refusal: &ContractRefusal) -> Failure {
    let message = match refusal.contract_error.as_str() {
        "" => "the contract refused without saying why".to_owned(),
        _ => format!("the contract refused: {refusal}"),
    };
    refusal
        .args
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .fold(Failure::new(reason_of(&refusal.contract_error).as_str(), message), |failure, (name, value)| {
            failure.with(name.clone(), value)
        })
        .with("contract_error", &refusal.contract_error)
}

/// What a failure of the engine's store is to a caller.
#[must_use]
pub fn engine_store(error: dalp_engine::StoreError) -> Refusal {
    if error.is_retryable() {
        Refusal::new(Reason::DatabaseUnavailable, "the database did not answer").source(error)
    } else {
        Refusal::internal(error)
    }
}

/// What an operation that was not accepted is to whoever asked for it.
#[must_use]
pub fn not_accepted(error: AdmitError) -> Refusal {
    match error {
        AdmitError::KeyReused { stored_hash, given_hash } => {
            Refusal::new(Reason::IdempotencyKeyReused, "the idempotency key stands for another payload")
                .meta("stored_hash", stored_hash)
                .meta("given_hash", given_hash)
        }
        AdmitError::LaneOfOtherTenant(_) => {
            Refusal::new(Reason::WalletNotOwned, "the sender belongs to another tenant")
        }
        AdmitError::QuotaExceeded { quota } => {
            Refusal::new(Reason::TenantQuotaExceeded, "the tenant has as many unfinished operations as it may")
                .meta("quota", quota)
        }
        AdmitError::BehindApproval(held) => behind_approval(&held),
        AdmitError::Archived(id) => Refusal::new(
            Reason::OperationArchived,
            "the idempotency key stands for an operation that has been archived",
        )
        .meta("operation_id", id),
        AdmitError::Database(error) => engine_store(error),
        error => Refusal::internal(error),
    }
}

/// A lane that takes nothing behind the approval that holds it. Nothing of the request is stored, so that no operation is named.
fn behind_approval(LaneHeld { lane, hold }: &LaneHeld) -> Refusal {
    let provider = hold.provider.map_or("unknown", KeyProvider::as_str);
    let message = format!(
        "not accepted: lane {lane} waits for an approval at {provider} and takes nothing behind it; repeat the request with the same idempotency key"
    );
    Refusal::new(Reason::CustodyApprovalPending, message)
        .meta("lane", lane)
        .meta("held_transaction_id", hold.transaction_id)
        .meta("held_since", hold.since_rfc3339())
        .meta("provider", provider)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Address;
    use dalp_engine::{
        LaneId, TransactionId,
        custody::{HoldCause, ProviderHold},
    };

    #[test]
    fn who_is_refused_behind_an_approval_hears_of_what_and_where() {
        let lane = LaneId { chain_id: 5, sender: Address::repeat_byte(1) };
        let transaction_id = TransactionId(uuid::Uuid::from_u128(7));
        let hold = ProviderHold {
            provider: Some(KeyProvider::Dfns),
            cause: HoldCause::Approval,
            since: time::OffsetDateTime::UNIX_EPOCH,
            transaction_id,
            by_provider: false,
        };
        let refused = not_accepted(AdmitError::BehindApproval(Box::new(LaneHeld { lane, hold })));
        assert_eq!(refused.reason(), Reason::CustodyApprovalPending);
        let told = |key: &str| refused.metadata().iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        assert_eq!(told("lane"), Some(lane.to_string()));
        assert_eq!(told("held_transaction_id"), Some(transaction_id.to_string()));
        assert_eq!(told("provider").as_deref(), Some("dfns"));
        assert_eq!(told("held_since").as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(told("operation_id"), None, "there is none");
    }

    #[test]
    fn every_error_of_the_contracts_has_a_reason_of_the_catalogue() {
        for (reason, errors) in dalp_contracts::reasons::REASONS {
            for error in *errors {
                assert_eq!(reason_of(error).as_str(), *reason, "{error}");
            }
        }
        for (error, _) in dalp_contracts::reasons::INTERNAL {
            assert_eq!(reason_of(error), Reason::Internal, "{error}");
        }
    }
}
