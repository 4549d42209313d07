//! Who we are to DFNS: a service account's token on every request, and a signature of its credential over each one that changes something.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use zeroize::Zeroize as _;

/// The service account. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    token: Arc<SecretString>,
    credential_id: String,
    key: Arc<EcdsaKeyPair>,
}

/// An answer to a challenge: what was signed, and the signature, both as the wire has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// base64url of the client data.
    pub client_data: String,
    /// base64url of the signature.
    pub signature: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(***)")
    }
}

// === impl Credentials ===

impl Credentials {
    /// Takes the account's token, the id of its credential and the credential's P-256 key, PEM (PKCS#8 or SEC 1).
    pub fn new(token: SecretString, credential_id: &str, pem: &SecretString) -> Result<Self, &'static str> {
        const NOT_A_KEY: &str = "is not a P-256 private key in PEM format";
        let mut der = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der())
            }
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_sec1_der())
            }
            _ => return Err(NOT_A_KEY),
        };
        der.zeroize();
        let key = key.map_err(|_| NOT_A_KEY)?;
        Ok(Self { token: Arc::new(token), credential_id: credential_id.to_owned(), key: Arc::new(key) })
    }

    /// The token, for its header.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.expose_secret()
    }

    /// The credential's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.credential_id
    }

    /// A claim of the token. It is read, not verified: the provider does that.
    fn claims(&self) -> Option<Value> {
        let payload = self.token().split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
    }

    /// The organisation that the token is of, if it says so.
    #[must_use]
    pub fn organisation(&self) -> Option<String> {
        self.claims()?.get("https://custom/app_metadata")?.get("orgId")?.as_str().map(str::to_owned)
    }

    /// When the token ends, in seconds since 1970, if it says so. It is not renewed by itself.
    #[must_use]
    pub fn expires_s(&self) -> Option<i64> {
        self.claims()?.get("exp")?.as_i64()
    }

    /// Answers a challenge.
    pub fn assertion(&self, challenge: &str) -> Result<Assertion, &'static str> {
        let data = client_data(challenge);
        let signature =
            self.key.sign(&SystemRandom::new(), data.as_bytes()).map_err(|_| "the challenge cannot be signed")?;
        Ok(Assertion {
            client_data: URL_SAFE_NO_PAD.encode(data),
            signature: URL_SAFE_NO_PAD.encode(signature.as_ref()),
        })
    }
}

/// Exactly these two fields in this order, as the provider's own client sends them.
fn client_data(challenge: &str) -> String {
    format!(r#"{{"type":"key.get","challenge":{}}}"#, Value::String(challenge.to_owned()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, KeyPair as _, UnparsedPublicKey};
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn pem() -> (EcdsaKeyPair, String) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let der = key.to_pkcs8v1().unwrap();
        let text = STANDARD.encode(der.as_ref());
        (key, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
    }

    #[test]
    fn a_challenge_is_answered_with_der_over_two_fields() {
        let (key, pem) = pem();
        let credentials = Credentials::new("planted.token.here".to_owned().into(), "cr-1", &pem.into()).unwrap();
        let assertion = credentials.assertion("ch-1").unwrap();
        let data = URL_SAFE_NO_PAD.decode(&assertion.client_data).unwrap();
        assert_eq!(data, br#"{"type":"key.get","challenge":"ch-1"}"#);
        let signature = URL_SAFE_NO_PAD.decode(&assertion.signature).unwrap();
        assert_eq!(signature[0], 0x30, "ASN.1 DER");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref()).verify(&data, &signature).unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(***)");
    }

    #[test]
    fn the_token_says_whose_it_is_and_when_it_ends() {
        let claims = json!({"exp": 99, "https://custom/app_metadata": {"orgId": "or-1"}});
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let credentials = Credentials::new(token.into(), "cr-1", &pem().1.into()).unwrap();
        assert_eq!((credentials.organisation().as_deref(), credentials.expires_s()), (Some("or-1"), Some(99)));
        let opaque = Credentials::new("opaque".to_owned().into(), "cr-1", &pem().1.into()).unwrap();
        assert_eq!((opaque.organisation(), opaque.expires_s()), (None, None));
        assert!(Credentials::new("t".to_owned().into(), "c", &"no key".to_owned().into()).is_err());
    }
}
