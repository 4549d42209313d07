//! Who we are to Fireblocks: each request carries a token over its path and body, signed with the RSA key of the API user.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{RSA_PKCS1_SHA256, RsaEncoding},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroize as _;

/// How long a token may be used, as the provider's own clients have it.
const VALID_S: i64 = 55;

/// The API user. Cheap to clone; its key is in memory once, and zeroed by its library.
#[derive(Clone)]
pub struct Credentials {
    api_key: Arc<SecretString>,
    key: Arc<KeyPair>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(***)")
    }
}

// === impl Credentials ===

impl Credentials {
    /// Takes the API key and the RSA key of its user, as PEM (PKCS#8, or PKCS#1 as older files have it).
    pub fn new(api_key: SecretString, pem: &SecretString) -> Result<Self, &'static str> {
        const NOT_A_KEY: &str = "is not an RSA private key in PEM format";
        let mut der = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(NOT_A_KEY),
        };
        der.zeroize();
        Ok(Self { api_key: Arc::new(api_key), key: Arc::new(key.map_err(|_| NOT_A_KEY)?) })
    }

    /// The API key, for its header.
    #[must_use]
    pub fn api_key(&self) -> &str {
        self.api_key.expose_secret()
    }

    /// The token of one request. An RSA signature: milliseconds with the 4096 bits that Fireblocks asks for, so not for an async task.
    pub fn token(&self, target: &str, body: &[u8], now_s: i64, nonce: Uuid) -> Result<String, &'static str> {
        let signed = signing_input(self.api_key(), target, body, now_s, nonce);
        let mut signature = vec![0; self.key.public_modulus_len()];
        let encoding: &'static dyn RsaEncoding = &RSA_PKCS1_SHA256;
        self.key
            .sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the token cannot be signed")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What the RSA key signs: header and claims. The path is the one on the wire, version and encoded query included.
fn signing_input(api_key: &str, target: &str, body: &[u8], now_s: i64, nonce: Uuid) -> String {
    let header = json!({"alg": "RS256", "typ": "JWT"});
    let claims = json!({
        "uri": target,
        "nonce": nonce.to_string(),
        "iat": now_s,
        "exp": now_s + VALID_S,
        "sub": api_key,
        "bodyHash": hex::encode(Sha256::digest(body)),
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer as _,
        rsa::KeySize,
        signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
    };
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_claims_are_those_of_the_documentation() {
        let input =
            signing_input("api-key", "/v1/vault/accounts_paged?namePrefix=a%3Ab", b"", 1_700_000_000, Uuid::nil());
        let parts: Vec<serde_json::Value> = input
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0], json!({"alg": "RS256", "typ": "JWT"}));
        assert_eq!(
            parts[1],
            json!({
                "uri": "/v1/vault/accounts_paged?namePrefix=a%3Ab",
                "nonce": "00000000-0000-0000-0000-000000000000",
                "iat": 1_700_000_000,
                "exp": 1_700_000_055,
                "sub": "api-key",
                "bodyHash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            })
        );
    }

    #[test]
    fn a_token_verifies_and_shows_no_secret() {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = key.as_der().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let credentials = Credentials::new("planted-api-key".to_owned().into(), &pem.into()).unwrap();
        let token = credentials.token("/v1/transactions", b"{}", 5, Uuid::nil()).unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
            .verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(***)");
        for bad in ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(Credentials::new("k".to_owned().into(), &bad.to_owned().into()).is_err(), "{bad}");
        }
    }
}
