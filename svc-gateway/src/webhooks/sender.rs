//! Calls receivers.

use std::{error::Error as _, sync::Arc, time::Duration};

use reqwest::{StatusCode, header, redirect::Policy};
use time::OffsetDateTime;

use super::{
    address::{AddressError, CheckedNames, Reach},
    event::CONTENT_TYPE,
    queue::Due,
    schedule::Tried,
    signature::{Secret, signatures},
};

/// Longest that a connection may take to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Calls receivers: addresses that may be called only, without redirects, proxies or cookies.
#[derive(Clone, Debug)]
pub struct Sender {
    client: reqwest::Client,
    reach: Arc<Reach>,
}

// === impl Sender ===

impl Sender {
    /// With this reach and deadline. `authority`: a certificate authority in PEM, beside the public ones.
    ///
    /// # Errors
    /// When the authority is not one.
    pub fn new(reach: Arc<Reach>, timeout: Duration, authority: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let mut client = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_WITHIN.min(timeout))
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(CheckedNames(Arc::clone(&reach))))
            // A kept connection leads to what its name meant once.
            .pool_idle_timeout(Duration::from_secs(10))
            .user_agent(concat!("dalp-webhooks/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = authority {
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self { client: client.build()?, reach })
    }

    /// Makes one try. Nothing of the answer is read but its status and `Retry-After`: its body could tell a tenant what stands behind an address.
    pub async fn send(&self, due: &Due, secrets: &[Secret], now: OffsetDateTime) -> Tried {
        let url = match self.reach.read(&due.url) {
            Ok(url) => url,
            Err(error) => return Tried::Failed(error.to_string()),
        };
        let timestamp_s = now.unix_timestamp();
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header("webhook-id", &due.event_id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signatures(secrets, &due.event_id, timestamp_s, &due.body))
            .body(due.body.clone());
        match request.send().await {
            Ok(answer) => Tried::Answered {
                status: answer.status().as_u16(),
                retry_after: matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                    .then(|| answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok())
                    .flatten()
                    .map(Duration::from_secs),
            },
            Err(error) => Tried::Failed(why(&error)),
        }
    }
}

/// In words that name no address: a tenant learns of its receiver, not of what stands around the gateway.
fn why(error: &reqwest::Error) -> String {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<AddressError>() {
            return refused.to_string();
        }
        source = inner.source();
    }
    match error {
        error if error.is_timeout() => "the receiver did not answer in time",
        error if error.is_connect() => "no connection to the receiver, or its certificate is not trusted",
        _ => "the connection to the receiver broke",
    }
    .to_owned()
}
