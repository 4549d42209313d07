//! The states of operations and transactions: one table, drawn into `docs/flows/states.md` by a test.
//!
//! The database holds the same table and refuses every other change of a transaction's state, whatever statement asks for it.
//!
//! Two states of transactions are entered by nobody yet. `RECEIVED`: the commit that stores a transaction also puts it into its lane, and
//! what a policy holds for a second person has no transactions at all, its operation is `AWAITING_CHECKER`. `PENDING_APPROVAL` is for the
//! co-signers of a smart wallet; what a custody provider holds back stays `SIGNING`, or `BROADCASTING` where that provider broadcasts by itself.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every state, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok(Self::$variant),)* other => Err(format!("unknown state {other}")) }
            }
        }
    };
}

states! {
    /// Where an operation stands.
    OperationState {
        /// Accepted; its flow runs or waits for its transactions.
        Running = "RUNNING",
        /// Accepted and stored; a policy wants other persons than its maker to approve it first. Nothing of it has begun.
        AwaitingChecker = "AWAITING_CHECKER",
        /// Final: everything it ordered is final and succeeded.
        Completed = "COMPLETED",
        /// Final: a definite refusal or revert.
        Failed = "FAILED",
        /// Final: withdrawn before anything of it was signed.
        Cancelled = "CANCELLED",
    }
}

states! {
    /// Where a transaction stands. The names do not lie: signed is not sent, sent is not included, included is not final.
    TransactionState {
        /// Accepted and stored, waiting for a second person.
        Received = "RECEIVED",
        /// Waiting for its lane.
        Queued = "QUEUED",
        /// Being simulated and priced.
        Preparing = "PREPARING",
        /// Smart-wallet co-signers must release it.
        PendingApproval = "PENDING_APPROVAL",
        /// A nonce is bound, or the call is to be handed over without one, and the signer has it.
        Signing = "SIGNING",
        /// Signed bytes are stored and being sent, or the key's provider has it and broadcasts by itself.
        Broadcasting = "BROADCASTING",
        /// In a block, below the finality depth.
        Confirming = "CONFIRMING",
        /// Final and succeeded.
        Completed = "COMPLETED",
        /// Final: a definite refusal or revert.
        Failed = "FAILED",
        /// Final: withdrawn before signing, replaced by a cancel, or given up by the provider that would have broadcast it.
        Cancelled = "CANCELLED",
        /// Parked for an operator; its operation waits.
        DeadLetter = "DEAD_LETTER",
    }
}

use TransactionState as S;

/// Every allowed change of a transaction, with its cause.
pub const TRANSITIONS: &[(TransactionState, TransactionState, &str)] = &[
    (S::Received, S::Queued, "released by the second person"),
    (S::Received, S::Cancelled, "withdrawn, or the second person refused"),
    (S::Queued, S::Preparing, "simulation or pricing has to be repeated"),
    (S::Queued, S::Signing, "simulated, priced, nonce bound"),
    (S::Queued, S::Failed, "simulation refused, or the wallet cannot pay"),
    (S::Queued, S::Cancelled, "withdrawn"),
    (S::Queued, S::DeadLetter, "preparing keeps failing"),
    (S::Preparing, S::Queued, "back to its lane"),
    (S::Preparing, S::PendingApproval, "co-signers asked"),
    (S::Preparing, S::Signing, "simulated, priced, nonce bound"),
    (S::Preparing, S::Failed, "simulation refused, or the wallet cannot pay"),
    (S::Preparing, S::Cancelled, "withdrawn"),
    (S::Preparing, S::DeadLetter, "preparing keeps failing"),
    (S::PendingApproval, S::Signing, "released by co-signers"),
    (S::PendingApproval, S::Failed, "refused by co-signers"),
    (S::PendingApproval, S::Cancelled, "withdrawn"),
    (S::Signing, S::Broadcasting, "signed bytes stored, or taken by the provider that broadcasts"),
    (S::Signing, S::Confirming, "included while a replacement is being signed"),
    (
        S::Signing,
        S::Queued,
        "its nonce was used outside, or the reservation was moved, or the key's provider broadcasts now",
    ),
    (S::Signing, S::Failed, "refused for good by the signer or its provider, or refused when simulated again"),
    (S::Signing, S::Cancelled, "given up by the provider that would broadcast it"),
    (S::Signing, S::DeadLetter, "the signer keeps failing"),
    (S::Broadcasting, S::Confirming, "in a block"),
    (S::Broadcasting, S::Queued, "its nonce was used outside, finally"),
    (
        S::Broadcasting,
        S::Failed,
        "refused when simulated again after a hold, or by the provider that broadcasts, or dropped for good",
    ),
    (S::Broadcasting, S::Cancelled, "given up by the provider that would broadcast it"),
    (S::Broadcasting, S::DeadLetter, "no node will ever take it, or nobody knows what the provider made of it"),
    (S::Confirming, S::Completed, "final, succeeded"),
    (S::Confirming, S::Failed, "final, reverted"),
    (S::Confirming, S::Cancelled, "final, replaced by a cancel"),
    (S::Confirming, S::Broadcasting, "its block disappeared"),
    (S::DeadLetter, S::Queued, "retried by an operator, nothing of it can be included any more"),
    (S::DeadLetter, S::Failed, "closed by an operator, nothing of it can be included any more"),
    (S::DeadLetter, S::Confirming, "one of its signed attempts was included all the same"),
];

// === impl OperationState ===

impl OperationState {
    /// Whether it never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

// === impl TransactionState ===

impl TransactionState {
    /// Whether no worker carries it on. A dead letter is not ended all the same: its flow waits until an operator retries or closes
    /// it, or a block has one of its attempts.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::DeadLetter)
    }

    /// Whether `next` may follow.
    pub fn may_become(self, next: Self) -> bool {
        TRANSITIONS.iter().any(|(from, to, _)| *from == self && *to == next)
    }
}

/// The table as the page `docs/flows/states.md` shows it.
pub fn diagram() -> String {
    let mut page = String::from(
        "# Transaction states\n\nDrawn from `crates/engine/src/states.rs` by its test; do not edit.\n\n```mermaid\nstateDiagram-v2\n    [*] --> RECEIVED: a second person has to agree\n    [*] --> QUEUED: accept commit\n",
    );
    for (from, to, cause) in TRANSITIONS {
        page.push_str(&format!("    {from} --> {to}: {cause}\n"));
    }
    for state in TransactionState::ALL.iter().filter(|state| matches!(state, S::Completed | S::Failed | S::Cancelled)) {
        page.push_str(&format!("    {state} --> [*]\n"));
    }
    page.push_str("```\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `DALP_UPDATE_DOCS=1` rewrites the page.
    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flows/states.md");
        if std::env::var_os("DALP_UPDATE_DOCS").is_some() {
            std::fs::write(path, diagram()).expect("page is writable");
        }
        assert_eq!(std::fs::read_to_string(path).expect("page exists"), diagram());
    }

    #[test]
    fn completed_failed_and_cancelled_never_change() {
        for state in [S::Completed, S::Failed, S::Cancelled] {
            assert!(TransactionState::ALL.iter().all(|next| !state.may_become(*next)), "{state}");
        }
    }

    #[test]
    fn every_state_is_reachable_and_every_open_one_ends() {
        let mut reached = vec![S::Received, S::Queued];
        while let Some((_, to, _)) =
            TRANSITIONS.iter().find(|(from, to, _)| reached.contains(from) && !reached.contains(to))
        {
            reached.push(*to);
        }
        assert_eq!(reached.len(), TransactionState::ALL.len());
        for state in TransactionState::ALL.iter().filter(|state| !state.is_final()) {
            assert!(TRANSITIONS.iter().any(|(from, _, _)| from == state), "{state} leads nowhere");
        }
    }

    #[test]
    fn nothing_is_included_that_was_not_signed() {
        for (from, to, _) in TRANSITIONS.iter().filter(|(_, to, _)| *to == S::Confirming || *to == S::Completed) {
            assert!(matches!(from, S::Signing | S::Broadcasting | S::Confirming | S::DeadLetter), "{from} -> {to}");
        }
    }
}
