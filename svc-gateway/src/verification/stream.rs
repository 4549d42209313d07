//! A streamed write: its message is known at its end, which is passed on only when something right was shown for this very message.

use std::sync::Arc;

use dalp_service::{PrincipalId, Reason, Refusal, TenantId, errors::RefusalResult};
use sha2::{Digest as _, Sha256};

use super::{
    Code, Factor, Verifier,
    store::{Ask, Person},
    verifier::Passed,
};

/// What a streamed write was let on by, and what passed of it so far.
#[derive(Debug)]
pub(crate) struct Binding {
    verifier: Verifier,
    tenant: TenantId,
    principal: PrincipalId,
    method: Arc<str>,
    key: String,
    /// What was shown; none when it says to be a repeat.
    shown: Option<Factor>,
    seen: Sha256,
}

// === impl Binding ===

impl Binding {
    /// Lets a streamed write begin: as a repeat, or with something right, which is used up by that.
    pub(crate) async fn begin(
        verifier: &Verifier,
        tenant: &TenantId,
        principal: &PrincipalId,
        method: &str,
        key: &str,
        code: RefusalResult<Option<&Code>>,
    ) -> RefusalResult<Self> {
        let person = Person { tenant: tenant.as_str(), principal: principal.as_str() };
        let shown = match verifier.is_key_verified(&Ask { person, method, key }).await? {
            true => None,
            false => match verifier.admit_once(person, method, code).await? {
                Passed::Shown(factor) => Some(factor),
                Passed::Repeat => None,
            },
        };
        Ok(Self {
            verifier: verifier.clone(),
            tenant: tenant.clone(),
            principal: principal.clone(),
            method: method.into(),
            key: key.to_owned(),
            shown,
            seen: Sha256::new(),
        })
    }

    /// Takes in a part of the message.
    pub(crate) fn saw(&mut self, data: &[u8]) {
        self.seen.update(data);
    }

    /// Decides whether the end may be passed on.
    pub(crate) async fn end(self) -> RefusalResult<()> {
        let hash: [u8; 32] = self.seen.finalize().into();
        let person = Person { tenant: self.tenant.as_str(), principal: self.principal.as_str() };
        let ask = Ask { person, method: &self.method, key: &self.key };
        match self.shown {
            Some(factor) => self.verifier.note(&ask, &hash, factor).await,
            None if self.verifier.is_verified(&ask, &hash).await? => Ok(()),
            None => Err(Refusal::new(
                Reason::WalletVerificationRequired,
                "the idempotency key was verified with another message: a verification is good for one write; use another key",
            )),
        }
    }
}
