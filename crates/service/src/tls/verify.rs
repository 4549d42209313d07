//! Verification of a server by its SPIFFE identity instead of its host name.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder,
};

use super::material::{Material, provider};
use crate::peer::{SpiffeId, spiffe_of_certificate};

/// Accepts a server whose chain leads to the trust anchors, is not revoked, and whose one URI is the expected identity.
///
/// Host names are not looked at: addresses of services change and are not secret, identities are what was authorised.
#[derive(Debug)]
pub(super) struct SpiffeServerVerifier {
    roots: Arc<RootCertStore>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    expected: SpiffeId,
    provider: Arc<CryptoProvider>,
}

impl SpiffeServerVerifier {
    pub(super) fn new(material: &Material, expected: SpiffeId) -> Self {
        Self { roots: material.roots(), crls: material.crls().to_vec(), expected, provider: provider() }
    }

    /// Chain and identity: all that a handshake checks beside the possession of the key.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.verify_chain(leaf, intermediates, now)?;
        match spiffe_of_certificate(leaf) {
            Ok(found) if found == self.expected => Ok(()),
            Ok(found) => Err(Error::General(format!("the server is {found}, expected {}", self.expected))),
            Err(error) => Err(Error::General(format!("the server is not {}: {error}", self.expected))),
        }
    }

    /// Chain, validity, usage and revocation; not the identity.
    pub(super) fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let parsed: Vec<CertRevocationList<'static>> = self
            .crls
            .iter()
            .map(|crl| OwnedCertRevocationList::from_der(crl).map(CertRevocationList::Owned))
            .collect::<Result<_, _>>()
            .map_err(|_| Error::General("a certificate revocation list does not parse".to_owned()))?;
        let lists: Vec<&CertRevocationList<'_>> = parsed.iter().collect();
        // Without lists revocation is not checked; with lists, a status they do not tell and a list out of date are refusals.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|builder| builder.with_expiration_policy(ExpirationPolicy::Enforce).build());
        certificate
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                revocation,
                None,
            )
            .map(|_| ())
            .map_err(as_tls)
    }
}

impl ServerCertVerifier for SpiffeServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn as_tls(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        webpki::Error::CertRevoked => CertificateError::Revoked.into(),
        webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList.into(),
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus.into(),
        other => Error::General(format!("the certificate is not valid: {other}")),
    }
}
