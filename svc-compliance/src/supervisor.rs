//! Brings the parts up as their dependencies appear, watches them, and takes them down in order.

use crate::{
    NAME,
    app::{App, AppHandle},
    config::ComplianceConfig,
    decoder::ContractDecoder,
    flows, indexer,
    readers::ChainReader,
    rights::{RemoteKeys, Rights},
    store::Store,
};
use dalp_chain::Upstreams;
use dalp_engine::{Engine, EngineConfig, signer::RemoteSigner};
use dalp_service::{client, server::HealthHandle, stop::Stop, tls::ClientTls};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tonic::transport::Channel;

const DATABASE: &str = "database";
const CHAIN: &str = "chain";
const SIGNER: &str = "svc-signer";
const PAUSE: Duration = Duration::from_secs(1);

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
    let channel = client::connect(&config.signer, &client_tls);
    let Some(upstreams) = connect(&config, &stop).await else { return };
    let mut watched = Watched { health, store: store.clone(), upstreams: upstreams.clone(), signer: channel.clone() };
    let engine = loop {
        watched.look().await;
        match bring_up(&config, &store, &upstreams, &channel).await {
            Ok(engine) => break engine,
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "waiting for the database"),
        }
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

/// Connects to the chain; a chain of another id is an operator's mistake that stays loud until it is corrected.
async fn connect(config: &ComplianceConfig, stop: &Stop) -> Option<Upstreams> {
    loop {
        match Upstreams::connect(config.chain.clone()).await {
            Ok(upstreams) => return Some(upstreams),
            Err(error) => tracing::error!(%error, "the chain cannot be used"),
        }
        if pause(stop).await {
            return None;
        }
    }
}

async fn bring_up(
    config: &ComplianceConfig,
    store: &Store,
    upstreams: &Upstreams,
    channel: &Channel,
) -> anyhow::Result<Engine> {
    store.migrate().await?;
    let engine_config = EngineConfig::new(NAME, config.compliance.instance.clone());
    let chains = HashMap::from([(config.chain.chain_id, upstreams.clone())]);
    let signer = Arc::new(RemoteSigner::new(channel.clone()));
    Ok(Engine::start(engine_config, store.pool(), chains, signer, flows::all(), Arc::new(ContractDecoder)).await?)
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
    upstreams: Upstreams,
    signer: Channel,
}

impl Watched {
    async fn look(&mut self) {
        self.health.set(DATABASE, self.store.ping().await.is_ok()).await;
        self.health.set(CHAIN, self.upstreams.block_number().await.is_ok()).await;
        let mut client = tonic_health::pb::health_client::HealthClient::new(self.signer.clone());
        let check = client.check(tonic_health::pb::HealthCheckRequest::default());
        let healthy = match tokio::time::timeout(Duration::from_secs(3), check).await {
            Ok(Ok(answer)) => {
                answer.into_inner().status == i32::from(tonic_health::pb::health_check_response::ServingStatus::Serving)
            }
            Ok(Err(_)) | Err(_) => false,
        };
        self.health.set(SIGNER, healthy).await;
    }
}
