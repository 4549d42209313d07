//! Issuer-signed scalar feeds.
//!
//! In reading order:
//! - [`domain`]: what callers ask for, checked and typed; pure.
//! - [`flows`]: what happens on chain, step by step; pure.
//! - [`decoder`]: what the contracts answer, as failures of the catalogue; pure.
//! - [`queue`]: the order of an issuer's updates on a feed.
//! - `edge`: gRPC in and out: message, command, right, acceptance.
//! - [`readers`]: the chain as typed reads. [`indexer`]: every accepted round with its signature. [`watch`]: alerts.
//! - [`store`]: our tables.
//! - [`start`]: all of it as a running service.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod config;
pub mod decoder;
pub mod domain;
mod edge;
pub mod flows;
pub mod indexer;
pub mod metric_definitions;
pub mod queue;
pub mod readers;
pub mod store;
mod supervisor;
pub mod watch;

use app::AppHandle;
use config::FeedsConfig;
use dalp_service::{
    config::ExposeSecret as _,
    server::{PeerPolicy, Routes, Server, ServerError},
    stop::Stop,
};
use std::net::SocketAddr;
use store::{Store, StoreError};
use tokio::task::JoinHandle;

/// The name of the service, in certificates, logs and records.
pub const NAME: &str = "svc-feeds";

/// Why the service does not start. A dependency that is away is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The listener does not come up.
    #[error("the server does not start")]
    Server(#[from] ServerError),
    /// The client certificate is not usable.
    #[error("the client certificate is not usable")]
    Tls(#[from] dalp_service::tls::TlsError),
    /// A secret cannot be read.
    #[error("the database url cannot be read")]
    Secret(#[from] dalp_service::config::SecretError),
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

/// Every gRPC service of this process, over an app that may come up later.
#[must_use]
pub fn routes(app: &AppHandle) -> Routes {
    edge::routes(app)
}

/// Starts the service; it answers at once and works as soon as its dependencies do.
pub async fn start(config: FeedsConfig, stop: Stop) -> Result<Running, StartError> {
    let policy = PeerPolicy::deny_all()
        .allow("/dalp.feeds.v1.", ["svc-gateway"])
        .allow("/dalp.operator.v1.ProbeService/", ["svc-gateway"]);
    let url = config.database.url.resolve()?;
    let store = Store::lazy(url.expose_secret(), config.database.max_connections)?;
    let client_tls = dalp_service::tls::ClientTls::load(&config.client_tls)?;
    client_tls.watch(&stop);
    let server = Server::new(NAME, &config.server, policy).bind().await?;
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    let app = AppHandle::default();
    let routes = routes(&app);
    let supervisor = tokio::spawn(supervisor::run(config, store, client_tls, app, health, stop.clone()));
    let server = tokio::spawn(async move {
        if let Err(error) = server.serve(routes, &stop).await {
            tracing::error!(%error, "the server ended");
            stop.request();
        }
    });
    Ok(Running { addr, metrics_addr, server, supervisor })
}

impl Running {
    /// Completes when the service has stopped.
    pub async fn stopped(self) {
        let _ = tokio::join!(self.server, self.supervisor); // a panic in them was logged by the runtime
    }
}
