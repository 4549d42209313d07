//! From when to when certificates hold.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// From when to when a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its `notBefore`.
    pub begins_s: i64,
    /// Its `notAfter`.
    pub ends_s: i64,
}

// === impl Validity ===

impl Validity {
    /// As the certificate says. `None`: it is none.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
        let validity = parsed.validity();
        Some(Self { begins_s: validity.not_before.timestamp(), ends_s: validity.not_after.timestamp() })
    }
}
