//! One token that says "finish what you have and leave".

use tokio_util::sync::CancellationToken;

/// A cloneable stop signal: every loop of a service selects on [`Stop::requested`].
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// A stop signal that only [`Stop::request`] triggers. Tests and the devstack use it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stop signal triggered by SIGTERM or SIGINT. Must be called within a tokio runtime.
    ///
    /// The handlers are installed before this returns, so that a signal which arrives during start-up already means a
    /// graceful stop instead of the default action.
    #[must_use]
    pub fn on_signals() -> Self {
        let stop = Self::new();
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(mut terminate), Ok(mut interrupt)) => {
                    let requested = stop.clone();
                    tokio::spawn(async move {
                        let name = tokio::select! {
                            _ = terminate.recv() => "SIGTERM",
                            _ = interrupt.recv() => "SIGINT",
                            () = requested.requested() => return,
                        };
                        tracing::info!(signal = name, "stop requested");
                        requested.request();
                    });
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "cannot install signal handlers; a signal will end the process at once");
                }
            }
        }
        stop
    }

    /// Asks everything that holds this signal to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// True once a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when a stop was requested; completes at once afterwards. Cancel safe.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// A signal that stops with this one but can also be stopped alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// The underlying token, for libraries that want one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
