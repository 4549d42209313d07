//! Hears of every change of the tables, on a connection of its own.
//!
//! A notification is only believed to be missing when the connection is shown to be dead: every [`BEAT`] a statement is answered
//! on it, and what was committed before that is heard before the answer. So an entry of the cache is known to be right as of the
//! last beat; without beats nothing in the cache is trusted for longer than [`super::directory::TRUSTED_FOR`].

use std::{sync::Arc, time::Duration};

use dalp_service::stop::Stop;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;

use super::directory::{Change, Directory};

/// How often the connection shows that it lives.
const BEAT: Duration = Duration::from_millis(200);
/// A statement that is not answered by then was the last one of its connection.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(250);
const CHANNEL: &str = "dalp_gateway";

/// Listens until stopped, on connections made as those of `pool` are.
pub async fn run(directory: Arc<Directory>, pool: PgPool, stop: Stop) {
    loop {
        tokio::select! {
            () = stop.requested() => return,
            ended = listen(&directory, &pool) => {
                if let Err(error) = ended {
                    tracing::warn!(error = &error as &dyn std::error::Error, "changes of credentials are not heard of; reading each from the database");
                }
            }
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn listen(directory: &Directory, pool: &PgPool) -> Result<(), sqlx::Error> {
    let late = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"));
    // A connection that no longer answers is handed back to its pool in its own time, which may be never: each try has a pool of its
    // own, so that the next one does not wait for the last one's connection.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ANSWER_WITHIN)
        .connect_lazy_with(pool.connect_options().as_ref().clone());
    let mut listener = timeout(ANSWER_WITHIN, PgListener::connect_with(&own)).await.map_err(|_| late())??;
    // A lost connection must be seen as lost, never replaced in silence: what was told in between is not told again.
    listener.eager_reconnect(false);
    timeout(ANSWER_WITHIN, listener.listen(CHANNEL)).await.map_err(|_| late())??;
    directory.listening();
    loop {
        // Asked before the beat: what is loaded later than this is newer than what the beat vouches for.
        let asked = std::time::Instant::now();
        timeout(ANSWER_WITHIN, beat(&mut listener)).await.map_err(|_| late())??;
        while let Some(told) = listener.next_buffered() {
            directory.changed(Change::read(told.payload()));
        }
        directory.heard(asked);
        match timeout(BEAT, listener.try_recv()).await {
            Err(_quiet) => {}
            Ok(Ok(Some(told))) => directory.changed(Change::read(told.payload())),
            Ok(Ok(None)) => return Err(late()),
            Ok(Err(error)) => return Err(error),
        }
    }
}

async fn beat(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(&mut *listener).await.map(drop)
}
