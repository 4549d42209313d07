//! One generation of certificate material, checked as a whole.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime,
    pem::{self, PemObject},
};
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use super::{Validity, verify};
use crate::{
    config::TlsConfig,
    peer::{PeerIdentityError, SpiffeId, spiffe_of_certificate},
};

/// Certificate chain, key, trust anchors and revocation lists that were read together and fit together.
pub struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
    roots: Arc<RootCertStore>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of the revocation lists is out of date. From then on nobody can be vouched for.
    lists_end: Option<UnixTime>,
    spiffe: SpiffeId,
    fingerprint: u64,
}

/// Why certificate material is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no usable PEM {expected}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A revocation list says itself that it is out of date: a certificate revoked since would pass.
    #[error("the revocation list {path} is out of date: fetch its successor (a newer nextUpdate)")]
    ListOutOfDate {
        /// The file.
        path: PathBuf,
    },
    /// A trust anchor is not one.
    #[error("a trust anchor in {path} is not usable")]
    TrustAnchor {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The own certificate carries no identity.
    #[error("the certificate has no usable identity")]
    Identity(#[source] PeerIdentityError),
    /// The own certificate does not lead to the own trust anchors, is expired, or is revoked.
    #[error("the certificate does not stand up to its own trust anchors")]
    OwnRoots(#[source] rustls::Error),
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("certificate and key are refused")]
    Rejected(#[source] rustls::Error),
    /// The verifier for client certificates cannot be built: usually a revocation list that does not parse.
    #[error("trust anchors or revocation lists are refused")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Material {
    /// Reads and checks the files of a configuration.
    pub fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let mut hasher = DefaultHasher::new();
        let mut read = |path: &Path| {
            let bytes = std::fs::read(path)
                .map(Zeroizing::new) // one of the files is the private key
                .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
            bytes.hash(&mut hasher);
            Ok::<_, TlsError>(bytes)
        };
        let chain: Vec<CertificateDer<'static>> = all(&config.certificate, "certificate", &read(&config.certificate)?)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&config.key)?)
            .map(Zeroizing::new)
            .map_err(|_| TlsError::Unusable { path: config.key.clone(), expected: "private key" })?;
        let anchors: Vec<CertificateDer<'static>> =
            all(&config.trust_anchors, "certificate", &read(&config.trust_anchors)?)?;
        let crls: Vec<CertificateRevocationListDer<'static>> = match &config.crl {
            Some(path) => all(path, "revocation list", &read(path)?)?,
            None => Vec::new(),
        };
        let lists_end = match &config.crl {
            Some(path) => Some(earliest_end(path, &crls)?),
            None => None,
        };
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots.add(anchor).map_err(|source| TlsError::TrustAnchor { path: config.trust_anchors.clone(), source })?;
        }
        let leaf = chain
            .first()
            .ok_or_else(|| TlsError::Unusable { path: config.certificate.clone(), expected: "certificate" })?;
        let spiffe = spiffe_of_certificate(leaf).map_err(TlsError::Identity)?;
        let fingerprint = hasher.finish();
        let material = Self { spiffe, roots: Arc::new(roots), crls, lists_end, key, fingerprint, chain };
        material.prove()?;
        Ok(material)
    }

    /// The certificate must lead to its own anchors now, and belong to its key.
    fn prove(&self) -> Result<(), TlsError> {
        let verifier = verify::SpiffeServerVerifier::new(self, self.spiffe.clone());
        verifier.verify_chain(&self.chain[0], &self.chain[1..], UnixTime::now()).map_err(TlsError::OwnRoots)?;
        let key = provider().key_provider.load_private_key(self.key()).map_err(TlsError::Rejected)?;
        rustls::sign::CertifiedKey::new(self.chain.clone(), key).keys_match().map_err(TlsError::Rejected)
    }

    /// The identity of the leaf.
    #[must_use]
    pub fn spiffe(&self) -> &SpiffeId {
        &self.spiffe
    }

    /// From when to when the leaf holds.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.chain.first().and_then(Validity::of)
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    pub(super) fn crls(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.crls
    }

    /// When the first revocation list is out of date; `None` without lists.
    pub(super) fn lists_end(&self) -> Option<UnixTime> {
        self.lists_end
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Material").field("spiffe", &self.spiffe).finish_non_exhaustive()
    }
}

/// The first `nextUpdate` of the lists, which must lie ahead.
fn earliest_end(path: &Path, lists: &[CertificateRevocationListDer<'static>]) -> Result<UnixTime, TlsError> {
    let unusable = || TlsError::Unusable { path: path.to_owned(), expected: "revocation list with a nextUpdate" };
    let mut earliest: Option<u64> = None;
    for list in lists {
        let (_, parsed) =
            x509_parser::revocation_list::CertificateRevocationList::from_der(list.as_ref()).map_err(|_| unusable())?;
        let end = parsed.next_update().and_then(|end| u64::try_from(end.timestamp()).ok()).ok_or_else(unusable)?;
        earliest = Some(earliest.map_or(end, |other| other.min(end)));
    }
    let end = UnixTime::since_unix_epoch(Duration::from_secs(earliest.ok_or_else(unusable)?));
    match in_force(Some(end), UnixTime::now()) {
        true => Ok(end),
        false => Err(TlsError::ListOutOfDate { path: path.to_owned() }),
    }
}

/// Whether lists that end then may still be believed.
pub(super) fn in_force(lists_end: Option<UnixTime>, now: UnixTime) -> bool {
    lists_end.is_none_or(|end| now < end)
}

fn all<T: PemObject>(path: &Path, expected: &'static str, bytes: &[u8]) -> Result<Vec<T>, TlsError> {
    let unusable = || TlsError::Unusable { path: path.to_owned(), expected };
    let found = T::pem_slice_iter(bytes).collect::<Result<Vec<T>, pem::Error>>().map_err(|_| unusable())?;
    if found.is_empty() { Err(unusable()) } else { Ok(found) }
}
