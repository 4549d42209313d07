//! An accepted request at its provider, and what comes of it.

use std::time::Instant;

use alloy::primitives::B256;
use time::OffsetDateTime;

use super::{Signer, count};
use crate::{
    core::{digest::assemble, payload::Payload},
    errors::SignerError,
    metric_definitions as names,
    providers::{KeyHandle, ProviderError},
    store::{
        keys::KeyRecord,
        requests::{NOT_ASKED, Outcome, Status, StoredRequest},
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
        let outcome = self.ask_provider(key, &request, payload).await;
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

    async fn ask_provider(&self, key: &KeyRecord, request: &StoredRequest, payload: &Payload) -> Outcome {
        let outcome = |status, detail: String, error| Outcome {
            request_id: request.request_id,
            was: request.status,
            status,
            signature: None,
            signed_tx: None,
            tx_hash: None,
            detail,
            error,
        };
        if OffsetDateTime::now_utc() - request.created_at > self.request_deadline {
            return outcome(Status::Expired, format!("not decided in time; last: {}", request.detail), "POLL_TIMEOUT");
        }
        let Some(provider) = self.providers.select(key.provider) else {
            return outcome(Status::Blocked, format!("provider {} is not active", key.provider), "");
        };
        let started = Instant::now();
        let digest = B256::from(request.digest);
        let signed =
            provider.sign(KeyHandle { name: &key.name, material: &key.material }, digest).await.and_then(|raw| {
                raw.normalise(digest, &key.public_key).map_err(|error| ProviderError::Failed(error.to_string()))
            });
        metrics::histogram!(names::PROVIDER_SECONDS, "provider" => key.provider.as_str())
            .record(started.elapsed().as_secs_f64());
        match signed {
            Ok(signature) => {
                let transaction = match payload {
                    Payload::Transaction(tx) => Some(assemble(tx, signature)),
                    Payload::Document(_) | Payload::Claim(_) => None,
                };
                Outcome {
                    signature: Some(signature.as_bytes().to_vec()),
                    tx_hash: transaction.as_ref().map(|signed| signed.hash.to_vec()),
                    signed_tx: transaction.map(|signed| signed.raw.to_vec()),
                    ..outcome(Status::Approved, String::new(), "")
                }
            }
            Err(error) => {
                tracing::warn!(request_id = %request.request_id, signer = %key.address, %error, "provider did not sign");
                match error {
                    ProviderError::Blocked(detail) => outcome(Status::Blocked, detail, ""),
                    ProviderError::Failed(detail) => outcome(Status::Pending, detail, "PROVIDER_FAILED"),
                    ProviderError::Unavailable(detail) => outcome(Status::Pending, detail, NOT_ASKED),
                    // Alone without an error: this one waits for a person.
                    ProviderError::Pending(detail) => outcome(Status::Pending, detail, ""),
                }
            }
        }
    }
}
