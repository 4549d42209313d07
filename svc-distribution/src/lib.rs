//! Offerings, airdrops and treasury payouts.
//!
//! In reading order:
//! - [`airdrop`]: lists of recipients, paid once each.
//! - [`offering`]: sales, bought in several currencies, delivered or refunded.
//! - [`treasury`]: coupons, dividends and redemption, paid to who held at a record date.
//! - [`passes`]: lists that are paid in batches, several at once, each row once.
//! - [`decoder`]: what the contracts answer, as failures of the catalogue; pure.
//! - `edge`: every gRPC service of the process.
//! - [`store`]: our tables. [`indexer`] and [`index`]: what the chain tells, kept. [`readers`]: what all parts read of it.
//! - [`app`]: what the edge works with.
//! - [`start`]: all of it as a running service.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod airdrop;
pub mod app;
pub mod config;
pub mod decoder;
mod edge;
pub mod index;
pub mod indexer;
pub mod metric_definitions;
pub mod offering;
pub mod passes;
pub mod readers;
pub mod store;
pub mod treasury;

use airdrop::{
    push::{Pusher, Pushes},
    store::lists,
};
use app::{App, AppHandle, Limits};
use config::DistributionConfig;
use dalp_domain::{Parts, Up};
use dalp_engine::{EngineConfig, Flows, Priority};
use dalp_service::{server::PeerPolicy, stop::Stop};
use std::sync::Arc;
use store::Store;
use treasury::payer::{Payer, Runs};

pub use dalp_domain::{Running, StartError};

/// The name of the service, in certificates, logs and records.
pub const NAME: &str = "svc-distribution";

/// Every flow of this service.
#[must_use]
pub fn flows() -> Flows {
    treasury::flows::add(offering::flows::add(airdrop::flows::add(Flows::new())))
        .with_priority(Priority::Bulk, &["airdrop.push_batch", "treasury.pay_batch"])
}

/// Starts the service; it answers at once and works as soon as its dependencies do.
pub async fn start(config: DistributionConfig, stop: Stop) -> Result<Running, StartError> {
    metric_definitions::describe();
    let (section, airdrop, treasury) = (config.distribution, config.airdrop, config.treasury);
    let policy = PeerPolicy::deny_all()
        .allow("/dalp.distribution.v1.", ["svc-gateway"])
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
        further_chains: Vec::new(),
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
        let (store, chain) = (Store::from(up.tables), up.chain);
        let pushes = Pushes::new(store.clone(), up.engine.clone(), chain.chain_id());
        let pusher = Pusher::new(pushes, up.engine.clone(), airdrop.batches_at_once);
        let pushing = pusher.clone().run(until.clone());
        let runs = Runs::new(store.clone(), up.engine.clone(), chain.clone());
        let payer = Payer::new(runs, up.engine.clone(), treasury.batches_at_once);
        let paying = payer.clone().run(until.clone());
        let forgetting = lists::forget(store.clone(), until.clone());
        let upstreams = chain.upstreams().clone();
        let limits = Limits {
            batch_gas: airdrop.batch_gas,
            payment_batch_gas: treasury.batch_gas,
            verified_rows: airdrop.verified_rows,
            index_from_block: section.index_from_block,
        };
        app.set(App::new(up.engine, store.clone(), chain, up.rights, (pusher, payer), limits));
        let scheduling = treasury::schedule::run(app.clone(), until.clone());
        let index = async move {
            if section.index {
                indexer::run(store, upstreams, section.index_from_block, section.instance, until).await;
            }
        };
        async {
            tokio::join!(pushing, paying, scheduling, forgetting, index);
        }
    };
    dalp_domain::start(parts, routes, stop, begin).await
}
