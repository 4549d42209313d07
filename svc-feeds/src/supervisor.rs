//! Brings the parts up as their dependencies appear, watches them, and takes them down in order.

use crate::{
    NAME,
    app::{App, AppHandle},
    config::FeedsConfig,
    decoder::ContractDecoder,
    flows, indexer, metric_definitions,
    queue::{InTurn, Queue},
    store::Store,
    watch::Watch,
};
use anyhow::Context as _;
use dalp_chain::Upstreams;
use dalp_domain::{
    ChainReader, Rights,
    rights::RemoteKeys,
    supervision::{Watched, pause},
};
use dalp_engine::{Engine, EngineConfig, signer::RemoteSigner};
use dalp_service::{client, server::HealthHandle, stop::Stop, tls::ClientTls};
use std::{collections::HashMap, sync::Arc, time::Duration};

pub(crate) async fn run(
    config: FeedsConfig,
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
    let (section, chain) = (&config.feeds, ChainReader::new(upstreams.clone()));
    app.set(App::new(engine.clone(), store.clone(), chain.clone(), rights, section.batch_items));
    let owner = section.instance.clone();
    let index = section.index.then(|| {
        let watch =
            Watch::new(store.clone(), chain, owner.clone(), Duration::from_millis(section.watch_ms)).run(stop.clone());
        let index = indexer::run(store.clone(), upstreams, section.index_from_block, owner, stop.clone());
        tokio::spawn(async { tokio::join!(index, watch) })
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
async fn bring_up(config: &FeedsConfig, store: &Store, watched: &mut Watched) -> anyhow::Result<(Engine, Upstreams)> {
    let upstreams = match &watched.upstreams {
        Some(upstreams) => upstreams.clone(),
        None => Upstreams::connect(config.chain.clone()).await.context("the chain cannot be used")?,
    };
    watched.upstreams = Some(upstreams.clone());
    store.migrate().await?;
    let engine_config = EngineConfig::new(NAME, config.feeds.instance.clone());
    let chains = HashMap::from([(config.chain.chain_id, upstreams.clone())]);
    let queue = Queue::new(store.clone(), ChainReader::new(upstreams.clone()));
    let signer = Arc::new(InTurn::new(RemoteSigner::new(watched.signer.clone()), queue));
    let engine =
        Engine::start(engine_config, store.pool(), chains, signer, flows::all(), Arc::new(ContractDecoder)).await?;
    Ok((engine, upstreams))
}
