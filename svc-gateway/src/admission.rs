//! Write admission at the edge, as one pure decision: authenticated, tenant, permission, read-only key, rate limit, validation.
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
};
use http::HeaderMap;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    config::{GatewayConfig, OWN_SERVICES, Scope},
    limits::{Limits, Place},
    principals::{Principal, Principals},
};

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
    /// What is called.
    pub method: Method,
    /// Where it goes.
    pub route: Route,
    /// The idempotency key in force, for calls that have one.
    pub idempotency_key: Option<String>,
    /// Its place among the tenant's calls; held until the answer has ended.
    pub place: Place,
}

/// A call that ends here.
#[derive(Debug)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// The idempotency key in force: a client learns it also from a refusal.
    pub idempotency_key: Option<String>,
}

/// Everything admission decides by.
#[derive(Debug)]
pub struct Gate {
    methods: Methods,
    routes: HashMap<String, Route>,
    principals: Principals,
    limits: Limits,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, idempotency_key: None }
    }
}

// === impl Gate ===

impl Gate {
    /// Reads a configuration that passed its validation.
    #[must_use]
    pub fn new(config: &GatewayConfig, now: Instant) -> Self {
        let methods = Methods::load();
        let upstreams = config.upstreams.iter().enumerate();
        let routes = upstreams
            .flat_map(|(index, upstream)| {
                upstream.owned_services().into_iter().map(move |service| (service, Route::Upstream(index)))
            })
            .chain(OWN_SERVICES.iter().map(|&service| (service.to_owned(), Route::Own)))
            .collect();
        let principals = Principals::new(config, &methods);
        let limits = Limits::new(config.tenants.iter().map(|tenant| (&tenant.id, config.limits_of(tenant))), now);
        Self { methods, routes, principals, limits }
    }

    /// Decides about a call from its path, its metadata and the peer of its connection.
    pub fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&PeerIdentity>,
        now: Instant,
        wall: OffsetDateTime,
    ) -> Result<Admitted, Denied> {
        let authorization = exactly_one(headers, http::header::AUTHORIZATION.as_str())?;
        let principal = self.principals.authenticate(peer, authorization, wall)?;
        let (method, route) = self.route(path)?;
        same_tenant(headers, &principal)?;
        let idempotency_key = match method.idempotency {
            IdempotencyClass::Keyed => Some(idempotency_key(headers)?.unwrap_or_else(|| Uuid::now_v7().to_string())),
            _ => None,
        };
        match self.may(&principal, method, now) {
            Ok(place) => Ok(Admitted { principal, method: method.clone(), route, idempotency_key, place }),
            Err(refusal) => Err(Denied { refusal, idempotency_key }),
        }
    }

    /// Gives the rate token of a call back that turned out to be a repeat.
    pub fn not_charged(&self, admitted: &Admitted) {
        self.limits.give_back(&admitted.principal.tenant, admitted.method.rate);
    }

    fn route(&self, path: &str) -> RefusalResult<(&Method, Route)> {
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

    fn may(&self, principal: &Principal, method: &Method, now: Instant) -> RefusalResult<Place> {
        if !principal.permissions.allows(&method.permission) {
            return Err(Refusal::new(
                Reason::PermissionDenied,
                format!("this call needs the permission {}", method.permission),
            )
            .meta("permission", &method.permission)
            .meta("principal", &principal.id));
        }
        if principal.scope == Scope::Read && method.idempotency != IdempotencyClass::Read {
            return Err(
                Refusal::new(Reason::ReadOnlyKey, "the API key may only read").meta("permission", &method.permission)
            );
        }
        let place = self.limits.enter(&principal.tenant, method.rate).ok_or_else(|| {
            Refusal::new(Reason::Overloaded, "the tenant has as many calls of this kind under way as it may")
                .meta("rate_class", method.rate.as_str_name())
                .retry_after(ASK_AGAIN)
        })?;
        self.limits.take(&principal.tenant, method.rate, now).map_err(|exhausted| {
            Refusal::new(Reason::RateLimited, "too many requests of this kind for the tenant")
                .meta("rate_class", method.rate.as_str_name())
                .retry_after(exhausted.retry_after)
        })?;
        Ok(place)
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

#[cfg(test)]
mod tests;
