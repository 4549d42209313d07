//! The whole service from its configuration while database and chain are away, come, go and come back.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code, unreachable_pub)]
#[path = "../../deploy/devstack/src/pki.rs"]
mod pki;
mod support;

use dalp_chain::testing::Anvil;
use dalp_engine::testing::TestPostgres;
use dalp_proto::system::{GetSystemRequest, system_service_client::SystemServiceClient};
use dalp_service::{
    Caller, client,
    config::{self, PeerConfig, ProcessEnvironment, TlsConfig},
    stop::Stop,
    tls::ClientTls,
};
use pki::{DevPki, LeafFiles};
use std::path::PathBuf;
use support::{eventually, refusal};
use svc_compliance::config::ComplianceConfig;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    task::{JoinHandle, JoinSet},
};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Where a dependency really is.
#[derive(Clone)]
enum Target {
    Unix(PathBuf),
    Tcp(u16),
}

/// A port that leads to a dependency while it is switched on, and refuses connections while it is off.
struct Switch {
    port: u16,
    target: Target,
    on: Option<JoinHandle<()>>,
}

impl Switch {
    fn off(target: Target) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, target, on: None }
    }

    async fn turn_on(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let target = self.target.clone();
        self.on = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new(); // aborted with this task
            while let Ok((mut near, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    match target {
                        Target::Unix(path) => {
                            let mut far = UnixStream::connect(path).await?;
                            copy_bidirectional(&mut near, &mut far).await
                        }
                        Target::Tcp(port) => {
                            let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                            copy_bidirectional(&mut near, &mut far).await
                        }
                    }
                });
            }
        }));
    }

    async fn turn_off(&mut self) {
        if let Some(task) = self.on.take() {
            task.abort();
            let _ = task.await; // the listener is closed then
        }
    }
}

fn tls(files: &LeafFiles) -> TlsConfig {
    TlsConfig {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        trust_anchors: files.trust_anchors.clone(),
        crl: None,
        reload_ms: 10_000,
    }
}

/// What the health service says of each dependency, and of the whole.
async fn health(channel: &Channel) -> [bool; 4] {
    let mut statuses = [false; 4];
    for (index, service) in ["database", "chain", "svc-signer", ""].into_iter().enumerate() {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        statuses[index] = answer.get_ref().status == i32::from(ServingStatus::Serving);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_database_and_chain_says_so_and_recovers() {
    let (anvil, postgres) = (Anvil::start([""; 0]), TestPostgres::start());
    let socket = postgres.url().split_once("host=").unwrap().1.to_owned();
    let mut database = Switch::off(Target::Unix(PathBuf::from(socket).join(".s.PGSQL.5432")));
    let mut chain = Switch::off(Target::Tcp(anvil.port));
    let folder = tempfile::tempdir().unwrap();
    let pki = DevPki::create(folder.path(), &["svc-compliance", "svc-gateway"]).unwrap();
    let own = pki.files("svc-compliance");
    let path = |path: &PathBuf| path.display().to_string();
    let url = folder.path().join("url");
    std::fs::write(&url, format!("postgres://postgres@127.0.0.1:{}/postgres", database.port)).unwrap();
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
tls = {{ certificate = "{certificate}", key = "{key}", trust_anchors = "{anchors}" }}
[database]
url = "file:{url}"
[client_tls]
certificate = "{certificate}"
key = "{key}"
trust_anchors = "{anchors}"
[signer]
address = "127.0.0.1:1"
spiffe_id = "spiffe://dalp.dev/svc-signer"
[compliance]
instance = "compliance-0"
[chain]
chain_id = 31337
finality = {{ depth = 0 }}
block_time_hint_ms = 100
request_timeout_ms = 2000
[[chain.upstreams]]
name = "anvil"
url = "http://127.0.0.1:{port}"
[chain.fees]
kind = "auto"
"#,
        certificate = path(&own.certificate),
        key = path(&own.key),
        anchors = path(&own.trust_anchors),
        url = path(&url),
        port = chain.port,
    );
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let config: ComplianceConfig = config::load(Some(&file), &ProcessEnvironment, "DALP_NOT_SET").unwrap();

    // Everything is away: it is up all the same, and says what it waits for.
    let stop = Stop::new();
    let running = svc_compliance::start(config, stop.clone()).await.unwrap();
    let peer = PeerConfig {
        address: running.addr.to_string().parse().unwrap(),
        spiffe_id: "spiffe://dalp.dev/svc-compliance".parse().unwrap(),
    };
    let gateway = client::connect(&peer, &ClientTls::load(&tls(&pki.files("svc-gateway"))).unwrap());
    let ask = async || {
        let mut request = Request::new(GetSystemRequest {});
        let caller = Caller { tenant: "acme".parse().unwrap(), principal: "ops".parse().unwrap(), roles: vec![] };
        caller.apply(request.metadata_mut());
        refusal(&SystemServiceClient::new(gateway.clone()).get_system(request).await.unwrap_err()).reason
    };
    assert_eq!(health(&gateway).await, [false; 4]);
    assert_eq!(ask().await, "DATABASE_UNAVAILABLE");

    // The chain comes first; each dependency is reported by itself. svc-signer never comes, so the whole never serves.
    chain.turn_on().await;
    eventually("the chain is reported", async || (health(&gateway).await == [false, true, false, false]).then_some(()))
        .await;
    assert_eq!(ask().await, "DATABASE_UNAVAILABLE");
    database.turn_on().await;
    eventually("the database is reported", async || {
        (health(&gateway).await == [true, true, false, false]).then_some(())
    })
    .await;
    eventually("requests are answered", async || (ask().await == "SYSTEM_NOT_BOOTSTRAPPED").then_some(())).await;

    // Both go and come back.
    database.turn_off().await;
    chain.turn_off().await;
    eventually("the loss is reported", async || (health(&gateway).await == [false; 4]).then_some(())).await;
    assert_eq!(ask().await, "DATABASE_UNAVAILABLE");
    database.turn_on().await;
    chain.turn_on().await;
    eventually("both are back", async || (health(&gateway).await == [true, true, false, false]).then_some(())).await;
    assert_eq!(ask().await, "SYSTEM_NOT_BOOTSTRAPPED");
    stop.request();
    running.stopped().await;
}
