//! Write admission at the edge: authenticated, tenant, permission, read-only key; then, by the proxy, wallet verification where it is asked for
//! ([`Admitted::asks`]), and rate limit ([`Gate::charge`]).
//!
//! What follows (object-level rights, is it a repeat?) is decided by the domain service in its accept commit.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dalp_proto::{Exposure, IdempotencyClass, Method, Methods};
use dalp_service::{
    PeerIdentity, Reason, Refusal,
    caller::{TENANT, idempotency_key},
    errors::RefusalResult,
    server::is_reflection,
};
use http::HeaderMap;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    config::{GatewayConfig, OWN_SERVICES, Reflection, Scope},
    limits::{Limits, Place},
    principals::{Authenticated, Authenticator, Principal, Shown},
};

/// What there is to call, asked by tools. Not one of our contracts, so its rules stand here.
pub const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// When a tenant with too much under way may come again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The gateway answers itself.
    Own,
    /// The upstream of this index in the configuration.
    Upstream(usize),
}

/// A call that may go on.
#[derive(Debug)]
pub struct Admitted {
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What it has shown to be let in.
    pub shown: Shown,
    /// What is called.
    pub method: Method,
    /// Where it goes.
    pub route: Route,
    /// The idempotency key in force, for calls that have one.
    pub idempotency_key: Option<String>,
    /// The assets that the call may concern, in lower case, when the right to it is held on single assets only.
    pub only_assets: Option<Vec<String>>,
    /// A person who signed in by browser must show something besides.
    pub asks: bool,
    /// Its place among the tenant's calls; held until the answer has ended.
    pub place: Arc<Place>,
}

/// A call that ends here.
#[derive(Debug)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// The idempotency key in force: a client learns it also from a refusal.
    pub idempotency_key: Option<String>,
    /// Who was refused, once that was proven.
    pub principal: Option<Arc<Principal>>,
}

/// Everything admission decides by.
#[derive(Debug)]
pub struct Gate {
    methods: Methods,
    routes: HashMap<String, Route>,
    authenticator: Authenticator,
    limits: Limits,
    reflection: Reflection,
    reflecting: Method,
}

impl Admitted {
    /// The call ends here all the same.
    #[must_use]
    pub fn denied(&self, refusal: Refusal) -> Denied {
        let principal = Some(Arc::clone(&self.principal));
        Denied { refusal, idempotency_key: self.idempotency_key.clone(), principal }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, idempotency_key: None, principal: None }
    }
}

// === impl Gate ===

impl Gate {
    /// Reads a configuration that passed its validation; `authenticator` says who calls.
    #[must_use]
    pub fn new(config: &GatewayConfig, authenticator: Authenticator) -> Self {
        let methods = Methods::load();
        let upstreams = config.upstreams.iter().enumerate();
        let routes = upstreams
            .flat_map(|(index, upstream)| {
                upstream.owned_services().into_iter().map(move |service| (service, Route::Upstream(index)))
            })
            .chain(OWN_SERVICES.iter().map(|&service| (service.to_owned(), Route::Own)))
            .collect();
        let reflecting = Method {
            path: REFLECTION.to_owned(),
            service: "grpc.reflection.v1.ServerReflection".to_owned(),
            permission: String::new(),
            idempotency: IdempotencyClass::Read,
            rate: dalp_proto::RateClass::Stream,
            exposure: Exposure::Public,
            client_streaming: true,
            setup: false,
        };
        Self {
            methods,
            routes,
            authenticator,
            limits: Limits::new(config.limits),
            reflection: config.reflection,
            reflecting,
        }
    }

    /// Whether a call is one that nobody has to prove anything for.
    #[must_use]
    pub fn is_open(&self, path: &str) -> bool {
        is_reflection(path) && self.reflection == Reflection::Open
    }

    /// Decides about a call from its path, its metadata and the peer of its connection.
    pub async fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&PeerIdentity>,
        wall: OffsetDateTime,
    ) -> Result<Admitted, Denied> {
        let authorization = exactly_one(headers, http::header::AUTHORIZATION.as_str())?;
        let Authenticated { principal, shown, only_reads } =
            self.authenticator.authenticate(peer, authorization, wall).await?;
        let known =
            |refusal: Refusal| Denied { refusal, idempotency_key: None, principal: Some(Arc::clone(&principal)) };
        let (method, route) = self.route(path).map_err(known)?;
        same_tenant(headers, &principal).map_err(known)?;
        plain(headers).map_err(known)?;
        let idempotency_key = match method.idempotency {
            IdempotencyClass::Keyed => {
                Some(idempotency_key(headers).map_err(known)?.unwrap_or_else(|| Uuid::now_v7().to_string()))
            }
            _ => None,
        };
        let decided = may(&principal, method, only_reads)
            .and_then(|only_assets| Ok((Arc::new(self.place(&principal, method)?), only_assets)));
        let asks = principal.verification.as_ref().is_some_and(|policy| policy.asks(method));
        let method = method.clone();
        match decided {
            Ok((place, only_assets)) => {
                Ok(Admitted { principal, shown, method, route, idempotency_key, only_assets, asks, place })
            }
            Err(refusal) => Err(Denied { idempotency_key, ..known(refusal) }),
        }
    }

    /// Decides once more about a call that `admitted` was let in with, on `asset` if it names one: by what is known of its credential now.
    /// The principal as it is now.
    pub async fn still(
        &self,
        admitted: &Principal,
        shown: &Shown,
        method: &Method,
        asset: Option<&str>,
    ) -> RefusalResult<Arc<Principal>> {
        let Authenticated { principal, only_reads, .. } =
            self.authenticator.again(shown, OffsetDateTime::now_utc()).await?;
        if (&principal.tenant, &principal.id) != (&admitted.tenant, &admitted.id) {
            return Err(Refusal::new(Reason::UnauthenticatedInvalid, "the credential of the call is another's by now"));
        }
        match may(&principal, method, only_reads)? {
            Some(assets) if !asset.is_some_and(|asset| assets.iter().any(|own| own == asset)) => {
                Err(lacks(&principal, method))
            }
            _ => Ok(principal),
        }
    }

    /// Where a read goes that the gateway makes by itself for a principal that was let in. What is granted on single assets is not enough: such a read
    /// names none.
    pub(crate) fn reads(&self, principal: &Principal, path: &str) -> RefusalResult<Route> {
        let (method, route) = self.route(path)?;
        if method.idempotency != IdempotencyClass::Read || may(principal, method, true)?.is_some() {
            return Err(lacks(principal, method));
        }
        Ok(route)
    }

    /// Gives the rate token of a call back that turned out to be a repeat.
    pub fn not_charged(&self, admitted: &Admitted) {
        self.limits.give_back(&admitted.principal.tenant, admitted.method.rate);
    }

    fn route(&self, path: &str) -> RefusalResult<(&Method, Route)> {
        if is_reflection(path) && self.reflection != Reflection::Off {
            return Ok((&self.reflecting, Route::Own));
        }
        let Some(method) = self.methods.get(path) else {
            return Err(Refusal::new(Reason::NotImplemented, "there is no such RPC").meta("method", path));
        };
        let absent = || Refusal::new(Reason::NotFound, "there is no such RPC at the gateway").meta("method", path);
        if method.exposure == Exposure::Mesh {
            return Err(absent());
        }
        let route = self.routes.get(&method.service).ok_or_else(absent)?;
        Ok((method, *route))
    }

    fn place(&self, principal: &Principal, method: &Method) -> RefusalResult<Place> {
        self.limits.enter(&principal.tenant, principal.limits.as_ref(), method.rate).ok_or_else(|| {
            Refusal::new(Reason::Overloaded, "the tenant has as many calls of this kind under way as it may")
                .meta("rate_class", method.rate.as_str_name())
                .retry_after(ASK_AGAIN)
        })
    }

    /// Takes the rate token of a call.
    pub fn charge(&self, admitted: &Admitted, now: Instant) -> RefusalResult<()> {
        let (principal, class) = (&admitted.principal, admitted.method.rate);
        self.limits.take(&principal.tenant, principal.limits.as_ref(), class, now).map_err(|exhausted| {
            Refusal::new(Reason::RateLimited, "too many requests of this kind for the tenant")
                .meta("rate_class", class.as_str_name())
                .retry_after(exhausted.retry_after)
        })
    }
}

/// Whether a principal may call a method; if only on single assets, on which.
fn may(principal: &Principal, method: &Method, only_reads: bool) -> RefusalResult<Option<Vec<String>>> {
    let mut only_assets = None;
    if method.path != REFLECTION && !principal.granted.allows(&method.permission) {
        only_assets = Some(principal.granted.assets_with(&method.permission).map(str::to_owned).collect::<Vec<_>>());
    }
    if only_assets.as_ref().is_some_and(Vec::is_empty) {
        return Err(lacks(principal, method));
    }
    if principal.scope == Scope::Read && method.idempotency != IdempotencyClass::Read {
        return Err(
            Refusal::new(Reason::ReadOnlyKey, "the API key may only read").meta("permission", &method.permission)
        );
    }
    if only_reads && method.idempotency != IdempotencyClass::Read {
        return Err(Refusal::new(
            Reason::DatabaseUnavailable,
            "the database that knows who may call does not answer; until then only reads are let in",
        ));
    }
    Ok(only_assets)
}

fn lacks(principal: &Principal, method: &Method) -> Refusal {
    Refusal::new(Reason::PermissionDenied, format!("this call needs the permission {}", method.permission))
        .meta("permission", &method.permission)
        .meta("principal", &principal.id)
}

/// Messages pass as they are, and nobody here or behind unpacks them: what a small message could unpack to is nobody's problem.
fn plain(headers: &HeaderMap) -> RefusalResult<()> {
    let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all("grpc-encoding").iter().all(identity) {
        true => Ok(()),
        false => Err(Refusal::new(Reason::NotImplemented, "compressed messages are not taken; send them as they are")
            .meta("grpc-accept-encoding", "identity")),
    }
}

fn exactly_one<'h>(headers: &'h HeaderMap, name: &str) -> RefusalResult<Option<&'h http::HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Refusal::new(Reason::InvalidField, format!("give the {name} metadata once"))
            .field(name, "given more than once")),
    }
}

/// A client may name its tenant, to be sure where it works; any other than its own is refused.
fn same_tenant(headers: &HeaderMap, principal: &Principal) -> RefusalResult<()> {
    let named = headers.get_all(TENANT);
    match named.iter().all(|value| value.as_bytes() == principal.tenant.as_str().as_bytes()) {
        true => Ok(()),
        false => {
            Err(Refusal::new(Reason::TenantMismatch, "the request names another tenant than the credential belongs to")
                .meta("tenant", &principal.tenant))
        }
    }
}
