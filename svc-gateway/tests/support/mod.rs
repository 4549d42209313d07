//! A certificate authority, a small real upstream over mTLS, and a gateway in front of it.
#![allow(unreachable_pub, dead_code)] // each test file uses a part

pub mod bank;
pub mod issuer;
pub mod ledger;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use dalp_proto::feeds::{
    self, GetLatestRequest, GetLatestResponse, SubmitUpdateRequest, SubmitUpdateResponse,
    feed_service_server::{FeedService, FeedServiceServer},
};
use dalp_service::{
    Caller, Refusal,
    caller::{idempotency_key, set_idempotency},
    config::{self, MapEnvironment, ServerConfig},
    server::{PeerPolicy, Routes, Server},
    stop::Stop,
};
use dalp_testing::TestPostgres;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use svc_gateway::{GatewayConfig, Running, api_key::ApiKey};
use tokio_rustls::{TlsConnector, rustls};
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Channel, Endpoint, Uri},
};

/// An authority that issues certificates into a folder.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    pub folder: tempfile::TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, folder }
    }

    pub fn issue(&self, name: &str) -> String {
        self.issue_as(name, &[&format!("spiffe://dalp.dev/{name}")], |_| {})
    }

    /// A certificate into the files of `name`, with these URIs, changed before it is signed.
    pub fn issue_as(&self, name: &str, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let file = name.replace('/', "-");
        fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        let at = |end: &str| self.path(&format!("{file}.{end}")).display().to_string();
        format!(
            "certificate = {:?}\nkey = {:?}\ntrust_anchors = {:?}\n",
            at("pem"),
            at("key"),
            self.path("ca.pem").display().to_string()
        )
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A channel as an ordinary client opens it, with the certificate of `name` or none.
    pub fn channel(&self, address: std::net::SocketAddr, name: Option<&str>) -> Channel {
        if let Some(name) = name {
            self.issue(name);
        }
        self.channel_with(address, name)
    }

    /// A channel with the certificate that was issued for `name`.
    pub fn channel_with(&self, address: std::net::SocketAddr, name: Option<&str>) -> Channel {
        let connector = self.connector(name);
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                connector.connect("localhost".try_into().unwrap(), stream).await.map(TokioIo::new)
            }
        }))
    }

    /// What opens TLS connections, with the certificate of `name` or none.
    pub fn connector(&self, name: Option<&str>) -> TlsConnector {
        use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let file = name.replace('/', "-");
                let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{file}.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(tls))
    }
}

/// What the upstream saw of each call.
pub type Seen = Arc<Mutex<Vec<(MetadataMap, Option<Caller>)>>>;

/// A feed service that remembers the metadata of its calls and the idempotency keys it has met.
#[derive(Clone)]
pub struct Upstream {
    pub seen: Seen,
    keys: Arc<Mutex<Vec<String>>>,
    /// What waits at the service goes on with a permit.
    pub gate: Arc<tokio::sync::Semaphore>,
}

/// Calls that no test makes.
macro_rules! not_called {
    ($($name:ident: $request:ident => $response:ident;)+) => {
        #[tonic::async_trait]
        impl FeedService for Upstream {
            type WatchFeedsStream = futures::stream::Empty<Result<feeds::WatchFeedsResponse, Status>>;

            async fn submit_update(
                &self,
                request: Request<SubmitUpdateRequest>,
            ) -> Result<Response<SubmitUpdateResponse>, Status> {
                self.submitted(request)
            }

            async fn get_latest(&self, request: Request<GetLatestRequest>) -> Result<Response<GetLatestResponse>, Status> {
                self.latest(request).await
            }

            async fn watch_feeds(
                &self,
                _: Request<feeds::WatchFeedsRequest>,
            ) -> Result<Response<Self::WatchFeedsStream>, Status> {
                Err(Status::unimplemented("not called"))
            }

            async fn set_staleness(
                &self,
                request: Request<feeds::SetStalenessRequest>,
            ) -> Result<Response<feeds::SetStalenessResponse>, Status> {
                self.remember(&request)?;
                if request.get_ref().feed == "wait" {
                    self.gate.acquire().await.expect("it is never closed").forget();
                }
                Ok(Response::new(feeds::SetStalenessResponse::default()))
            }

            $(async fn $name(&self, _: Request<feeds::$request>) -> Result<Response<feeds::$response>, Status> {
                Err(Status::unimplemented("not called"))
            })+
        }
    };
}

not_called! {
    create_feed: CreateFeedRequest => CreateFeedResponse;
    submit_batch: SubmitBatchRequest => SubmitBatchResponse;
    submit_signed_update: SubmitSignedUpdateRequest => SubmitSignedUpdateResponse;
    get_feed: GetFeedRequest => GetFeedResponse;
    get_round: GetRoundRequest => GetRoundResponse;
    list_rounds: ListRoundsRequest => ListRoundsResponse;
    get_nonce: GetNonceRequest => GetNonceResponse;
    verify_round: VerifyRoundRequest => VerifyRoundResponse;
}

impl Default for Upstream {
    fn default() -> Self {
        Self { seen: Seen::default(), keys: Arc::default(), gate: Arc::new(tokio::sync::Semaphore::new(0)) }
    }
}

impl Upstream {
    fn submitted(&self, request: Request<SubmitUpdateRequest>) -> Result<Response<SubmitUpdateResponse>, Status> {
        self.remember(&request)?;
        if request.get_ref().feed == "refuse" {
            return Err(Refusal::new(dalp_service::Reason::InvalidField, "refused").field("feed", "refused").into());
        }
        let key = idempotency_key(request.metadata().as_ref())?.expect("the gateway always sends a key");
        let mut keys = self.keys.lock().unwrap();
        let replayed = keys.contains(&key);
        keys.push(key.clone());
        let mut response = Response::new(SubmitUpdateResponse::default());
        set_idempotency(&mut response, &key, replayed);
        Ok(response)
    }

    async fn latest(&self, request: Request<GetLatestRequest>) -> Result<Response<GetLatestResponse>, Status> {
        self.remember(&request)?;
        if request.get_ref().feed == "slow" {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Ok(Response::new(GetLatestResponse { value: request.into_inner().feed, ..Default::default() }))
    }

    fn remember<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let caller = Caller::from_request(request)?;
        self.seen.lock().unwrap().push((request.metadata().clone(), Some(caller)));
        Ok(())
    }
}

/// A gateway with one upstream, and what a test needs around it.
pub struct World {
    pub pki: Pki,
    pub gateway: Running,
    pub postgres: Option<TestPostgres>,
    /// Its configuration, to start another replica with.
    pub text: String,
    pub stop: Stop,
    pub upstream: Upstream,
    pub upstream_stop: Stop,
    pub keys: Keys,
    _stop: Guard,
}

/// API keys of the principals.
pub struct Keys {
    /// May open tenants.
    pub platform: ApiKey,
    /// The operator of another tenant.
    pub foreign: ApiKey,
    pub operator: ApiKey,
    pub reader: ApiKey,
    pub poor: ApiKey,
    pub expired: ApiKey,
    pub disabled: ApiKey,
    pub limited: ApiKey,
    pub narrow: ApiKey,
}

/// Stops everything when the test ends.
struct Guard(Stop);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.request();
    }
}

pub async fn world() -> World {
    world_with("", "").await
}

/// As [`world`], with lines before the sections of the gateway's configuration and sections behind them.
pub async fn world_with(top: &str, sections: &str) -> World {
    world_serving(top, "", sections).await
}

/// As [`world_with`], with lines in the section of the listener.
pub async fn world_serving(top: &str, server_lines: &str, sections: &str) -> World {
    let pki = Pki::new();
    let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.unwrap();
    let stop = Stop::new();
    let (upstream, upstream_stop) = (Upstream::default(), stop.child());
    let feeds = format!("listen = \"127.0.0.1:0\"\n[tls]\n{}", pki.issue("svc-feeds"));
    let feeds: ServerConfig = toml::from_str(&feeds).unwrap();
    let policy = PeerPolicy::deny_all().allow("/dalp.feeds.v1.", ["svc-gateway"]);
    let server = Server::new("svc-feeds", &feeds, policy).bind().await.unwrap();
    let address = server.bound_addr();
    let (routes, until) = (Routes::new(FeedServiceServer::new(upstream.clone())), upstream_stop.clone());
    tokio::spawn(async move { server.serve(routes, &until).await });

    let key = || ApiKey::generate().unwrap();
    let keys = Keys {
        platform: key(),
        foreign: key(),
        operator: key(),
        reader: key(),
        poor: key(),
        expired: key(),
        disabled: key(),
        limited: key(),
        narrow: key(),
    };
    fs::write(pki.path("database-url"), postgres.url()).unwrap();
    let tls = pki.issue("svc-gateway");
    let away = |name: &str| {
        format!(
            "[[upstreams]]\nname = \"{name}\"\naddress = \"127.0.0.1:1\"\nspiffe_id = \"spiffe://dalp.dev/{name}\"\n"
        )
    };
    let principal = |id: &str, tenant: &str, role: &str, key: &ApiKey, more: &str| {
        format!(
            "[[principals]]\nid = \"{id}\"\ntenant = \"{tenant}\"\nroles = [\"{role}\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n{more}\n",
            key.prefix(),
            key.digest()
        )
    };
    let body_read = if server_lines.contains("body_read_ms") { "" } else { "body_read_ms = 3000\n" };
    let text = format!(
        "health_interval_ms = 100\n{top}\n[server]\nlisten = \"127.0.0.1:0\"\n{body_read}first_request_ms = 3000\n{server_lines}\n[server.tls]\n{tls}\n[client_tls]\n{tls}\n\
         [database]\nurl = \"file:{url}\"\n\
         [[upstreams]]\nname = \"svc-feeds\"\naddress = \"{address}\"\nspiffe_id = \"spiffe://dalp.dev/svc-feeds\"\n\
         {away}\
         [[tenants]]\nid = \"acme\"\n[[tenants]]\nid = \"other\"\n[[tenants]]\nid = \"narrow\"\nlimits = {{ calls_at_once = 1 }}\n[[tenants]]\nid = \"tiny\"\n\
         limits = {{ read = {{ per_second = 1, burst = 1 }}, write = {{ per_second = 1, burst = 1 }}, stream = {{ per_second = 1, burst = 1 }}, admin = {{ per_second = 1, burst = 1 }} }}\n\
         [[roles]]\nname = \"operator\"\npermissions = [\"*\"]\n[[roles]]\nname = \"asset-reader\"\npermissions = [\"asset:read\"]\n\
         [[roles]]\nname = \"platform-operator\"\npermissions = [\"platform:*\", \"tenant:read\"]\n[[roles]]\nname = \"nothing\"\npermissions = [\"tenant:read\"]\n\
         [[principals]]\nid = \"machine\"\ntenant = \"acme\"\nroles = [\"operator\"]\nspiffe = \"spiffe://dalp.dev/clients/machine\"\n\
         [[principals]]\nid = \"gone\"\ntenant = \"acme\"\nroles = [\"operator\"]\nspiffe = \"spiffe://dalp.dev/clients/gone\"\ndisabled = true\n{}{}{}{}{}{}{}{}{}{sections}",
        principal("root", "acme", "platform-operator", &keys.platform, ""),
        principal("foreign", "other", "operator", &keys.foreign, ""),
        principal("ops", "acme", "operator", &keys.operator, ""),
        principal("reader", "acme", "operator\", \"platform-operator", &keys.reader, "scope = \"read\""),
        principal("poor", "acme", "asset-reader", &keys.poor, ""),
        principal("expired", "acme", "operator", &keys.expired, "expires_at = \"2020-01-01T00:00:00Z\""),
        principal(
            "disabled",
            "acme",
            "operator",
            &keys.disabled,
            "disabled = true\nexpires_at = \"2020-01-01T00:00:00Z\""
        ),
        principal("limited", "tiny", "operator", &keys.limited, ""),
        principal("narrow", "narrow", "operator", &keys.narrow, ""),
        url = pki.path("database-url").display(),
        away = ["svc-settlement", "svc-compliance", "svc-distribution", "svc-signer"].map(away).concat(),
    );
    let config = load(&pki.path("gateway.toml"), &text).unwrap();
    let gateway = svc_gateway::start(config, &stop).await.unwrap();
    until_ready(&gateway).await;
    let postgres = Some(postgres);
    World { pki, gateway, postgres, text, stop: stop.clone(), upstream, upstream_stop, keys, _stop: Guard(stop) }
}

/// Waits until a gateway knows who may call.
pub async fn until_ready(gateway: &Running) {
    until(async || gateway.health.dependencies().await.get("access") == Some(&true)).await;
}

/// Waits until something is so, for two minutes at most.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not become so");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl World {
    /// Another replica of the gateway, with this configuration.
    pub async fn replica(&self, text: &str) -> Running {
        let config = load(&self.pki.path("replica.toml"), text).unwrap();
        let gateway = svc_gateway::start(config, &self.stop).await.unwrap();
        until_ready(&gateway).await;
        gateway
    }

    /// Waits until the gateway hears of changes: what it read before that may have changed unheard, and has no grace.
    pub async fn until_listening(&self) {
        let database = self.database().await;
        let beats =
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'svc-gateway' AND query = 'SELECT 1'";
        until(async || sqlx::query_scalar(beats).fetch_one(&database).await.unwrap()).await;
    }

    /// The gateway's database.
    pub async fn database(&self) -> sqlx::PgPool {
        self.postgres.as_ref().unwrap().pool().await
    }
}

pub fn load(path: &Path, text: &str) -> Result<GatewayConfig, config::ConfigProblems> {
    fs::write(path, text).unwrap();
    config::load(Some(path), &MapEnvironment::default(), svc_gateway::ENV_PREFIX)
}
