//! The edge: admission, caller context, then the upstream or the gateway's own services.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use dalp_proto::IdempotencyClass;
use dalp_service::{
    PeerIdentity, Refusal,
    caller::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, set_hands},
    errors::RefusalResult,
    server::Routes,
    telemetry,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use time::OffsetDateTime;
use tonic::{body::Body, metadata::MetadataMap};
use tower::{Service, ServiceExt as _};

use crate::{
    admission::{Admitted, Denied, Gate, Route},
    audit::{
        calls::Noting,
        refusals::{Refusals, Refused},
    },
    body::CutOff,
    metric_definitions as names,
    reading::{self, Read, Wanted},
    right::{LastingBody, Right, RightfulBody},
    upstreams::Upstream,
    verification::{
        Code, Verifier,
        header::{self as shown, Presented},
        policy::verifies_itself,
        store::{Ask, Person},
        stream::Binding,
    },
};

/// Headers that end at the gateway: credentials are not for the services behind it, and the others describe the connection.
const STOPS_HERE: &[HeaderName] = &[
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::FORWARDED,
    header::CONNECTION,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Of a refused call's message, so much is taken in, for so long.
const DRAINED_BYTES: usize = 64 * 1024;
const DRAIN_WITHIN: std::time::Duration = std::time::Duration::from_millis(100);

/// Metadata under this prefix is the platform's own: what a client sends under it is dropped.
const RESERVED: &str = "dalp-";

/// The tower service behind the public listener.
#[derive(Clone)]
pub struct Edge {
    shared: Arc<Shared>,
    own: Routes,
}

struct Shared {
    gate: Arc<Gate>,
    upstreams: Arc<[Upstream]>,
    refusals: Refusals,
    verifier: Verifier,
}

// === impl Edge ===

impl Edge {
    /// `upstreams` in the order of the configuration; `own` are the services that the gateway answers itself, prepared; `refusals` hear of what is
    /// refused to whom; `verifier` looks at what persons show besides.
    #[must_use]
    pub fn new(
        gate: Arc<Gate>,
        upstreams: Arc<[Upstream]>,
        own: Routes,
        refusals: Refusals,
        verifier: Verifier,
    ) -> Self {
        Self { shared: Arc::new(Shared { gate, upstreams, refusals, verifier }), own }
    }

    async fn own(&self, request: Request<Body>) -> Response<Body> {
        match self.own.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn handle(self, mut request: Request<Body>) -> Response<Body> {
        // Before anything else: whatever becomes of the call, nobody behind sees it.
        let code = shown::take(request.headers_mut());
        if self.shared.gate.is_open(request.uri().path()) {
            return self.own(request).await;
        }
        let path = request.uri().path().to_owned();
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let now = (Instant::now(), OffsetDateTime::now_utc());
        let decision = self.shared.gate.admit(&path, request.headers(), peer.as_ref(), now.1);
        let admitted = match decision.await {
            Ok(admitted) => admitted,
            Err(denied) => {
                drain(request.into_body()).await;
                return self.refuse(&path, &denied);
            }
        };
        if !admitted.asks
            && let Err(refusal) = self.shared.gate.charge(&admitted, now.0)
        {
            drain(request.into_body()).await;
            return self.refuse(&path, &admitted.denied(refusal));
        }
        let wanted = Wanted {
            assets: admitted.only_assets.as_deref(),
            chain_ids: &admitted.principal.chain_ids,
            own: admitted.route == Route::Own,
            hash: admitted.asks,
        };
        let Read { mut request, asset, hash } = match reading::read(wanted, &admitted.method, request).await {
            Ok(read) => read,
            Err(refusal) => return self.refuse(&path, &admitted.denied(refusal)),
        };
        let mut binding = None;
        if admitted.asks {
            let verified = self.verify(&admitted, hash, code).await;
            match verified.and_then(|verified| self.shared.gate.charge(&admitted, now.0).map(|()| verified)) {
                Ok(verified) => binding = verified,
                Err(refusal) => {
                    drain(request.into_body()).await;
                    return self.refuse(&path, &admitted.denied(refusal));
                }
            }
        } else if verifies_itself(&admitted.method) {
            let signed_in = admitted.principal.signed_in;
            request.extensions_mut().insert(Presented { code: code.map(|code| code.map(Arc::new)), signed_in });
        }
        let key = admitted.idempotency_key.as_deref();
        let mut noting = Noting::of(&self.shared.refusals, &admitted.principal, &admitted.method, key);
        if let Some(noting) = &noting {
            request = request.map(|body| noting.request(body));
        }
        let headers = std::mem::take(request.headers_mut());
        *request.headers_mut() = match outgoing(headers, &admitted) {
            Ok(headers) => headers,
            Err(refusal) => return self.refuse(&path, &admitted.denied(refusal)),
        };
        let right = Right::new(Arc::clone(&self.shared.gate), &admitted, asset);
        let cut_off = Arc::new(CutOff::default());
        let request = {
            let (right, cut_off) = (right.clone(), Arc::clone(&cut_off));
            request.map(|body| Body::new(RightfulBody::new(body, right, cut_off, binding)))
        };
        let carried_out = noting.take_if(|noting| noting.hears_the_end());
        let answered = async {
            let (edge, cut_off, route) = (self.clone(), Arc::clone(&cut_off), admitted.route);
            let place = Arc::clone(&admitted.place);
            let answering = async move {
                match route {
                    Route::Own => edge.own(request).await,
                    Route::Upstream(index) => edge.shared.upstreams[index].forward(request, cut_off).await,
                }
            };
            match carried_out {
                Some(noting) => noting.hear_to_the_end(answering, place).await,
                None => answering.await,
            }
        };
        let mut response = match right.lasts() {
            false => answered.await,
            true => tokio::select! {
                response = answered => response.map(|body| Body::new(LastingBody::new(body, right))),
                refusal = right.lost() => return self.refuse(&path, &admitted.denied(refusal)),
            },
        };
        if let Some(refusal) = cut_off.refusal() {
            response = refusal.to_status().into_http();
        }
        if let Some(noting) = noting {
            response = noting.answer(response);
        }
        if response.headers().get(IDEMPOTENCY_REPLAYED).is_some_and(|value| value == "true") {
            self.shared.gate.not_charged(&admitted);
            let tenant = admitted.principal.tenant.to_string();
            metrics::counter!(names::GATEWAY_REPLAYS_TOTAL, "tenant" => tenant).increment(1);
        }
        say_key(response.headers_mut(), admitted.idempotency_key.as_deref());
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _until_the_end = &admitted.place;
                frame
            }))
        })
    }

    /// Lets a write of a person on who signed in by browser; of a streamed one, what decides at its end. `hash` is that of its message.
    async fn verify(
        &self,
        admitted: &Admitted,
        hash: Option<[u8; 32]>,
        code: RefusalResult<Option<Code>>,
    ) -> RefusalResult<Option<Binding>> {
        let (principal, verifier) = (&admitted.principal, &self.shared.verifier);
        let person = Person { tenant: principal.tenant.as_str(), principal: principal.id.as_str() };
        let method = admitted.method.path.as_str();
        let code = code.as_ref().map(Option::as_ref).map_err(Refusal::clone);
        match (admitted.idempotency_key.as_deref(), hash) {
            (Some(key), Some(hash)) => {
                verifier.admit(&Ask { person, method, key }, &hash, code).await?;
                Ok(None)
            }
            (Some(key), None) => {
                Ok(Some(Binding::begin(verifier, &principal.tenant, &principal.id, method, key, code).await?))
            }
            (None, _) => {
                verifier.admit_once(person, method, code).await?;
                Ok(None)
            }
        }
    }

    fn refuse(&self, path: &str, denied: &Denied) -> Response<Body> {
        let reason = denied.refusal.reason().as_str();
        tracing::info!(reason, message = denied.refusal.message(), "refused at the gateway");
        metrics::counter!(names::GATEWAY_REFUSALS_TOTAL, "reason" => reason).increment(1);
        if let Some(principal) = &denied.principal {
            self.shared.refusals.note(&Refused {
                principal,
                path,
                reason,
                message: denied.refusal.message(),
                idempotency_key: denied.idempotency_key.as_deref(),
                payload_hash: None,
            });
        }
        let mut response: Response<Body> = denied.refusal.to_status().into_http();
        say_key(response.headers_mut(), denied.idempotency_key.as_deref());
        response
    }
}

impl Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.handle(request).await) })
    }
}

/// Takes in what a refused call has sent already. Messages that come for a call that is over count against the connection, and a
/// client that is refused often would lose it, with the calls of others on it.
async fn drain(mut body: Body) {
    let some = async {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Who trickles is not waited for.
    let _ = tokio::time::timeout(DRAIN_WITHIN, some).await;
}

/// The metadata of a call as the service behind the gateway sees it.
fn outgoing(mut headers: HeaderMap, admitted: &Admitted) -> RefusalResult<HeaderMap> {
    STOPS_HERE.iter().for_each(|name| drop(headers.remove(name)));
    let reserved: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(RESERVED) || name.as_str().starts_with("x-forwarded-"))
        .cloned()
        .collect();
    reserved.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(key) = admitted.idempotency_key.as_deref().and_then(|key| HeaderValue::from_str(key).ok()) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    let mut metadata = MetadataMap::from_headers(headers);
    admitted.principal.caller().apply(&mut metadata);
    // Only decisions about what a policy holds ask for it, and those are about writes.
    if admitted.method.idempotency != IdempotencyClass::Read {
        set_hands(&mut metadata, &admitted.principal.hands)?;
    }
    telemetry::inject(&mut metadata);
    Ok(metadata.into_headers())
}

/// Says which idempotency key is in force, and that nothing was replayed unless the service behind said so.
fn say_key(headers: &mut HeaderMap, key: Option<&str>) {
    let Some(value) = key.and_then(|key| HeaderValue::from_str(key).ok()) else { return };
    headers.insert(IDEMPOTENCY_KEY, value);
    headers.entry(IDEMPOTENCY_REPLAYED).or_insert(HeaderValue::from_static("false"));
}
