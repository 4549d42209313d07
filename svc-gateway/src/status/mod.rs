//! The status page for operators: read-only, on a listener of its own, live by server-sent events ([how to](../../../docs/how-to/watch-the-status-page.md)).
//!
//! It has no data of its own and no rights of its own. Whoever signs in shows what it shows to the API; the page's parts are calls of the API with the
//! rights of that principal, made from inside. What is kept is the session, in memory: never the credential, only what lets the gateway look again
//! whether it still holds.

mod config;
mod events;
mod gathering;
mod inside;
mod parts;
mod responses;
mod sessions;
mod signing_in;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dalp_proto::{Method, Methods};
use dalp_service::{
    PeerIdentity, Reason, Refusal,
    config::ServerConfig,
    server::{Answer, Front, Next, Routes},
    stop::Stop,
};
use http::{Request, Response, StatusCode, request};
use tonic::body::Body;

pub use config::StatusConfig;

use crate::{
    admission::Gate, audit::refusals::Refusals, principals::Principal, rest::body::Limits, upstreams::Upstream,
};
use events::Page;
use gathering::Gatherings;
use inside::Inside;
use responses::{Asset, cookie, plain, see_other, without_cookie};
use sessions::{Sessions, SignedIn};
use signing_in::Attempts;

/// What one has to be allowed who looks.
const NEEDED: &str = "/dalp.operator.v1.OperatorService/ListLanes";
/// The longest form: a token of an identity provider is the largest thing in it.
const FORM_BYTES: usize = 20 * 1024;

/// The page, in front of a listener that serves nothing else.
#[derive(Clone)]
pub(crate) struct StatusPage {
    desk: Arc<Desk>,
}

/// What the page's requests need.
struct Desk {
    gate: Arc<Gate>,
    refusals: Refusals,
    needed: Method,
    sessions: Sessions,
    attempts: Attempts,
    gatherings: Gatherings,
    form: Limits,
    stop: Stop,
}

/// Whether somebody is signed in.
enum Standing {
    /// It is, with its rights of now.
    In(SignedIn, Arc<Principal>),
    /// It is not, or not any more.
    Out,
    /// That cannot be told now.
    Unknown,
}

// === impl StatusPage ===

impl StatusPage {
    /// For who is let in by `gate`, with what `upstreams` and the gateway's `own` services answer. Pages are let go when `stop` is requested.
    ///
    /// # Panics
    /// Never in a build that passed its tests: the descriptors are compiled into the binary.
    pub(crate) fn new(
        config: &StatusConfig,
        server: &ServerConfig,
        gate: Arc<Gate>,
        (upstreams, own): (Arc<[Upstream]>, Routes),
        refusals: Refusals,
        stop: Stop,
    ) -> Self {
        let needed = Methods::load().get(NEEDED).cloned().expect("lanes are part of the contracts");
        let inside = Inside { gate: Arc::clone(&gate), upstreams, own };
        let form = Limits { bytes: FORM_BYTES, within: Duration::from_millis(server.body_read_ms) };
        let desk = Desk {
            gate,
            refusals,
            needed,
            sessions: Sessions::new(config),
            attempts: Attempts::new(config.sign_ins),
            gatherings: Gatherings::new(inside),
            form,
            stop,
        };
        Self { desk: Arc::new(desk) }
    }
}

impl Front for StatusPage {
    fn wants(&self, _: &request::Parts) -> bool {
        true
    }

    fn answer(&self, request: Request<Body>, next: Next) -> Answer {
        let desk = Arc::clone(&self.desk);
        Box::pin(async move { responses::guarded(desk.answer(request, next).await) })
    }
}

// === impl Desk ===

impl Desk {
    async fn answer(self: Arc<Self>, request: Request<Body>, open: Next) -> Response<Body> {
        let (head, body) = request.into_parts();
        match (head.method.as_str(), head.uri.path()) {
            ("GET", "/") => match self.standing(&head).await {
                Standing::In(..) => Asset::Status.response(),
                Standing::Out => see_other("/login"),
                Standing::Unknown => plain(StatusCode::SERVICE_UNAVAILABLE, "Who may look cannot be told now."),
            },
            ("GET", "/login") => signing_in::form(&head, StatusCode::OK, ""),
            ("POST", "/login") => self.sign_in(&head, body).await,
            ("POST", "/logout") => self.sign_out(&head),
            ("GET", "/session") => plain(
                match self.standing(&head).await {
                    Standing::In(..) => StatusCode::NO_CONTENT,
                    Standing::Out => StatusCode::UNAUTHORIZED,
                    Standing::Unknown => StatusCode::SERVICE_UNAVAILABLE,
                },
                "",
            ),
            ("GET", "/events") => self.events(&head, open).await,
            ("GET", "/page.js") => Asset::Script.response(),
            ("GET", "/style.css") => Asset::Style.response(),
            (_, "/" | "/session" | "/events" | "/page.js" | "/style.css") => responses::only("GET"),
            (_, "/login") => responses::only("GET, POST"),
            (_, "/logout") => responses::only("POST"),
            _ => plain(StatusCode::NOT_FOUND, "There is nothing under this path."),
        }
    }

    /// Looks again at what somebody was let in by.
    async fn again(&self, session: &SignedIn) -> Result<Arc<Principal>, Refusal> {
        let now = self.gate.still(&session.principal, &session.shown, &self.needed, None).await;
        now.inspect_err(|refusal| {
            if !passes(refusal) {
                self.sessions.end(&session.digest);
            }
        })
    }

    async fn standing(&self, head: &request::Parts) -> Standing {
        let session = cookie(&head.headers).and_then(|token| self.sessions.find(token, Instant::now()));
        let Some(session) = session else { return Standing::Out };
        // A certificate that has ended, or was revoked, lets no connection come about any more: its session is good on such a connection alone.
        let peer = head.extensions.get::<PeerIdentity>();
        if session.shown.certificate().is_some_and(|shown| peer.is_none_or(|peer| peer.spiffe != *shown)) {
            return Standing::Out;
        }
        match self.again(&session).await {
            Ok(principal) => Standing::In(session, principal),
            Err(refusal) if passes(&refusal) => Standing::Unknown,
            Err(_) => Standing::Out,
        }
    }

    async fn events(self: Arc<Self>, head: &request::Parts, open: Next) -> Response<Body> {
        let (session, principal) = match self.standing(head).await {
            Standing::In(session, principal) => (session, principal),
            Standing::Out => return plain(StatusCode::UNAUTHORIZED, "Nobody is signed in."),
            Standing::Unknown => return plain(StatusCode::SERVICE_UNAVAILABLE, "Who may look cannot be told now."),
        };
        let Ok(place) = session.pages.try_acquire_owned() else {
            return plain(StatusCode::TOO_MANY_REQUESTS, "This session has as many pages open as it may.");
        };
        let gathering = self.gatherings.of(&principal);
        let stop = self.stop.clone();
        Page { desk: self, digest: session.digest, gathering, stop, _place: place, _open: open }.stream(&principal)
    }

    fn sign_out(&self, head: &request::Parts) -> Response<Body> {
        if !responses::from_our_page(head) {
            return plain(StatusCode::FORBIDDEN, "This form was not sent from here.");
        }
        self.end_of(head);
        without_cookie(see_other("/login"))
    }

    /// Ends the session that a browser has until now.
    fn end_of(&self, head: &request::Parts) {
        let session = cookie(&head.headers).and_then(|token| self.sessions.find(token, Instant::now()));
        if let Some(session) = session {
            self.sessions.end(&session.digest);
        }
    }
}

/// Whether a refusal says nothing about who asks, only that nobody could tell.
fn passes(refusal: &Refusal) -> bool {
    use Reason::{DatabaseUnavailable, Overloaded, RateLimited, UpstreamUnavailable};
    matches!(refusal.reason(), DatabaseUnavailable | Overloaded | RateLimited | UpstreamUnavailable)
}
