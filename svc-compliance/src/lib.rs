//! Systems, identities, assets, compliance and holders.
//!
//! In reading order:
//! - [`domain`]: what callers ask for, checked and typed; pure.
//! - [`flows`]: what happens on chain, step by step; pure.
//! - [`decoder`]: what the contracts answer, as failures of the catalogue; pure.
//! - `edge`: gRPC in and out: message, command, right, acceptance.
//! - [`readers`]: the chain as typed reads. [`indexer`]: who holds what after each block.
//! - [`store`]: our tables.
//! - [`wallet`]: smart wallets, whole, from their edge to their tables.
//! - [`start`]: all of it as a running service.
//! - [`attest`]: the compliance attestor, a role of its own of the same program.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod attest;
pub mod config;
pub mod decoder;
pub mod domain;
mod edge;
pub mod flows;
pub mod indexer;
pub mod metric_definitions;
pub mod readers;
pub mod store;
pub mod wallet;

use app::{App, AppHandle};
use config::ComplianceConfig;
use dalp_domain::{Parts, Up, directly};
use dalp_engine::EngineConfig;
use dalp_service::{
    server::{PeerPolicy, Routes},
    stop::Stop,
};
use std::{sync::Arc, time::Duration};
use store::Store;
use wallet::driver::Driver;

pub use dalp_domain::{Running, StartError};

/// The name of the service, in certificates, logs and records.
pub const NAME: &str = "svc-compliance";

/// Every gRPC service of this process, over an app that may come up later.
#[must_use]
pub fn routes(app: &AppHandle) -> Routes {
    edge::routes(app)
}

/// Starts the service; it answers at once and works as soon as its dependencies do.
pub async fn start(config: ComplianceConfig, stop: Stop) -> Result<Running, StartError> {
    metric_definitions::describe();
    let section = config.compliance;
    let parts = Parts {
        schema: store::SCHEMA,
        migrations: &store::MIGRATIONS,
        server: config.server,
        policy: PeerPolicy::deny_all().allow("/dalp.", ["svc-gateway"]),
        database: config.database,
        client_tls: config.client_tls,
        signer: config.signer,
        chain: config.chain,
        further_chains: config.further_chains,
        engine: EngineConfig {
            tenant_quota: section.tenant_quota,
            finished_kept: config.history.after(),
            ..EngineConfig::new(NAME, section.instance.clone())
        },
        flows: flows::all,
        decoder: Arc::new(decoder::ContractDecoder),
        sign: directly(),
    };
    let app = AppHandle::default();
    let (routes, until) = (routes(&app), stop.clone());
    let begin = move |up: Up| {
        let (store, upstreams) = (Store::from(up.tables.clone()), up.chain.upstreams().clone());
        let approved = Arc::default();
        let every = Duration::from_millis(section.user_operations_ms);
        let driver = Driver::new(&up, store.clone(), section.instance.clone(), every, Arc::clone(&approved));
        let (deployer, gas_limit) = (section.create2_deployer, section.batch_gas_limit);
        let chains = up.chains.keys().copied().collect();
        app.set(App::new(up.engine, store.clone(), up.chain, chains, up.rights, deployer, gas_limit, approved));
        async move {
            if section.index {
                let index = indexer::run(store, upstreams, section.index_from_block, section.instance, until.clone());
                tokio::join!(index, driver.run(until));
            }
        }
    };
    dalp_domain::start(parts, routes, stop, begin).await
}
