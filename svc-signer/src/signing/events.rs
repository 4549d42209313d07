//! Events of custodians: verified, taken once, and never believed. What an event names is looked at; how it stands says the custodian when it is asked.

use std::sync::Arc;

use time::OffsetDateTime;

use super::Signer;
use crate::{
    errors::SignerError,
    metric_definitions as names,
    providers::{
        ProviderKind, Signing,
        hook::{Delivery, HookError},
    },
    store::{events::Woken, requests::StoredRequest},
};

/// Looks that events have woken and that are under way at once; further ones are left to the sweep, to which they are due.
pub(super) const WAKES_AT_ONCE: usize = 16;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// What it names is looked at.
    Woken,
    /// It names nothing that waits here.
    Ignored,
    /// It came before.
    Repeated,
}

// === impl Signer ===

impl Signer {
    /// Takes an event: verifies it, notes that it came, and looks at what it names without making the sender wait for that.
    pub async fn deliver(
        self: &Arc<Self>,
        provider: ProviderKind,
        delivery: &Delivery<'_>,
    ) -> Result<Delivered, SignerError> {
        let taken = self.take(provider, delivery).await;
        let outcome = match &taken {
            Ok(Delivered::Woken) => "woken",
            Ok(Delivered::Ignored) => "ignored",
            Ok(Delivered::Repeated) => "repeated",
            Err(SignerError::EventUnverified(..)) => "unverified",
            Err(SignerError::EventStale { .. }) => "stale",
            Err(_) => "failed",
        };
        metrics::counter!(names::PROVIDER_EVENTS_TOTAL, "provider" => provider.as_str(), "outcome" => outcome)
            .increment(1);
        if let Err(error) = &taken {
            tracing::warn!(%provider, %error, "event of a custodian not taken");
        }
        taken
    }

    async fn take(self: &Arc<Self>, provider: ProviderKind, delivery: &Delivery<'_>) -> Result<Delivered, SignerError> {
        let holder = self.providers().select(provider).ok_or(SignerError::ProviderNotActive(provider))?;
        let hook = match holder.signing() {
            Signing::Custody(custody) => custody.hook(),
            Signing::AtOnce(_) => None,
        };
        let hook = hook.ok_or(SignerError::NoEvents(provider))?;
        let event = hook.verify(delivery, OffsetDateTime::now_utc()).await.map_err(|error| match error {
            HookError::Unverified(why) => SignerError::EventUnverified(provider, why),
            HookError::Stale { at, tolerance } => SignerError::EventStale { at, tolerance_s: tolerance.as_secs() },
            HookError::Unavailable(error) => SignerError::Provider(error),
        })?;
        let Some(event) = event.filter(|event| !event.names.is_empty()) else { return Ok(Delivered::Ignored) };
        match self.store().wake(provider, &event, hook.kept_until(&event)).await? {
            Woken::Nothing => Ok(Delivered::Ignored),
            Woken::Before => Ok(Delivered::Repeated),
            Woken::Requests(ids) => {
                tracing::info!(%provider, kind = event.kind, requests = ids.len(), "woken by an event");
                for request in self.store().requests(&ids).await? {
                    self.look_now(request);
                }
                Ok(Delivered::Woken)
            }
        }
    }

    /// In a task of its own: the custodian waits for our answer to the event. Nothing is lost if it does not run, for the request is due.
    fn look_now(self: &Arc<Self>, request: StoredRequest) {
        let Ok(turn) = Arc::clone(&self.wakes).try_acquire_owned() else { return };
        let signer = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = turn;
            if !request.status.is_final() {
                signer.retry(request).await;
            }
        });
    }
}
