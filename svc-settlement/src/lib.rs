//! XvP settlement: value for value, every leg or none.
//!
//! In reading order:
//! - [`terms`]: what a settlement is bound to, and who locks what; pure.
//! - [`commands`]: what callers ask for; pure.
//! - [`state`]: where a settlement stands, from what happened to it; pure.
//! - [`preview`]: everything against settling; pure.
//! - [`flows`]: what happens on chain; pure. [`decoder`]: what the contracts answer, as failures of the catalogue; pure.
//! - [`readers`]: the chain as typed reads. [`indexer`]: what happened, kept.
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
        engine: EngineConfig::new(NAME, section.instance.clone()),
        flows,
        decoder: Arc::new(decoder::ContractDecoder),
        sign: dalp_domain::directly(),
    };
    let app = AppHandle::default();
    let (routes, until) = (edge::routes(&app), stop.clone());
    let begin = move |up: Up| {
        let (store, upstreams) = (Store::from(up.tables), up.chain.upstreams().clone());
        app.set(App::new(up.engine, store.clone(), up.chain, up.rights));
        async move {
            if section.index {
                indexer::run(store, upstreams, section.index_from_block, section.instance, until).await;
            }
        }
    };
    dalp_domain::start(parts, routes, stop, begin).await
}
