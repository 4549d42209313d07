//! One signed call of a JSON service, with a deadline and a queue of its own.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use crate::{AwsError, Class, Credentials, http, public_endpoint};

const JSON: &str = "application/x-amz-json-1.1";
/// Longest part of a refusal's words that is kept.
const MESSAGE_MAX: usize = 300;

/// A service that takes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its name in host names and signatures.
    pub name: &'static str,
    /// What stands before an operation's name.
    pub target: &'static str,
}

/// Key Management Service.
pub const KMS: Service = Service { name: "kms", target: "TrentService" };
/// Secrets Manager.
pub const SECRETS_MANAGER: Service = Service { name: "secretsmanager", target: "secretsmanager" };

/// Where a service is and how it is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Region, for instance `eu-central-1`.
    pub region: String,
    /// Its address, where it is not AWS's public one.
    pub endpoint: Option<Url>,
    /// Longest call; waiting for a turn may take as long again.
    pub call_timeout: Duration,
    /// Calls under way at once.
    pub calls_at_once: usize,
}

/// A service as one identity calls it.
pub struct Client {
    http: reqwest::Client,
    service: Service,
    origin: Url,
    region: String,
    credentials: Arc<Credentials>,
    turns: Semaphore,
    call_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("service", &self.service.name)
            .field("origin", &self.origin.as_str())
            .finish_non_exhaustive()
    }
}

// === impl Client ===

impl Client {
    /// Prepares calls; nothing is connected yet.
    ///
    /// # Errors
    /// When the region is none, or TLS cannot be set up.
    pub fn new(service: Service, settings: Settings, credentials: Arc<Credentials>) -> Result<Self, AwsError> {
        let origin = match settings.endpoint {
            Some(endpoint) => endpoint,
            None => public_endpoint(service.name, &settings.region)?,
        };
        let http = http(settings.call_timeout)?
            .build()
            .map_err(|error| AwsError::Unconfigured(format!("no HTTPS client: {error}")))?;
        Ok(Self {
            http,
            service,
            origin,
            region: settings.region,
            credentials,
            turns: Semaphore::new(settings.calls_at_once.max(1)),
            call_timeout: settings.call_timeout,
        })
    }

    /// The longest that a call takes, its turn and fresh credentials included.
    #[must_use]
    pub fn longest_call(&self) -> Duration {
        self.call_timeout * 2 + self.credentials.longest_fetch()
    }

    /// Calls an operation, once.
    ///
    /// # Errors
    /// As [`AwsError::class`] tells.
    pub async fn call<A: Serialize, B: DeserializeOwned>(&self, operation: &str, ask: &A) -> Result<B, AwsError> {
        let body = serde_json::to_vec(ask).map_err(|error| AwsError::Unreadable(error.to_string()))?;
        let busy = || AwsError::Unreachable("all calls to it are under way");
        let turn = tokio::time::timeout(self.call_timeout, self.turns.acquire());
        let _turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let keys = self.credentials.get().await?;
        let answer = self.send(&keys, operation, body).await;
        if let Err(error) = &answer
            && error.class() == Class::Credentials
        {
            // They may have been replaced meanwhile: the next call asks for them again.
            self.credentials.forget(&keys).await;
        }
        let answer = answer?;
        // Some operations answer with nothing at all.
        let answer = if answer.is_empty() { b"{}".as_slice() } else { &answer };
        serde_json::from_slice(answer).map_err(|error| AwsError::Unreadable(what_is_wrong(&error)))
    }

    async fn send(&self, keys: &Keys, operation: &str, body: Vec<u8>) -> Result<Vec<u8>, AwsError> {
        let target = format!("{}.{operation}", self.service.target);
        let signed = signature(keys, self, &target, &body, SystemTime::now())?;
        let mut request = self
            .http
            .post(self.origin.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(JSON))
            .header(HeaderName::from_static("x-amz-target"), target);
        for (name, value) in signed {
            let unsent = || AwsError::Unconfigured(format!("the header {name} cannot be sent"));
            let mut value = HeaderValue::from_str(&value).map_err(|_| unsent())?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let response = request.body(body).send().await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let named = response.headers().get("x-amzn-errortype").and_then(|name| name.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.map_err(|error| unreachable(&error))?;
        if status == 200 {
            return Ok(body.to_vec());
        }
        Err(refusal(status, named.as_deref(), &body, keys))
    }
}

/// The headers that say who asks.
fn signature(
    keys: &Keys,
    client: &Client,
    target: &str,
    body: &[u8],
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, AwsError> {
    let unsigned = |error: &dyn fmt::Display| AwsError::Unconfigured(format!("the call cannot be signed: {error}"));
    let identity = keys.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&client.region)
        .name(client.service.name)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| unsigned(&error))?
        .into();
    let headers = [(CONTENT_TYPE.as_str(), JSON), ("x-amz-target", target)];
    let request = SignableRequest::new("POST", client.origin.as_str(), headers.into_iter(), SignableBody::Bytes(body))
        .map_err(|error| unsigned(&error))?;
    let (instructions, _) = sign(request, &parameters).map_err(|error| unsigned(&error))?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect())
}

/// What it refused. Only the first line of its words: of a signature that does not match it quotes all it was sent, our session's token with it.
fn refusal(status: u16, named: Option<&str>, body: &[u8], keys: &Keys) -> AwsError {
    let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: [&str; 3]| names.iter().find_map(|name| told[name].as_str()).map(str::to_owned);
    let kind = named.map(str::to_owned).or_else(|| text(["__type", "code", "Code"])).unwrap_or_default();
    // As in "com.amazonaws.kms#NotFoundException" and "NotFoundException:http://internal...".
    let kind = kind.split(':').next().and_then(|name| name.rsplit('#').next()).unwrap_or_default();
    let kind = if kind.is_empty() { format!("status {status}") } else { kind.to_owned() };
    let message = text(["message", "Message", "errorMessage"]).unwrap_or_default();
    let message = redacted(message.lines().next().unwrap_or_default(), keys);
    AwsError::Refused { status, kind, message: message.chars().take(MESSAGE_MAX).collect() }
}

fn redacted(words: &str, keys: &Keys) -> String {
    let secrets = [Some(keys.secret_access_key()), keys.session_token()];
    secrets.into_iter().flatten().fold(words.to_owned(), |words, secret| words.replace(secret, "***"))
}

/// Where an answer is wrong, without what stands there.
fn what_is_wrong(error: &serde_json::Error) -> String {
    format!("{:?} in line {} at {}", error.classify(), error.line(), error.column())
}

/// Without the address.
pub(crate) fn unreachable(error: &reqwest::Error) -> AwsError {
    AwsError::Unreachable(match error {
        error if error.is_timeout() => "it did not answer in time",
        error if error.is_connect() => "no connection",
        error if error.is_body() || error.is_decode() => "its answer broke off",
        _ => "the connection broke",
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn keys(token: Option<&str>) -> Keys {
        Keys::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token.map(str::to_owned), None, "test")
    }

    fn client() -> Client {
        let settings = Settings {
            region: "us-east-1".to_owned(),
            endpoint: None,
            call_timeout: Duration::from_secs(1),
            calls_at_once: 1,
        };
        Client::new(KMS, settings, Arc::new(Credentials::given(keys(None)))).unwrap()
    }

    /// What goes out is signed over host, time, type, target and, where there is one, the session's token.
    #[test]
    fn a_call_is_signed_over_all_that_matters() {
        let client = client();
        let at = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let of = |keys: &Keys, target: &str, body: &[u8]| {
            let headers = signature(keys, &client, target, body, at).unwrap();
            let value = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
            (value("authorization").unwrap(), value("x-amz-date").unwrap(), value("x-amz-security-token"))
        };
        let (authorization, date, token) = of(&keys(Some("token")), "TrentService.Sign", b"{}");
        assert_eq!((date.as_str(), token.as_deref()), ("20150830T123600Z", Some("token")));
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request")
        );
        let covered = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target,";
        assert!(authorization.contains(covered), "{authorization}");
        for (other_keys, target, body) in [
            (keys(Some("token")), "TrentService.Sign", b"{ }".as_slice()),
            (keys(Some("token")), "TrentService.CreateKey", b"{}"),
            (keys(Some("another")), "TrentService.Sign", b"{}"),
        ] {
            assert_ne!(of(&other_keys, target, body).0, authorization);
        }
    }

    #[test]
    fn a_refusal_is_named_and_quotes_no_secret() {
        let keys = keys(Some("planted-token"));
        let body = br#"{"__type":"com.amazonaws.kms#InvalidSignatureException","message":"It does not match planted-token.\nThe canonical string was planted-token"}"#;
        let AwsError::Refused { status, kind, message } = refusal(400, None, body, &keys) else { panic!("refused") };
        assert_eq!(
            (status, kind.as_str(), message.as_str()),
            (400, "InvalidSignatureException", "It does not match ***.")
        );
        let AwsError::Refused { kind, .. } = refusal(400, Some("NotFoundException:http://x"), b"{}", &keys) else {
            panic!("refused")
        };
        assert_eq!(kind, "NotFoundException");
        let AwsError::Refused { kind, message, .. } = refusal(502, None, b"<html>", &keys) else { panic!("refused") };
        assert_eq!((kind.as_str(), message.as_str()), ("status 502", ""));
    }
}
