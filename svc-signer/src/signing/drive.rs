//! An accepted request at its provider, and what comes of it.

use std::time::Instant;

use alloy::primitives::B256;
use time::OffsetDateTime;

use super::{Signer, attest::Cover, count};
use crate::{
    core::{digest::assemble, payload::Payload},
    errors::SignerError,
    metric_definitions as names,
    providers::{KeyHandle, ProviderError, Signing},
    store::{
        keys::KeyRecord,
        outcomes::Outcome,
        requests::{Status, StoredRequest},
    },
};

// === impl Signer ===

impl Signer {
    /// Asks the provider for an accepted request and stores what comes of it.
    pub(super) async fn drive(
        &self,
        key: &KeyRecord,
        request: StoredRequest,
        payload: &Payload,
    ) -> Result<StoredRequest, SignerError> {
        if let Some(stands) = self.withheld(&request, payload).await? {
            return Ok(stands);
        }
        let provider = self.providers.select(key.provider).map(|provider| provider.signing());
        if let Some(Signing::Custody(custody)) = provider {
            return self.follow(custody, key, request, payload).await;
        }
        let request = match self.is_late(&request) {
            true => request,
            false => match self.cover(request.clone(), payload).await? {
                Cover::Stands(request) => *request,
                Cover::Lacks(outcome) => return self.conclude_if_changed(request, outcome).await,
            },
        };
        let outcome = self.ask_provider(key, &request, payload).await;
        self.conclude_if_changed(request, outcome).await
    }

    /// As [`Self::conclude`], unless the request stood so already a moment ago.
    pub(super) async fn conclude_if_changed(
        &self,
        request: StoredRequest,
        outcome: Outcome,
    ) -> Result<StoredRequest, SignerError> {
        let status = outcome.status;
        let unchanged = status == request.status && outcome.detail == request.detail && outcome.error == request.error;
        if unchanged
            && request.updated_at > OffsetDateTime::now_utc() - time::Duration::milliseconds(self.retry_ms)
            && !request.detail.is_empty()
        {
            return Ok(request);
        }
        self.conclude(outcome).await
    }

    /// Writes an outcome; answers with the request as it then stands, which another outcome may have decided.
    pub(super) async fn conclude(&self, outcome: Outcome) -> Result<StoredRequest, SignerError> {
        let reached = outcome.status;
        let stands = self.outcomes.submit(outcome).await?.ok_or(SignerError::RequestNotFound)?;
        if stands.status == Status::Denied && reached != Status::Denied {
            // Most likely the key was disabled meanwhile.
            self.forget_key(stands.signer);
        }
        count(stands.status.as_str());
        Ok(stands)
    }

    pub(super) fn is_late(&self, request: &StoredRequest) -> bool {
        age(request) > self.request_deadline
    }

    async fn ask_provider(&self, key: &KeyRecord, request: &StoredRequest, payload: &Payload) -> Outcome {
        let outcome = |status, detail, error| outcome(request, status, detail, error);
        if self.is_late(request) {
            return outcome(Status::Expired, format!("not decided in time; last: {}", request.detail), "POLL_TIMEOUT");
        }
        let Some(Signing::AtOnce(signer)) = self.providers.select(key.provider).map(|provider| provider.signing())
        else {
            return outcome(Status::Blocked, format!("provider {} is not active", key.provider), "");
        };
        let started = Instant::now();
        let digest = B256::from(request.digest);
        let signed =
            signer.sign(KeyHandle { name: &key.name, material: &key.material }, digest).await.and_then(|raw| {
                raw.normalise(digest, &key.public_key).map_err(|error| ProviderError::Failed(error.to_string()))
            });
        metrics::histogram!(names::PROVIDER_SECONDS, "provider" => key.provider.as_str())
            .record(started.elapsed().as_secs_f64());
        match signed {
            Ok(signature) => {
                let transaction = match payload {
                    Payload::Transaction(tx) => assemble(tx, signature),
                    Payload::Document(_) | Payload::Claim(_) | Payload::AuditRoot(_) => None,
                };
                Outcome {
                    signature: Some(signature.as_bytes().to_vec()),
                    tx_hash: transaction.as_ref().map(|signed| signed.hash.to_vec()),
                    signed_tx: transaction.map(|signed| signed.raw.to_vec()),
                    ..outcome(Status::Approved, String::new(), "")
                }
            }
            Err(ProviderError::Pending(detail))
                if signer
                    .longest_hold()
                    .is_some_and(|longest| held_for(request).is_some_and(|held| held > longest)) =>
            {
                outcome(Status::Expired, format!("people did not act in time; last: {detail}"), "POLL_TIMEOUT")
            }
            Err(error) => {
                tracing::warn!(request_id = %request.request_id, signer = %key.address, %error, "provider did not sign");
                let (status, detail, error) = error.waiting();
                outcome(status, detail, error)
            }
        }
    }
}

/// How long ago it was accepted.
fn age(request: &StoredRequest) -> time::Duration {
    OffsetDateTime::now_utc() - request.created_at
}

/// For how long it has stood in a hold; `None`: it stands in none.
fn held_for(request: &StoredRequest) -> Option<time::Duration> {
    let held = request.status == Status::Pending && request.error.is_empty();
    request.held_since.filter(|_| held).map(|since| OffsetDateTime::now_utc() - since)
}

/// A request that stands so, without a result.
pub(super) fn outcome(request: &StoredRequest, status: Status, detail: String, error: &'static str) -> Outcome {
    Outcome {
        request_id: request.request_id,
        was: request.status,
        status,
        signature: None,
        signed_tx: None,
        tx_hash: None,
        stage: "",
        detail,
        error,
    }
}
