//! Fireblocks' statuses, mapped. Both lists grow: what is not known here is no end.

use super::super::custody::State;

/// What a status and its sub-status mean, without what the answer carries beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nobody is waited for that we know of.
    Processing,
    /// A person or a co-signer is waited for.
    Awaiting,
    /// On its way to a block.
    Broadcast,
    /// Done: signed, and of what is broadcast also in a block.
    Completed,
    /// Refused by a person.
    Denied,
    /// Not decided in the provider's time.
    Expired,
    /// Stopped by policy.
    Blocked,
    /// Ended; `again`: through a fault of the platform.
    Failed {
        /// Whether a further attempt may succeed.
        again: bool,
    },
}

/// Sub-statuses that say that policy or screening stopped the request.
const BLOCKING: &[&str] = &[
    "BLOCKED_BY_POLICY",
    "AUTO_FREEZE",
    "FROZEN_MANUALLY",
    "REJECTED_AML_SCREENING",
    "ADDRESS_WHITELISTING_SUSPENDED",
];

/// Sub-statuses that say that time ran out.
const EXPIRING: &[&str] = &["TIMEOUT", "TX_OUTDATED"];

/// Faults of the platform: the same order, under another id, may pass.
const OF_THE_PLATFORM: &[&str] = &[
    "OUT_OF_DATE_SIGNING_KEYS",
    "CONNECTIVITY_ERROR",
    "ERROR_ASYNC_TX_IN_FLIGHT",
    "INTERNAL_ERROR",
    "INVALID_NONCE_TOO_HIGH",
    "INVALID_NONCE_TOO_LOW",
    "INVALID_ROUTING_DESTINATION",
    "LOCKING_NONCE_ACCOUNT_TIMEOUT",
    "NETWORK_ROUTING_MISMATCH",
    "NONCE_ALLOCATION_FAILED",
    "RESOURCE_ALREADY_EXISTS",
    "SIGNER_NOT_FOUND",
    "SIGNING_ERROR",
    "UNKNOWN_ERROR",
    "VAULT_WALLET_NOT_READY",
];

/// Reads a status. Final are only COMPLETED, CANCELLED, REJECTED, BLOCKED and FAILED, and the retired names of the last.
#[must_use]
pub fn meaning(status: &str, sub_status: &str) -> Meaning {
    match status {
        "PENDING_AUTHORIZATION" | "PENDING_SIGNATURE" | "PENDING_3RD_PARTY_MANUAL_APPROVAL" => Meaning::Awaiting,
        // CONFIRMING is not the end, nor is its retired name.
        "BROADCASTING" | "CONFIRMING" | "CONFIRMED" => Meaning::Broadcast,
        "COMPLETED" => Meaning::Completed,
        "BLOCKED" => Meaning::Blocked,
        "REJECTED" | "CANCELLED" | "FAILED" if BLOCKING.contains(&sub_status) => Meaning::Blocked,
        "CANCELLED" | "FAILED" if EXPIRING.contains(&sub_status) => Meaning::Expired,
        "TIMEOUT" => Meaning::Expired,
        "REJECTED" | "CANCELLED" => Meaning::Denied,
        "FAILED" => Meaning::Failed { again: OF_THE_PLATFORM.contains(&sub_status) },
        "PARTIALLY_COMPLETED" => Meaning::Failed { again: false },
        _ => Meaning::Processing,
    }
}

// === impl Meaning ===

impl Meaning {
    /// The state of a request that came to this without a signature or a place on the chain.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::Processing => State::Processing,
            Self::Awaiting => State::Awaiting,
            Self::Broadcast => State::Broadcast(None),
            // Completed without what completes it.
            Self::Completed => State::Failed { again: true },
            Self::Denied => State::Denied,
            Self::Expired => State::Expired,
            Self::Blocked => State::Blocked,
            Self::Failed { again } => State::Failed { again },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The master mapping, line by line.
    #[test]
    fn every_status_means_what_the_table_says() {
        let table: &[(&str, &str, Meaning)] = &[
            ("SUBMITTED", "", Meaning::Processing),
            ("PENDING_ENRICHMENT", "", Meaning::Processing),
            ("QUEUED", "", Meaning::Processing),
            ("PENDING", "", Meaning::Processing),
            ("CANCELLING", "", Meaning::Processing),
            ("PENDING_AML_SCREENING", "", Meaning::Processing),
            ("PENDING_AUTHORIZATION", "", Meaning::Awaiting),
            ("PENDING_SIGNATURE", "", Meaning::Awaiting),
            ("PENDING_3RD_PARTY", "3RD_PARTY_PROCESSING", Meaning::Processing),
            ("PENDING_3RD_PARTY_MANUAL_APPROVAL", "", Meaning::Awaiting),
            ("BROADCASTING", "", Meaning::Broadcast),
            ("CONFIRMING", "PENDING_BLOCKCHAIN_CONFIRMATIONS", Meaning::Broadcast),
            ("CONFIRMED", "", Meaning::Broadcast),
            ("COMPLETED", "CONFIRMED", Meaning::Completed),
            ("REJECTED", "", Meaning::Denied),
            ("REJECTED", "REJECTED_BY_USER", Meaning::Denied),
            ("REJECTED", "REJECTED_AML_SCREENING", Meaning::Blocked),
            ("CANCELLED", "REJECTED_BY_USER", Meaning::Denied),
            ("CANCELLED", "3RD_PARTY_REJECTED", Meaning::Denied),
            ("CANCELLED", "CANCELLED_BY_USER", Meaning::Denied),
            ("CANCELLED", "CANCELLED_BY_USER_REQUEST", Meaning::Denied),
            ("CANCELLED", "TIMEOUT", Meaning::Expired),
            ("FAILED", "TIMEOUT", Meaning::Expired),
            ("FAILED", "TX_OUTDATED", Meaning::Expired),
            ("TIMEOUT", "", Meaning::Expired),
            ("BLOCKED", "BLOCKED_BY_POLICY", Meaning::Blocked),
            ("FAILED", "BLOCKED_BY_POLICY", Meaning::Blocked),
            ("CANCELLED", "AUTO_FREEZE", Meaning::Blocked),
            ("FAILED", "FROZEN_MANUALLY", Meaning::Blocked),
            ("FAILED", "INTERNAL_ERROR", Meaning::Failed { again: true }),
            ("FAILED", "SIGNING_ERROR", Meaning::Failed { again: true }),
            ("FAILED", "INSUFFICIENT_FUNDS", Meaning::Failed { again: false }),
            ("FAILED", "SMART_CONTRACT_EXECUTION_FAILED", Meaning::Failed { again: false }),
            ("FAILED", "A_FAULT_OF_NEXT_YEAR", Meaning::Failed { again: false }),
            ("PARTIALLY_COMPLETED", "", Meaning::Failed { again: false }),
        ];
        for (status, sub_status, expected) in table {
            assert_eq!(meaning(status, sub_status), *expected, "{status} {sub_status}");
        }
    }

    /// Named regression: one new literal made every read fail.
    #[test]
    fn closed_enum_breaks_on_new_status() {
        assert_eq!(meaning("PENDING_QUANTUM_REVIEW", "SOMETHING_NEW"), Meaning::Processing);
        assert_eq!(meaning("", ""), Meaning::Processing);
    }

    /// Named regression: CONFIRMING was treated as done.
    #[test]
    fn confirming_taken_for_final() {
        assert!(!meaning("CONFIRMING", "").state().is_final());
    }

    /// Named regression: REJECTED, CANCELLED and BLOCKED spun for ever.
    #[test]
    fn poller_ignores_final_failures() {
        for status in ["REJECTED", "CANCELLED", "BLOCKED", "FAILED"] {
            assert!(meaning(status, "").state().is_final(), "{status}");
        }
    }
}
