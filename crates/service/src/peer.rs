//! Who is on the other end of a connection: the SPIFFE identity of the certificate it proved.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// A SPIFFE identity: `spiffe://<trust domain>/<service name or path>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    name: String,
}

/// Why a text is not a SPIFFE identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a SPIFFE identity: expected spiffe://<trust domain>/<service name>, at most 255 characters of [a-z0-9._-/]"
)]
pub struct SpiffeIdError;

/// Why a certificate carries no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdentityError {
    /// The certificate is not DER, or its extensions contradict each other.
    #[error("the certificate cannot be parsed")]
    Unparsable,
    /// There is no URI subject alternative name.
    #[error("the certificate carries no SPIFFE URI")]
    Missing,
    /// SPIFFE asks for exactly one URI; with two it would be open which of them was authorised.
    #[error("the certificate carries more than one URI")]
    Ambiguous,
    /// The URI is not a SPIFFE identity.
    #[error(transparent)]
    Malformed(#[from] SpiffeIdError),
}

/// The authenticated peer of a request, inserted as a request extension by the server.
///
/// Only the server of this crate makes one, after the certificate was verified against the trust anchors and the CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The identity in the peer's certificate.
    pub spiffe: SpiffeId,
    /// Whether the peer lives in the trust domain of the server's own certificate. Names mean nothing across domains.
    same_trust_domain: bool,
}

// === impl SpiffeId ===

impl SpiffeId {
    /// The trust domain, for example `dalp.dev`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The path without its leading slash, for example `svc-signer`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeIdError)?;
        let (trust_domain, name) = rest.split_once('/').ok_or(SpiffeIdError)?;
        let plain = |text: &str, extra: &[char]| {
            !text.is_empty()
                && text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || extra.contains(&char))
        };
        let segments_are_names =
            name.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..");
        if text.len() > 255
            || !plain(trust_domain, &['.', '-', '_'])
            || !plain(name, &['.', '-', '_', '/'])
            || !segments_are_names
        {
            return Err(SpiffeIdError);
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spiffe://{}/{}", self.trust_domain, self.name)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl PeerIdentity ===

impl PeerIdentity {
    /// An identity that was verified by other means than this crate's server: in-process services and tests.
    #[must_use]
    pub fn trusted(spiffe: SpiffeId) -> Self {
        Self { spiffe, same_trust_domain: true }
    }

    /// The identity of a verified peer certificate, seen from a server in `own_trust_domain`.
    pub(crate) fn from_certificate(der: &[u8], own_trust_domain: &str) -> Result<Self, PeerIdentityError> {
        let spiffe = spiffe_of_certificate(der)?;
        let same_trust_domain = spiffe.trust_domain() == own_trust_domain;
        Ok(Self { spiffe, same_trust_domain })
    }

    #[cfg(test)]
    pub(crate) fn for_test_foreign(spiffe: &str) -> Self {
        Self { spiffe: spiffe.parse().expect("tests give valid identities"), same_trust_domain: false }
    }

    /// True when the peer is the named service of our own trust domain.
    #[must_use]
    pub fn is_service(&self, name: &str) -> bool {
        self.same_trust_domain && self.spiffe.name() == name
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spiffe.fmt(formatter)
    }
}

/// Reads the one SPIFFE URI of a certificate. Does not verify the certificate.
pub fn spiffe_of_certificate(der: &[u8]) -> Result<SpiffeId, PeerIdentityError> {
    let (_, certificate) =
        x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| PeerIdentityError::Unparsable)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerIdentityError::Unparsable)?
        .ok_or(PeerIdentityError::Missing)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or(PeerIdentityError::Missing)?;
    if uris.next().is_some() {
        return Err(PeerIdentityError::Ambiguous);
    }
    Ok(uri.parse::<SpiffeId>()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_spiffe_identity_round_trips() {
        let id: SpiffeId = "spiffe://dalp.dev/svc-signer".parse().unwrap();
        assert_eq!((id.trust_domain(), id.name()), ("dalp.dev", "svc-signer"));
        assert_eq!(id.to_string(), "spiffe://dalp.dev/svc-signer");
    }

    #[test]
    fn what_is_not_a_spiffe_identity_is_refused() {
        for text in [
            "",
            "svc-signer",
            "https://dalp.dev/x",
            "spiffe://dalp.dev",
            "spiffe:///x",
            "spiffe://dalp.dev/",
            "spiffe://dalp.dev//x",
            "spiffe://dalp.dev/../x",
            "spiffe://DALP.dev/x",
            "spiffe://dalp.dev/x?y",
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(SpiffeIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_identity_is_read_whole_or_not_at_all(text in "\\PC{0,80}", name in "[a-z0-9._/-]{1,40}") {
            for text in [text, format!("spiffe://dalp.dev/{name}")] {
                if let Ok(id) = text.parse::<SpiffeId>() {
                    prop_assert_eq!(id.to_string(), text);
                }
            }
        }

        #[test]
        fn no_bytes_are_a_certificate_with_an_identity(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(spiffe_of_certificate(&bytes).is_err());
        }

        #[test]
        fn a_certificate_with_bytes_changed_brings_nothing_down(at in 0_usize..2_000, byte in any::<u8>()) {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.subject_alt_names = vec![rcgen::SanType::URI("spiffe://dalp.dev/svc-signer".try_into().expect("a URI"))];
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut der = parameters.self_signed(&key).expect("a certificate").der().to_vec();
            let read = spiffe_of_certificate(&der).expect("sound");
            prop_assert_eq!(read.name(), "svc-signer");
            let at = at % der.len();
            der[at] = byte;
            let _ = spiffe_of_certificate(&der);
        }
    }
}
