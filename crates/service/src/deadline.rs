//! The caller's deadline, carried from the incoming request to every call made on its behalf.

use std::time::{Duration, Instant};

use http::HeaderMap;

/// The metadata key of the gRPC deadline.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

tokio::task_local! {
    static CURRENT: Option<Deadline>;
}

/// When the caller of a request stops waiting. A request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request whose headers arrived now. A malformed value counts as none, as gRPC asks.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let timeout = parse(headers.get(GRPC_TIMEOUT)?.to_str().ok()?)?;
        Instant::now().checked_add(timeout).map(Self)
    }

    /// A deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// The deadline of the request this task serves.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok().flatten()
    }

    /// What is left of it; zero when it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The moment it passes.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// Runs `future` with `deadline` as the current one of its task.
pub(crate) async fn scope<F: Future>(deadline: Option<Deadline>, future: F) -> F::Output {
    CURRENT.scope(deadline, future).await
}

/// Parses the gRPC form: up to eight digits and a unit (H, M, S, m, u, n).
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grpc_timeouts_are_parsed_in_every_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "S", "1", "123456789S", "-1S", "1s", "1é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_header_says_it_is_a_number_and_a_unit_or_nothing(text in "\\PC{0,12}", digits in "[0-9]{1,8}", unit in "[HMSmun]") {
            if parse(&text).is_some() {
                prop_assert!(text.len() >= 2 && text.len() <= 9 && text.is_ascii());
            }
            let sound = format!("{digits}{unit}");
            prop_assert!(parse(&sound).is_some());
        }
    }
}
