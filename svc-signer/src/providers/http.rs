//! How custody providers are called: a connection pool, a deadline and a bulkhead of their own each, so that one that hangs holds up nobody else.

use std::{fmt, time::Duration};

use reqwest::{Method, Url, header};
use tokio::sync::Semaphore;

use super::ProviderError;

/// What is sent. Its bytes are made once: they are what the credentials sign.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Path and query as they go on the wire, with their encoding.
    pub target: String,
    /// JSON; empty for none.
    pub body: Vec<u8>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// What came back.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// One provider's door.
pub struct Door {
    client: reqwest::Client,
    origin: Url,
    turns: Semaphore,
    call_timeout: Duration,
}

/// Bodies and headers carry tokens and calldata: neither belongs into a log.
impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Call")
            .field("method", &self.method)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

// === impl Call ===

impl Call {
    /// Reads.
    #[must_use]
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), body: Vec::new(), headers: Vec::new() }
    }

    /// Writes.
    #[must_use]
    pub fn post(target: impl Into<String>, body: &serde_json::Value) -> Self {
        let body = body.to_string().into_bytes();
        Self { method: Method::POST, target: target.into(), body, headers: Vec::new() }
    }

    /// With a further header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

// === impl Door ===

impl Door {
    /// Prepares the door to `base`; nothing is connected yet. At most `at_once` calls are under way.
    pub fn new(base: &Url, call_timeout: Duration, at_once: usize) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(call_timeout)
            .connect_timeout(call_timeout.min(Duration::from_secs(5)))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("dalp-svc-signer/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let mut origin = base.clone();
        origin.set_path("/");
        origin.set_query(None);
        Ok(Self { client, origin, turns: Semaphore::new(at_once.max(1)), call_timeout })
    }

    /// The longest that a call takes, its turn included.
    #[must_use]
    pub fn longest_call(&self) -> Duration {
        self.call_timeout * 2
    }

    /// Sends a call. Every error is [`ProviderError::Unavailable`] and says nothing of what the provider has done with it.
    pub async fn send(&self, call: &Call) -> Result<Answer, ProviderError> {
        let busy = || ProviderError::Unavailable("all calls to the provider are under way".to_owned());
        let turn = tokio::time::timeout(self.call_timeout, self.turns.acquire());
        let _turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let url = format!("{}{}", self.origin, call.target.trim_start_matches('/'));
        let mut request = self.client.request(call.method.clone(), url);
        for (name, value) in &call.headers {
            let mut value = header::HeaderValue::from_str(value)
                .map_err(|_| ProviderError::Failed(format!("the header {name} cannot be sent")))?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json").body(call.body.clone());
        }
        let response = request.send().await.map_err(|error| unavailable(&error))?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| unavailable(&error))?;
        Ok(Answer { status, body: body.to_vec() })
    }
}

/// Without the address, which may carry names of tenants and wallets.
fn unavailable(error: &reqwest::Error) -> ProviderError {
    let what = match error {
        error if error.is_timeout() => "it did not answer in time",
        error if error.is_connect() => "no connection",
        error if error.is_body() || error.is_decode() => "its answer broke off",
        _ => "the connection broke",
    };
    ProviderError::Unavailable(what.to_owned())
}
