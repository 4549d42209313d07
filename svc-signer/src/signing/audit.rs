//! The keys that sign the roots of audit logs: one of each tenant, made when it is asked for first.

use uuid::Uuid;

use super::Signer;
use crate::{
    core::payload::AuditRoot,
    errors::SignerError,
    keys::create_key,
    providers::KeyName,
    store::{
        keys::{Creation, KeyPurpose, KeyRecord},
        logs::{Continuation, Follows},
    },
};

/// Names of these keys begin so; nobody else's may.
pub const AUDIT_WALLET_PREFIX: &str = "audit-root-";

// === impl Signer ===

impl Signer {
    /// The key that signs the roots of a tenant's audit log. Once it is disabled, the next one takes its place.
    pub async fn ensure_audit_key(&self, peer: &str, tenant: &str) -> Result<KeyRecord, SignerError> {
        if !self.grants.may_sign_roots(peer) {
            return Err(SignerError::GrantMissing { peer: peer.to_owned(), kind: "audit_root" });
        }
        let mut made = self.store.audit_keys(tenant).await?;
        if let Some(at) = made.iter().position(|key| !key.disabled) {
            return Ok(made.swap_remove(at));
        }
        let wallet = format!("{AUDIT_WALLET_PREFIX}{}", made.len() + 1);
        let creation = Creation {
            name: KeyName { tenant: tenant.to_owned(), wallet: wallet.clone() },
            principal: peer.to_owned(),
            owner: peer.to_owned(),
            // The name stands for the request: whoever asks for the same key at once gets the same.
            idempotency_key: wallet,
            payload_hash: [0; 32],
            purpose: KeyPurpose::AuditRoot,
        };
        let (key, _) = create_key(self, self.providers().active(), &creation).await?;
        Ok(key)
    }

    /// Refuses a root that does not follow the last one of its log, whichever key signed that. What was taken before is not asked again.
    pub(super) async fn require_continued(
        &self,
        id: Uuid,
        root: &AuditRoot,
        shown: &Continuation,
    ) -> Result<(), SignerError> {
        if self.store.request(id).await?.is_some() {
            return Ok(());
        }
        let rewritten = |what, last: crate::store::logs::Last| SignerError::LogRewritten {
            size: root.size,
            what,
            last_size: last.size,
            last_root: last.root,
        };
        match self.store.follow(root, shown).await? {
            Follows::Yes => Ok(()),
            Follows::Shorter(last) => Err(rewritten("is of a shorter log than that", last)),
            Follows::Other(last) => Err(rewritten("is not the one", last)),
            Follows::Not(last) => Err(rewritten("does not continue that", last)),
            Follows::Unproven(last) => Err(SignerError::RootUnproven { last_size: last.size }),
        }
    }
}
