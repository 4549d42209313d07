//! Servers, clients and certificates for tests, over real sockets.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../../deploy/devstack/src/pki.rs"]
pub mod pki;

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use dalp_service::{
    PeerIdentity, Refusal, client,
    config::{PeerConfig, ServerConfig, TlsConfig},
    server::{BoundServer, GrpcService, HealthHandle, PeerPolicy, Server},
    stop::Stop,
    tls::{ClientTls, ServerTls},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use pki::{DevPki, LeafFiles};
use rustls::AlertDescription;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::Semaphore, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, Request, Response, Status, body::Body, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

pub const ECHO: &str = "/test.v1.Echo/Say";

pub fn tls_config(files: &LeafFiles) -> TlsConfig {
    TlsConfig {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        trust_anchors: files.trust_anchors.clone(),
        crl: Some(files.crl.clone()),
        // Reloads are explicit in these tests.
        reload_ms: 3_600_000,
    }
}

pub fn server_config(files: &LeafFiles) -> ServerConfig {
    ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: tls_config(files),
        address_file: None,
        metrics_listen: None,
        metrics_address_file: None,
        allowed_peers: std::collections::BTreeMap::new(),
        max_message_bytes: 4 * 1024 * 1024,
        max_concurrent_streams: 64,
        max_connections: 100,
        idle_connection_ms: 300_000,
        first_request_ms: 10_000,
        body_read_ms: 30_000,
        call_timeout_ms: 30_000,
        drain_ms: 10_000,
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub tls: Arc<ServerTls>,
    pub health: HealthHandle,
    pub stop: Stop,
    pub task: JoinHandle<()>,
}

pub async fn start(server: Server, service: impl GrpcService) -> Running {
    start_until(server, service, Stop::new()).await
}

pub async fn start_until(server: Server, service: impl GrpcService, stop: Stop) -> Running {
    serve(server.bind().await.unwrap(), service, stop)
}

pub fn serve(bound: BoundServer, service: impl GrpcService, stop: Stop) -> Running {
    let (address, tls, health) = (bound.bound_addr(), bound.tls(), bound.health());
    let until = stop.clone();
    let task = tokio::spawn(async move { bound.serve(service, &until).await.unwrap() });
    Running { address, tls, health, stop, task }
}

/// A service of one method per behaviour, answering with an empty message.
#[derive(Clone)]
pub struct Echo {
    pub entered: Arc<Semaphore>,
    pub released: Arc<Semaphore>,
}

impl Echo {
    pub fn new() -> Self {
        Self { entered: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) }
    }

    pub fn service(&self) -> impl GrpcService {
        let echo = self.clone();
        tower::service_fn(move |request: http::Request<Body>| {
            let echo = echo.clone();
            async move { Ok::<_, Infallible>(echo.answer(request).await) }
        })
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let peer = request.extensions().get::<PeerIdentity>().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        match request.uri().path() {
            "/test.v1.Echo/Panic" => panic!("a defect"),
            "/test.v1.Echo/Wait" => {
                self.entered.add_permits(1);
                self.released.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        if let Err(error) = request.into_body().collect().await {
            return error.into_http();
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("seen-peer", peer.parse().unwrap());
        let body =
            Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
        let mut response = http::Response::new(Body::new(body));
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response
    }
}

pub fn channel(address: SocketAddr, expected: &str, tls: &ClientTls) -> Channel {
    let peer = PeerConfig {
        address: address.to_string().parse().unwrap(),
        spiffe_id: pki::spiffe_id(expected).parse().unwrap(),
    };
    client::connect(&peer, tls)
}

pub fn client_tls(pki: &DevPki, name: &str) -> ClientTls {
    ClientTls::load(&tls_config(&pki.files(name))).unwrap()
}

pub async fn call(
    channel: Channel,
    path: &'static str,
    request: HealthCheckRequest,
) -> Result<Response<HealthCheckResponse>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::default();
    grpc.unary(Request::new(request), http::uri::PathAndQuery::from_static(path), codec).await
}

pub async fn say(channel: Channel) -> Result<Response<HealthCheckResponse>, Status> {
    call(channel, ECHO, HealthCheckRequest::default()).await
}

/// A rustls configuration such as a stranger would use: it does not check itself, and names no identity it expects.
pub fn strangers_config(anchors: &Path, identity: Option<&LeafFiles>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(anchors).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
            builder.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

pub async fn open(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The alert a server ends a stranger's handshake with; `None` when it lets the stranger in.
///
/// With TLS 1.3 a client believes to be connected before the server has looked at its certificate: only reading tells. The
/// server speaks first in HTTP/2, so a byte arrives in either case and nothing is waited out.
pub async fn alert(address: SocketAddr, anchors: &Path, identity: Option<&LeafFiles>) -> Option<AlertDescription> {
    let outcome = match open(address, strangers_config(anchors, identity)).await {
        Ok(mut stream) => stream.read_u8().await.map(|_| ()),
        Err(error) => Err(error),
    };
    let error = outcome.err()?;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => panic!("not an alert of the server: {error:?}"),
    }
}

pub fn anonymous(address: SocketAddr, anchors: &Path) -> Channel {
    let config = strangers_config(anchors, None);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let config = Arc::clone(&config);
        async move { open(address, config).await.map(TokioIo::new) }
    }))
}

pub fn reason(status: &Status) -> String {
    Refusal::details(status).map(|details| details.reason).unwrap_or_else(|| format!("no details: {status:?}"))
}

/// Our own client refused to connect, and for this reason.
pub fn assert_client_refused(outcome: Result<Response<HealthCheckResponse>, Status>, why: &str) {
    let status = outcome.expect_err("the client must refuse the server");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let mut chain = format!("{status}");
    let mut source = std::error::Error::source(&status);
    while let Some(error) = source {
        chain.push_str(&format!(": {error}"));
        source = error.source();
    }
    assert!(chain.contains(why), "expected {why:?} in {chain}");
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub pki: DevPki,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = DevPki::create(&dir.path().join("pki"), &["svc-signer", "svc-compliance", "svc-feeds"]).unwrap();
        Self { dir, pki }
    }

    pub fn server(&self) -> Server {
        let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
        Server::new("svc-signer", &server_config(&self.pki.files("svc-signer")), policy)
    }
}
