//! Issuer-signed scalar feeds.
//!
//! In reading order:
//! - [`domain`]: what callers ask for, checked and typed; pure.
//! - [`flows`]: what happens on chain, step by step; pure.
//! - [`decoder`]: what the contracts answer, as failures of the catalogue; pure.
//! - [`queue`]: the order of an issuer's updates on a feed. [`in_turn`]: the signer, held back until it is an update's turn.
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
pub mod in_turn;
pub mod indexer;
pub mod metric_definitions;
pub mod queue;
pub mod readers;
pub mod store;
pub mod watch;

use app::{App, AppHandle};
use config::FeedsConfig;
use dalp_domain::{Parts, Up};
use dalp_engine::EngineConfig;
use dalp_service::{
    server::{PeerPolicy, Routes},
    stop::Stop,
};
use in_turn::InTurn;
use queue::{Held, Queue};
use std::{sync::Arc, time::Duration};
use store::{Store, latest::LatestReads};
use tokio::sync::Notify;
use watch::Watch;

pub use dalp_domain::{Running, StartError};

/// The name of the service, in certificates, logs and records.
pub const NAME: &str = "svc-feeds";

/// Every gRPC service of this process, over an app that may come up later.
#[must_use]
pub fn routes(app: &AppHandle) -> Routes {
    edge::routes(app)
}

/// Starts the service; it answers at once and works as soon as its dependencies do.
pub async fn start(config: FeedsConfig, stop: Stop) -> Result<Running, StartError> {
    metric_definitions::describe();
    let section = config.feeds;
    let policy = PeerPolicy::deny_all()
        .allow("/dalp.feeds.v1.", ["svc-gateway"])
        .allow("/dalp.operator.v1.ProbeService/", ["svc-gateway"]);
    let held = Held::default();
    let held_back = held.clone();
    let parts = Parts {
        schema: store::SCHEMA,
        migrations: &store::MIGRATIONS,
        server: config.server,
        policy,
        database: config.database,
        client_tls: config.client_tls,
        signer: config.signer,
        chain: config.chain,
        further_chains: Vec::new(),
        engine: EngineConfig {
            finished_kept: config.history.after(),
            ..EngineConfig::new(NAME, section.instance.clone())
        },
        flows: flows::all,
        decoder: Arc::new(decoder::ContractDecoder),
        sign: Box::new(move |signer, tables, chain| {
            Arc::new(InTurn::new(signer, Queue::new(Store::from(tables.clone()), chain.clone(), held_back.clone())))
        }),
    };
    let app = AppHandle::default();
    let (routes, until) = (routes(&app), stop.clone());
    let begin = move |up: Up| {
        let (store, chain, owner) = (Store::from(up.tables), up.chain, section.instance);
        let queue = Queue::new(store.clone(), chain.clone(), held);
        let calls = queue::call_up(queue.clone(), up.engine.clone(), until.clone());
        let withdrawn = Arc::new(Notify::new());
        let settings = watch::Settings {
            owner: owner.clone(),
            every: Duration::from_millis(section.watch_ms),
            keep_events: Duration::from_secs(u64::from(section.keep_events_days) * 24 * 60 * 60),
        };
        let watch = Watch::new(store.clone(), chain.clone(), settings, withdrawn.clone());
        let (latest, turns) = LatestReads::new(store.clone(), chain.chain_id());
        let reads = turns.run(until.clone());
        app.set(App::new(up.engine, store.clone(), chain.clone(), up.rights, queue, latest, section.batch_items));
        let index = async move {
            if section.index {
                let (upstreams, from) = (chain.upstreams().clone(), section.index_from_block);
                let index = indexer::run(store, upstreams, from, owner, withdrawn, until.clone());
                tokio::join!(index, watch.run(until));
            }
        };
        async {
            tokio::join!(calls, reads, index);
        }
    };
    dalp_domain::start(parts, routes, stop, begin).await
}
