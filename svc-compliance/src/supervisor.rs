//! Brings the parts up as their dependencies appear, watches them, and takes them down in order.

use crate::{
    NAME,
    app::{App, AppHandle},
    config::ComplianceConfig,
    decoder::ContractDecoder,
    flows, indexer, metric_definitions,
    readers::ChainReader,
    store::Store,
};
use anyhow::Context as _;
use dalp_chain::Upstreams;
use dalp_domain::{
    rights::{RemoteKeys, Rights},
    supervision::{Watched, pause},
};
use dalp_engine::{Engine, EngineConfig, signer::RemoteSigner};
use dalp_service::{client, server::HealthHandle, stop::Stop, tls::ClientTls};
use std::{collections::HashMap, sync::Arc};

pub(crate) async fn run(
    config: ComplianceConfig,
    store: Store,
    client_tls: ClientTls,
    app: AppHandle,
    health: HealthHandle,
    stop: Stop,
) {
    metric_definitions::describe();
    let (signer, database) = (client::connect(&config.signer, &client_tls), store.clone());
    let ping = move || {
        let database = database.clone();
        async move { database.ping().await.is_ok() }
    };
    let mut watched = Watched::new(health, signer, ping).await;
    let (engine, upstreams) = loop {
        match bring_up(&config, &store, &mut watched).await {
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
async fn bring_up(
    config: &ComplianceConfig,
    store: &Store,
    watched: &mut Watched,
) -> anyhow::Result<(Engine, Upstreams)> {
    let upstreams = match &watched.upstreams {
        Some(upstreams) => upstreams.clone(),
        None => Upstreams::connect(config.chain.clone()).await.context("the chain cannot be used")?,
    };
    watched.upstreams = Some(upstreams.clone());
    store.migrate().await?;
    let engine_config = EngineConfig {
        tenant_quota: config.compliance.tenant_quota,
        ..EngineConfig::new(NAME, config.compliance.instance.clone())
    };
    let chains = HashMap::from([(config.chain.chain_id, upstreams.clone())]);
    let signer = Arc::new(RemoteSigner::new(watched.signer.clone()));
    let (pool, flows) = (store.pool(), flows::all());
    let engine = Engine::start(engine_config, pool, chains, signer, flows, Arc::new(ContractDecoder)).await?;
    Ok((engine, upstreams))
}
