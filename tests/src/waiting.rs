//! Waiting for a condition that somebody else brings about.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tonic::{Code, Status};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const WITHIN: Duration = Duration::from_secs(90);
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
/// As the platform refuses it.
pub async fn repeated<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    loop {
        match call().await {
            Err(status) if is_to_repeat(&status) => tokio::time::sleep(REPEAT_AFTER).await,
            answered => return answered,
        }
    }
}

/// Whether a call may have failed because a service was away.
#[must_use]
pub fn is_to_repeat(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown};
    matches!(status.code(), Unavailable | Aborted | Cancelled | DeadlineExceeded | ResourceExhausted | Unknown)
}
