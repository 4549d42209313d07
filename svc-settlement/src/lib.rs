//! XvP settlement: value for value, every leg or none.
//!
//! In reading order:
//! - [`terms`]: what a settlement is bound to, and who locks what; pure.
//! - [`commands`]: what callers ask for; pure.
//! - [`state`]: where a settlement stands, from what happened to it; pure.
//! - [`preview`]: everything against settling; pure.
//! - [`flows`]: what happens on chain; pure. [`decoder`]: what the contracts answer, as failures of the catalogue; pure.
//! - [`readers`]: the chain as typed reads. [`indexer`]: what happened, kept.
//! - [`pairs`]: exchanges across two chains.
//! - [`store`]: our tables.
//! - `edge`: gRPC in and out. [`app`]: what the edge works with.
//! - [`start`]: all of it as a running service.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod commands;
pub mod config;
pub mod decoder;
mod edge;
pub mod flows;
pub mod indexer;
pub mod metric_definitions;
pub mod pairs;
pub mod preview;
pub mod readers;
pub mod state;
pub mod store;
pub mod terms;

use app::{App, AppHandle};
use config::SettlementConfig;
use dalp_domain::{Parts, Up};
use dalp_engine::{EngineConfig, Flows};
use dalp_service::{server::PeerPolicy, stop::Stop};
use pairs::driver::Driver;
use std::sync::Arc;
use store::Store;

pub use dalp_domain::{Running, StartError};

/// The name of the service, in certificates, logs and records.
pub const NAME: &str = "svc-settlement";

/// Every flow of this service.
#[must_use]
pub fn flows() -> Flows {
    flows::add(Flows::new())
}

/// Starts the service; it answers at once and works as soon as its dependencies do.
pub async fn start(config: SettlementConfig, stop: Stop) -> Result<Running, StartError> {
    metric_definitions::describe();
    let section = config.settlement;
    let policy = PeerPolicy::deny_all()
        .allow("/dalp.settlement.v1.", ["svc-gateway"])
        .allow("/dalp.operator.v1.ProbeService/", ["svc-gateway"]);
    let parts = Parts {
        schema: store::SCHEMA,
        migrations: &store::MIGRATIONS,
        server: config.server,
        policy,
        database: config.database,
        client_tls: config.client_tls,
        signer: config.signer,
        chain: config.chain,
        further_chains: config.further_chains,
        engine: EngineConfig {
            finished_kept: config.history.after(),
            ..EngineConfig::new(NAME, section.instance.clone())
        },
        flows,
        decoder: Arc::new(decoder::ContractDecoder),
        sign: dalp_domain::directly(),
    };
    let app = AppHandle::default();
    let (routes, until) = (edge::routes(&app), stop.clone());
    let begin = move |up: Up| {
        let (store, home) = (Store::from(up.tables.clone()), up.chain.chain_id());
        let chains: Vec<_> = up.chains.values().map(|chain| chain.upstreams().clone()).collect();
        let driver = Driver::new(&up, store.clone(), section.pairs.rules(), section.instance.clone(), home);
        app.set(App::new(up, store.clone(), section.pairs.rules()));
        async move {
            if !section.index {
                return;
            }
            let indexes = chains.into_iter().map(|upstreams| {
                let from = if upstreams.config().chain_id == home { section.index_from_block } else { 0 };
                indexer::run(store.clone(), upstreams, from, section.instance.clone(), until.clone())
            });
            tokio::join!(futures::future::join_all(indexes), driver.run(until.clone()));
        }
    };
    dalp_domain::start(parts, routes, stop, begin).await
}
