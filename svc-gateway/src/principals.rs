//! Who calls: from a certificate, an API key or a token to a principal with its tenant and permissions.

use std::sync::Arc;

use dalp_service::{Caller, PeerIdentity, PrincipalId, Reason, Refusal, TenantId, errors::RefusalResult};
use http::HeaderValue;
use time::OffsetDateTime;

use crate::{
    access::{
        directory::{Directory, Found},
        store::CredentialKey,
    },
    api_key::{ApiKey, KeyDigest},
    config::{LimitsConfig, Scope},
    oidc::Issuers,
    permissions::Granted,
};

/// A principal that may call.
#[derive(Debug)]
pub struct Principal {
    /// Who it is.
    pub id: PrincipalId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The tenant's own rates.
    pub limits: Option<LimitsConfig>,
    /// What its credential is good for.
    pub scope: Scope,
    /// Everything it was granted; shared by all that were granted the same.
    pub granted: Arc<Granted>,
}

/// What is known of a credential.
#[derive(Clone, Debug)]
pub struct Known {
    /// What proves it, if it is an API key.
    pub digest: Option<KeyDigest>,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// It, or its principal, was disabled.
    pub disabled: bool,
    /// Its tenant was disabled.
    pub tenant_disabled: bool,
    /// The cell of its tenant.
    pub cell: String,
    /// For whom it stands.
    pub principal: Arc<Principal>,
}

/// Who was let in.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The principal.
    pub principal: Arc<Principal>,
    /// The database could not be asked: good for reading only.
    pub only_reads: bool,
}

/// From what a request shows to a principal: the one way in.
#[derive(Debug)]
pub struct Authenticator {
    directory: Arc<Directory>,
    issuers: Issuers,
    cell: String,
    /// Compared against when a prefix is unknown, so that the answer takes as long as for a known one.
    nobody: KeyDigest,
}

// === impl Principal ===

impl Principal {
    /// As the services behind the gateway see it: role names, then permissions. A role's name has no colon and a permission always has
    /// one, so the two cannot be taken for each other.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { tenant: self.tenant.clone(), principal: self.id.clone(), roles: self.granted.roles.clone() }
    }
}

// === impl Authenticator ===

impl Authenticator {
    /// Lets in whom `directory` knows, by tokens of `issuers` too, into this gateway's `cell`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, issuers: Issuers, cell: String) -> Self {
        let nobody = "0".repeat(64).parse().expect("64 zeros are a digest");
        Self { directory, issuers, cell, nobody }
    }

    /// The principal behind a request. What is given explicitly goes before the certificate of the connection: a bank's own
    /// proxy may hold the connection for several principals.
    pub async fn authenticate(
        &self,
        peer: Option<&PeerIdentity>,
        authorization: Option<&HeaderValue>,
        now: OffsetDateTime,
    ) -> RefusalResult<Authenticated> {
        let found = match (authorization, peer) {
            (Some(authorization), _) => match bearer(authorization)? {
                text if ApiKey::is_meant(text) => self.by_api_key(text, now).await?,
                token => self.by_token(token, now).await?,
            },
            (None, Some(peer)) => self.by_certificate(peer).await?,
            (None, None) => {
                return Err(Refusal::new(
                    Reason::UnauthenticatedMissing,
                    "send a client certificate, or an API key as `authorization: Bearer dalp_<prefix>_<secret>`, or a token of a configured identity provider",
                ));
            }
        };
        let Found { known, only_reads } = found;
        let principal = known.principal;
        if known.tenant_disabled {
            return Err(
                Refusal::new(Reason::TenantDisabled, "the tenant was disabled").meta("tenant", &principal.tenant)
            );
        }
        if known.cell != self.cell {
            return Err(Refusal::new(
                Reason::TenantElsewhere,
                "the tenant's data is in another cell, which has a gateway of its own",
            )
            .meta("cell", known.cell));
        }
        Ok(Authenticated { principal, only_reads })
    }

    async fn by_certificate(&self, peer: &PeerIdentity) -> RefusalResult<Found> {
        let found = self.directory.find(&CredentialKey::Certificate(peer.spiffe.clone())).await?;
        found.filter(|found| !found.known.disabled).ok_or_else(|| {
            Refusal::new(Reason::UnauthenticatedInvalid, "no principal belongs to this client certificate")
                .meta("spiffe_id", &peer.spiffe)
        })
    }

    async fn by_api_key(&self, text: &str, now: OffsetDateTime) -> RefusalResult<Found> {
        let invalid = || Refusal::new(Reason::UnauthenticatedInvalid, "the API key is not known");
        let key: ApiKey = text.parse().map_err(|_| invalid())?;
        let name = CredentialKey::ApiKey(key.prefix().to_owned());
        let found = self.directory.find(&name).await?;
        let digest = found.as_ref().and_then(|found| found.known.digest).unwrap_or(self.nobody);
        let proven = key.digest().matches(&digest);
        let found = found.filter(|_| proven).ok_or_else(invalid)?;
        // Told only to who has proven to hold the key.
        if found.known.disabled {
            return Err(Refusal::new(Reason::ApiKeyDisabled, "the API key was disabled").meta("prefix", key.prefix()));
        }
        if found.known.expires_at.is_some_and(|end| end <= now) {
            return Err(Refusal::new(Reason::ApiKeyExpired, "the API key has passed its expiry time")
                .meta("prefix", key.prefix()));
        }
        self.directory.used(&name, now);
        Ok(found)
    }

    async fn by_token(&self, token: &str, now: OffsetDateTime) -> RefusalResult<Found> {
        let subject = self.issuers.verify(token, now).await?;
        let name = CredentialKey::Oidc { issuer: subject.issuer, subject: subject.subject };
        let found = self.directory.find(&name).await?;
        found.filter(|found| !found.known.disabled).ok_or_else(|| {
            Refusal::new(Reason::UnauthenticatedInvalid, "no principal belongs to the subject of this token")
        })
    }
}

fn bearer(authorization: &HeaderValue) -> RefusalResult<&str> {
    let text = authorization.to_str().ok().and_then(|text| text.split_once(' '));
    text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim()).ok_or_else(|| {
        Refusal::new(
            Reason::UnauthenticatedInvalid,
            "the authorization metadata is not `Bearer` and an API key or a token",
        )
    })
}
