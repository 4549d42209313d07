//! The compliance attestor: what svc-signer asks before it signs. A process role of its own, which keeps nothing, has no database, believes
//! no domain service and looks at the chains through nodes of its own.
//!
//! In reading order:
//! - [`ruleset`]: what an operator allows beside what the chain says; its version.
//! - [`acts`]: what a call does, read from its bytes; pure. [`ruling`]: whether it may, given who is who; pure. [`doubts`]: when a veto counts; pure.
//! - [`operations`]: user operations of smart wallets, call by call; pure.
//! - [`shown`]: calls that show a secret which the attestor is not told; pure.
//! - [`directory`]: who is who, read from the tenant's own contracts. [`judge`]: both put together at one block of one chain.
//! - [`chains`]: a judge for each chain, and which of them a payload belongs to.
//! - [`config`], `edge`, [`start`]: the process.

pub mod acts;
pub mod chains;
pub mod config;
pub mod directory;
pub mod doubts;
mod edge;
pub mod judge;
pub mod operations;
pub mod ruleset;
pub mod ruling;
pub mod shown;

use crate::metric_definitions;
use chains::Chains;
use config::AttestorConfig;
use dalp_proto::attestation::attestation_service_server::AttestationServiceServer;
use dalp_service::{
    server::{HealthHandle, PeerPolicy, Routes, Server, ServerError},
    stop::Stop,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// The name of the role, in certificates, logs and health.
pub const NAME: &str = "svc-attestor";
/// The only peer.
const SIGNER: &str = "svc-signer";
const CHAINS: &str = "chains";
const PAUSE: Duration = Duration::from_secs(1);

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

/// Starts the attestor; it answers at once, and judges on each chain as soon as a node of it answers.
pub async fn start(config: AttestorConfig, stop: Stop) -> Result<Running, ServerError> {
    metric_definitions::describe();
    let policy = PeerPolicy::deny_all().allow("/dalp.attestation.v1.", [SIGNER]);
    let server = Server::new(NAME, &config.server, policy).bind().await?;
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    let chains = Arc::new(Chains::new(config));
    let routes = Routes::new(AttestationServiceServer::new(edge::AttestationEdge::new(chains.clone())));
    let watch = tokio::spawn(watch(chains, health, stop.clone()));
    let server = tokio::spawn(async move {
        if let Err(error) = server.serve(routes, &stop).await {
            tracing::error!(%error, "the server ended");
            stop.request();
        }
    });
    Ok(Running { addr, metrics_addr, server, watch })
}

/// Brings the judges up as nodes answer, and keeps saying how the chains are: each by its name, and all together. Until every chain was there once the
/// attestor is not ready, so that a wrong configuration halts a rollout; afterwards it serves while it can judge on any of them.
async fn watch(chains: Arc<Chains>, health: HealthHandle, stop: Stop) {
    health.set(CHAINS, false).await;
    loop {
        let seen = chains.look().await;
        for chain in &seen {
            health.set_alone(&format!("chain-{}", chain.chain_id), chain.can_judge).await;
        }
        let ready = seen.iter().all(|chain| chain.was_there) && seen.iter().any(|chain| chain.can_judge);
        health.set(CHAINS, ready).await;
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
