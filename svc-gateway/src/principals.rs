//! Who calls: from a certificate, an API key or a token to a principal with its tenant and permissions.

use std::{collections::BTreeSet, sync::Arc};

use dalp_service::{Caller, PeerIdentity, PrincipalId, Reason, Refusal, SpiffeId, TenantId, errors::RefusalResult};
use http::HeaderValue;
use time::OffsetDateTime;

use crate::{
    access::{
        directory::{Directory, Found, unavailable},
        store::CredentialKey,
    },
    api_key::{ApiKey, KeyDigest},
    config::{LimitsConfig, Scope},
    oidc::Issuers,
    permissions::Granted,
    verification::Policy,
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
    /// The chains that its tenant works on; empty: whichever the cell serves.
    pub chain_ids: Vec<u64>,
    /// It is a person who signed in at an identity provider.
    pub signed_in: bool,
    /// Of such a person, which writes need a wallet verification, if the tenant says so.
    pub verification: Option<Arc<Policy>>,
    /// Through whose hands the credential went that it was found by.
    pub hands: BTreeSet<String>,
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

/// What somebody was let in by, kept for as long as the call lasts.
#[derive(Clone, Debug)]
pub struct Shown {
    key: CredentialKey,
    /// Of an API key, what it was proven against.
    digest: Option<KeyDigest>,
    /// Of a token, when it ends, with the skew of clocks.
    ends_at: Option<OffsetDateTime>,
}

/// Who was let in.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The principal.
    pub principal: Arc<Principal>,
    /// By what.
    pub shown: Shown,
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

// === impl Shown ===

impl Shown {
    /// The identity of the certificate that was shown, if it was one.
    pub(crate) fn certificate(&self) -> Option<&SpiffeId> {
        match &self.key {
            CredentialKey::Certificate(spiffe) => Some(spiffe),
            _ => None,
        }
    }
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

// === impl Shown ===

#[cfg(test)]
impl Shown {
    /// What lets nobody in.
    pub(crate) fn of_nobody() -> Self {
        Self { key: CredentialKey::ApiKey(String::new()), digest: None, ends_at: None }
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
        let (found, shown) = match (authorization, peer) {
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
        let principal = self.home(&found.known)?;
        Ok(Authenticated { principal, shown, only_reads: found.only_reads })
    }

    /// The principal as it is now, by what it has shown before.
    ///
    /// # Errors
    /// Why it would not be let in by that any more.
    pub async fn again(&self, shown: &Shown, now: OffsetDateTime) -> RefusalResult<Authenticated> {
        let ended = || Refusal::new(Reason::UnauthenticatedInvalid, "the credential of the call has ended");
        if shown.ends_at.is_some_and(|end| end <= now) {
            return Err(Refusal::new(Reason::TokenExpired, "the token has expired"));
        }
        let found = self.directory.find(&shown.key).await?.ok_or_else(ended)?;
        match &shown.key {
            CredentialKey::ApiKey(prefix) => {
                let same = shown.digest.zip(found.known.digest).is_some_and(|(shown, now)| shown.matches(&now));
                if !same {
                    return Err(ended());
                }
                holds(prefix, &found.known, now)?;
            }
            _ if found.known.disabled => return Err(ended()),
            _ => {}
        }
        let principal = self.home(&found.known)?;
        Ok(Authenticated { principal, shown: shown.clone(), only_reads: found.only_reads })
    }

    /// The principal, if its tenant is served here.
    fn home(&self, known: &Known) -> RefusalResult<Arc<Principal>> {
        let principal = Arc::clone(&known.principal);
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
            .meta("cell", &known.cell));
        }
        Ok(principal)
    }

    async fn by_certificate(&self, peer: &PeerIdentity) -> RefusalResult<(Found, Shown)> {
        let key = CredentialKey::Certificate(peer.spiffe.clone());
        let found = self.directory.find(&key).await?.filter(|found| !found.known.disabled).ok_or_else(|| {
            Refusal::new(Reason::UnauthenticatedInvalid, "no principal belongs to this client certificate")
                .meta("spiffe_id", &peer.spiffe)
        })?;
        Ok((found, Shown { key, digest: None, ends_at: None }))
    }

    async fn by_api_key(&self, text: &str, now: OffsetDateTime) -> RefusalResult<(Found, Shown)> {
        let invalid = || Refusal::new(Reason::UnauthenticatedInvalid, "the API key is not known");
        let key: ApiKey = text.parse().map_err(|_| invalid())?;
        let name = CredentialKey::ApiKey(key.prefix().to_owned());
        let found = self.directory.find(&name).await?;
        let digest = found.as_ref().and_then(|found| found.known.digest).unwrap_or(self.nobody);
        let proven = key.digest().matches(&digest);
        // While the database is away nobody who has not proven a key hears whether its prefix is one.
        if !proven && found.as_ref().is_some_and(|found| found.only_reads) {
            return Err(unavailable());
        }
        let found = found.filter(|_| proven).ok_or_else(invalid)?;
        // Told only to who has proven to hold the key.
        holds(key.prefix(), &found.known, now)?;
        self.directory.used(&name, now);
        Ok((found, Shown { key: name, digest: Some(digest), ends_at: None }))
    }

    async fn by_token(&self, token: &str, now: OffsetDateTime) -> RefusalResult<(Found, Shown)> {
        let subject = self.issuers.verify(token, now).await?;
        let key = CredentialKey::Oidc { issuer: subject.issuer, subject: subject.subject };
        let found = self.directory.find(&key).await?.filter(|found| !found.known.disabled).ok_or_else(|| {
            Refusal::new(Reason::UnauthenticatedInvalid, "no principal belongs to the subject of this token")
        })?;
        Ok((found, Shown { key, digest: None, ends_at: Some(subject.ends_at) }))
    }
}

/// Whether a key that was proven lets in.
fn holds(prefix: &str, known: &Known, now: OffsetDateTime) -> RefusalResult<()> {
    if known.disabled {
        return Err(Refusal::new(Reason::ApiKeyDisabled, "the API key was disabled").meta("prefix", prefix));
    }
    if known.expires_at.is_some_and(|end| end <= now) {
        return Err(
            Refusal::new(Reason::ApiKeyExpired, "the API key has passed its expiry time").meta("prefix", prefix)
        );
    }
    Ok(())
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
