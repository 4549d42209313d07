//! From what a form holds to a session: by the same look-up as every call of the API, and as often as an address may try.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use dalp_service::{PeerIdentity, server::Remote};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use time::OffsetDateTime;
use tonic::body::Body;
use zeroize::Zeroizing;

use super::{
    Desk, NEEDED, passes,
    responses::{self, html},
};
use crate::{
    admission::Denied,
    audit::refusals::Refused,
    config::RateConfig,
    limits::{Bucket, Exhausted},
    metric_definitions as names,
    principals::{Principal, Shown},
};

const PAGE: &str = include_str!("page/login.html");
/// Where the page says what went wrong.
const MESSAGE: &str = "<!-- message -->";
/// Where it offers the certificate of the connection.
const CERTIFICATE: &str = "<!-- certificate -->";
const CERTIFICATE_FORM: &str = include_str!("page/certificate.html");

/// Addresses that are remembered, and for how long after their last try.
const ADDRESSES: u64 = 10_000;
const REMEMBERED: Duration = Duration::from_secs(900);

/// How often an address may fail.
#[derive(Debug)]
pub(super) struct Attempts {
    rate: RateConfig,
    buckets: moka::sync::Cache<IpAddr, Arc<Mutex<Bucket>>>,
}

/// What a form holds.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// An API key, or a token of an identity provider.
    Credential(HeaderValue),
    /// The certificate of the connection.
    Certificate,
}

// === impl Attempts ===

impl Attempts {
    pub(super) fn new(rate: RateConfig) -> Self {
        let buckets = moka::sync::Cache::builder().max_capacity(ADDRESSES).time_to_idle(REMEMBERED).build();
        Self { rate, buckets }
    }

    /// Takes one try.
    fn take(&self, address: IpAddr, now: Instant) -> Result<(), Exhausted> {
        let full = || Arc::new(Mutex::new(Bucket::full(self.rate, now)));
        let bucket = self.buckets.get_with(place_of(address), full);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(now)
    }

    /// Gives the try back: it was none that failed.
    fn give_back(&self, address: IpAddr) {
        if let Some(bucket) = self.buckets.get(&place_of(address)) {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).give_back();
        }
    }
}

/// Whoever has one address of IPv6 has all of its network.
fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// The page to sign in on.
pub(super) fn form(head: &request::Parts, status: StatusCode, message: &'static str) -> Response<Body> {
    let certificate = if head.extensions.get::<PeerIdentity>().is_some() { CERTIFICATE_FORM } else { "" };
    let mut response = html(PAGE.replace(MESSAGE, message).replace(CERTIFICATE, certificate));
    *response.status_mut() = status;
    response
}

// === impl Form ===

impl Form {
    /// Reads a form; nothing in it is repeated to anybody.
    fn read(body: &[u8]) -> Option<Self> {
        let mut fields = url::form_urlencoded::parse(body);
        let (name, value) = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        match (name.as_ref(), value.trim()) {
            ("certificate", "yes") => Some(Self::Certificate),
            ("credential", credential) if !credential.is_empty() => {
                let text = Zeroizing::new(format!("Bearer {credential}"));
                let mut value = HeaderValue::from_str(&text).ok()?;
                value.set_sensitive(true);
                Some(Self::Credential(value))
            }
            _ => None,
        }
    }
}

// === impl Desk ===

impl Desk {
    /// Answers a form that was sent.
    pub(super) async fn sign_in(&self, head: &request::Parts, body: Body) -> Response<Body> {
        if !responses::from_our_page(head) {
            return form(head, StatusCode::FORBIDDEN, "This form was not sent from here. Open the page again.");
        }
        let address = head.extensions.get::<Remote>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |one| one.0.ip());
        if let Err(exhausted) = self.attempts.take(address, Instant::now()) {
            counted("limited");
            let mut response = form(head, StatusCode::TOO_MANY_REQUESTS, "Too many failed tries. Wait a moment.");
            let seconds = exhausted.retry_after.as_secs().saturating_add(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return response;
        }
        let body = match self.form.collect(&head.headers, body).await {
            Ok(body) => body,
            Err(problem) => {
                counted("refused");
                return form(head, problem.http(), "The form was not taken: it is too long, or came too slowly.");
            }
        };
        let (principal, shown) = match self.admit(head, Form::read(&body)).await {
            Ok(admitted) => admitted,
            Err(denied) => return self.denied(head, address, &denied),
        };
        match self.sessions.begin(&principal, &shown, Instant::now()) {
            Ok(token) => {
                self.end_of(head);
                self.attempts.give_back(address);
                counted("admitted");
                tracing::info!(tenant = %principal.tenant, principal = %principal.id, "signed in at the status page");
                responses::with_cookie(responses::see_other("/"), &token)
            }
            Err(error) => {
                counted("unavailable");
                tracing::warn!(error = &error as &dyn std::error::Error, "nobody can sign in at the status page");
                form(head, StatusCode::SERVICE_UNAVAILABLE, "Nobody can sign in now. Try later.")
            }
        }
    }

    /// As a call of the API that needs the same permission would be.
    async fn admit(
        &self,
        head: &request::Parts,
        form: Option<Form>,
    ) -> Result<(Arc<Principal>, Shown), Option<Denied>> {
        let (mut headers, mut peer) = (HeaderMap::new(), None);
        match form.ok_or(None)? {
            Form::Credential(value) => drop(headers.insert(header::AUTHORIZATION, value)),
            Form::Certificate => peer = head.extensions.get::<PeerIdentity>(),
        }
        let admitted = self.gate.admit(NEEDED, &headers, peer, OffsetDateTime::now_utc()).await.map_err(Some)?;
        // A right on single assets is none to lanes.
        match self.gate.reads(&admitted.principal, NEEDED) {
            Ok(_) => Ok((admitted.principal, admitted.shown)),
            Err(refusal) => Err(Some(admitted.denied(refusal))),
        }
    }

    /// Says no, and not why: who guesses learns nothing. Who is known and lacks the right stands in the audit.
    fn denied(&self, head: &request::Parts, address: IpAddr, denied: &Option<Denied>) -> Response<Body> {
        if let Some(denied) = denied {
            let reason = denied.refusal.reason().as_str();
            tracing::info!(reason, "nobody was let in at the status page");
            if passes(&denied.refusal) {
                self.attempts.give_back(address);
                counted("unavailable");
                return form(head, StatusCode::SERVICE_UNAVAILABLE, "Who may look cannot be told now. Try again soon.");
            }
            if let Some(principal) = &denied.principal {
                let message = denied.refusal.message();
                let (path, idempotency_key, payload_hash) = (NEEDED, None, None);
                self.refusals.note(&Refused { principal, path, reason, message, idempotency_key, payload_hash });
            }
        }
        counted("refused");
        let message = "That lets nobody in here: it is not known, has ended, or lacks the right operator:read.";
        form(head, StatusCode::FORBIDDEN, message)
    }
}

fn counted(outcome: &'static str) {
    metrics::counter!(names::GATEWAY_STATUS_SIGN_INS_TOTAL, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_one_thing() {
        let read = |text: &str| Form::read(text.as_bytes());
        let key = HeaderValue::from_static("Bearer dalp_a_b");
        assert_eq!(read("credential=+dalp_a_b%0A"), Some(Form::Credential(key)), "as it is pasted");
        assert_eq!(read("certificate=yes"), Some(Form::Certificate));
        for bad in [
            "",
            "credential=",
            "credential=+",
            "certificate=no",
            "credential=a%0Db",
            "credential=a&credential=b",
            "credential=a&certificate=yes",
            "other=a",
            "{\"credential\":\"a\"}",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_fails_so_often_and_no_other_pays_for_it() {
        let attempts = Attempts::new(RateConfig { per_second: 1, burst: 2 });
        let now = Instant::now();
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        attempts.take(one, now).unwrap();
        attempts.give_back(one);
        attempts.take(one, now).unwrap();
        attempts.take(one, now).unwrap();
        assert!(attempts.take(one, now).is_err());
        assert!(attempts.take("::ffff:192.0.2.1".parse().unwrap(), now).is_err(), "the same one, as IPv6 writes it");
        attempts.take(other, now).unwrap();
        attempts.take(one, now + Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| place_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
