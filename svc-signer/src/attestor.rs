//! The compliance attestor as the signer sees it: one peer, pinned by its identity, asked for several payloads at once.

use std::time::Duration;

use async_trait::async_trait;
use dalp_proto::attestation::{
    AttestRequest, Attestation, Subject, attestation_service_client::AttestationServiceClient,
};
use dalp_service::{client, config::PeerConfig, tls::ClientTls};
use tonic::transport::Channel;

/// No verdict came. Nothing is decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub String);

/// Judges payloads. What it answers is believed only as far as [`dalp_attestation::wire::accept`] goes.
#[async_trait]
pub trait Attestor: Send + Sync + 'static {
    /// One answer for each subject, in order.
    async fn attest(&self, subjects: Vec<Subject>) -> Result<Vec<Attestation>, Away>;
}

/// The attestor over mutual TLS. A server of another identity is not spoken with, whatever it answers.
pub struct RemoteAttestor {
    client: AttestationServiceClient<Channel>,
    timeout: Duration,
}

// === impl RemoteAttestor ===

impl RemoteAttestor {
    /// Connects on first use.
    #[must_use]
    pub fn new(peer: &PeerConfig, tls: &ClientTls, timeout: Duration) -> Self {
        Self { client: AttestationServiceClient::new(client::connect(peer, tls)), timeout }
    }
}

#[async_trait]
impl Attestor for RemoteAttestor {
    async fn attest(&self, subjects: Vec<Subject>) -> Result<Vec<Attestation>, Away> {
        let mut client = self.client.clone();
        let asked = client.attest(AttestRequest { subjects });
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().attestations),
            Ok(Err(status)) => Err(Away(format!("{}: {}", status.code(), status.message()))),
            Err(_) => Err(Away("no answer in time".to_owned())),
        }
    }
}
