//! Providers that take a request and decide later: a policy, people and a signing quorum stand between the order and its signature.
//!
//! Such a provider remembers requests by itself, under an external id of ours. That id is bound for ever, whatever becomes of the request, so each further
//! attempt has an id of its own, and the id is stored before it is used.

use std::{fmt, time::Duration};

use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use uuid::Uuid;

use super::{KeyHandle, ProviderError, hook::Hook};
use crate::core::{payload::Payload, signature::RawSignature};

/// What a custodian is asked for.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The key.
    pub key: KeyHandle<'a>,
    /// Its address.
    pub address: Address,
    /// What to sign, so that the provider's policy and its approvers see more than a hash.
    pub payload: &'a Payload,
    /// What the signature must be over.
    pub digest: B256,
    /// The id under which the provider knows this attempt.
    pub external_id: &'a str,
}

/// What is remembered of an attempt when its provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'a> {
    /// It was never sent.
    Nothing,
    /// It may have been sent; the answer was lost, or we died. It is looked for before anything is created.
    MaybeSent,
    /// The provider's own id.
    Id(&'a str),
}

/// How a provider says that a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The provider's own id; a policy may refuse a request before it has one.
    pub id: Option<String>,
    /// The provider's own words, kept as detail.
    pub said: String,
    /// What they mean.
    pub state: State,
}

/// What a provider's words mean to us. What is not listed by a provider's mapping is `Processing`, for lists of statuses grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Accepted; nobody is waited for that we know of.
    Processing,
    /// Accepted; a person or a co-signer is waited for.
    Awaiting,
    /// Signed.
    Signed(RawSignature),
    /// Signed and sent to the chain by the provider; without a hash while it has told none.
    Broadcast(Option<B256>),
    /// In a block, as the provider sees it.
    Confirmed(Option<B256>),
    /// Sent by the provider, and over: reverted, dropped, given up. How it ended the chain says.
    Ended(B256),
    /// Refused by a person; final.
    Denied,
    /// Not decided within the provider's own time; final.
    Expired,
    /// Stopped by the provider's policy; final there, and a further attempt needs an operator.
    Blocked,
    /// Ended without a signature.
    Failed {
        /// The fault was the provider's: a further attempt, under another id, may succeed.
        again: bool,
    },
}

/// How often a custodian is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The longest that one call takes, its turn included. For so long nobody else asks about the same request.
    pub longest_call: Duration,
    /// How long a new request is followed before its caller is told to wait.
    pub settle: Duration,
    /// First pause between two looks at a request.
    pub poll_first: Duration,
    /// Longest pause.
    pub poll_longest: Duration,
    /// Longest pause between looks at a request that an event of the provider has named: events arrive, and looks are what is left if one does not.
    pub poll_longest_heard: Duration,
    /// Attempts of one request, further ones under further ids, after which a failure is final.
    pub attempts: u16,
}

/// A provider that decides later.
#[async_trait]
pub trait Custody: Send + Sync {
    /// How often it is asked.
    fn pace(&self) -> Pace;

    /// Whether it numbers and broadcasts new transactions by itself.
    fn broadcasts(&self) -> bool;

    /// What verifies its events, where they are taken.
    fn hook(&self) -> Option<&dyn Hook> {
        None
    }

    /// Hands the order over. Where the external id is taken by this very order, answers with how that one stands.
    async fn submit(&self, order: &Order<'_>) -> Result<Report, ProviderError>;

    /// The request that the external id stands for, if there is one. What is another order than this is [`ProviderError::Blocked`].
    async fn find(&self, order: &Order<'_>) -> Result<Option<Report>, ProviderError>;

    /// How a request stands.
    async fn look(&self, order: &Order<'_>, id: &str) -> Result<Report, ProviderError>;

    /// Asks the provider to give the request up, and answers how it stands then: only a final report is a cancellation.
    async fn cancel(&self, order: &Order<'_>, id: &str) -> Result<Report, ProviderError>;
}

/// The id of an attempt: the request's own, with a suffix from the second on.
#[must_use]
pub fn external_id(request_id: Uuid, attempt: u16) -> String {
    match attempt {
        0 => format!("dalp-{request_id}"),
        attempt => format!("dalp-{request_id}-{attempt}"),
    }
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Order").field("external_id", &self.external_id).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    /// Whether the provider never changes it any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Processing | Self::Awaiting | Self::Broadcast(_))
    }
}

// === impl Pace ===

impl Pace {
    /// The pause after the `looks`-th look in a row that found nothing new, with `random` in 0..1 as its jitter: replicas and requests
    /// that started together do not stay together.
    #[must_use]
    pub fn pause(&self, looks: u32, random: f64) -> Duration {
        self.up_to(self.poll_longest, looks, random)
    }

    /// As [`Self::pause`], for a request that waits at the provider. An event begins the count anew, so that what it told too early is found soon after.
    #[must_use]
    pub fn waiting(&self, looks: u32, heard: bool, random: f64) -> Duration {
        self.up_to(if heard { self.poll_longest_heard } else { self.poll_longest }, looks, random)
    }

    fn up_to(&self, longest: Duration, looks: u32, random: f64) -> Duration {
        let doubled = self.poll_first.saturating_mul(1 << looks.min(16));
        doubled.min(longest).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_is_plain_and_each_further_one_is_another() {
        let id = Uuid::from_u128(5);
        assert_eq!(external_id(id, 0), "dalp-00000000-0000-0000-0000-000000000005");
        assert_eq!(external_id(id, 2), "dalp-00000000-0000-0000-0000-000000000005-2");
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let pace = Pace {
            longest_call: Duration::from_secs(1),
            settle: Duration::ZERO,
            poll_first: Duration::from_secs(2),
            poll_longest: Duration::from_secs(60),
            poll_longest_heard: Duration::from_secs(600),
            attempts: 3,
        };
        assert_eq!(pace.pause(0, 1.0), Duration::from_secs(2));
        assert_eq!(pace.pause(2, 1.0), Duration::from_secs(8));
        assert_eq!(pace.pause(2, 0.0), Duration::from_secs(4));
        assert_eq!(pace.pause(u32::MAX, 1.0), Duration::from_secs(60));
        assert_eq!(
            (pace.waiting(0, true, 1.0), pace.waiting(1, true, 1.0)),
            (Duration::from_secs(2), Duration::from_secs(4))
        );
        assert_eq!(pace.waiting(u32::MAX, true, 1.0), Duration::from_secs(600));
        assert_eq!(pace.waiting(u32::MAX, false, 1.0), Duration::from_secs(60));
    }
}
