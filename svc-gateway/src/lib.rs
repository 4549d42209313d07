//! The public edge: who are you, may you, is this a repeat?
//!
//! In reading order:
//! - [`config`]: tenants, roles, principals and upstreams, as an operator writes them down.
//! - [`access`]: who there is, in PostgreSQL and before it in memory; [`permissions`], [`api_key`], [`oidc`], [`principals`]: from a
//!   credential to what its holder may do. `admin`: the services by which all that is kept.
//! - [`limits`]: token buckets.
//! - [`admission`]: the one decision about each call, pure.
//! - [`proxy`], [`body`], [`upstreams`]: calls passed on untouched, with the caller context that the services behind believe.
//! - [`rest`]: the same calls with HTTP and JSON, and with gRPC-Web. [`hooks`]: where custodians send their events.
//! - [`audit`]: the audit log: sealed, signed, read, proven; and refused calls on their way into it.
//! - [`verification`]: what a person who signs in by browser shows besides, for each write that the tenant's policy names.
//! - [`sealing`]: what must be had again, and nobody else may have, as it is stored.
//! - [`webhooks`]: events brought to receivers of the tenants.
//! - [`checkers`]: who may decide about what a policy holds for a second person.
//! - [`standing`]: what principals may do off chain and on chain, and where the two disagree.
//! - [`status`]: a page for operators that shows what these calls answer, live.
//! - [`operations`], [`transactions`], [`events`], [`operator`]: the services answered here from the engine's records. `doctor`: whether everything is well.
#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may panic
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dalp_domain::store::Tables;
use dalp_engine::{Operator, Reader};
use dalp_proto::{
    audit::audit_service_server::AuditServiceServer, checker::checker_service_server::CheckerServiceServer,
    event::event_service_server::EventServiceServer, operation::operation_service_server::OperationServiceServer,
    operator::operator_service_server::OperatorServiceServer,
    transaction::transaction_service_server::TransactionServiceServer,
    verification::wallet_verification_service_server::WalletVerificationServiceServer,
};
use dalp_service::{
    config::{ExposeSecret as _, SecretError},
    server::{BoundServer, HealthHandle, PeerPolicy, Routes, Server, ServerError, with_reflection},
    stop::Stop,
    tls::{ClientAuth, ClientTls, TlsError},
};
use sqlx::PgPool;
use tokio::task::JoinHandle;

pub mod access;
mod admin;
pub mod admission;
pub mod api_key;
pub mod audit;
pub mod body;
pub mod checkers;
pub mod config;
mod doctor;
pub mod events;
pub mod hooks;
pub mod limits;
pub mod metric_definitions;
pub mod oidc;
pub mod operations;
pub mod operator;
pub mod permissions;
pub mod principals;
pub mod proxy;
mod reading;
mod requests;
pub mod rest;
mod right;
pub mod sealing;
pub mod standing;
pub mod status;
pub mod transactions;
pub mod upstreams;
pub mod verification;
pub mod webhooks;

pub use config::GatewayConfig;

use access::seed::Applied;

/// The name of this service in certificates, logs and metrics.
pub const NAME: &str = "svc-gateway";
/// Among the dependencies in the health: the tables of who may call.
const ACCESS: &str = "access";
/// The upstream that signs the roots of the audit log, and verifies custodians' events.
const SIGNER: &str = "svc-signer";
/// For sealing, for signatures of roots, and for refusals.
const SEALING_CONNECTIONS: u32 = 3;
/// For verifications: counted on a connection of their own while their caller holds another.
const VERIFYING_CONNECTIONS: u32 = 4;
/// For deliveries to webhooks and their outcomes.
const WEBHOOK_CONNECTIONS: u32 = 3;
/// Between two tries to bring the tables up to date.
const BRING_UP_PAUSE: Duration = Duration::from_millis(500);
/// Environment variables that override the configuration begin with it.
pub const ENV_PREFIX: &str = "DALP_GATEWAY";

/// Why the gateway does not come up. A database or upstream that is down is no reason: the gateway waits and says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The listener does not come up.
    #[error("the listener does not come up")]
    Server(#[from] ServerError),
    /// The certificate towards the services is not usable.
    #[error("the TLS material towards the services is not usable")]
    ClientTls(#[from] TlsError),
    /// The database URL cannot be read.
    #[error("the database URL cannot be read")]
    DatabaseUrl(#[from] SecretError),
    /// The database URL is not one. Its text is not repeated, for it holds a password.
    #[error("the database URL is not a PostgreSQL URL")]
    NotADatabaseUrl,
    /// A key to seal with is not usable.
    #[error("a key of [[sealing.keys]] is not usable: {0}")]
    SealingKey(String),
    /// An identity provider is not usable as configured.
    #[error("an identity provider is not usable")]
    Issuer(#[from] oidc::IssuerError),
    /// Webhooks are not usable as configured.
    #[error("webhooks are not usable: {0}")]
    Webhooks(String),
}

/// A gateway that answers.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where its metrics are, if served.
    pub metrics_addr: Option<SocketAddr>,
    /// Where its status page is, if there is one.
    pub status_addr: Option<SocketAddr>,
    /// What it says about its dependencies.
    pub health: HealthHandle,
    served: JoinHandle<Result<(), ServerError>>,
    accessed: JoinHandle<()>,
}

// === impl Running ===

impl Running {
    /// Completes when the gateway has stopped and its last requests are answered.
    ///
    /// # Errors
    /// When serving failed.
    pub async fn stopped(self) -> anyhow::Result<()> {
        let served = self.served.await?;
        self.accessed.await?;
        Ok(served?)
    }
}

/// Starts the gateway; `stop` ends it gracefully.
///
/// # Errors
/// When certificates, listener or references of the configuration are not usable.
pub async fn start(config: GatewayConfig, stop: &Stop) -> Result<Running, StartError> {
    let client_tls = ClientTls::load(&config.client_tls)?;
    let pool = pool_of(&config, config.database.max_connections)?;
    let upstreams: Vec<_> =
        config.upstreams.iter().map(|upstream| upstreams::Upstream::new(upstream, &client_tls)).collect();
    let signer = upstreams.iter().find(|upstream| upstream.name() == SIGNER).map(upstreams::Upstream::channel);
    let rest = rest::Rest::new(&config.http, &config.server);
    let server = Server::new(NAME, &config.server, PeerPolicy::public())
        .client_auth(ClientAuth::Optional)
        .without_reflection()
        .front(hooks::Hooks::new(config.hooks.as_ref(), &config.server, signer.clone(), rest))
        .bind()
        .await?;
    metric_definitions::describe();
    client_tls.watch(stop);

    let trust_domain: Arc<str> = server.spiffe().trust_domain().into();
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    let interval = Duration::from_millis(config.health_interval_ms);
    health.set("database", false).await;
    health.set(ACCESS, false).await;
    // Its own connection: when callers hold all others, the database is still there.
    tokio::spawn(watch_database(pool_of(&config, 1)?, health.clone(), interval, stop.clone()));
    for upstream in &upstreams {
        health.set_alone(upstream.name(), false).await;
        tokio::spawn(upstream.clone().watch_health(health.clone(), interval, stop.clone()));
    }

    let reader = Reader::new(pool.clone());
    let events = events::Events::new(reader.clone(), stop.clone());
    let operator = Operator::new(pool.clone());
    let certificates = [
        ("certificate of the listener", config.server.tls.clone()),
        ("certificate towards the services", config.client_tls.clone()),
    ];
    let tables = Tables::over(access::store::SCHEMA, pool);
    let sealed = sealing::missing::SealedRows::new(tables.clone(), &config.sealing);
    let lanes = operator::Lanes::new(operator.clone(), &upstreams, certificates, sealed.clone());

    let granting = permissions::Granting::new(&dalp_proto::Methods::load());
    let log = audit::Log::new(tables.clone());
    // Connections of its own: when callers hold all others, evidence is still written.
    let sealing = Tables::over(access::store::SCHEMA, pool_of(&config, SEALING_CONNECTIONS)?);
    // Requested when the last call was answered: until then calls have something to say to the audit.
    let answered = Stop::new();
    let (refusals, refusal_writer) = audit::refusals::refusals(config.audit, sealing.clone(), answered.clone());
    let signer = signer.map(audit::signing::RootSigner::new);
    let store = access::Store::from(tables);
    let directory = Arc::new(access::Directory::new(store, granting, config.access));
    let checkers = checkers::Checkers::new(Arc::clone(&directory), reader.clone());
    let operations = operations::Operations::new(reader.clone(), checkers.clone(), stop.clone());
    let issuers = oidc::Issuers::new(&config.oidc)?;
    let binding = |one: &oidc::OidcConfig| admin::Binding { issuer: one.issuer.clone(), tenant: one.tenant.clone() };
    let bindings = config.oidc.iter().map(binding).collect();
    let keys = sealing::SealingKeys::read(&config.sealing).map_err(StartError::SealingKey)?.map(Arc::new);
    let (office, courier) = match (&config.webhooks, &keys) {
        (Some(webhooks), Some(keys)) => {
            webhooks_of(&config, webhooks, keys, &reader).map(|(office, courier)| (Some(office), Some(courier)))?
        }
        (Some(_), None) => return Err(StartError::Webhooks("there is no key in [[sealing.keys]]".to_owned())),
        (None, _) => (None, None),
    };
    let standings = standing::Standings::new(Arc::clone(&directory), &upstreams);
    let desk = admin::Desk::new(Arc::clone(&directory), config.cell.clone(), bindings, trust_domain, office, standings);
    let verifying = Tables::over(access::store::SCHEMA, pool_of(&config, VERIFYING_CONNECTIONS)?);
    let verifier =
        verification::Verifier::new(verifying, &config.verification, keys).map_err(StartError::SealingKey)?;
    let factors = admin::verification::Factors::new(desk.clone(), verifier.clone());
    let own = Routes::new(OperationServiceServer::new(operations))
        .add_service(TransactionServiceServer::new(transactions::Transactions::new(operator)))
        .add_service(EventServiceServer::new(events))
        .add_service(OperatorServiceServer::new(lanes))
        .add_service(AuditServiceServer::new(audit::service::Audits::new(log, stop.clone())))
        .add_service(CheckerServiceServer::new(checkers))
        .add_service(WalletVerificationServiceServer::new(factors));
    let own = with_reflection(desk.add_to(own))?.prepare();
    let authenticator = principals::Authenticator::new(Arc::clone(&directory), issuers, config.cell.clone());
    let gate = Arc::new(admission::Gate::new(&config, authenticator));
    let upstreams: Arc<[upstreams::Upstream]> = upstreams.into();
    let behind = (Arc::clone(&upstreams), own.clone());
    let page = status_page(&config, Arc::clone(&gate), behind, refusals.clone(), stop).await?;
    let status_addr = page.as_ref().map(BoundServer::bound_addr);
    let edge = proxy::Edge::new(gate, upstreams, own, refusals, verifier.clone());
    let listener = pool_of(&config, 1)?;
    let background =
        Background { log: audit::Log::new(sealing), signer, refusals: refusal_writer, sealed, verifier, courier };
    let accessed = tokio::spawn(keep_access(directory, config, background, listener, health.clone(), stop.clone()));
    let stop = stop.clone();
    let served = tokio::spawn(async move {
        let paged = async {
            match page {
                // Its front answers everything.
                Some(page) => page.serve(Routes::default().prepare(), &stop).await,
                None => Ok(()),
            }
        };
        let (served, paged) = tokio::join!(server.serve(edge, &stop), paged);
        answered.request();
        served.and(paged)
    });
    Ok(Running { addr, metrics_addr, status_addr, health, served, accessed })
}

/// The listener of the status page, if there is one.
async fn status_page(
    config: &GatewayConfig,
    gate: Arc<admission::Gate>,
    behind: (Arc<[upstreams::Upstream]>, Routes),
    refusals: audit::refusals::Refusals,
    stop: &Stop,
) -> Result<Option<BoundServer>, StartError> {
    let Some(status) = &config.status else { return Ok(None) };
    let server = status.server(&config.server);
    let page = status::StatusPage::new(status, &server, gate, behind, refusals, stop.clone());
    let server =
        Server::new(NAME, &server, PeerPolicy::public()).client_auth(ClientAuth::Optional).without_reflection();
    Ok(Some(server.front(page).bind().await?))
}

fn pool_of(config: &GatewayConfig, max_connections: u32) -> Result<PgPool, StartError> {
    let url = config.database.url.resolve()?;
    dalp_engine::pool(url.expose_secret(), NAME, access::store::SCHEMA.name, max_connections)
        .map_err(|_| StartError::NotADatabaseUrl)
}

/// What webhooks are written with, and what brings their deliveries.
fn webhooks_of(
    config: &GatewayConfig,
    webhooks: &config::WebhooksConfig,
    keys: &Arc<sealing::SealingKeys>,
    reader: &Reader,
) -> Result<(Arc<webhooks::Office>, webhooks::courier::Courier), StartError> {
    let (reach, pace) = (Arc::new(webhooks.reach()), webhooks.pace());
    let authority = webhooks.authority_file.as_ref().map(std::fs::read).transpose();
    let authority = authority.map_err(|error| StartError::Webhooks(format!("authority_file: {error}")))?;
    let sender = webhooks::sender::Sender::new(Arc::clone(&reach), pace.timeout, authority.as_deref());
    let sender = sender.map_err(|error| StartError::Webhooks(error.to_string()))?;
    let tables = Tables::over(access::store::SCHEMA, pool_of(config, WEBHOOK_CONNECTIONS)?);
    let courier = webhooks::courier::Courier::new(tables, reader.clone(), Arc::clone(keys), sender, pace);
    Ok((Arc::new(webhooks::Office { keys: Arc::clone(keys), reach, reader: reader.clone() }), courier))
}

/// What works in the background once its tables are there.
struct Background {
    log: audit::Log,
    signer: Option<audit::signing::RootSigner>,
    refusals: audit::refusals::Writer,
    sealed: sealing::missing::SealedRows,
    verifier: verification::Verifier,
    courier: Option<webhooks::courier::Courier>,
}

/// Brings the tables up to date and makes them say what the configuration says, then hears of changes and notes uses until the end.
async fn keep_access(
    directory: Arc<access::Directory>,
    config: GatewayConfig,
    background: Background,
    listener: PgPool,
    health: HealthHandle,
    stop: Stop,
) {
    loop {
        match bring_up(directory.store(), &config).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the tables of who may call");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BRING_UP_PAUSE) => {}
            () = stop.requested() => return,
        }
    }
    directory.ready();
    health.set(ACCESS, true).await;
    let noting = tokio::spawn(access::uses::run(Arc::clone(&directory), stop.clone()));
    let Background { log, signer, refusals, sealed, verifier, courier } = background;
    let sealing = tokio::spawn(audit::sealer::run(log, signer, config.audit, stop.clone()));
    let writing = tokio::spawn(refusals.run());
    // Nobody waits for it: a database that hangs over it is told by others.
    tokio::spawn(async move { sealed.report().await });
    let counting = tokio::spawn(verifier.watch(stop.clone()));
    let expiring = tokio::spawn(checkers::expire(Arc::clone(&directory), stop.clone()));
    let delivering = courier.map(|courier| tokio::spawn(courier.run(stop.clone())));
    access::watch::run(directory, listener, stop).await;
    // A panic in one of them was logged by the runtime.
    let _ = tokio::join!(noting, sealing, writing, counting, expiring);
    if let Some(delivering) = delivering {
        let _ = delivering.await;
    }
}

/// Whether callers may be let in by what the tables say. An older configuration is a replica of before a change, and serves by the newer one.
async fn bring_up(store: &access::Store, config: &GatewayConfig) -> Result<bool, access::store::StoreError> {
    store.bring_up().await?;
    let applied = store.apply(config).await?;
    match applied {
        Applied::Now => tracing::info!(generation = config.generation, "the configuration was applied"),
        Applied::Before => {}
        Applied::Older { applied } => tracing::error!(
            generation = config.generation,
            applied,
            "a later configuration of tenants, roles and principals was applied: raise `generation` to apply this one"
        ),
        Applied::Ambiguous => tracing::error!(
            generation = config.generation,
            "another configuration of tenants, roles and principals was applied under the same number; nobody is let in: raise `generation` to apply this one"
        ),
    }
    Ok(applied != Applied::Ambiguous)
}

async fn watch_database(pool: PgPool, health: HealthHandle, interval: Duration, stop: Stop) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.requested() => return,
        }
        let answered = sqlx::query("select 1").execute(&pool).await;
        health.set("database", answered.is_ok()).await;
    }
}
