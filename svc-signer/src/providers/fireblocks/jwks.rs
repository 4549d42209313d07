//! The keys that sign the platform's events: pinned, or fetched from where the platform publishes them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::providers::{ProviderError, hook::HookError};

/// Keys are not fetched again sooner, whatever keys are asked for: anybody may name one that there is not.
const BETWEEN_FETCHES: Duration = Duration::from_secs(30);
/// Keys that cannot be fetched again are believed for so long.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const FETCH_WITHIN: Duration = Duration::from_secs(5);
/// A longer document is not one of keys.
const DOCUMENT_MAX_BYTES: usize = 64 * 1024;
/// The one algorithm.
pub(super) const ALGORITHM: &str = "RS512";

/// A key that verifies.
#[derive(Clone)]
pub struct Key(RsaPublicKeyComponents<Vec<u8>>);

/// Keys by their ids.
#[derive(Debug, Clone, Default)]
pub struct KeySet(BTreeMap<String, Arc<Key>>);

/// Where keys come from.
pub enum Keys {
    /// A document that an operator keeps.
    Pinned(KeySet),
    /// The platform's address.
    Fetched(Box<Fetched>),
}

/// Keys of an address, fetched when they are old or lack one, and not too often.
pub struct Fetched {
    url: Url,
    client: reqwest::Client,
    refresh: Duration,
    known: RwLock<(KeySet, Option<Instant>)>,
    /// When it was tried last; held while it is being tried.
    tried: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

// === impl Key ===

impl Key {
    /// Whether it has signed the message with RS512.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(&RSA_PKCS1_2048_8192_SHA512, message, signature).is_ok()
    }
}

// === impl KeySet ===

impl KeySet {
    /// Reads a JSON Web Key Set. What is no RSA key for signatures with RS512 is left out.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let number = |text: Option<String>| {
            let bytes = URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec()).filter(|bytes| !bytes.is_empty())
        };
        let key = |jwk: Jwk| {
            let fits = jwk.kty == "RSA"
                && jwk.purpose.is_none_or(|purpose| purpose == "sig")
                && jwk.alg.is_none_or(|alg| alg == ALGORITHM);
            let (id, n, e) = (jwk.kid?, number(jwk.n)?, number(jwk.e)?);
            fits.then(|| (id, Arc::new(Key(RsaPublicKeyComponents { n, e }))))
        };
        let keys: BTreeMap<_, _> = document.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err("holds no RSA key for signatures with RS512".to_owned());
        }
        Ok(Self(keys))
    }

    fn get(&self, id: &str) -> Option<Arc<Key>> {
        self.0.get(id).map(Arc::clone)
    }
}

// === impl Keys ===

impl Keys {
    /// The key of an id. `None`: there is none.
    pub async fn get(&self, id: &str) -> Result<Option<Arc<Key>>, HookError> {
        match self {
            Self::Pinned(keys) => Ok(keys.get(id)),
            Self::Fetched(fetched) => fetched.get(id).await,
        }
    }
}

// === impl Fetched ===

impl Fetched {
    /// Fetches nothing yet.
    pub fn new(url: Url, refresh: Duration) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_WITHIN)
            // An answer that leads elsewhere is not the platform's.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { url, client, refresh, known: RwLock::default(), tried: Mutex::default() })
    }

    fn known(&self, id: &str, not_older_than: Duration) -> (Option<Arc<Key>>, bool) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let young = known.1.is_some_and(|at| at.elapsed() < not_older_than);
        (known.0.get(id).filter(|_| young), young)
    }

    async fn get(&self, id: &str) -> Result<Option<Arc<Key>>, HookError> {
        if let (Some(key), _) = self.known(id, self.refresh) {
            return Ok(Some(key));
        }
        let mut tried = self.tried.lock().await;
        // Whoever had the turn before may have found it.
        if let (Some(key), _) = self.known(id, self.refresh) {
            return Ok(Some(key));
        }
        if tried.is_none_or(|at| at.elapsed() >= BETWEEN_FETCHES) {
            *tried = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => {
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = (keys, Some(Instant::now()));
                }
                Err(why) => tracing::warn!(host = self.url.host_str(), why, "keys of events not fetched"),
            }
        }
        match self.known(id, KEPT) {
            (key, true) => Ok(key),
            (_, false) => Err(HookError::Unavailable(ProviderError::Unavailable(
                "the keys of its events are not known".to_owned(),
            ))),
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let sent = self.client.get(self.url.clone()).send().await;
        let mut response = sent.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("HTTP {}", response.status().as_u16()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            text.extend_from_slice(&chunk);
            if text.len() > DOCUMENT_MAX_BYTES {
                return Err(format!("the document has more than {DOCUMENT_MAX_BYTES} bytes"));
            }
        }
        KeySet::read(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_for_signatures_are_taken() {
        let set = |keys: &str| KeySet::read(format!("{{\"keys\":[{keys}]}}").as_bytes());
        let good = r#"{"kty":"RSA","kid":"a","use":"sig","alg":"RS512","n":"AQAB","e":"AQAB"}"#;
        let keys = set(&format!("{good},{}", r#"{"kty":"EC","kid":"b","crv":"P-256","x":"","y":""}"#)).unwrap();
        assert!(keys.get("a").is_some() && keys.get("b").is_none());
        for bad in [
            good.replace("RS512", "RS256"),
            good.replace("\"sig\"", "\"enc\""),
            good.replace("\"kid\":\"a\",", ""),
            good.replace("\"n\":\"AQAB\"", "\"n\":\"\""),
        ] {
            assert!(set(&bad).is_err(), "{bad}");
        }
        assert!(KeySet::read(b"{}").is_err());
    }

    #[test]
    fn a_number_that_is_no_modulus_signs_nothing() {
        let keys = KeySet::read(br#"{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}"#).unwrap();
        assert!(!keys.get("a").unwrap().has_signed(b"", &[0; 3]));
    }
}
