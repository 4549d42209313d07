//! Calls to other services: a channel that proves who we are and checks who they are.
//!
//! Wrap it with [`Propagate`] so that deadline and trace follow the request:
//! `SignerClient::with_interceptor(client::connect(&peer, &tls), client::Propagate)`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    config::PeerConfig,
    deadline::{Deadline, GRPC_TIMEOUT},
    errors::{Reason, Refusal},
    metric_definitions as names,
    peer::SpiffeId,
    telemetry,
    tls::{ClientTls, Validity},
    windows::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel that carries deadline and trace of the request being served.
pub type PropagatingChannel = InterceptedService<Channel, Propagate>;

/// A channel to a service. Connects on first use and again whenever the connection was lost; every new connection takes
/// the certificate material in force then.
#[must_use]
pub fn connect(peer: &PeerConfig, tls: &ClientTls) -> Channel {
    // The scheme is http because TLS is ours, within the connector; tonic must not add its own.
    let uri = Uri::builder()
        .scheme("http")
        .authority(peer.address.clone())
        .path_and_query("/")
        .build()
        .expect("a scheme, a parsed authority and a path make a URI");
    let (peer, tls) = (peer.clone(), tls.clone());
    Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (peer, tls) = (peer.clone(), tls.clone());
            async move {
                let opened = open(&peer, &tls).await;
                if let Err(error) = &opened {
                    tracing::debug!(peer = %peer.spiffe_id, address = %peer.address, %error, "cannot connect");
                }
                opened.map(TokioIo::new)
            }
        }))
}

/// As [`connect`], with [`Propagate`] around it.
#[must_use]
pub fn connect_propagating(peer: &PeerConfig, tls: &ClientTls) -> PropagatingChannel {
    InterceptedService::new(connect(peer, tls), Propagate)
}

/// From when to when the certificate holds that a service shows now. Connects, looks, and leaves.
///
/// # Errors
/// When no connection to a service of this identity comes about in time.
pub async fn validity_of(peer: &PeerConfig, tls: &ClientTls) -> io::Result<Validity> {
    let opened = tokio::time::timeout(CONNECT_TIMEOUT, open(peer, tls)).await;
    let opened = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let leaf = opened.stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    leaf.and_then(Validity::of).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn open(peer: &PeerConfig, tls: &ClientTls) -> io::Result<WatchedStream> {
    let config = tls.config_for(&peer.spiffe_id).map_err(io::Error::other)?;
    let stream = TcpStream::connect(peer.address.as_str()).await?;
    stream.set_nodelay(true)?;
    // Only names the server may choose a certificate by; what counts is the identity the verifier checks.
    let host = peer.address.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(WatchedStream::new(stream, peer.spiffe_id.clone(), tls.clone()))
}

/// A connection that breaks when its server's certificate no longer holds, so that the next request opens another one, to a server
/// that does.
struct WatchedStream {
    stream: TlsStream<TcpStream>,
    dismissed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ends the watch with the connection.
    _ends_watch: DropGuard,
}

// === impl WatchedStream ===

impl WatchedStream {
    fn new(stream: TlsStream<TcpStream>, expected: SpiffeId, tls: ClientTls) -> Self {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let (dismissed, ended) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(watch(chain, expected, tls, dismissed.clone(), ended.clone()));
        Self { stream, dismissed: Box::pin(dismissed.cancelled_owned()), _ends_watch: ended.drop_guard() }
    }

    fn poll_dismissed(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.dismissed.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server's certificate no longer holds"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_dismissed(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_dismissed(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_dismissed(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Verifies the server again whenever the material changes, and at an interval, because certificates and lists also end by themselves.
async fn watch(
    chain: Vec<CertificateDer<'static>>,
    expected: SpiffeId,
    tls: ClientTls,
    dismissed: CancellationToken,
    ended: CancellationToken,
) {
    let mut generations = tls.published();
    let mut looks = tokio::time::interval(tls.looks_every());
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // `tls` holds the sending end.
            _ = generations.changed() => {}
            _ = looks.tick() => {}
            () = ended.cancelled() => return,
        }
        if let Err(error) = tls.still_holds(&expected, &chain) {
            metrics::counter!(names::TLS_PEERS_DISMISSED_TOTAL, "side" => "client").increment(1);
            tracing::warn!(peer = %expected, %error, "connection closed: the server's certificate no longer holds");
            dismissed.cancel();
            return;
        }
    }
}

/// Carries the deadline and the W3C trace context of the request being served to the call it makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(deadline) = Deadline::current()
            && !request.metadata().contains_key(GRPC_TIMEOUT)
        {
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(
                    Refusal::new(Reason::Deadline, "the deadline passed before the next service was called").into()
                );
            }
            let milliseconds = remaining.as_millis().clamp(1, 99_999_999);
            if let Ok(value) = MetadataValue::try_from(format!("{milliseconds}m")) {
                request.metadata_mut().insert(GRPC_TIMEOUT, value);
            }
        }
        telemetry::inject(request.metadata_mut());
        Ok(request)
    }
}
