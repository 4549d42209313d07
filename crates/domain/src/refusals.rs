//! What contracts and the engine's store refuse with, in the words of the error catalogue.

use dalp_contracts::{
    Refusal as ContractRefusal,
    reasons::{Meaning, meaning_of},
};
use dalp_engine::{AdmitError, Failure};
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
        AdmitError::Database(error) => engine_store(error),
        error => Refusal::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
