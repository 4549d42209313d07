//! What waits at the providers of keys, and what whoever asked for it is told meanwhile.

use crate::{
    flow::Priority,
    model::{LaneId, TransactionId},
    named::named,
};
use std::time::Duration;
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

named! {
    /// What becomes of requests for a lane while a custody approval holds a nonce of it: a setting of the lane.
    BehindApproval {
        /// They are accepted, and wait.
        Queue = "QUEUE",
        /// They are not accepted: whoever asks may repeat the request later.
        Refuse = "REFUSE",
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

/// The approval that a request was refused for: nothing of it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneHeld {
    /// The lane that it would have had to wait in.
    pub lane: LaneId,
    /// What waits there, longest of all.
    pub hold: ProviderHold,
}

/// Whether a request is accepted for a lane, by what waits at the provider of its key.
///
/// Refused is only whoever hears of it and may ask again (`refusable`): the platform goes on with what it has accepted. What stops harm is never refused; it
/// waits before everything else. What a provider has blocked waits for no approval, and where it broadcasts by itself it holds nobody up. The statement that
/// accepts operations says the same; a test compares the two.
pub(crate) fn is_accepted(
    setting: BehindApproval,
    refusable: bool,
    priority: Priority,
    by_provider: bool,
    causes: impl IntoIterator<Item = HoldCause>,
) -> bool {
    let waits = causes.into_iter().any(|cause| cause == HoldCause::Approval) && !by_provider;
    match setting {
        BehindApproval::Queue => true,
        BehindApproval::Refuse => !(waits && may_be_refused(refusable, priority)),
    }
}

/// Whether a request may be refused for what holds its lane.
pub(crate) fn may_be_refused(refusable: bool, priority: Priority) -> bool {
    match priority {
        Priority::Urgent => false,
        Priority::Normal | Priority::Bulk => refusable,
    }
}

/// Whether a reservation goes behind those that wait: it has held them up for as long as the lane lets it, and its provider keeps nothing of it.
pub(crate) fn moves(held: Held, waited: Duration, move_after: Option<Duration>) -> bool {
    let approval = held.cause == HoldCause::Approval;
    approval && keeps_nothing(held.provider) && move_after.is_some_and(|after| waited >= after)
}

/// Whether a provider keeps nothing of a request that waits there, so that its signer can take it back for good.
///
/// A key of ours, in an HSM or at a KMS signs while it is asked, and answers the signer alone: what comes after the request was withdrawn is thrown away there.
/// A custodian has the request from the moment at which it holds it, and its people may release the signature whatever we think of it by then.
pub(crate) fn keeps_nothing(provider: Option<KeyProvider>) -> bool {
    match provider {
        Some(KeyProvider::Local | KeyProvider::Pkcs11 | KeyProvider::Kms) => true,
        Some(KeyProvider::Dfns | KeyProvider::Fireblocks) | None => false,
    }
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
    fn a_lane_that_refuses_refuses_who_can_ask_again_while_an_approval_holds_it() {
        let waits = |setting, refusable, priority, by_provider, cause| {
            is_accepted(setting, refusable, priority, by_provider, cause)
        };
        let mut refused = Vec::new();
        for setting in BehindApproval::ALL.iter().copied() {
            for refusable in [false, true] {
                for priority in [Priority::Urgent, Priority::Normal, Priority::Bulk] {
                    for by_provider in [false, true] {
                        for cause in [None, Some(HoldCause::Approval), Some(HoldCause::Blocked)] {
                            if !waits(setting, refusable, priority, by_provider, cause) {
                                refused.push((setting, refusable, priority, by_provider, cause));
                            }
                        }
                    }
                }
            }
        }
        let approval = Some(HoldCause::Approval);
        let expected =
            [Priority::Normal, Priority::Bulk].map(|one| (BehindApproval::Refuse, true, one, false, approval));
        assert_eq!(refused, expected);
    }

    #[test]
    fn only_what_no_custodian_has_is_moved_and_only_when_its_time_is_up() {
        let minute = Duration::from_secs(60);
        let mut moved = Vec::new();
        for provider in KeyProvider::ALL.iter().copied().map(Some).chain([None]) {
            for cause in HoldCause::ALL.iter().copied() {
                let held = Held { provider, cause };
                assert!(!moves(held, minute * 1_000, None), "nobody waits, or the lane does not want it");
                assert!(!moves(held, minute - Duration::from_millis(1), Some(minute)));
                if moves(held, minute, Some(minute)) {
                    moved.push((provider, cause));
                }
            }
        }
        let ours = [KeyProvider::Local, KeyProvider::Pkcs11, KeyProvider::Kms];
        assert_eq!(moved, ours.map(|provider| (Some(provider), HoldCause::Approval)));
    }

    #[test]
    fn names_are_read_back() {
        for provider in KeyProvider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(*provider));
        }
        for cause in HoldCause::ALL {
            assert_eq!(cause.as_str().parse(), Ok(*cause));
        }
        for setting in BehindApproval::ALL {
            assert_eq!(setting.as_str().parse(), Ok(*setting));
        }
        assert!("somebody-new".parse::<KeyProvider>().is_err());
    }
}
