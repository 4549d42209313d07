//! `grpc.health.v1`, per dependency and overall.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Mutex;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

/// Where a service reports its dependencies. Each is a health service of its own name (`database`, `chain`, `svc-signer`);
/// the overall status (empty name) is SERVING only while all of them are, and NOT_SERVING once the service is stopping.
#[derive(Clone)]
pub struct HealthHandle {
    reporter: HealthReporter,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    dependencies: BTreeMap<String, bool>,
    /// Whether all dependencies were healthy at once since the start.
    served: bool,
    stopping: bool,
}

impl HealthHandle {
    pub(super) fn new() -> (Self, HealthServer<impl Health>) {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(tonic_health::server::HealthService::from_health_reporter(reporter.clone()));
        (Self { reporter, state: Arc::default() }, service)
    }

    /// Reports a dependency. A dependency counts from its first report on: report `false` before the first connection.
    pub async fn set(&self, dependency: &str, healthy: bool) {
        let mut state = self.state.lock().await;
        let before = state.dependencies.insert(dependency.to_owned(), healthy);
        if before != Some(healthy) {
            match healthy {
                true => tracing::info!(dependency, "dependency is healthy"),
                false => tracing::warn!(dependency, "dependency is not healthy"),
            }
        }
        // A first report may come before those of other dependencies.
        state.served |= before.is_some() && state.overall();
        // Under the lock, so that two reports cannot leave an overall status neither of them saw.
        self.reporter.set_service_status(dependency, status(healthy)).await;
        self.reporter.set_service_status("", status(state.overall())).await;
    }

    /// Reports a dependency under its own name only: the overall status does not depend on it. A gateway that lost one of
    /// several services still serves the others.
    pub async fn set_alone(&self, dependency: &str, healthy: bool) {
        self.reporter.set_service_status(dependency, status(healthy)).await;
    }

    /// Whether everything is healthy.
    pub async fn is_serving(&self) -> bool {
        self.state.lock().await.overall()
    }

    /// Whether a load balancer may send calls here: everything needed has been there once, and the service is not stopping. A dependency
    /// that is lost later takes nobody out, for it is lost to all replicas alike, and callers are better served by an answer that names it.
    pub(super) async fn is_ready(&self) -> bool {
        self.state.lock().await.ready()
    }

    /// The dependencies and their state.
    pub async fn dependencies(&self) -> BTreeMap<String, bool> {
        self.state.lock().await.dependencies.clone()
    }

    /// From here on the overall status stays NOT_SERVING, so that load balancers look elsewhere.
    pub(super) async fn stopping(&self) {
        let mut state = self.state.lock().await;
        state.stopping = true;
        self.reporter.set_service_status("", ServingStatus::NotServing).await;
    }
}

impl State {
    fn overall(&self) -> bool {
        !self.stopping && self.dependencies.values().all(|healthy| *healthy)
    }

    fn ready(&self) -> bool {
        !self.stopping && (self.served || self.overall())
    }
}

impl std::fmt::Debug for HealthHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HealthHandle").finish_non_exhaustive()
    }
}

fn status(healthy: bool) -> ServingStatus {
    if healthy { ServingStatus::Serving } else { ServingStatus::NotServing }
}
