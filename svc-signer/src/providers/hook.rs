//! What custodians send to the gateway by themselves: events, signed each in its own way.
//!
//! An event is a hint and nothing more. What it says of a request is not read; the custodian is asked, as if the next look were due.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::ProviderError;

/// So many names of one event are looked for.
const NAMES_MAX: usize = 8;
/// Longer names are none of ours.
const NAME_MAX_BYTES: usize = 200;

/// A request of somebody who says to be a custodian, as it came to the gateway.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// Headers with their names in small letters.
    pub headers: &'a [(String, Vec<u8>)],
    /// Body.
    pub body: &'a [u8],
}

/// An event that its custodian has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id at the custodian.
    pub id: String,
    /// Its kind, in the custodian's words.
    pub kind: String,
    /// When it was made or sent, as the custodian has it.
    pub at: OffsetDateTime,
    /// What it is about. Empty: nothing that a request of ours could be.
    pub names: Vec<Named>,
}

/// How an event names a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By our id.
    External(String),
    /// By the custodian's.
    Id(String),
}

/// Why an event is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookError {
    /// It is not signed as the custodian signs.
    Unverified(&'static str),
    /// It is signed, and too old, or from the future.
    Stale {
        /// When it was made or sent.
        at: OffsetDateTime,
        /// How far from now that may be.
        tolerance: Duration,
    },
    /// Whether it is signed cannot be told now.
    Unavailable(ProviderError),
}

/// Verifies a custodian's events.
#[async_trait]
pub trait Hook: Send + Sync {
    /// Verifies a delivery. `None`: signed, and not in a form that is known here.
    async fn verify(&self, delivery: &Delivery<'_>, now: OffsetDateTime) -> Result<Option<Event>, HookError>;

    /// Until when an event must be remembered so that it is not taken twice.
    fn kept_until(&self, event: &Event) -> OffsetDateTime;
}

// === impl Delivery ===

impl<'a> Delivery<'a> {
    /// The one header of a name, as text.
    pub fn only(&self, name: &str) -> Result<&'a str, HookError> {
        let mut found = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => {
                std::str::from_utf8(value).map_err(|_| HookError::Unverified("its signature is no text"))
            }
            (None, _) => Err(HookError::Unverified("it has no signature")),
            (Some(_), Some(_)) => Err(HookError::Unverified("it has several signatures")),
        }
    }
}

// === impl Named ===

impl Named {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::External(name) | Self::Id(name) => name,
        }
    }
}

/// The names that can be some: bounded, because whoever signs them may be another customer of the same custodian.
#[must_use]
pub fn bounded(names: impl Iterator<Item = Named>) -> Vec<Named> {
    let fits = |name: &Named| (1..=NAME_MAX_BYTES).contains(&name.as_str().len());
    names.filter(fits).take(NAMES_MAX).collect()
}

/// Refuses what was made too long ago, or later than now.
pub fn timely(at: OffsetDateTime, now: OffsetDateTime, oldest: Duration, ahead: Duration) -> Result<(), HookError> {
    let (past, future) = (now - at, at - now);
    if past > oldest {
        return Err(HookError::Stale { at, tolerance: oldest });
    }
    if future > ahead {
        return Err(HookError::Stale { at, tolerance: ahead });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_stands_in_one_header() {
        let headers = |names: &[&str]| -> Vec<(String, Vec<u8>)> {
            names.iter().map(|name| ((*name).to_owned(), b"s".to_vec())).collect()
        };
        let only = |headers: &[(String, Vec<u8>)]| Delivery { headers, body: b"" }.only("x-sig").map(str::to_owned);
        assert_eq!(only(&headers(&["a", "X-Sig"])), Ok("s".to_owned()));
        assert!(matches!(only(&headers(&["a"])), Err(HookError::Unverified(_))));
        assert!(matches!(only(&headers(&["x-sig", "x-sig"])), Err(HookError::Unverified(_))));
        assert!(matches!(only(&[("x-sig".to_owned(), vec![0xff])]), Err(HookError::Unverified(_))));
    }

    #[test]
    fn what_is_too_old_or_from_the_future_is_stale() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |seconds: i64| {
            timely(now + time::Duration::seconds(seconds), now, Duration::from_secs(300), Duration::from_secs(60))
        };
        assert_eq!((check(0), check(-300), check(60)), (Ok(()), Ok(()), Ok(())));
        assert!(matches!(check(-301), Err(HookError::Stale { .. })));
        assert!(matches!(check(61), Err(HookError::Stale { .. })));
    }

    #[test]
    fn names_are_few_and_short() {
        let names = (0..20).map(|at| Named::Id(format!("n{at}")));
        assert_eq!(bounded(names).len(), NAMES_MAX);
        let odd = [Named::Id(String::new()), Named::External("x".repeat(NAME_MAX_BYTES + 1))];
        assert!(bounded(odd.into_iter()).is_empty());
    }
}
