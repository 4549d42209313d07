//! Tokens of identity providers: OpenID Connect JWTs, verified against the issuer's published keys.
//!
//! What decides comes from the configuration, never from the token: which issuers, which algorithms (asymmetric ones only: there is no
//! way to write `none` or an HMAC here), which audience, which claim names the principal. A token chooses only among the
//! issuer's keys, by their id. An id that is not known may be a new key, so the set is fetched again, but seldom: a stranger's
//! token must not make us call the issuer at will.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dalp_service::{
    Reason, Refusal, TenantId,
    config::{Problems, Validate},
    errors::RefusalResult,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jsonwebtoken::{DecodingKey, Validation, errors::ErrorKind, jwk::Jwk};
use serde::Deserialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

/// A longer token is not looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// A larger set of keys is not read.
const MAX_KEYS_BYTES: usize = 1024 * 1024;
const FETCH_WITHIN: Duration = Duration::from_secs(5);
/// Between two fetches because of a key that is not known, and after a fetch that failed, doubled up to [`MOST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(300);

/// `[[oidc]]`: an identity provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// The tenant whose administrators bind its subjects. Unset: only the configuration binds them.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Where its keys are: a JSON Web Key Set. https, or http on the loopback interface.
    pub jwks_url: String,
    /// A token must be for one of these (`aud`).
    pub audiences: Vec<String>,
    /// Algorithms that are taken.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the principal.
    #[serde(default = "default_claim")]
    pub claim: String,
    /// How far clocks may differ, in seconds.
    #[serde(default = "default_skew_s")]
    pub skew_s: u64,
    /// How often the keys are fetched again, in seconds.
    #[serde(default = "default_refresh_s")]
    pub refresh_s: u64,
    /// For how long keys hold that could not be fetched again, in seconds.
    #[serde(default = "default_keep_s")]
    pub keep_s: u64,
    /// Certificates of authorities that its server's certificate may lead to, instead of the usual public ones.
    #[serde(default)]
    pub trust_anchors: Option<PathBuf>,
}

/// A signature algorithm of tokens. All are asymmetric.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    EdDSA,
}

/// Who a token speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The issuer.
    pub issuer: String,
    /// The value of the claim that names the principal.
    pub subject: String,
    /// When the token ends, with the skew of clocks.
    pub ends_at: OffsetDateTime,
}

/// All configured identity providers.
#[derive(Debug, Default)]
pub struct Issuers {
    by_name: HashMap<String, Arc<Issuer>>,
}

/// An HTTP client could not be made for an identity provider.
#[derive(Debug, thiserror::Error)]
#[error("the identity provider {issuer} cannot be used: {why}")]
pub struct IssuerError {
    issuer: String,
    why: String,
}

struct Issuer {
    config: OidcConfig,
    client: reqwest::Client,
    keys: arc_swap::ArcSwapOption<Keys>,
    fetching: Mutex<Fetches>,
}

struct Keys {
    by_id: HashMap<String, (DecodingKey, Option<String>)>,
    fetched: Instant,
}

#[derive(Default)]
struct Fetches {
    /// Not before this.
    next: Option<Instant>,
    failures: u32,
    /// The one that is under way. It is nobody's own: who asked for it may leave, and it is carried through and counted all the same.
    under_way: Option<Shared<BoxFuture<'static, ()>>>,
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::ES256, Algorithm::RS256]
}

fn default_claim() -> String {
    "sub".to_owned()
}

fn default_skew_s() -> u64 {
    30
}

fn default_refresh_s() -> u64 {
    300
}

fn default_keep_s() -> u64 {
    86_400
}

// === impl OidcConfig ===

impl Validate for OidcConfig {
    fn validate(&self, problems: &mut Problems) {
        if self.issuer.is_empty() || self.issuer.len() > 500 || self.issuer.contains(char::is_whitespace) {
            problems.push("issuer", "is 1 to 500 characters without blanks");
        }
        match self.jwks_url.parse::<reqwest::Url>() {
            Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => {}
            _ => problems.push("jwks_url", "must be an https address; http only on the loopback interface"),
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            problems.push("audiences", "name at least one: a token for somebody else must not let anybody in here");
        }
        if self.algorithms.is_empty() {
            problems.push("algorithms", "name at least one");
        }
        if self.claim.is_empty() {
            problems.push("claim", "names the principal, usually sub");
        }
        if self.skew_s > 300 {
            problems.push("skew_s", "must be at most 300 (five minutes)");
        }
        if !(10..=86_400).contains(&self.refresh_s) {
            problems.push("refresh_s", "must lie between 10 and 86400 (a day)");
        }
        if !(self.refresh_s..=604_800).contains(&self.keep_s) {
            problems.push("keep_s", "must lie between refresh_s and 604800 (a week)");
        }
        if let Some(path) = &self.trust_anchors
            && let Err(error) = std::fs::File::open(path)
        {
            problems.push("trust_anchors", format!("cannot open {}: {error}", path.display()));
        }
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

// === impl Algorithm ===

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}

// === impl Issuers ===

impl Issuers {
    /// Reads a configuration that passed its validation. Nothing is fetched before the first token.
    ///
    /// # Errors
    /// When the trust anchors of a provider are not usable.
    pub fn new(configs: &[OidcConfig]) -> Result<Self, IssuerError> {
        let issuers = configs.iter().map(|config| Ok((config.issuer.clone(), Arc::new(Issuer::new(config.clone())?))));
        Ok(Self { by_name: issuers.collect::<Result<_, IssuerError>>()? })
    }

    /// Whom a token speaks of, if it holds now.
    ///
    /// # Errors
    /// TOKEN_EXPIRED, UPSTREAM_UNAVAILABLE when the issuer's keys are not known and cannot be had, else UNAUTHENTICATED_INVALID.
    pub async fn verify(&self, token: &str, now: OffsetDateTime) -> RefusalResult<Subject> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("it is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid("its header does not read"))?;
        let named = issuer_named_by(token).ok_or_else(|| invalid("it names no issuer"))?;
        let issuer = self.by_name.get(&named).ok_or_else(|| invalid("its issuer is not configured here"))?;
        let algorithm = issuer.config.algorithms.iter().find(|one| jsonwebtoken::Algorithm::from(**one) == header.alg);
        let algorithm = *algorithm.ok_or_else(|| invalid("its algorithm is not allowed"))?;
        let id = header.kid.ok_or_else(|| invalid("it does not name its key"))?;
        let keys = issuer.keys_with(&id).await?;
        let (key, only_for) = keys.by_id.get(&id).ok_or_else(|| invalid("its key is not one of its issuer's"))?;
        if only_for.as_ref().is_some_and(|name| *name != format!("{algorithm:?}")) {
            return Err(invalid("its key is for another algorithm"));
        }
        let claims: Map<String, Value> = jsonwebtoken::decode(token, key, &issuer.validation(algorithm))
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Refusal::new(Reason::TokenExpired, "the token has expired"),
                kind => invalid(said(kind)),
            })?
            .claims;
        // A token from the future is not one that a clock's drift explains.
        let issued = claims.get("iat").and_then(Value::as_i64).unwrap_or(0);
        if issued > now.unix_timestamp().saturating_add_unsigned(issuer.config.skew_s) {
            return Err(invalid("it was issued in the future"));
        }
        // It was verified to be there; one that lies beyond every calendar ends with the calendar.
        let end = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0) as i64;
        let end = end.saturating_add_unsigned(issuer.config.skew_s);
        let ends_at = OffsetDateTime::from_unix_timestamp(end).unwrap_or(time::PrimitiveDateTime::MAX.assume_utc());
        match claims.get(&issuer.config.claim) {
            Some(Value::String(subject)) if (1..=255).contains(&subject.chars().count()) => {
                Ok(Subject { issuer: named, subject: subject.clone(), ends_at })
            }
            _ => Err(invalid("the claim that names the principal is not a text of 1 to 255 characters")),
        }
    }
}

fn invalid(why: &'static str) -> Refusal {
    Refusal::new(Reason::UnauthenticatedInvalid, format!("the token is not taken: {why}"))
}

fn said(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature does not hold",
        ErrorKind::InvalidAudience => "it is for somebody else",
        ErrorKind::InvalidIssuer => "its issuer is not configured here",
        ErrorKind::ImmatureSignature => "it does not hold yet",
        ErrorKind::MissingRequiredClaim(_) => "it lacks iss, aud or exp",
        _ => "it does not read",
    }
}

/// The issuer that a token claims, before anything of it is believed: it only chooses whose keys to verify with.
fn issuer_named_by(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Claims>(&payload).ok()?.iss)
}

// === impl Issuer ===

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issuer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Issuer {
    fn new(config: OidcConfig) -> Result<Self, IssuerError> {
        let failed = |why: String| IssuerError { issuer: config.issuer.clone(), why };
        let mut builder = reqwest::Client::builder()
            .timeout(FETCH_WITHIN)
            // An answer that leads elsewhere is not the configured issuer's.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &config.trust_anchors {
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let anchors = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
            builder = builder.tls_certs_only(anchors);
        }
        let client = builder.build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { config, client, keys: arc_swap::ArcSwapOption::empty(), fetching: Default::default() })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm.into());
        validation.leeway = self.config.skew_s;
        validation.validate_exp = true;
        validation.validate_nbf = true;
        validation.set_audience(&self.config.audiences);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    /// The keys, fetched again when they are old, or lack this one.
    async fn keys_with(self: &Arc<Self>, id: &str) -> RefusalResult<Arc<Keys>> {
        let good = |keys: &Arc<Keys>| {
            keys.fetched.elapsed() < Duration::from_secs(self.config.refresh_s) && keys.by_id.contains_key(id)
        };
        if let Some(keys) = self.keys.load_full().filter(good) {
            return Ok(keys);
        }
        if let Some(fetched) = self.fetched() {
            fetched.await;
        }
        let usable = |keys: &Arc<Keys>| keys.fetched.elapsed() < Duration::from_secs(self.config.keep_s);
        self.keys.load_full().filter(usable).ok_or_else(|| {
            Refusal::new(Reason::UpstreamUnavailable, "the keys of the token's issuer cannot be fetched")
                .meta("upstream", &self.config.issuer)
        })
    }

    /// A fetch that is under way, or begins now; none before its time.
    fn fetched(self: &Arc<Self>) -> Option<Shared<BoxFuture<'static, ()>>> {
        let mut fetches = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = fetches.under_way.clone().filter(|under_way| under_way.peek().is_none()) {
            return Some(under_way);
        }
        if fetches.next.is_some_and(|next| next > Instant::now()) {
            return None;
        }
        let issuer = Arc::clone(self);
        let task = tokio::spawn(async move { issuer.carry_out_fetch().await });
        let under_way = task.map(drop).boxed().shared();
        fetches.under_way = Some(under_way.clone());
        Some(under_way)
    }

    async fn carry_out_fetch(&self) {
        let fetched = self.fetch().await;
        let mut fetches = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.under_way = None;
        match fetched {
            Ok(by_id) => {
                self.keys.store(Some(Arc::new(Keys { by_id, fetched: Instant::now() })));
                fetches.next = Some(Instant::now() + PAUSE);
                fetches.failures = 0;
            }
            Err(why) => {
                let pause = PAUSE.saturating_mul(1 << fetches.failures.min(10)).min(MOST_PAUSE);
                fetches.next = Some(Instant::now() + pause);
                fetches.failures += 1;
                tracing::warn!(issuer = self.config.issuer, why, "the issuer's keys cannot be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, (DecodingKey, Option<String>)>, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let asked = self.client.get(&self.config.jwks_url).send().await.map_err(|error| error.to_string())?;
        let mut answer = asked.error_for_status().map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&part);
            if body.len() > MAX_KEYS_BYTES {
                return Err("the set of keys is too large".to_owned());
            }
        }
        let set: Set = serde_json::from_slice(&body).map_err(|error| format!("not a set of keys: {error}"))?;
        // What is of a kind that is not known here, or for encryption, is no reason to refuse the others.
        Ok(set.keys.into_iter().filter_map(read_key).collect())
    }
}

fn read_key(value: Value) -> Option<(String, (DecodingKey, Option<String>))> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    // A shared secret published as a key would let everybody sign.
    if text("kty")? == "oct" || text("use").is_some_and(|used| used != "sig") {
        return None;
    }
    let (id, algorithm) = (text("kid")?, text("alg"));
    let key: Jwk = serde_json::from_value(value).ok()?;
    Some((id, (DecodingKey::from_jwk(&key).ok()?, algorithm)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn no_text_brings_the_choice_of_the_issuer_down(text in "\\PC{0,60}", issuer in "\\PC{0,40}") {
            let _ = issuer_named_by(&text);
            let claims = URL_SAFE_NO_PAD.encode(json!({"iss": issuer}).to_string());
            let token = format!("{}.{claims}.x", text.replace('.', ""));
            prop_assert_eq!(issuer_named_by(&token), Some(issuer));
        }

        #[test]
        fn a_shared_secret_is_never_a_key(kid in "\\PC{0,20}", k in "[A-Za-z0-9_-]{0,60}", kind in "(oct|RSA|EC|OKP|x)") {
            let key = read_key(json!({"kty": kind, "kid": kid, "k": k, "n": k, "e": "AQAB", "crv": "P-256", "x": k, "y": k}));
            prop_assert!(kind != "oct" || key.is_none());
        }
    }
}
