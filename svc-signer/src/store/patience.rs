//! How long the database may take to answer. A host that is gone says nothing, not even that it is gone, and a connection to it waits for ever.

use std::{
    fmt::Display,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Connection as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::StoreError;

/// Longest wait for a connection; the limit of a statement shortens it.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);

/// The limit, and what is remembered of the last time it was reached.
#[derive(Debug, Clone)]
pub struct Patience {
    limit: Duration,
    /// When the database last left a statement unanswered. No connection that is older is used again: they all lead to the same silent host.
    lost_at: Arc<Mutex<Option<Instant>>>,
    /// Whether the schema is the one that this code is written for. Until it is nothing is asked: while an older one is brought up to date, a table
    /// lacks a column, and that would be told as a defect of ours.
    is_current: Arc<AtomicBool>,
}

// === impl Patience ===

impl Patience {
    /// With this limit, for a schema that is to be brought up to date first.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, lost_at: Arc::default(), is_current: Arc::default() }
    }

    /// From now on the schema is up to date.
    pub(super) fn schema_is_current(&self) {
        self.is_current.store(true, Ordering::Release);
    }

    /// The settings by which the server keeps limits, too: it gives a slow statement up a little before we stop waiting, so that only silence
    /// costs connections, and it notices when we are gone.
    pub fn settings(&self) -> [(&'static str, impl Display + use<>); 5] {
        let limit_ms = (self.limit * 3 / 4).as_millis();
        [
            ("statement_timeout", limit_ms),
            ("idle_in_transaction_session_timeout", limit_ms),
            ("tcp_keepalives_idle", 60),
            ("tcp_keepalives_interval", 10),
            ("tcp_keepalives_count", 3),
        ]
    }

    /// A pool whose connections are given up with the host they lead to. Connects when first used.
    pub fn pool(&self, options: PgConnectOptions, most: u32) -> PgPool {
        let (before, after) = (self.clone(), self.clone());
        PgPoolOptions::new()
            .max_connections(most.max(2))
            .acquire_timeout(ACQUIRE_WITHIN.min(self.limit / 2))
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(dalp_schema::to_a_primary(connection)))
            .before_acquire(move |_, seen| {
                let lost = before.is_lost(seen.age);
                Box::pin(async move { if lost { Err(silent()) } else { Ok(true) } })
            })
            // A statement may have been abandoned in the middle: the pool asks whether its connection still answers, but waits for ever.
            .after_release(move |connection, seen| {
                let (lost, limit) = (after.is_lost(seen.age), after.limit);
                Box::pin(async move {
                    match lost {
                        true => Err(silent()),
                        false => {
                            tokio::time::timeout(limit, connection.ping()).await.map_err(|_| silent())?.map(|()| true)
                        }
                    }
                })
            })
            .connect_lazy_with(options)
    }

    /// Does work that asks the database, but waits no longer than the limit. What was under way may have been done all the same. None is begun
    /// before the schema is up to date.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if !self.is_current.load(Ordering::Acquire) {
            return Err(StoreError::NotMigrated);
        }
        let mut work = pin!(work);
        tokio::time::timeout(self.limit, work.as_mut()).await.unwrap_or_else(|_| {
            // Noted before the work ends and gives its connection back.
            *self.lost_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            Err(silent().into())
        })
    }

    /// Whether a connection of this age was opened before the database fell silent.
    fn is_lost(&self, age: Duration) -> bool {
        self.lost_at.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|lost_at| lost_at.elapsed() <= age)
    }
}

pub(super) fn silent() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer"))
}
