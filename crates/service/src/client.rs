//! Calls to other services: a channel that proves who we are and checks who they are.
//!
//! Wrap it with [`Propagate`] so that deadline and trace follow the request:
//! `SignerClient::with_interceptor(client::connect(&peer, &tls), client::Propagate)`.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
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
    telemetry,
    tls::ClientTls,
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
        .http2_adaptive_window(true)
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

async fn open(peer: &PeerConfig, tls: &ClientTls) -> io::Result<TlsStream<TcpStream>> {
    let config = tls.config_for(&peer.spiffe_id).map_err(io::Error::other)?;
    let stream = TcpStream::connect(peer.address.as_str()).await?;
    stream.set_nodelay(true)?;
    // Only names the server may choose a certificate by; what counts is the identity the verifier checks.
    let host = peer.address.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
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
