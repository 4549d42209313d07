//! Waiting for a condition that somebody else brings about.

use std::fmt::Debug;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const WITHIN: Duration = Duration::from_secs(90);

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
