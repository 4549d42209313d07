//! Requests that were not decided when they were asked: looked at again until they are.

use std::time::Duration;

use futures::StreamExt as _;

use super::{
    Signer,
    custody::{Ended, WITHDRAWN},
    drive::outcome,
};
use crate::{
    errors::SignerError,
    metric_definitions as names,
    providers::{ProviderKind, Signing},
    store::{
        StoreError,
        requests::{Status, StoredRequest},
    },
};

/// How many undecided requests one sweep looks at, and how many of them at once.
const SWEEP_MAX: i64 = 256;
const SWEEP_CONCURRENCY: usize = 16;

// === impl Signer ===

impl Signer {
    /// Tries undecided requests again, among them those that a crash left behind. Runs for ever. Each provider has a sweep of its own:
    /// one that hangs must not keep the requests of another waiting.
    pub async fn sweep(&self) {
        futures::future::join_all(ProviderKind::ALL.map(|provider| self.sweep_of(provider))).await;
    }

    async fn sweep_of(&self, provider: ProviderKind) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.retry_ms.unsigned_abs())).await;
            match self.store.open_requests(provider, self.retry_ms, SWEEP_MAX).await {
                Ok(open) => {
                    metrics::gauge!(names::OPEN_REQUESTS, "provider" => provider.as_str()).set(open.len() as f64);
                    futures::stream::iter(open)
                        .for_each_concurrent(SWEEP_CONCURRENCY, |request| self.retry(request))
                        .await;
                }
                Err(error) => tracing::debug!(%error, "open requests not read"),
            }
        }
    }

    /// Nobody is asking any more: grant, policy and key are looked at again, for they may have changed since the request was accepted.
    pub(super) async fn retry(&self, request: StoredRequest) {
        let request_id = request.request_id;
        let advanced = async {
            let key = self.key(&request.tenant, request.signer).await?;
            let payload = match request.payload() {
                Ok(payload) => payload,
                Err(StoreError::Damaged(why)) => return self.deny(request, why).await,
                Err(error) => return Err(error.into()),
            };
            if key.disabled {
                return self.deny(request, &SignerError::KeyDisabled(key.address).to_string()).await;
            }
            match self.allowed(&request.peer, &request.tenant, request.signer, &payload) {
                Ok(_) => self.drive(&key, request, &payload).await,
                Err(refusal) => self.deny(request, &refusal.to_string()).await,
            }
        };
        if let Err(error) = advanced.await {
            tracing::warn!(%request_id, %error, "open request not advanced");
        }
    }

    /// Ends a transaction whose key signs while it is asked, and whose provider keeps nothing of it: from this commit on no signature of it is stored or told, for one
    /// that is being made right now finds the request ended. What a custodian may have is not withdrawn.
    pub(super) async fn withdraw_unkept(&self, request: StoredRequest) -> Result<StoredRequest, SignerError> {
        if request.nonce.is_none() {
            return Err(SignerError::NotWithdrawn);
        }
        if request.status.is_final() {
            return Ok(request);
        }
        let key = self.key(&request.tenant, request.signer).await?;
        match self.providers.select(key.provider).map(|provider| provider.signing()) {
            Some(Signing::AtOnce(_)) => {
                self.conclude(outcome(&request, Status::Denied, "withdrawn".to_owned(), WITHDRAWN)).await
            }
            Some(Signing::Custody(_)) | None => Err(SignerError::NotWithdrawn),
        }
    }

    /// Refuses for good what was accepted and is not signed. What a custodian may still carry out by itself stays open until it is given up there.
    pub(super) async fn deny(&self, request: StoredRequest, why: &str) -> Result<StoredRequest, SignerError> {
        self.deny_as(request, why, "").await
    }

    /// As [`Self::deny`], with a typed error beside the status.
    pub(super) async fn deny_as(
        &self,
        request: StoredRequest,
        why: &str,
        error: &'static str,
    ) -> Result<StoredRequest, SignerError> {
        let request_id = request.request_id;
        let key = self.key(&request.tenant, request.signer).await?;
        let outcome = outcome(&request, Status::Denied, why.to_owned(), error);
        let denied = match self.providers.select(key.provider).map(|provider| provider.signing()) {
            Some(Signing::Custody(custody)) => match self.end(custody, &key, &request, outcome).await? {
                Ended::Done(denied) => *denied,
                Ended::Kept | Ended::Busy => return Ok(request),
            },
            _ => self.conclude(outcome).await?,
        };
        tracing::warn!(%request_id, signer = %request.signer, why, "open request denied");
        Ok(denied)
    }
}
