//! The keys that sign the roots of audit logs: one of each tenant, made when it is asked for first.

use dalp_service::Reason;

use super::{SignOrder, Signer, drive::outcome};
use crate::{
    core::payload::{AuditRoot, Payload},
    errors::SignerError,
    keys::create_key,
    providers::KeyName,
    store::{
        keys::{Creation, KeyPurpose, KeyRecord},
        logs::{Follows, Last, Taken},
        requests::{NOT_ASKED, Status, StoredRequest},
    },
};

/// Names of these keys begin so; nobody else's may.
pub const AUDIT_WALLET_PREFIX: &str = "audit-root-";

/// How a root stands to the last one of its log.
const SHORTER: &str = "is of a shorter log than that";
const OTHER: &str = "is not the one";
const UNPROVEN: &str = "nobody has shown that the root continues the last one of its log";

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

    /// Refuses a root that does not follow the last one of its log, whichever key signed that. What was taken before is not asked again; what is
    /// decided, or is another request than the one under the id, is answered without it.
    pub(super) async fn require_continued(&self, order: &SignOrder, hash: [u8; 32]) -> Result<(), SignerError> {
        let Payload::AuditRoot(root) = &order.payload else { return Ok(()) };
        let known = self.store.request(order.request_id).await?;
        if let Some(known) = &known {
            let is_answered = known.status.is_final() || known.payload_hash != hash;
            if is_answered || self.store.taken(root).await? == Taken::Yes {
                return Ok(());
            }
        }
        match self.store.follow(root, &order.continuation).await? {
            Follows::Yes => Ok(()),
            Follows::Shorter(last) => Err(rewritten(root, SHORTER, last)),
            Follows::Other(last) => Err(rewritten(root, OTHER, last)),
            Follows::Not(last) => Err(rewritten(root, "does not continue that", last)),
            Follows::Unproven(last) => Err(SignerError::RootUnproven { last_size: last.size }),
        }
    }

    /// Whoever is about to have a root signed asks here: only one that was taken is, whatever brought it here. `None`: it was.
    pub(super) async fn withheld(
        &self,
        request: &StoredRequest,
        payload: &Payload,
    ) -> Result<Option<StoredRequest>, SignerError> {
        let Payload::AuditRoot(root) = payload else { return Ok(None) };
        let refusal = match self.store.taken(root).await? {
            Taken::Yes => return Ok(None),
            Taken::NotYet if !self.is_late(request) => {
                let waits = outcome(request, Status::Pending, UNPROVEN.to_owned(), NOT_ASKED);
                return self.conclude_if_changed(request.clone(), waits).await.map(Some);
            }
            Taken::NotYet => {
                let error = Reason::AuditRootUnproven.as_str();
                return self.deny_as(request.clone(), UNPROVEN, error).await.map(Some);
            }
            Taken::Never(last) if root.size == last.size => rewritten(root, OTHER, last),
            Taken::Never(last) => rewritten(root, SHORTER, last),
        };
        self.deny_as(request.clone(), &refusal.to_string(), refusal.code().as_str()).await.map(Some)
    }
}

fn rewritten(root: &AuditRoot, what: &'static str, last: Last) -> SignerError {
    SignerError::LogRewritten { size: root.size, what, last_size: last.size, last_root: last.root }
}
