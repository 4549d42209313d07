//! When API keys were last used: remembered to the minute, written in batches at most once a minute.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dalp_service::stop::Stop;
use time::OffsetDateTime;

use super::{Directory, Store};

/// How often the batch is written.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Rows of one statement.
const BATCH: usize = 5_000;
/// More than this many keys are not remembered between two writes: memory is bounded, and what is lost is only a time.
const MOST: usize = 200_000;

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub struct Uses {
    waiting: Mutex<HashMap<String, OffsetDateTime>>,
}

// === impl Uses ===

impl Uses {
    /// Remembers that a key was used in the minute of `at`.
    pub fn note(&self, prefix: &str, at: OffsetDateTime) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST || waiting.contains_key(prefix) {
            waiting.insert(prefix.to_owned(), at);
        }
    }

    /// Writes what waits. What the database does not take waits on.
    pub async fn write(&self, store: &Store) {
        let all: Vec<(String, OffsetDateTime)> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        for batch in all.chunks(BATCH).map(<[_]>::to_vec).collect::<Vec<_>>() {
            if let Err(error) = store.note_uses(&batch).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "uses of API keys are not written yet");
                batch.iter().for_each(|(prefix, at)| self.note_again(prefix, *at));
            }
        }
    }

    fn note_again(&self, prefix: &str, at: OffsetDateTime) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            waiting.entry(prefix.to_owned()).or_insert(at);
        }
    }
}

/// Writes once a minute, and at the end.
pub async fn run(directory: Arc<Directory>, stop: Stop) {
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => directory.uses.write(directory.store()).await,
            () = stop.requested() => break,
        }
    }
    directory.uses.write(directory.store()).await;
}
