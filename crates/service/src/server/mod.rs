//! The listener of a service: mTLS, peer authorisation, limits, metrics, traces, health, reflection, graceful stop.

mod body;
mod front;
mod health;
mod listener;
mod metrics_endpoint;
mod pipeline;
mod policy;

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc};

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::body::Body;
use tower::Service;

pub use front::{Answer, Front, Next, Remote};
pub use health::HealthHandle;
pub use policy::PeerPolicy;
/// Several tonic services behind one listener: `Routes::new(first).add_service(second)`.
pub use tonic::service::Routes;

use crate::{
    config::ServerConfig,
    peer::SpiffeId,
    stop::Stop,
    telemetry,
    tls::{ClientAuth, Protocols, ServerTls, TlsError},
};

/// What a server serves: [`Routes`], or any tower service of the same shape (the gateway's proxy).
pub trait GrpcService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> GrpcService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// A server that is configured but not bound yet.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    config: ServerConfig,
    policy: PeerPolicy,
    client_auth: ClientAuth,
    reflects: bool,
    front: FrontOption,
}

/// A front, if there is one.
#[derive(Clone, Default)]
struct FrontOption(Option<Arc<dyn Front>>);

impl std::fmt::Debug for FrontOption {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "a front" } else { "no front" })
    }
}

/// A server that holds its listener and answers from [`BoundServer::serve`] on.
#[derive(Debug)]
pub struct BoundServer {
    name: &'static str,
    config: ServerConfig,
    policy: Arc<PeerPolicy>,
    tls: Arc<ServerTls>,
    listener: TcpListener,
    bound_addr: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
    health: HealthHandle,
    infrastructure: Routes,
    reflects: bool,
    front: FrontOption,
}

/// Why a server does not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The certificate material is not usable.
    #[error("the TLS material of the listener is not usable")]
    Tls(#[from] TlsError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bound address cannot be written.
    #[error("cannot write the address file {path}")]
    AddressFile {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The descriptor set does not decode.
    #[error("the descriptor set for reflection does not decode")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The metrics recorder is not ours.
    #[error("metrics cannot be served")]
    Metrics(#[from] telemetry::TelemetryError),
}

// === impl Server ===

impl Server {
    /// A server for the service `name`. What `policy` does not allow is denied; `server.allowed_peers` overrides it.
    #[must_use]
    pub fn new(name: &'static str, config: &ServerConfig, policy: PeerPolicy) -> Self {
        let policy = policy.overridden_by(&config.allowed_peers);
        Self {
            name,
            config: config.clone(),
            policy,
            client_auth: ClientAuth::Required,
            reflects: true,
            front: FrontOption::default(),
        }
    }

    /// Takes other forms of a call as well, also over HTTP/1.1.
    #[must_use]
    pub fn front(mut self, front: impl Front) -> Self {
        self.front = FrontOption(Some(Arc::new(front)));
        self
    }

    /// Whether clients must show a certificate. The gateway takes API keys and says [`ClientAuth::Optional`].
    #[must_use]
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// Leaves reflection to the service: the gateway answers it by [`with_reflection`], to whom it wants.
    #[must_use]
    pub fn without_reflection(mut self) -> Self {
        self.reflects = false;
        self
    }

    /// Loads the certificates, binds the listeners and announces their addresses. Connections wait until [`BoundServer::serve`].
    pub async fn bind(self) -> Result<BoundServer, ServerError> {
        let protocols = match self.front.0 {
            Some(_) => Protocols::Http2AndHttp1,
            None => Protocols::Http2,
        };
        let tls = ServerTls::load(&self.config.tls, self.client_auth, protocols)?;
        let (health, health_service) = HealthHandle::new();
        let infrastructure = match self.reflects {
            true => with_reflection(Routes::new(health_service))?,
            false => Routes::new(health_service),
        };
        let infrastructure = infrastructure.prepare();
        let (listener, bound_addr) = listen(self.config.listen, self.config.address_file.as_deref()).await?;
        let metrics = match self.config.metrics_listen {
            Some(address) => {
                telemetry::metrics_handle()?;
                Some(listen(address, self.config.metrics_address_file.as_deref()).await?)
            }
            None => None,
        };
        tracing::info!(service = self.name, address = %bound_addr, spiffe = %tls.spiffe(), "listening");
        Ok(BoundServer {
            name: self.name,
            policy: Arc::new(self.policy),
            config: self.config,
            tls,
            listener,
            bound_addr,
            metrics,
            health,
            infrastructure,
            reflects: self.reflects,
            front: self.front,
        })
    }
}

/// Adds what tells tools which calls there are.
///
/// # Errors
/// When the descriptor set does not decode.
pub fn with_reflection(routes: Routes) -> Result<Routes, ServerError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(dalp_proto::FILE_DESCRIPTOR_SET)
    };
    // The older one is the only one that Python's client of reflection speaks.
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}

/// Whether a path is that of [reflection](with_reflection).
#[must_use]
pub fn is_reflection(path: &str) -> bool {
    matches!(
        path,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
}

async fn listen(address: SocketAddr, announce_at: Option<&Path>) -> Result<(TcpListener, SocketAddr), ServerError> {
    let refused = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    if let Some(path) = announce_at {
        announce(path, bound).map_err(|source| ServerError::AddressFile { path: path.to_owned(), source })?;
    }
    Ok((listener, bound))
}

/// Writes beside the file and renames, so that a reader sees a whole address or none.
fn announce(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    std::fs::write(&beside, address.to_string())?;
    std::fs::rename(&beside, path)
}

// === impl BoundServer ===

impl BoundServer {
    /// The address of the gRPC listener, with the port it got.
    #[must_use]
    pub fn bound_addr(&self) -> SocketAddr {
        self.bound_addr
    }

    /// The address of the metrics listener.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// Where the health of dependencies is reported.
    #[must_use]
    pub fn health(&self) -> HealthHandle {
        self.health.clone()
    }

    /// The certificates, for an explicit reload.
    #[must_use]
    pub fn tls(&self) -> Arc<ServerTls> {
        Arc::clone(&self.tls)
    }

    /// Our own identity.
    #[must_use]
    pub fn spiffe(&self) -> SpiffeId {
        self.tls.spiffe()
    }

    /// Serves until `stop` is requested, then finishes the requests in flight within `server.drain_ms`.
    pub async fn serve<S: GrpcService>(self, service: S, stop: &Stop) -> Result<(), ServerError> {
        listener::run(self, service, stop).await;
        Ok(())
    }
}
