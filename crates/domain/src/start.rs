//! A domain service as a running process: it answers at once and works as soon as its dependencies do.

use crate::{
    ChainReader, Rights,
    rights::RemoteKeys,
    store::{Schema, StoreError, Tables},
    supervision::{Watched, pause},
};
use anyhow::Context as _;
use dalp_chain::{ChainConfig, Upstreams};
use dalp_engine::{
    Decoder, Engine, EngineConfig, Flows,
    signer::{RemoteSigner, Signer},
};
use dalp_service::{
    client,
    config::{DatabaseConfig, ExposeSecret as _, PeerConfig, SecretError, ServerConfig, TlsConfig},
    server::{HealthHandle, PeerPolicy, Routes, Server, ServerError},
    stop::Stop,
    tls::{ClientTls, TlsError},
};
use sqlx::migrate::Migrator;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// What a domain service is made of.
pub struct Parts {
    /// Its tables.
    pub schema: Schema,
    /// What brings them up to date.
    pub migrations: &'static Migrator,
    /// Listener.
    pub server: ServerConfig,
    /// Who may call what.
    pub policy: PeerPolicy,
    /// Where the tables are.
    pub database: DatabaseConfig,
    /// Our certificate towards other services.
    pub client_tls: TlsConfig,
    /// svc-signer.
    pub signer: PeerConfig,
    /// The chain.
    pub chain: ChainConfig,
    /// Further chains, of services that work on several.
    pub further_chains: Vec<ChainConfig>,
    /// How operations are carried out.
    pub engine: EngineConfig,
    /// What happens on chain.
    pub flows: fn() -> Flows,
    /// What the contracts answer.
    pub decoder: Arc<dyn Decoder>,
    /// What the engine signs through: svc-signer, or something before it.
    pub sign: SignThrough,
}

/// Makes what the engine signs through.
pub type SignThrough = Box<dyn Fn(RemoteSigner, &Tables, &ChainReader) -> Arc<dyn Signer> + Send + Sync>;

/// What there is once database and chain are.
pub struct Up {
    /// Durable operations.
    pub engine: Engine,
    /// Our own tables, up to date.
    pub tables: Tables,
    /// The chain.
    pub chain: ChainReader,
    /// Every chain by its EIP-155 id, that one among them.
    pub chains: BTreeMap<u64, ChainReader>,
    /// To svc-signer.
    pub signer: Channel,
    /// Wallet rights.
    pub rights: Rights,
}

/// Why a service does not start. A dependency that is away is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The listener does not come up.
    #[error("the server does not start")]
    Server(#[from] ServerError),
    /// The client certificate is not usable.
    #[error("the client certificate is not usable")]
    Tls(#[from] TlsError),
    /// A secret cannot be read.
    #[error("the database url cannot be read")]
    Secret(#[from] SecretError),
    /// The database url is malformed.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
}

/// A running service.
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where metrics are served.
    pub metrics_addr: Option<SocketAddr>,
    server: JoinHandle<()>,
    supervisor: JoinHandle<()>,
}

/// Signs through svc-signer and nothing before it.
#[must_use]
pub fn directly() -> SignThrough {
    Box::new(|signer, _, _| Arc::new(signer))
}

/// Starts a service. `begin` puts the app in place once everything is there, and returns what the service does beside answering,
/// which ends when `stop` is requested.
pub async fn start<W>(
    parts: Parts,
    routes: Routes,
    stop: Stop,
    begin: impl FnOnce(Up) -> W + Send + 'static,
) -> Result<Running, StartError>
where
    W: Future<Output = ()> + Send + 'static,
{
    let url = parts.database.url.resolve()?;
    let tables = Tables::lazy(parts.schema, url.expose_secret(), parts.database.max_connections)?;
    let client_tls = ClientTls::load(&parts.client_tls)?;
    client_tls.watch(&stop);
    let server = Server::new(parts.schema.service, &parts.server, parts.policy.clone()).bind().await?;
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    let supervisor = tokio::spawn(supervise(parts, tables, client_tls, health, begin, stop.clone()));
    let server = tokio::spawn(async move {
        if let Err(error) = server.serve(routes, &stop).await {
            tracing::error!(%error, "the server ended");
            stop.request();
        }
    });
    Ok(Running { addr, metrics_addr, server, supervisor })
}

/// Brings the parts up as their dependencies appear, watches them, and takes them down in order.
async fn supervise<W>(
    parts: Parts,
    tables: Tables,
    client_tls: ClientTls,
    health: HealthHandle,
    begin: impl FnOnce(Up) -> W,
    stop: Stop,
) where
    W: Future<Output = ()> + Send + 'static,
{
    let (signer, database) = (client::connect(&parts.signer, &client_tls), tables.clone());
    let ping = move || {
        let database = database.clone();
        async move { database.ping().await.is_ok() }
    };
    let mut watched = Watched::new(health, signer, ping).await;
    let (engine, chain, chains) = loop {
        match bring_up(&parts, &tables, &mut watched).await {
            Ok(up) => break up,
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "waiting for database and chain"),
        }
        watched.look().await;
        if pause(&stop).await {
            return;
        }
    };
    let rights = Rights::new(Box::new(RemoteKeys::new(client::connect_propagating(&parts.signer, &client_tls))));
    let signer = watched.signer.clone();
    let up = Up { engine: engine.clone(), tables: tables.clone(), chain, chains, signer, rights };
    let beside = tokio::spawn(begin(up));
    tracing::info!("ready");
    loop {
        watched.look().await;
        if pause(&stop).await {
            break;
        }
    }
    engine.stop().await;
    let _ = beside.await; // a panic in it was logged by the runtime
    tables.close().await;
}

/// Everything that work needs. A chain of another id is an operator's mistake that stays loud until it is corrected; nodes
/// that do not answer are waited for by the pool itself.
async fn bring_up(
    parts: &Parts,
    tables: &Tables,
    watched: &mut Watched,
) -> anyhow::Result<(Engine, ChainReader, BTreeMap<u64, ChainReader>)> {
    let upstreams = match &watched.upstreams {
        Some(upstreams) => upstreams.clone(),
        None => Upstreams::connect(parts.chain.clone()).await.context("the chain cannot be used")?,
    };
    watched.upstreams = Some(upstreams.clone());
    for further in parts.further_chains.iter().skip(watched.further.len()) {
        let connected = Upstreams::connect(further.clone()).await;
        let connected = connected.with_context(|| format!("chain {} cannot be used", further.chain_id))?;
        watched.further.push(connected);
    }
    tables.migrate(parts.migrations).await?;
    let all = watched.further.iter().chain([&upstreams]);
    let chains: BTreeMap<u64, ChainReader> =
        all.map(|one| (one.config().chain_id, ChainReader::new(one.clone()))).collect();
    let chain = ChainReader::new(upstreams);
    let signer = (parts.sign)(RemoteSigner::new(watched.signer.clone()), tables, &chain);
    let (config, decoder) = (parts.engine.clone(), parts.decoder.clone());
    let nodes = chains.iter().map(|(id, chain)| (*id, chain.upstreams().clone())).collect();
    let engine = Engine::start(config, tables.pool(), nodes, signer, (parts.flows)(), decoder).await?;
    Ok((engine, chain, chains))
}

// === impl Running ===

impl Running {
    /// Completes when the service has stopped.
    pub async fn stopped(self) {
        let _ = tokio::join!(self.server, self.supervisor); // a panic in them was logged by the runtime
    }
}
