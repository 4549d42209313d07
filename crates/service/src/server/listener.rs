//! Accepts connections and drains them on stop.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{MissedTickBehavior, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::{
    BoundServer, Front, GrpcService, HealthHandle,
    front::Entrance,
    metrics_endpoint,
    pipeline::{Infrastructure, Pipeline},
};
use crate::{
    metric_definitions as names,
    peer::PeerIdentity,
    stop::Stop,
    telemetry,
    tls::{HTTP_1, ServerTls},
    windows::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
};

/// A client that opens a connection and says nothing must not hold a socket.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the process ran out of file descriptors, instead of spinning on `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Name of the revocation list among the dependencies in the health.
const REVOCATION_LIST: &str = "revocation-list";
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the head of an HTTP/1.1 request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of an HTTP/1.1 request; HTTP/2 has a limit of its own of the same order.
const MAX_HEAD_BYTES: usize = 32 * 1024;

pub(super) async fn run<S: GrpcService>(server: BoundServer, service: S, stop: &Stop) {
    // Certificate reload and metrics go on while requests drain, and end with this function.
    let background = Stop::new();
    let _ends_background = background.token().drop_guard();
    server.tls.watch(&background);
    if server.tls.lists_in_force().is_some() {
        server.health.set(REVOCATION_LIST, true).await;
        tokio::spawn(watch_lists(Arc::clone(&server.tls), server.health.clone(), background.clone()));
    }
    if let Some((listener, _)) = server.metrics
        && let Ok(handle) = telemetry::metrics_handle()
    {
        tokio::spawn(metrics_endpoint::serve(listener, handle, server.health.clone(), background.clone()));
    }
    let pipeline = Pipeline::new(
        server.name,
        service,
        Infrastructure { routes: server.infrastructure, reflects: server.reflects },
        Arc::clone(&server.policy),
        server.config.max_message_bytes,
        Duration::from_millis(server.config.call_timeout_ms),
        Duration::from_millis(server.config.body_read_ms),
    );
    let room = Arc::new(Semaphore::new(server.config.max_connections));
    let connections = TaskTracker::new();
    let abandon = Stop::new();
    loop {
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await;
            Ok::<_, std::io::Error>((server.listener.accept().await?, place))
        };
        let ((stream, remote), place) = tokio::select! {
            accepted = accept => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.requested() => break,
        };
        let connection = Connection {
            front: server.front.0.clone(),
            remote,
            tls: Arc::clone(&server.tls),
            stop: stop.clone(),
            max_concurrent_streams: server.config.max_concurrent_streams,
            idle_for: Duration::from_millis(server.config.idle_connection_ms),
            first_request: Duration::from_millis(server.config.first_request_ms),
        };
        let (pipeline, abandon) = (pipeline.clone(), abandon.clone());
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = connection.serve(stream, pipeline) => {}
                () = abandon.requested() => {}
            }
        });
    }
    drop(server.listener);
    server.health.stopping().await;
    connections.close();
    let drain = Duration::from_millis(server.config.drain_ms);
    if timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests still in flight at the end of the drain time are dropped"
        );
        abandon.request();
        connections.wait().await;
    }
    tracing::info!(service = server.name, "stopped");
}

/// Says in the health that the revocation list is out of date: from then on no peer is let in, and the reason must be findable.
async fn watch_lists(tls: Arc<ServerTls>, health: HealthHandle, stop: Stop) {
    let mut ticks = tokio::time::interval(tls.looks_every());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.requested() => return,
        }
        health.set(REVOCATION_LIST, tls.lists_in_force().unwrap_or(true)).await;
    }
}

/// Since when a connection has had no request.
struct Idle {
    since: Instant,
    opened: u64,
}

impl Idle {
    /// Looks again: `opened` counts the requests so far, `is_quiet` says that none is open now.
    fn is_over(&mut self, limit: Duration, is_quiet: bool, opened: u64) -> bool {
        if !is_quiet || opened != self.opened {
            *self = Self { since: Instant::now(), opened };
        }
        self.since.elapsed() >= limit
    }
}

struct Connection {
    front: Option<Arc<dyn Front>>,
    remote: SocketAddr,
    tls: Arc<ServerTls>,
    stop: Stop,
    max_concurrent_streams: u32,
    idle_for: Duration,
    /// Until then the first request must be here.
    first_request: Duration,
}

impl Connection {
    async fn serve<S: GrpcService>(self, stream: TcpStream, pipeline: Pipeline<S>) {
        let remote = self.remote;
        let refused = |why: String| {
            metrics::counter!(names::TLS_HANDSHAKE_FAILURES_TOTAL).increment(1);
            tracing::info!(%remote, why, "connection refused");
        };
        // Small answers must not wait for Nagle; a socket that cannot do it is dead anyway.
        let _ = stream.set_nodelay(true);
        let mut generations = self.tls.generations();
        let published = Arc::clone(&generations.borrow_and_update());
        let accept = TlsAcceptor::from(Arc::clone(&published.server)).accept(stream);
        let stream = tokio::select! {
            accepted = timeout(HANDSHAKE_TIMEOUT, accept) => match accepted {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return refused(error.to_string()),
                Err(_) => return refused("the handshake took too long".to_owned()),
            },
            () = self.stop.requested() => return,
        };
        let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let peer = match chain
            .first()
            .map(|der| PeerIdentity::from_certificate(der, published.spiffe.trust_domain()))
            .transpose()
        {
            Ok(peer) => peer,
            Err(error) => return refused(error.to_string()),
        };
        let shown = peer.as_ref().map(ToString::to_string).unwrap_or_default();
        let (open, opened) = (TaskTracker::new(), Arc::new(AtomicU64::new(0)));
        let service = {
            let (open, opened) = (open.clone(), Arc::clone(&opened));
            let entrance = Entrance { pipeline, front: self.front, peer, remote };
            service_fn(move |request: http::Request<Incoming>| {
                opened.fetch_add(1, Ordering::Relaxed);
                let (entrance, place) = (entrance.clone(), open.token());
                async move { Ok::<_, std::convert::Infallible>(entrance.handle(request, place).await) }
            })
        };
        // Decided by the handshake, never by looking at what is sent.
        let is_http1 = stream.get_ref().1.alpn_protocol() == Some(HTTP_1);
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = if is_http1 { builder.http1_only() } else { builder.http2_only() };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.max_concurrent_streams)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut leaving = false;
        let mut looks = tokio::time::interval(self.tls.looks_every());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut begun = std::pin::pin!(tokio::time::sleep(self.first_request));
        let mut idle = Idle { since: Instant::now(), opened: 0 };
        loop {
            tokio::select! {
                // The server's own hold on its certificates outlives every connection.
                _ = generations.changed() => {}
                _ = looks.tick() => {}
                () = begun.as_mut(), if !begun.is_elapsed() => {
                    if opened.load(Ordering::Relaxed) == 0 {
                        return; // it holds a socket and asks for nothing; nothing of anybody's is lost
                    }
                }
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%remote, %error, "connection ended");
                    }
                    return;
                }
                () = self.stop.requested(), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            if idle.is_over(self.idle_for, open.is_empty(), opened.load(Ordering::Relaxed)) {
                if leaving {
                    return; // told, and still there: a client that has not even begun to speak HTTP/2 never leaves
                }
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            let now_in_force = Arc::clone(&generations.borrow());
            if let Err(error) = now_in_force.still_holds(&chain) {
                metrics::counter!(names::TLS_PEERS_DISMISSED_TOTAL, "side" => "server").increment(1);
                tracing::warn!(%remote, peer = shown, %error, "connection closed: the peer's certificate no longer holds");
                return;
            }
        }
    }
}
