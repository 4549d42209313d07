//! Issuer-signed scalar feeds: a real server of the mesh whose business calls are not built yet.
//!
//! It authenticates its peer, reports health, answers reflection, traces, counts and stops gracefully like every other service.
//! Each call is checked as far as it can be today (is the caller vouched for by the gateway?) and then answered
//! `UNIMPLEMENTED / NOT_IMPLEMENTED` with the area that will build it. It accepts nothing and stores nothing.
#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may panic
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use dalp_proto::feeds::{
    GetLatestRequest, GetLatestResponse, SubmitUpdateRequest, SubmitUpdateResponse,
    feed_service_server::{FeedService, FeedServiceServer},
};
use dalp_service::{
    Caller, Reason, Refusal,
    config::{Problems, ServerConfig, TelemetryConfig, Validate},
    server::{HealthHandle, PeerPolicy, Routes, Server, ServerError},
    stop::Stop,
};
use serde::Deserialize;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

/// The name of this service in certificates, logs and metrics.
pub const NAME: &str = "svc-feeds";
/// Environment variables that override the configuration begin with it.
pub const ENV_PREFIX: &str = "DALP_FEEDS";

/// What will be built behind these calls.
const AREA: &str = "Issuer-signed scalar feeds: directory, adapters and EIP-712 updates";

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// A service that answers.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where its metrics are, if served.
    pub metrics_addr: Option<SocketAddr>,
    /// What it says about itself.
    pub health: HealthHandle,
    served: JoinHandle<Result<(), ServerError>>,
}

#[derive(Clone, Copy, Debug)]
struct NotBuilt;

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
    }
}

/// Starts the service; `stop` ends it gracefully.
///
/// # Errors
/// When certificates or listener are not usable.
pub async fn start(config: Config, stop: &Stop) -> Result<Running, ServerError> {
    let policy = PeerPolicy::deny_all().allow("/dalp.feeds.v1.", ["svc-gateway"]);
    let server = Server::new(NAME, &config.server, policy).bind().await?;
    let (addr, metrics_addr, health) = (server.bound_addr(), server.metrics_addr(), server.health());
    let routes = Routes::new(FeedServiceServer::new(NotBuilt));
    let stop = stop.clone();
    let served = tokio::spawn(async move { server.serve(routes, &stop).await });
    Ok(Running { addr, metrics_addr, health, served })
}

/// A caller that is not vouched for hears that first, as it will when the call is built.
fn not_built<T>(request: &Request<T>, method: &str) -> Status {
    match Caller::from_request(request) {
        Err(refusal) => refusal.into(),
        Ok(_) => Refusal::new(Reason::NotImplemented, format!("{method} is part of the contract but not built yet"))
            .meta("method", method)
            .meta("area", AREA)
            .into(),
    }
}

#[tonic::async_trait]
impl FeedService for NotBuilt {
    async fn submit_update(
        &self,
        request: Request<SubmitUpdateRequest>,
    ) -> Result<Response<SubmitUpdateResponse>, Status> {
        Err(not_built(&request, "dalp.feeds.v1.FeedService/SubmitUpdate"))
    }

    async fn get_latest(&self, request: Request<GetLatestRequest>) -> Result<Response<GetLatestResponse>, Status> {
        Err(not_built(&request, "dalp.feeds.v1.FeedService/GetLatest"))
    }
}

// === impl Running ===

impl Running {
    /// Completes when the service has stopped and its last requests are answered.
    ///
    /// # Errors
    /// When serving failed.
    pub async fn stopped(self) -> anyhow::Result<()> {
        Ok(self.served.await??)
    }
}

#[cfg(test)]
mod tests {
    use dalp_service::PeerIdentity;

    use super::*;

    fn request(peer: &str) -> Request<()> {
        let mut request = Request::new(());
        let caller = Caller { tenant: "acme".parse().unwrap(), principal: "ops".parse().unwrap(), roles: Vec::new() };
        caller.apply(request.metadata_mut());
        request.extensions_mut().insert(PeerIdentity::trusted(format!("spiffe://dalp.dev/{peer}").parse().unwrap()));
        request
    }

    #[test]
    fn a_call_says_honestly_that_it_is_not_built() {
        let status = not_built(&request("svc-gateway"), "A/B");
        let details = Refusal::details(&status).unwrap();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        assert_eq!(details.reason, "NOT_IMPLEMENTED");
        assert_eq!((details.metadata["method"].as_str(), details.metadata["area"].as_str()), ("A/B", AREA));
    }

    #[test]
    fn another_service_is_not_believed() {
        let status = not_built(&request("svc-signer"), "A/B");
        assert_eq!(Refusal::details(&status).unwrap().reason, "CALLER_NOT_TRUSTED");
    }
}
