//! The keys that sign the roots of audit logs: one of each tenant, made when it is asked for first.

use super::Signer;
use crate::{
    errors::SignerError,
    keys::create_key,
    providers::KeyName,
    store::keys::{Creation, KeyPurpose, KeyRecord},
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
}
