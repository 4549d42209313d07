//! The services behind the gateway: one channel each, their health, and the forwarding of a call.

use std::{sync::Arc, time::Duration};

use dalp_service::{
    client,
    config::PeerConfig,
    server::HealthHandle,
    stop::Stop,
    tls::{ClientTls, Validity},
};
use http::{Request, Response};
use tonic::{body::Body, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::{Service as _, ServiceExt as _};

use crate::{
    body::{ClosedBody, CutOff, WatchedBody, broken},
    config::UpstreamConfig,
    metric_definitions as names,
};

/// How long a health answer may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// A service behind the gateway.
#[derive(Clone, Debug)]
pub struct Upstream {
    name: Arc<str>,
    channel: Channel,
    peer: PeerConfig,
    tls: ClientTls,
}

/// Beside an answer of ours: there was no connection, so the service behind has not seen the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotSent;

// === impl Upstream ===

impl Upstream {
    /// Connects on first use, and again whenever the connection was lost.
    #[must_use]
    pub fn new(config: &UpstreamConfig, tls: &ClientTls) -> Self {
        let peer = config.peer();
        Self { name: config.name.as_str().into(), channel: client::connect(&peer, tls), peer, tls: tls.clone() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From when to when the certificate holds that it shows now, or why there is no connection to it.
    pub(crate) async fn certificate(&self) -> std::io::Result<Validity> {
        client::validity_of(&self.peer, &self.tls).await
    }

    /// For calls of the gateway's own.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Passes a call on: messages, streams and trailers untouched in both directions.
    /// `cut_off` says why, when the request's body was cut off.
    pub async fn forward(&self, request: Request<Body>, cut_off: Arc<CutOff>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        // What our own server noted about the connection is not for the client towards the upstream.
        parts.extensions.clear();
        let request = Request::from_parts(parts, Body::new(WatchedBody::new(body, Arc::clone(&cut_off))));
        let mut channel = self.channel.clone();
        let call = async { channel.ready().await?.call(request).await };
        let answered = tokio::select! {
            answered = call => answered,
            refusal = cut_off.happened() => return refusal.to_status().into_http(),
        };
        match answered {
            Ok(response) => response.map(|body| Body::new(ClosedBody::new(body, Arc::clone(&self.name), cut_off))),
            Err(error) => {
                metrics::counter!(names::GATEWAY_UPSTREAM_FAILURES_TOTAL, "upstream" => self.name.to_string())
                    .increment(1);
                let sent = !is_of_connecting(&error);
                let status = tonic::Status::from_error(error.into());
                let refusal = cut_off.refusal().unwrap_or_else(|| broken(&self.name, status));
                let mut response = refusal.to_status().into_http();
                if !sent {
                    response.extensions_mut().insert(NotSent);
                }
                response
            }
        }
    }

    /// Asks for its health at an interval until stopped.
    pub async fn watch_health(self, health: HealthHandle, interval: Duration, stop: Stop) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.requested() => return,
            }
            let up = self.is_serving().await;
            metrics::gauge!(names::GATEWAY_UPSTREAM_UP, "upstream" => self.name.to_string()).set(if up {
                1.0
            } else {
                0.0
            });
            // One service of several must not take the whole gateway out of its load balancer.
            health.set_alone(&self.name, up).await;
        }
    }

    /// Whether it says that it serves with all it depends on.
    pub(crate) async fn is_serving(&self) -> bool {
        let mut client = HealthClient::new(self.channel.clone());
        let asked =
            tokio::time::timeout(HEALTH_TIMEOUT, client.check(HealthCheckRequest { service: String::new() })).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving))
    }
}

/// Whether a call failed for want of a connection.
fn is_of_connecting(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<tonic::ConnectError>())
}
