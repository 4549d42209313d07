//! An ordinary client of the platform: TLS to the gateway, an API key, an idempotency key per write.

use std::time::Duration;

use anyhow::{Context, bail};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{Operation, OperationState, WaitOperationRequest};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::pki::LeafFiles;

/// How long a scenario waits for one operation to become final.
const FINAL_WITHIN: Duration = Duration::from_secs(120);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Adds the API key to each call.
#[derive(Debug, Clone)]
pub struct ApiKey(MetadataValue<tonic::metadata::Ascii>);

/// The channel that clients are made of.
pub type Gateway = InterceptedService<Channel, ApiKey>;

/// A client with one principal's API key.
#[derive(Debug, Clone)]
pub struct Client {
    gateway: Gateway,
}

// === impl ApiKey ===

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

// === impl Client ===

impl Client {
    /// A client over a channel to the gateway.
    ///
    /// # Errors
    /// When the key holds characters that metadata cannot carry.
    pub fn new(channel: Channel, api_key: &str) -> anyhow::Result<Self> {
        let mut value: MetadataValue<_> = format!("Bearer {api_key}").parse().context("the API key is not ASCII")?;
        value.set_sensitive(true);
        Ok(Self { gateway: InterceptedService::new(channel, ApiKey(value)) })
    }

    /// The authenticated channel, for the generated clients.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        self.gateway.clone()
    }

    /// Waits until an accepted operation is final.
    ///
    /// # Errors
    /// When a call fails or the operation is not final in time.
    pub async fn finished(&self, accepted: Option<Operation>) -> anyhow::Result<Operation> {
        self.finished_within(accepted, FINAL_WITHIN).await
    }

    /// Waits so long until an accepted operation is final.
    ///
    /// # Errors
    /// When a call fails or the operation is not final in time.
    pub async fn finished_within(&self, accepted: Option<Operation>, within: Duration) -> anyhow::Result<Operation> {
        let mut operation = accepted.context("the answer carries no operation")?;
        let mut operations = OperationServiceClient::new(self.gateway());
        let deadline = tokio::time::Instant::now() + within;
        while operation.state() == OperationState::Running {
            if tokio::time::Instant::now() > deadline {
                bail!("operation {} is not final after {within:?}: {operation:?}", operation.operation_id);
            }
            let waited = operations
                .wait_operation(WaitOperationRequest { operation_id: operation.operation_id.clone(), timeout: None })
                .await;
            operation = match waited {
                // A read: it is asked again.
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    continue;
                }
                answered => answered?.into_inner().operation.context("the answer carries no operation")?,
            };
        }
        Ok(operation)
    }
}

/// A request under an idempotency key.
pub fn keyed<T>(message: T, idempotency_key: &str) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(value) = idempotency_key.parse() {
        request.metadata_mut().insert("idempotency-key", value);
    }
    request
}

/// The reason of a refused call, from its error details.
#[must_use]
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status
        .get_error_details()
        .error_info()
        .map_or_else(|| format!("{:?}: {}", status.code(), status.message()), |info| info.reason.clone())
}

/// A channel as an ordinary TLS client opens it: verifies the server by name, and shows the certificate of `identity`, or none.
///
/// # Errors
/// When a certificate cannot be read.
pub fn channel(address: &str, authority: &std::path::Path, identity: Option<&LeafFiles>) -> anyhow::Result<Channel> {
    use rustls_pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pki_types::CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some(files) => builder.with_client_auth_cert(
            vec![rustls_pki_types::CertificateDer::from_pem_file(&files.certificate)?],
            rustls_pki_types::PrivateKeyDer::from_pem_file(&files.key)?,
        )?,
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let address = address.to_owned();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let name = rustls_pki_types::ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(connector.connect(name, stream).await?))
        }
    })))
}

/// Whether a server says that it serves; `dependency` names one thing it depends on, or nothing for all together.
///
/// # Errors
/// When it does not answer.
pub async fn health(channel: Channel, dependency: &str) -> Result<bool, Status> {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let request = HealthCheckRequest { service: dependency.to_owned() };
    let answer = HealthClient::new(channel).check(request).await?.into_inner();
    Ok(answer.status() == ServingStatus::Serving)
}
