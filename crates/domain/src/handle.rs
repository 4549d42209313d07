//! What a service works with once its dependencies are there.

use dalp_service::{Reason, Refusal};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The app of a service, once it is up; until then every request is asked to come again.
pub struct AppHandle<A> {
    cell: Arc<OnceCell<A>>,
}

// === impl AppHandle ===

impl<A> AppHandle<A> {
    /// The app, or the refusal that it is not up yet.
    pub fn get(&self) -> Result<&A, Refusal> {
        self.cell.get().ok_or_else(|| Refusal::new(Reason::DatabaseUnavailable, "the service waits for its database"))
    }

    /// Puts the app in place, once.
    pub fn set(&self, app: A) {
        if self.cell.set(app).is_err() {
            tracing::error!("the service was brought up twice; the first one stays");
        }
    }
}

impl<A> Default for AppHandle<A> {
    fn default() -> Self {
        Self { cell: Arc::default() }
    }
}

impl<A> Clone for AppHandle<A> {
    fn clone(&self) -> Self {
        Self { cell: self.cell.clone() }
    }
}
