//! The compliance attestor: what svc-signer asks before it signs. A process role of its own, which keeps nothing, has no database, believes
//! no domain service and looks at the chain through nodes of its own.
//!
//! In reading order:
//! - [`ruleset`]: what an operator allows beside what the chain says; its version.
//! - [`acts`]: what a call does, read from its bytes; pure. [`ruling`]: whether it may, given who is who; pure. [`doubts`]: when a veto counts; pure.
//! - [`directory`]: who is who, read from the tenant's own contracts. [`judge`]: both put together at one block.
//! - [`config`], `edge`, [`start`]: the process.

pub mod acts;
pub mod config;
pub mod directory;
pub mod doubts;
mod edge;
pub mod judge;
pub mod ruleset;
pub mod ruling;

use crate::metric_definitions;
use config::AttestorConfig;
use dalp_chain::{BlockNumberOrTag, Upstreams};
use dalp_domain::{AppHandle, ChainReader};
use dalp_proto::attestation::attestation_service_server::AttestationServiceServer;
use dalp_service::{
    server::{HealthHandle, PeerPolicy, Routes, Server, ServerError},
    stop::Stop,
};
use judge::Judge;
use std::{net::SocketAddr, time::Duration};
use tokio::task::JoinHandle;

/// The name of the role, in certificates, logs and health.
pub const NAME: &str = "svc-attestor";
/// The only peer.
const SIGNER: &str = "svc-signer";
const CHAIN: &str = "chain";
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// A running attestor.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where metrics are served.
    pub metrics_addr: Option<SocketAddr>,
    server: JoinHandle<()>,
    watch: JoinHandle<()>,
}

/// Starts the attestor; it answers at once and judges as soon as a node does.
pub async fn start(config: AttestorConfig, stop: Stop) -> Result<Running, ServerError> {
    metric_definitions::describe();
    let policy = PeerPolicy::deny_all().allow("/dalp.attestation.v1.", [SIGNER]);
    let server = Server::new(NAME, &config.server, policy).bind().await?;
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    let app = AppHandle::default();
    let routes = Routes::new(AttestationServiceServer::new(edge::AttestationEdge::new(app.clone())));
    let watch = tokio::spawn(watch(config, app, health, stop.clone()));
    let server = tokio::spawn(async move {
        if let Err(error) = server.serve(routes, &stop).await {
            tracing::error!(%error, "the server ended");
            stop.request();
        }
    });
    Ok(Running { addr, metrics_addr, server, watch })
}

/// Brings the judge up once a node answers, and keeps saying how the chain is.
async fn watch(config: AttestorConfig, app: AppHandle<Judge>, health: HealthHandle, stop: Stop) {
    health.set(CHAIN, false).await;
    let mut upstreams: Option<Upstreams> = None;
    loop {
        if upstreams.is_none() {
            match Upstreams::connect(config.chain.clone()).await {
                Ok(connected) => {
                    app.set(Judge::new(ChainReader::new(connected.clone()), config.attest.clone()));
                    upstreams = Some(connected);
                }
                Err(error) => tracing::warn!(%error, "waiting for the chain"),
            }
        }
        let healthy = match &upstreams {
            Some(upstreams) => {
                let head = tokio::time::timeout(PATIENCE, upstreams.block(BlockNumberOrTag::Latest)).await;
                matches!(head, Ok(Ok(Some(head))) if !config.attest.is_stale(head.timestamp_s, judge::now_s()))
            }
            None => false,
        };
        health.set(CHAIN, healthy).await;
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

// === impl Running ===

impl Running {
    /// Completes when the attestor has stopped.
    pub async fn stopped(self) {
        let _ = tokio::join!(self.server, self.watch); // a panic in them was logged by the runtime
    }
}
