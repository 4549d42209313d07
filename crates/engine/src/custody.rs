//! What waits at the providers of keys, and what whoever asked for it is told meanwhile.

use crate::{model::TransactionId, named::named};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

named! {
    /// The provider that holds a key.
    KeyProvider {
        /// Our own database, encrypted.
        Local = "local",
        /// An HSM behind PKCS#11.
        Pkcs11 = "pkcs11",
        /// DFNS.
        Dfns = "dfns",
        /// Fireblocks.
        Fireblocks = "fireblocks",
        /// AWS KMS.
        Kms = "kms",
    }
}

named! {
    /// What a request waits for at a provider.
    HoldCause {
        /// People have to decide, or to present their shares of a quorum.
        Approval = "APPROVAL",
        /// The provider has blocked it until an operator acts there.
        Blocked = "BLOCKED",
    }
}

/// A hold as the signer tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) provider: Option<KeyProvider>,
    pub(crate) cause: HoldCause,
}

/// A request that waits at the provider of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderHold {
    /// Absent where the signer named none, or one that this build does not know.
    pub provider: Option<KeyProvider>,
    /// What it waits for.
    pub cause: HoldCause,
    /// Since when it waits for that.
    pub since: OffsetDateTime,
    /// The transaction that waits there.
    pub transaction_id: TransactionId,
    /// The provider broadcasts by itself; else its nonce is reserved.
    pub by_provider: bool,
}

/// A transaction of an operation that waits at a provider, or behind the nonce of one that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationHold {
    /// The operation's own transaction.
    pub waiting: TransactionId,
    /// What it waits for: itself, or another one of its sender.
    pub hold: ProviderHold,
}

/// What a call is answered with whose operation is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'h> {
    /// The operation, however it stands.
    Operation,
    /// That an approval is pending: the same call under the same key is to be repeated.
    ApprovalPending(&'h OperationHold),
}

/// Decides what a call is answered with, by what its operation waits for at this moment. It changes nothing: the operation goes on by itself.
///
/// Only a set-up call, and only for an approval at DFNS while we broadcast: one that follows upon another must not be made before the first is decided, and
/// the conflict stops the caller's batch there. Fireblocks and the quorum of an HSM are followed like any other operation (accepted, pending), and so is a
/// provider that broadcasts by itself. What a provider has blocked waits for no approval: the operation says so.
pub fn reply(is_setup: bool, holds: &[OperationHold]) -> Reply<'_> {
    let stops = |one: &&OperationHold| {
        let ProviderHold { provider, cause, by_provider, .. } = one.hold;
        match (provider, cause) {
            (Some(KeyProvider::Dfns), HoldCause::Approval) => !by_provider,
            (Some(KeyProvider::Dfns), HoldCause::Blocked) => false,
            (
                None | Some(KeyProvider::Local | KeyProvider::Pkcs11 | KeyProvider::Fireblocks | KeyProvider::Kms),
                HoldCause::Approval | HoldCause::Blocked,
            ) => false,
        }
    };
    // What waits there itself is told before what only stands behind it.
    let place = |one: &&OperationHold| (one.hold.since, one.waiting != one.hold.transaction_id);
    match holds.iter().filter(stops).min_by_key(place).filter(|_| is_setup) {
        Some(hold) => Reply::ApprovalPending(hold),
        None => Reply::Operation,
    }
}

// === impl ProviderHold ===

impl ProviderHold {
    /// Since when it waits, as RFC 3339 has it.
    pub fn since_rfc3339(&self) -> String {
        self.since.format(&Rfc3339).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use uuid::Uuid;

    fn hold(provider: Option<KeyProvider>, cause: HoldCause, by_provider: bool) -> OperationHold {
        let transaction_id = TransactionId(Uuid::from_u128(1));
        let since = OffsetDateTime::UNIX_EPOCH;
        let hold = ProviderHold { provider, cause, since, transaction_id, by_provider };
        OperationHold { waiting: transaction_id, hold }
    }

    #[test]
    fn only_an_approval_at_dfns_that_we_broadcast_stops_a_set_up_call() {
        let providers = KeyProvider::ALL.iter().copied().map(Some).chain([None]);
        let mut stopped = Vec::new();
        for provider in providers {
            for cause in HoldCause::ALL.iter().copied() {
                for by_provider in [false, true] {
                    let holds = [hold(provider, cause, by_provider)];
                    assert_eq!(reply(false, &holds), Reply::Operation, "any other call is answered its operation");
                    if reply(true, &holds) != Reply::Operation {
                        stopped.push((provider, cause, by_provider));
                    }
                }
            }
        }
        assert_eq!(stopped, [(Some(KeyProvider::Dfns), HoldCause::Approval, false)]);
        assert_eq!(reply(true, &[]), Reply::Operation, "nothing waits");
    }

    #[test]
    fn of_several_the_one_that_has_waited_longest_is_told() {
        let dfns = hold(Some(KeyProvider::Dfns), HoldCause::Approval, false);
        let quorum = hold(Some(KeyProvider::Pkcs11), HoldCause::Approval, false);
        let mut later = dfns.clone();
        later.hold.since += Duration::from_secs(1);
        later.waiting = TransactionId(Uuid::from_u128(2));
        let behind = OperationHold { waiting: TransactionId(Uuid::from_u128(0)), ..dfns.clone() };
        assert_eq!(reply(true, &[quorum, later, behind.clone(), dfns.clone()]), Reply::ApprovalPending(&dfns));
        assert_eq!(reply(true, std::slice::from_ref(&behind)), Reply::ApprovalPending(&behind), "a nonce holds it up");
    }

    #[test]
    fn names_are_read_back() {
        for provider in KeyProvider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(*provider));
        }
        for cause in HoldCause::ALL {
            assert_eq!(cause.as_str().parse(), Ok(*cause));
        }
        assert!("somebody-new".parse::<KeyProvider>().is_err());
    }
}
