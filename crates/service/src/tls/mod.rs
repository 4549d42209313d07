//! Certificates: loaded, checked against their own roots, published, and read again when they change.
//!
//! A new certificate is published only after it proved itself against the trust anchors it came with; bad material keeps
//! the old one in force and is logged. Connections opened later use the new material; the peers of present ones are verified
//! again, by what is in force then, and lose their connection when they no longer hold: a revoked peer does not keep the one it
//! has. A revocation list that is out of date vouches for nobody.

mod material;
mod validity;
mod verify;

use std::{sync::Arc, time::Duration};

use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

pub use material::{Material, TlsError};
pub use validity::Validity;

use crate::{config::TlsConfig, metric_definitions as names, peer::SpiffeId, stop::Stop};

/// HTTP/2 in the handshake.
const HTTP_2: &[u8] = b"h2";
/// HTTP/1.1 in the handshake.
pub(crate) const HTTP_1: &[u8] = b"http/1.1";

/// Whether a client must prove an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// A connection without a valid client certificate does not come about.
    #[default]
    Required,
    /// A client may connect without a certificate (API keys at the gateway); one that it shows must be valid.
    Optional,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 alone, as gRPC needs it.
    #[default]
    Http2,
    /// HTTP/2, and HTTP/1.1 for clients that know nothing else (HTTP/JSON, gRPC-Web).
    Http2AndHttp1,
}

/// The server side: hands out the present rustls configuration.
#[derive(Debug)]
pub struct ServerTls {
    config: TlsConfig,
    client_auth: ClientAuth,
    protocols: Protocols,
    published: watch::Sender<Arc<Published>>,
}

/// What a listener needs from one generation of material.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) spiffe: SpiffeId,
    /// Verifies clients again after their handshake.
    clients: Arc<dyn ClientCertVerifier>,
    ends: Ends,
    fingerprint: u64,
}

/// When what is in force ends.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// Our own certificate.
    certificate_s: Option<i64>,
    /// The first revocation list; `None` without lists.
    lists: Option<UnixTime>,
}

/// The client side: hands out the present material to connectors.
#[derive(Clone, Debug)]
pub struct ClientTls {
    inner: Arc<ClientInner>,
}

#[derive(Debug)]
struct ClientInner {
    config: TlsConfig,
    published: watch::Sender<Arc<Material>>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Loads the material. Fails when it does not hold together: at start there is nothing older to keep.
    pub fn load(config: &TlsConfig, client_auth: ClientAuth, protocols: Protocols) -> Result<Arc<Self>, TlsError> {
        let published = publishable(&Material::load(config)?, client_auth, protocols)?;
        let published = watch::Sender::new(Arc::new(published));
        Ok(Arc::new(Self { config: config.clone(), client_auth, protocols, published }))
    }

    /// Reads the files again. `Ok(true)` when something new was published; on an error the old material stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let material = Material::load(&self.config)?;
        if material.fingerprint() == self.published.borrow().fingerprint {
            return Ok(false);
        }
        let published = publishable(&material, self.client_auth, self.protocols)?;
        tracing::info!(spiffe = %published.spiffe, "server certificate material reloaded");
        self.published.send_replace(Arc::new(published));
        Ok(true)
    }

    /// Our own identity.
    #[must_use]
    pub fn spiffe(&self) -> SpiffeId {
        self.published.borrow().spiffe.clone()
    }

    /// Reloads when the files change, until stopped.
    pub fn watch(self: &Arc<Self>, stop: &Stop) -> tokio::task::JoinHandle<()> {
        let tls = Arc::clone(self);
        tokio::spawn(poll(stop.clone(), self.looks_every(), "server", move || (tls.reload(), tls.ends())))
    }

    /// Whether the revocation lists may be believed now; `None` without lists.
    #[must_use]
    pub fn lists_in_force(&self) -> Option<bool> {
        self.ends().lists.map(|end| material::in_force(Some(end), UnixTime::now()))
    }

    /// How often the files are looked at, and present peers verified again.
    pub(crate) fn looks_every(&self) -> Duration {
        Duration::from_millis(self.config.reload_ms)
    }

    /// Each generation of material, beginning with the present one.
    pub(crate) fn generations(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    fn ends(&self) -> Ends {
        self.published.borrow().ends
    }
}

// === impl Ends ===

impl Ends {
    fn of(material: &Material) -> Self {
        Self { certificate_s: material.validity().map(|validity| validity.ends_s), lists: material.lists_end() }
    }
}

// === impl Published ===

impl Published {
    /// Whether a client that was let in by this chain would be let in now.
    pub(crate) fn still_holds(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        match chain.split_first() {
            Some((leaf, intermediates)) => {
                self.clients.verify_client_cert(leaf, intermediates, UnixTime::now()).map(drop)
            }
            None => Ok(()),
        }
    }
}

// === impl ClientTls ===

impl ClientTls {
    /// Loads the material this process shows to the services it calls.
    pub fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let material = Material::load(config)?;
        Ok(Self {
            inner: Arc::new(ClientInner { config: config.clone(), published: watch::Sender::new(Arc::new(material)) }),
        })
    }

    /// Reads the files again. `Ok(true)` when something new was published; on an error the old material stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let material = Material::load(&self.inner.config)?;
        if material.fingerprint() == self.inner.published.borrow().fingerprint() {
            return Ok(false);
        }
        tracing::info!(spiffe = %material.spiffe(), "client certificate material reloaded");
        self.inner.published.send_replace(Arc::new(material));
        Ok(true)
    }

    /// Our own identity.
    #[must_use]
    pub fn spiffe(&self) -> SpiffeId {
        self.inner.published.borrow().spiffe().clone()
    }

    /// Reloads when the files change, until stopped.
    pub fn watch(&self, stop: &Stop) -> tokio::task::JoinHandle<()> {
        let tls = self.clone();
        let ends = move |tls: &Self| Ends::of(&tls.inner.published.borrow());
        tokio::spawn(poll(stop.clone(), self.looks_every(), "client", move || (tls.reload(), ends(&tls))))
    }

    /// How often the files are looked at, and present peers verified again.
    pub(crate) fn looks_every(&self) -> Duration {
        Duration::from_millis(self.inner.config.reload_ms)
    }

    /// Whether the server that showed this chain would still be taken for `expected`.
    pub(crate) fn still_holds(
        &self,
        expected: &SpiffeId,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), rustls::Error> {
        let material = Arc::clone(&self.inner.published.borrow());
        match chain.split_first() {
            Some((leaf, intermediates)) => verify::SpiffeServerVerifier::new(&material, expected.clone()).verify(
                leaf,
                intermediates,
                UnixTime::now(),
            ),
            None => Ok(()),
        }
    }

    /// Changes with every new generation of material.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Arc<Material>> {
        self.inner.published.subscribe()
    }

    /// The rustls configuration for a connection to the service with this identity.
    pub(crate) fn config_for(&self, expected: &SpiffeId) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let material = Arc::clone(&self.inner.published.borrow());
        let verifier = verify::SpiffeServerVerifier::new(&material, expected.clone());
        let mut config = rustls::ClientConfig::builder_with_provider(material::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rejected)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(material.chain().to_vec(), material.key())
            .map_err(TlsError::Rejected)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Arc::new(config))
    }
}

fn publishable(material: &Material, client_auth: ClientAuth, protocols: Protocols) -> Result<Published, TlsError> {
    let mut verifier = WebPkiClientVerifier::builder_with_provider(material.roots(), material::provider())
        .with_crls(material.crls().iter().cloned())
        .enforce_revocation_expiration();
    if client_auth == ClientAuth::Optional {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(TlsError::Verifier)?;
    let mut config = rustls::ServerConfig::builder_with_provider(material::provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Rejected)?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(material.chain().to_vec(), material.key())
        .map_err(TlsError::Rejected)?;
    config.alpn_protocols = match protocols {
        Protocols::Http2 => vec![HTTP_2.to_vec()],
        Protocols::Http2AndHttp1 => vec![HTTP_2.to_vec(), HTTP_1.to_vec()],
    };
    // A resumed session would not be checked against a certificate list published since: each connection proves itself.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Published {
        server: Arc::new(config),
        spiffe: material.spiffe().clone(),
        clients: verifier,
        ends: Ends::of(material),
        fingerprint: material.fingerprint(),
    })
}

/// What a look at the files found: whether something new was published, and when what is in force ends.
type Looked = (Result<bool, TlsError>, Ends);

/// Reads the files at an interval. Content is compared, not time stamps: Kubernetes swaps links, and clocks lie.
async fn poll(stop: Stop, interval: Duration, side: &'static str, look: impl Fn() -> Looked) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut failing, mut late) = (false, false);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.requested() => return,
        }
        let (reloaded, Ends { certificate_s, lists: lists_end }) = look();
        match reloaded {
            Ok(changed) => {
                if changed {
                    metrics::counter!(names::TLS_RELOADS_TOTAL, "side" => side, "outcome" => "published").increment(1);
                }
                failing = false;
            }
            Err(error) => {
                metrics::counter!(names::TLS_RELOADS_TOTAL, "side" => side, "outcome" => "refused").increment(1);
                if !failing {
                    tracing::error!(
                        side,
                        error = &error as &dyn std::error::Error,
                        "new certificate material refused, the old one stays"
                    );
                }
                failing = true;
            }
        }
        if let Some(end_s) = certificate_s {
            #[allow(clippy::cast_precision_loss)] // seconds since 1970 are far below 2^52
            metrics::gauge!(names::TLS_CERTIFICATE_ENDS_SECONDS, "side" => side).set(end_s as f64);
        }
        if let Some(end) = lists_end {
            #[allow(clippy::cast_precision_loss)] // seconds since 1970 are far below 2^52
            metrics::gauge!(names::TLS_LIST_ENDS_SECONDS, "side" => side).set(end.as_secs() as f64);
        }
        let out_of_date = !material::in_force(lists_end, UnixTime::now());
        if out_of_date && !late {
            tracing::error!(
                side,
                "the revocation list is out of date: every peer is refused until its successor is here"
            );
        }
        late = out_of_date;
    }
}
