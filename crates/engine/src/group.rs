//! Work that waits together is done together: while one turn runs, whatever arrives makes up the next one.
//!
//! There is no timer in it. A caller that is alone is served at once; under load one statement or commit carries the work of many.

use crate::error::StoreError;
use futures::{FutureExt as _, future::BoxFuture};
use std::{panic::AssertUnwindSafe, sync::Arc};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Most that one turn carries.
const AT_ONCE: usize = 256;
/// How many may wait before those who come next have to wait to be let in.
const CAPACITY: usize = 4_096;

/// Where work is handed in.
pub struct Group<T, R>(mpsc::Sender<Waiting<T, R>>);

/// Where it is taken out, turn by turn.
pub struct Turns<T, R>(mpsc::Receiver<Waiting<T, R>>);

struct Waiting<T, R> {
    work: T,
    answer: oneshot::Sender<Result<R, StoreError>>,
}

/// A group and its turns.
pub fn group<T, R>() -> (Group<T, R>, Turns<T, R>) {
    let (hand_in, take_out) = mpsc::channel(CAPACITY);
    (Group(hand_in), Turns(take_out))
}

// === impl Group ===

impl<T, R> Group<T, R> {
    /// Hands work in and waits for its own answer.
    ///
    /// # Errors
    /// What the turn failed with, and [`StoreError::Stopped`] when there are no turns any more.
    pub async fn join(&self, work: T) -> Result<R, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { work, answer }).await.map_err(|_| StoreError::Stopped)?;
        answered.await.unwrap_or(Err(StoreError::Stopped))
    }
}

// === impl Turns ===

impl<T, R> Turns<T, R> {
    /// Serves until it is stopped, and then who still waits.
    ///
    /// `carry_out` does all of the work or nothing of it, and answers in its order. When a turn fails for a reason of its
    /// work, each is tried alone, so that nobody fails by the fault of a neighbour. A panic is such a reason: it ends the
    /// work that met it, and neither its neighbours nor the turns to come.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        carry_out: impl for<'w> Fn(&'w [T]) -> BoxFuture<'w, Result<Vec<R>, StoreError>>,
    ) {
        // Unwind safe: nothing of a turn outlives it.
        let carry_out = async |works: &[T]| {
            let turn = AssertUnwindSafe(async { carry_out(works).await }).catch_unwind();
            turn.await.unwrap_or_else(|_| Err(StoreError::Panicked))
        };
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.0.is_closed() => {
                    self.0.close();
                    continue;
                }
                count = self.0.recv_many(&mut waiting, AT_ONCE) => if count == 0 { return },
            }
            let (mut works, mut answers) = (Vec::new(), Vec::new());
            // Who no longer listens has given up; the work of nobody is left undone.
            for one in waiting.into_iter().filter(|one| !one.answer.is_closed()) {
                works.push(one.work);
                answers.push(one.answer);
            }
            if works.is_empty() {
                continue;
            }
            match carry_out(&works).await {
                Ok(results) => reply(answers, results.into_iter().map(Ok)),
                Err(error) if error.is_retryable() => {
                    let shared = Arc::new(error);
                    reply(answers, std::iter::repeat_with(|| Err(StoreError::Shared(shared.clone()))));
                }
                Err(error) if works.len() == 1 => reply(answers, [Err(error)]),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a shared commit failed, each is tried alone"
                    );
                    for (work, answer) in works.chunks(1).zip(answers) {
                        let result = carry_out(work).await.and_then(|results| {
                            results.into_iter().next().ok_or_else(|| StoreError::corrupt("work without an answer"))
                        });
                        let _ = answer.send(result);
                    }
                }
            }
        }
    }
}

/// Whoever has stopped listening in the meantime looks at the database again when it comes back.
fn reply<R>(
    answers: Vec<oneshot::Sender<Result<R, StoreError>>>,
    results: impl IntoIterator<Item = Result<R, StoreError>>,
) {
    for (answer, result) in answers.into_iter().zip(results) {
        let _ = answer.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    async fn served(fail_on: Option<u32>, works: Vec<u32>) -> (Vec<Result<u32, String>>, Vec<usize>) {
        let (group, turns) = group::<u32, u32>();
        let stop = CancellationToken::new();
        let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = sizes.clone();
        let joining: Vec<_> = works.iter().map(|work| group.join(*work)).collect();
        let serving = turns.run(stop.clone(), move |works: &[u32]| {
            seen.lock().expect("not poisoned").push(works.len());
            let answer = match works.iter().find(|work| Some(**work) == fail_on) {
                Some(work) => Err(StoreError::corrupt(work)),
                None => Ok(works.iter().map(|work| work * 10).collect()),
            };
            Box::pin(async move { answer })
        });
        let asking = async {
            let answers = futures::future::join_all(joining).await;
            stop.cancel();
            answers
        };
        let (answers, ()) = tokio::join!(asking, serving);
        let sizes = sizes.lock().expect("not poisoned").clone();
        (answers.into_iter().map(|answer| answer.map_err(|error| error.to_string())).collect(), sizes)
    }

    #[tokio::test]
    async fn who_waits_together_is_served_in_one_turn() {
        let (answers, sizes) = served(None, vec![1, 2, 3]).await;
        assert_eq!(answers, [Ok(10), Ok(20), Ok(30)]);
        assert_eq!(sizes, [3]);
    }

    #[tokio::test]
    async fn nobody_fails_by_the_fault_of_a_neighbour() {
        let (answers, _) = served(Some(2), vec![1, 2, 3]).await;
        assert_eq!(answers, [Ok(10), Err("stored value: 2".into()), Ok(30)]);
    }

    #[tokio::test]
    async fn a_panic_ends_only_the_work_that_met_it() {
        let (group, turns) = group::<u32, u32>();
        let stop = CancellationToken::new();
        let serving = turns.run(stop.clone(), |works: &[u32]| {
            Box::pin(async move {
                assert!(!works.contains(&2), "no answer to this one");
                Ok(works.to_vec())
            })
        });
        let asking = async {
            let together = futures::future::join_all([1, 2, 3].map(|work| group.join(work))).await;
            let next = group.join(4).await;
            stop.cancel();
            (together, next)
        };
        let ((together, next), ()) = tokio::join!(asking, serving);
        assert!(matches!(together[..], [Ok(1), Err(StoreError::Panicked), Ok(3)]), "{together:?}");
        assert!(matches!(next, Ok(4)), "{next:?}");
    }

    #[tokio::test]
    async fn after_the_stop_nobody_is_let_in() {
        let (group, turns) = group::<u32, u32>();
        let stop = CancellationToken::new();
        stop.cancel();
        turns.run(stop, |works| Box::pin(async move { Ok(works.to_vec()) })).await;
        assert!(matches!(group.join(1).await, Err(StoreError::Stopped)));
    }
}
