//! Group commit: callers queue items, one task writes all that have gathered while the write before was under way.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use crate::metric_definitions as names;

/// Most items of one write.
const BATCH_MAX: usize = 256;
/// Most items that wait; beyond it callers wait for room.
const QUEUE_MAX: usize = 4096;

type Item<I, O> = (I, oneshot::Sender<Result<O, StoreError>>);

/// A handle to a batching writer; the task ends with its last handle, and a panic ends only the write that met it.
pub struct Batcher<I, O> {
    queue: mpsc::Sender<Item<I, O>>,
}

// === impl Batcher ===

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts a writer. `write` answers each item, in order.
    pub fn spawn<F, W>(name: &'static str, write: W) -> Self
    where
        F: Future<Output = Vec<Result<O, StoreError>>> + Send,
        W: Fn(Vec<I>) -> F + Send + Sync + 'static,
    {
        let (queue, mut items) = mpsc::channel::<Item<I, O>>(QUEUE_MAX);
        let write = Arc::new(write);
        tokio::spawn(async move {
            let mut gathered = Vec::with_capacity(BATCH_MAX);
            while items.recv_many(&mut gathered, BATCH_MAX).await > 0 {
                metrics::histogram!(names::BATCH_SIZE, "writer" => name).record(gathered.len() as f64);
                let (batch, waiting): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
                // Unwind safe: nothing of a write outlives it.
                let Ok(answers) = AssertUnwindSafe(async { write(batch).await }).catch_unwind().await else {
                    tracing::error!(writer = name, "a write panicked");
                    waiting.into_iter().for_each(|waiting| drop(waiting.send(Err(StoreError::Panicked))));
                    continue;
                };
                debug_assert_eq!(answers.len(), waiting.len(), "one answer per item");
                for (answer, waiting) in answers.into_iter().zip(waiting) {
                    // A caller that gave up finds the result by its request id.
                    let _ = waiting.send(answer);
                }
            }
        });
        Self { queue }
    }

    /// Queues an item and waits for its answer.
    pub async fn submit(&self, item: I) -> Result<O, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send((item, answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// Writes a batch in one statement. When the database refuses it, each item goes alone, so that one that cannot be stored does not take the
/// others with it.
pub async fn write_all<'b, I, O>(
    batch: &'b [I],
    write: impl Fn(&'b [I]) -> BoxFuture<'b, Result<Vec<O>, StoreError>>,
) -> Vec<Result<O, StoreError>> {
    match write(batch).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(StoreError::Statement(_)) if batch.len() > 1 => {
            let mut answers = Vec::with_capacity(batch.len());
            for item in batch {
                // Gone in between: the others need not find out one by one.
                if let Some(Err(error @ StoreError::Unavailable(_))) = answers.last() {
                    answers.push(Err(error.clone()));
                    continue;
                }
                let answer = write(std::slice::from_ref(item)).await;
                answers.push(answer.and_then(|mut one| one.pop().ok_or(StoreError::Damaged("an answer per item"))));
            }
            answers
        }
        Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_the_write_that_met_it() {
        let writer = Batcher::spawn("numbers", |batch: Vec<u32>| async move {
            assert!(!batch.contains(&2), "no answer to this one");
            batch.into_iter().map(Ok).collect()
        });
        assert!(matches!(writer.submit(2).await, Err(StoreError::Panicked)));
        assert!(matches!(writer.submit(3).await, Ok(3)));
    }
}
