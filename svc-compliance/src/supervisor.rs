//! Brings the parts up as their dependencies appear, watches them, and takes them down in order.

use crate::{
    NAME,
    app::{App, AppHandle},
    config::ComplianceConfig,
    decoder::ContractDecoder,
    flows, indexer, metric_definitions,
    readers::ChainReader,
    rights::{RemoteKeys, Rights},
    store::Store,
};
use anyhow::Context as _;
use dalp_chain::Upstreams;
use dalp_engine::{Engine, EngineConfig, signer::RemoteSigner};
use dalp_service::{client, server::HealthHandle, stop::Stop, tls::ClientTls};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const DATABASE: &str = "database";
const CHAIN: &str = "chain";
const SIGNER: &str = "svc-signer";
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn run(
    config: ComplianceConfig,
    store: Store,
    client_tls: ClientTls,
    app: AppHandle,
    health: HealthHandle,
    stop: Stop,
) {
    for dependency in [DATABASE, CHAIN, SIGNER] {
        health.set(dependency, false).await;
    }
    metric_definitions::describe();
    let signer = client::connect(&config.signer, &client_tls);
    let mut watched = Watched { health, store: store.clone(), upstreams: None, signer };
    let (engine, upstreams) = loop {
        match bring_up(&config, &mut watched).await {
            Ok(up) => break up,
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "waiting for database and chain"),
        }
        watched.look().await;
        if pause(&stop).await {
            return;
        }
    };
    let rights = Rights::new(Box::new(RemoteKeys::new(client::connect_propagating(&config.signer, &client_tls))));
    let section = &config.compliance;
    app.set(App::new(
        engine.clone(),
        store.clone(),
        ChainReader::new(upstreams.clone()),
        rights,
        section.create2_deployer,
        section.batch_gas_limit,
    ));
    let index = section.index.then(|| {
        tokio::spawn(indexer::run(
            store.clone(),
            upstreams,
            section.index_from_block,
            section.instance.clone(),
            stop.clone(),
        ))
    });
    tracing::info!("ready");
    loop {
        watched.look().await;
        if pause(&stop).await {
            break;
        }
    }
    engine.stop().await;
    if let Some(index) = index {
        let _ = index.await; // a panic in it was logged by the runtime
    }
    store.close().await;
}

/// Everything that work needs. A chain of another id is an operator's mistake that stays loud until it is corrected; nodes
/// that do not answer are waited for by the pool itself.
async fn bring_up(config: &ComplianceConfig, watched: &mut Watched) -> anyhow::Result<(Engine, Upstreams)> {
    let upstreams = match &watched.upstreams {
        Some(upstreams) => upstreams.clone(),
        None => Upstreams::connect(config.chain.clone()).await.context("the chain cannot be used")?,
    };
    watched.upstreams = Some(upstreams.clone());
    watched.store.migrate().await?;
    let engine_config = EngineConfig::new(NAME, config.compliance.instance.clone());
    let chains = HashMap::from([(config.chain.chain_id, upstreams.clone())]);
    let signer = Arc::new(RemoteSigner::new(watched.signer.clone()));
    let (pool, flows) = (watched.store.pool(), flows::all());
    let engine = Engine::start(engine_config, pool, chains, signer, flows, Arc::new(ContractDecoder)).await?;
    Ok((engine, upstreams))
}

/// True: a stop was requested.
async fn pause(stop: &Stop) -> bool {
    tokio::select! {
        () = stop.requested() => true,
        () = tokio::time::sleep(PAUSE) => false,
    }
}

struct Watched {
    health: HealthHandle,
    store: Store,
    /// None until a chain of the right id was found.
    upstreams: Option<Upstreams>,
    signer: Channel,
}

impl Watched {
    async fn look(&self) {
        let chain = async {
            match &self.upstreams {
                Some(upstreams) => upstreams.block_number().await.is_ok(),
                None => false,
            }
        };
        let signer = async {
            let mut client = HealthClient::new(self.signer.clone());
            let answer = client.check(HealthCheckRequest::default()).await;
            answer.is_ok_and(|answer| answer.get_ref().status == i32::from(ServingStatus::Serving))
        };
        let database = async { self.store.ping().await.is_ok() };
        let (database, chain, signer) = tokio::join!(in_time(database), in_time(chain), in_time(signer));
        for (dependency, healthy) in [(DATABASE, database), (CHAIN, chain), (SIGNER, signer)] {
            self.health.set(dependency, healthy).await;
        }
    }
}

/// What answers late does not serve.
async fn in_time(healthy: impl Future<Output = bool>) -> bool {
    tokio::time::timeout(PATIENCE, healthy).await.unwrap_or(false)
}
