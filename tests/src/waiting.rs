//! Waiting for a condition that somebody else brings about.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tonic::{Code, Status};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const WITHIN: Duration = Duration::from_secs(180);
const REPEAT_AFTER: Duration = Duration::from_millis(20);

/// Asks again until the answer is as wanted.
///
/// # Panics
/// When it does not become so.
pub async fn until<T: Debug>(what: &str, mut ask: impl AsyncFnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < WITHIN, "{what}: {answer:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Repeats a call until a service that was killed meanwhile answers it.
///
/// # Errors
/// As the platform refuses it, or when nobody answers in time.
pub async fn repeated<T, F>(within: Duration, call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    repeated_after(REPEAT_AFTER, within, call).await
}

/// The same, with so long a pause between two calls.
///
/// # Errors
/// As [`repeated`].
pub async fn repeated_after<T, F>(pause: Duration, within: Duration, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    let mut last = None;
    while let Some(left) = within.checked_sub(begun.elapsed()) {
        match tokio::time::timeout(left, call()).await {
            Ok(Err(status)) if is_to_repeat(&status) => last = Some(status),
            Ok(answered) => return answered,
            Err(_) => break,
        }
        tokio::time::sleep(pause).await;
    }
    Err(Status::deadline_exceeded(format!("not answered within {within:?}, at last: {last:?}")))
}

/// Whether a call may have failed because a service was away.
#[must_use]
pub fn is_to_repeat(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown};
    matches!(status.code(), Unavailable | Aborted | Cancelled | DeadlineExceeded | ResourceExhausted | Unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_call_that_is_never_answered_is_given_up() {
        let away = repeated(Duration::from_millis(100), async || Err::<(), _>(Status::unavailable("away"))).await;
        assert_eq!(away.unwrap_err().code(), Code::DeadlineExceeded);
        let silent = repeated(Duration::from_millis(100), std::future::pending::<Result<(), Status>>).await;
        assert_eq!(silent.unwrap_err().code(), Code::DeadlineExceeded);
        let refused = repeated(Duration::from_secs(9), async || Err::<(), _>(Status::not_found("no"))).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }
}
