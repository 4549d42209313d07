//! The isolated signer: the only component with key access.
//!
//! A request passes, in this order, the peer's certificate, its grant, the policy, the attestation, the watermark and the provider. `core` decides and
//! computes without I/O, `providers` hold keys, `store` remembers, `edge` speaks protobuf.
#![forbid(unsafe_code)]

pub mod attestor;
pub mod config;
pub mod core;
pub mod edge;
pub mod errors;
pub mod keys;
pub mod memory;
pub mod metric_definitions;
pub mod providers;
pub mod signing;
pub mod store;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dalp_proto::signer::{key_service_server::KeyServiceServer, signer_service_server::SignerServiceServer};
use dalp_service::{
    caller::GATEWAY,
    client,
    server::{HealthHandle, PeerPolicy, Routes, Server, ServerError},
    stop::Stop,
    tls::{ClientTls, TlsError},
};
use secrecy::ExposeSecret as _;
use tokio::{sync::watch, task::JoinHandle};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use zeroize::Zeroizing;

use crate::{
    attestor::RemoteAttestor,
    config::{Attestation, SignerConfig},
    edge::{key::KeyEdge, signer::SignerEdge},
    providers::{
        Provider, ProviderKind, Providers,
        dfns::DfnsProvider,
        fireblocks::FireblocksProvider,
        kms::KmsProvider,
        local::LocalProvider,
        pkcs11::{PinLatch, Pkcs11Provider},
    },
    signing::Signer,
    store::{Store, StoreError},
};

/// Name in certificates, logs and health.
pub const NAME: &str = "svc-signer";
/// The services that may ask for signatures.
const DOMAIN_SERVICES: [&str; 4] = ["svc-compliance", "svc-feeds", "svc-settlement", "svc-distribution"];
/// How often dependencies are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Why the signer does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A secret cannot be read.
    #[error("{0}")]
    Secret(String),
    /// Our own program cannot be found for the worker.
    #[error("the path of this program is unknown")]
    Program(#[source] std::io::Error),
    /// Our certificate towards the attestor is not usable.
    #[error("the client certificate is not usable")]
    Tls(#[from] TlsError),
    /// The database settings are unusable.
    #[error("the store cannot be prepared")]
    Store(#[from] StoreError),
    /// The listener does not come up.
    #[error("the server does not start")]
    Server(#[from] ServerError),
}

/// A running signer.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where metrics are, if anywhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Ends it.
    pub stop: Stop,
    served: JoinHandle<Result<(), ServerError>>,
}

// === impl Running ===

impl Running {
    /// Waits until it has ended.
    pub async fn join(self) -> Result<(), ServerError> {
        self.served.await.unwrap_or(Ok(()))
    }
}

/// Starts the signer; it runs until `stop` is requested. The database and the HSM may still be away: the signer listens, reports itself unhealthy,
/// refuses with a retry hint and recovers by itself.
pub async fn start(config: SignerConfig, stop: Stop) -> Result<Running, StartError> {
    let store = Store::new(&config)?;
    let providers = providers(&config, &store)?;
    if config.signer.attestation == Attestation::Off {
        tracing::warn!("attestation is off: payloads are signed without a compliance attestation; development only");
    }
    if config.signer.allow_mixed {
        tracing::warn!("allow_mixed is on: a key's metadata chooses its provider");
    }
    let policy = PeerPolicy::deny_all()
        .allow("/dalp.signer.v1.SignerService/", DOMAIN_SERVICES)
        // The roots of audit logs are all that the gateway may have signed, by its grant.
        .allow("/dalp.signer.v1.SignerService/EnsureAuditKey", [GATEWAY])
        // Custodians send their events to the gateway, which cannot verify them.
        .allow("/dalp.signer.v1.SignerService/DeliverProviderEvent", [GATEWAY])
        .allow("/dalp.signer.v1.SignerService/Sign", DOMAIN_SERVICES)
        .allow("/dalp.signer.v1.SignerService/Sign", [GATEWAY])
        .allow("/dalp.signer.v1.KeyService/", [GATEWAY])
        .allow("/dalp.signer.v1.KeyService/GetKey", DOMAIN_SERVICES)
        .allow("/dalp.signer.v1.KeyService/GetKey", [GATEWAY]);
    let server = Server::new(NAME, &config.server, policy).bind().await?;
    metric_definitions::describe();
    let signer = Signer::new(&config, store.clone(), providers.clone());
    let mut attestor = None;
    let signer =
        Arc::new(match config.attestor.as_ref().filter(|_| config.signer.attestation == Attestation::Required) {
            Some(asked) => {
                let tls = ClientTls::load(&asked.client_tls)?;
                tls.watch(&stop);
                attestor = Some(client::connect(&asked.peer, &tls));
                signer.asking(Arc::new(RemoteAttestor::new(&asked.peer, &tls, Duration::from_millis(asked.timeout_ms))))
            }
            None => signer,
        });
    let routes = Routes::new(SignerServiceServer::new(SignerEdge::new(Arc::clone(&signer), stop.clone())))
        .add_service(KeyServiceServer::new(KeyEdge::new(Arc::clone(&signer))));
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    health.set("database", false).await;
    for provider in providers.usable() {
        health.set(provider.kind().as_str(), false).await;
    }
    let mut watches = tokio::task::JoinSet::new();
    let (migrated, schema) = watch::channel(false);
    for provider in providers.usable() {
        watches.spawn(watch_provider(Arc::clone(provider), health.clone(), schema.clone()));
    }
    if let Some(attestor) = attestor {
        watches.spawn(watch_attestor(attestor, health.clone()));
    }
    watches.spawn(watch_database(store.clone(), health, migrated));
    watches.spawn(async move {
        let mut schema = schema;
        // The sending end lives as long as the watch of the database.
        let _ = schema.wait_for(|ready| *ready).await;
        signer.sweep().await;
    });
    let served = tokio::spawn({
        let stop = stop.clone();
        async move {
            let served = server.serve(routes, &stop).await;
            watches.shutdown().await;
            store.close().await;
            served
        }
    });
    Ok(Running { addr, metrics_addr, stop, served })
}

fn providers(config: &SignerConfig, store: &Store) -> Result<Providers, StartError> {
    let mut configured: Vec<Arc<dyn Provider>> = Vec::new();
    if let Some(local) = config.local.as_ref().filter(|_| config.uses(ProviderKind::Local)) {
        let key = local
            .key_encryption_key()
            .map_err(|problem| StartError::Secret(format!("local.key_encryption_key: {problem}")))?;
        configured.push(Arc::new(LocalProvider::new(&key).guarded(local.tier())));
    }
    if let Some(pkcs11) = config.pkcs11.as_ref().filter(|_| config.uses(ProviderKind::Pkcs11)) {
        let provider = partition(config, pkcs11.clone(), Arc::new(store.clone()))?;
        configured.push(Arc::new(provider));
    }
    if let Some(dfns) = config.dfns.as_ref().filter(|_| config.uses(ProviderKind::Dfns)) {
        configured.push(Arc::new(DfnsProvider::new(dfns.clone()).map_err(StartError::Secret)?));
    }
    if let Some(fireblocks) = config.fireblocks.as_ref().filter(|_| config.uses(ProviderKind::Fireblocks)) {
        configured.push(Arc::new(FireblocksProvider::new(fireblocks.clone()).map_err(StartError::Secret)?));
    }
    if let Some(kms) = config.kms.as_ref().filter(|_| config.uses(ProviderKind::Kms)) {
        configured.push(Arc::new(KmsProvider::new(kms).map_err(StartError::Secret)?));
    }
    Ok(Providers::new(config.signer.provider, config.signer.allow_mixed, configured))
}

/// The partition of a `[pkcs11]` section.
fn partition(
    config: &SignerConfig,
    section: config::pkcs11::Pkcs11Config,
    latch: Arc<dyn PinLatch>,
) -> Result<Pkcs11Provider, StartError> {
    let digest_key = config
        .signer
        .digest_key
        .resolve()
        .map_err(|error| StartError::Secret(format!("signer.digest_key: {error}")))?;
    let digest_key = Zeroizing::new(digest_key.expose_secret().as_bytes().to_vec());
    Ok(Pkcs11Provider::new(section, worker_program(config)?, digest_key, latch))
}

fn worker_program(config: &SignerConfig) -> Result<PathBuf, StartError> {
    match &config.worker_program {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe().map_err(StartError::Program),
    }
}

/// Keeps reporting whether the attestor can judge. Without it nothing that moves is signed, but what is signed can still be read.
async fn watch_attestor(attestor: Channel, health: HealthHandle) {
    loop {
        let mut client = HealthClient::new(attestor.clone());
        let asked = tokio::time::timeout(WATCH_EVERY * 3, client.check(HealthCheckRequest::default())).await;
        let ready = matches!(asked, Ok(Ok(answer)) if answer.get_ref().status == i32::from(ServingStatus::Serving));
        metrics::gauge!(metric_definitions::ATTESTOR_READY).set(f64::from(u8::from(ready)));
        health.set_alone("attestor", ready).await;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Brings the schema up once the database is there, and keeps reporting how it is.
async fn watch_database(store: Store, health: HealthHandle, migrated: watch::Sender<bool>) {
    loop {
        let ready = if *migrated.borrow() {
            store.ping().await.is_ok()
        } else {
            match store.migrate().await {
                Ok(()) => {
                    migrated.send_replace(true);
                    true
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "schema not ready");
                    false
                }
            }
        };
        health.set("database", ready).await;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Keeps reporting how a provider is; a login may take half an hour and must not hold up the others.
async fn watch_provider(provider: Arc<dyn Provider>, health: HealthHandle, mut schema: watch::Receiver<bool>) {
    // An HSM logs in through the latch in the database, so without the one there is not the other.
    let _ = schema.wait_for(|ready| *ready).await;
    loop {
        let status = provider.status().await;
        if !status.ready {
            tracing::debug!(provider = provider.kind().as_str(), detail = status.detail, "provider is not ready");
        }
        let ready = f64::from(u8::from(status.ready));
        metrics::gauge!(metric_definitions::PROVIDER_READY, "provider" => provider.kind().as_str()).set(ready);
        health.set(provider.kind().as_str(), status.ready).await;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}
