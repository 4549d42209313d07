//! What becomes of a try, and when the next one is.

use std::time::Duration;

/// Longest that a receiver may ask us to wait.
const LONGEST_ASKED: Duration = Duration::from_secs(86_400);
const GONE: u16 = 410;

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The receiver answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, if it was given in seconds.
        retry_after: Option<Duration>,
    },
    /// There was no answer; why.
    Failed(String),
}

/// What becomes of the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has ended well.
    Delivered,
    /// It is tried again.
    Again {
        /// After this.
        after: Duration,
        /// Why.
        why: String,
    },
    /// It has ended as a dead letter.
    Dead {
        /// Why.
        why: String,
    },
    /// The receiver wants no more: the webhook is disabled, and the delivery waits.
    Gone,
}

/// Decides about the `attempts`th try. `retries` are the pauses between tries; `jitter`, from 0 to 1, spreads them by up to a fifth.
#[must_use]
pub fn judge(tried: &Tried, attempts: u32, retries: &[Duration], jitter: f64) -> Verdict {
    let (why, asked) = match tried {
        Tried::Answered { status: 200..=299, .. } => return Verdict::Delivered,
        Tried::Answered { status: GONE, .. } => return Verdict::Gone,
        Tried::Answered { status: 300..=399, .. } => ("the receiver redirects, which is not followed".to_owned(), None),
        Tried::Answered { status, retry_after } => (format!("the receiver answered {status}"), *retry_after),
        Tried::Failed(why) => (why.clone(), None),
    };
    let pause = usize::try_from(attempts.saturating_sub(1)).ok().and_then(|index| retries.get(index));
    match pause {
        None => Verdict::Dead { why },
        Some(pause) => {
            let spread = pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0);
            Verdict::Again { after: spread.max(asked.unwrap_or_default().min(LONGEST_ASKED)), why }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRIES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(100)];

    fn answered(status: u16) -> Tried {
        Tried::Answered { status, retry_after: None }
    }

    #[test]
    fn two_hundreds_deliver_and_410_ends_the_webhook() {
        for status in [200, 202, 204, 299] {
            assert_eq!(judge(&answered(status), 9, &RETRIES, 0.0), Verdict::Delivered);
        }
        assert_eq!(judge(&answered(410), 1, &RETRIES, 0.0), Verdict::Gone);
    }

    #[test]
    fn everything_else_is_tried_again_until_the_pauses_are_used_up() {
        for tried in [answered(100), answered(301), answered(404), answered(500), Tried::Failed("x".to_owned())] {
            for (attempts, pause) in [(1, 10), (2, 100)] {
                let verdict = judge(&tried, attempts, &RETRIES, 0.0);
                assert!(
                    matches!(verdict, Verdict::Again { after, .. } if after == Duration::from_secs(pause)),
                    "{verdict:?}"
                );
            }
            assert!(matches!(judge(&tried, 3, &RETRIES, 0.0), Verdict::Dead { .. }));
        }
    }

    #[test]
    fn pauses_are_spread_and_the_receiver_may_ask_for_longer_ones() {
        let after = |tried, jitter| match judge(&tried, 1, &RETRIES, jitter) {
            Verdict::Again { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(answered(500), 1.0), Duration::from_secs(12));
        let asking = |seconds| Tried::Answered { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(after(asking(60), 0.0), Duration::from_secs(60));
        assert_eq!(after(asking(1), 0.0), Duration::from_secs(10));
        assert_eq!(after(asking(u64::MAX), 0.0), LONGEST_ASKED);
    }
}
