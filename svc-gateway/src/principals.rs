//! Who calls: from a certificate or an API key to a principal with its tenant and permissions.

use std::{collections::HashMap, sync::Arc};

use dalp_proto::Methods;
use dalp_service::{Caller, PeerIdentity, PrincipalId, Reason, Refusal, SpiffeId, TenantId, errors::RefusalResult};
use http::HeaderValue;
use time::OffsetDateTime;

use crate::{
    api_key::{ApiKey, KeyDigest},
    config::{GatewayConfig, Moment, PrincipalConfig, Scope},
    permissions::{PermissionSet, Universe},
};

/// An authenticated principal.
#[derive(Debug)]
pub struct Principal {
    /// Who it is.
    pub id: PrincipalId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Everything its roles grant.
    pub permissions: PermissionSet,
    /// What its credential is good for.
    pub scope: Scope,
    /// As the services behind the gateway see it: role names, then permissions. A role's name has no colon and a permission
    /// always has one, so the two cannot be taken for each other.
    pub caller: Caller,
}

/// All principals, by their credentials.
#[derive(Debug)]
pub struct Principals {
    by_certificate: HashMap<SpiffeId, Arc<Principal>>,
    by_prefix: HashMap<String, Credential>,
    /// Compared against when a prefix is unknown, so that the answer takes as long as for a known one.
    nobody: KeyDigest,
}

#[derive(Debug)]
struct Credential {
    digest: KeyDigest,
    expires_at: Option<Moment>,
    disabled: bool,
    principal: Arc<Principal>,
}

// === impl Principals ===

impl Principals {
    /// Reads a configuration that passed its validation.
    #[must_use]
    pub fn new(config: &GatewayConfig, methods: &Methods) -> Self {
        let universe = Universe::of(methods);
        let granted: HashMap<&str, PermissionSet> = config
            .roles
            .iter()
            .map(|role| {
                let mut all = PermissionSet::default();
                role.permissions.iter().for_each(|pattern| all.extend(universe.resolve(pattern)));
                (role.name.as_str(), all)
            })
            .collect();
        let (mut by_certificate, mut by_prefix) = (HashMap::new(), HashMap::new());
        for section in &config.principals {
            // A certificate has no scope: its rights are its roles.
            if let Some(spiffe) = section.spiffe.as_ref().filter(|_| !section.disabled) {
                by_certificate.insert(spiffe.clone(), Arc::new(Principal::new(section, &granted, Scope::ReadWrite)));
            }
            if let (Some(prefix), Some(digest)) = (&section.prefix, section.api_key_sha256) {
                let principal = Arc::new(Principal::new(section, &granted, section.scope));
                let (expires_at, disabled) = (section.expires_at, section.disabled);
                by_prefix.insert(prefix.clone(), Credential { digest, expires_at, disabled, principal });
            }
        }
        let nobody = "0".repeat(64).parse().expect("64 zeros are a digest");
        Self { by_certificate, by_prefix, nobody }
    }

    /// The principal behind a request. An API key, given explicitly, goes before the certificate of the connection: a bank's
    /// own proxy may hold the connection for several principals.
    pub fn authenticate(
        &self,
        peer: Option<&PeerIdentity>,
        authorization: Option<&HeaderValue>,
        now: OffsetDateTime,
    ) -> RefusalResult<Arc<Principal>> {
        if let Some(authorization) = authorization {
            return self.by_api_key(authorization, now);
        }
        let Some(peer) = peer else {
            return Err(Refusal::new(
                Reason::UnauthenticatedMissing,
                "send a client certificate, or an API key as `authorization: Bearer dalp_<prefix>_<secret>`",
            ));
        };
        self.by_certificate.get(&peer.spiffe).cloned().ok_or_else(|| {
            Refusal::new(Reason::UnauthenticatedInvalid, "no principal belongs to this client certificate")
                .meta("spiffe_id", &peer.spiffe)
        })
    }

    fn by_api_key(&self, authorization: &HeaderValue, now: OffsetDateTime) -> RefusalResult<Arc<Principal>> {
        let invalid = || Refusal::new(Reason::UnauthenticatedInvalid, "the API key is not known");
        let key: ApiKey = authorization
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, key)| key.trim().parse().ok())
            .ok_or_else(invalid)?;
        let known = self.by_prefix.get(key.prefix());
        let digest = known.map_or(self.nobody, |credential| credential.digest);
        let proven = key.digest().matches(&digest);
        let credential = known.filter(|_| proven).ok_or_else(invalid)?;
        // Told only to who has proven to hold the key.
        if credential.disabled {
            return Err(Refusal::new(Reason::ApiKeyDisabled, "the API key was disabled").meta("prefix", key.prefix()));
        }
        match credential.expires_at {
            Some(Moment(end)) if end <= now => {
                Err(Refusal::new(Reason::ApiKeyExpired, "the API key has passed its expiry time")
                    .meta("prefix", key.prefix()))
            }
            _ => Ok(credential.principal.clone()),
        }
    }
}

// === impl Principal ===

impl Principal {
    fn new(section: &PrincipalConfig, granted: &HashMap<&str, PermissionSet>, scope: Scope) -> Self {
        let mut permissions = PermissionSet::default();
        for role in &section.roles {
            permissions.extend(granted.get(role.as_str()).cloned().unwrap_or_default());
        }
        let roles = section.roles.iter().cloned().chain(permissions.iter().map(str::to_owned)).collect();
        let caller = Caller { tenant: section.tenant.clone(), principal: section.id.clone(), roles };
        Self { id: section.id.clone(), tenant: section.tenant.clone(), permissions, scope, caller }
    }
}
