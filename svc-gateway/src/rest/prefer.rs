//! `Prefer: wait=n` (RFC 7240): answer when the accepted operation is final, or when the time has passed.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// What a client would like.
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What of it was done.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// As long as one wait of the contracts.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the client would like to wait: the first `wait` of its preferences, at most a minute. A preference that cannot be
/// read is none, as the standard asks.
#[must_use]
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER);
    let preferences = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let first = preferences.filter_map(|preference| {
        let word = preference.split(';').next()?;
        let (name, value) = word.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').to_owned())
    });
    let seconds: u64 = first.take(1).find_map(|value| value.parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST))
}

/// What to say about a wait that was done.
pub(crate) fn applied(wait: Duration) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_str(value).unwrap());
        }
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_read_among_others() {
        assert_eq!(of(&["wait=10"]), Some(10));
        assert_eq!(of(&["respond-async, Wait = \"7\"; foo=bar"]), Some(7));
        assert_eq!(of(&["return=minimal", "wait=3"]), Some(3));
        assert_eq!(of(&["wait=900"]), Some(60));
        assert_eq!(of(&["wait=5, wait=9"]), Some(5));
        for none in ["wait", "wait=", "wait=-1", "wait=x", "wait=0", "waits=5", "99999999999999999999999"] {
            assert_eq!(of(&[none]), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_preference_panics(text in "[ -~]{0,60}") {
            let _answered = of(&[&text]);
        }
    }
}
