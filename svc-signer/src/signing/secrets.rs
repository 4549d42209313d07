//! Secrets of settlements: made and sealed here, told by their hash, and written into the call that shows them.

use alloy::primitives::B256;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{SignOrder, Signer};
use crate::{
    core::{
        digest,
        payload::Payload,
        reveal::{Call, Purpose, SecretHash, Withheld, filled, may_show},
    },
    errors::SignerError,
    providers::local::LocalProvider,
    store::{Leaf, secrets::SealedSecret},
};

/// The secret that a transaction is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reveal {
    /// Under which it was made.
    pub secret_id: Uuid,
    /// Unix seconds after which it is not shown.
    pub not_after_s: u64,
}

// === impl Signer ===

impl Signer {
    /// The hash of a secret, which is made when it is asked for first. It is shown for its purpose alone.
    pub async fn create_secret(
        &self,
        peer: &str,
        tenant: &str,
        id: Uuid,
        kind: SecretHash,
        purpose: Purpose,
    ) -> Result<B256, SignerError> {
        self.may_reveal(peer)?;
        let vault = self.vault()?;
        if self.store.secret(tenant, id).await?.is_none() {
            let (secret, sealed) = vault.make_secret(tenant, (id, Some(&purpose)))?;
            let hash = kind.hash(&secret);
            self.store
                .put_secret(tenant, id, peer, &SealedSecret { kind, hash, sealed, purpose: Some(purpose) })
                .await?;
            self.leaves
                .submit(leaf(
                    peer,
                    tenant,
                    "made",
                    format!("secret {id} of hash {hash} for {} on chain {}", purpose.contract, purpose.chain_id),
                ))
                .await?;
        }
        // Another replica may have been faster.
        let stored = self.store.secret(tenant, id).await?.ok_or(SignerError::SecretNotFound)?;
        if (stored.kind, stored.purpose) != (kind, Some(purpose)) {
            return Err(SignerError::SecretReused);
        }
        Ok(stored.hash)
    }

    /// Writes the secret into the call that is to show it. From here on it is the transaction as it will be signed.
    pub(super) async fn filled(
        &self,
        peer: &str,
        mut order: SignOrder,
        reveal: Reveal,
    ) -> Result<SignOrder, SignerError> {
        self.may_reveal(peer)?;
        let stored = self.store.secret(&order.tenant, reveal.secret_id).await?.ok_or(SignerError::SecretNotFound)?;
        let sealed_for = (reveal.secret_id, stored.purpose.as_ref());
        let secret = self.vault()?.open_secret(&order.tenant, sealed_for, &stored.sealed)?;
        let Payload::Transaction(tx) = &mut order.payload else { return Err(SignerError::SecretNotFound) };
        let (chain_id, target) = (tx.chain_id(), tx.to().into_to());
        let input = tx.data_mut();
        let written = filled(Call { chain_id, target, data: input }, stored.purpose.as_ref(), stored.kind, &secret);
        if let Err(error) = &written {
            let why = format!("secret {} in request {}: {error}", reveal.secret_id, order.request_id);
            self.leaves.submit(leaf(peer, &order.tenant, "refused", why)).await?;
        }
        *input = written?;
        let content = digest::content_hash(tx);
        order.digest = digest::digest(&order.payload).map_err(|_| SignerError::SecretNotFound)?;
        let left = self.has_left(&order, chain_id, content).await?;
        let now_s = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
        if let Err(withheld) = may_show(left, stored.purpose.as_ref(), reveal.not_after_s, now_s) {
            let (why, error) = match withheld {
                Withheld::Unbound => ("is bound to no terms".to_owned(), SignerError::SecretUnbound),
                Withheld::TooLate { not_after_s } => {
                    (format!("is not shown after {not_after_s}"), SignerError::RevealTooLate { not_after_s })
                }
            };
            self.leaves
                .submit(leaf(peer, &order.tenant, "refused", format!("secret {} {why}", reveal.secret_id)))
                .await?;
            return Err(error);
        }
        if left {
            return Ok(order);
        }
        let why = format!("secret {} in request {}", reveal.secret_id, order.request_id);
        self.leaves.submit(leaf(peer, &order.tenant, "shown", why)).await?;
        Ok(order)
    }

    /// Whether the signer has decided to show it in this very call before: this request was accepted, or one of the same key to the same end
    /// was signed, so that the secret may be public. Then nothing is kept by keeping it, and everything may be lost. A request that only names another
    /// one as what it replaces says nothing.
    async fn has_left(&self, order: &SignOrder, chain_id: u64, content: [u8; 32]) -> Result<bool, SignerError> {
        let known = self.store.request(order.request_id).await?;
        if known.is_some_and(|known| known.tenant == order.tenant && known.digest == order.digest.0) {
            return Ok(true);
        }
        Ok(self.store.has_signed(&order.tenant, order.signer, chain_id, content).await?)
    }

    fn may_reveal(&self, peer: &str) -> Result<(), SignerError> {
        match self.grants.may_reveal(peer) {
            true => Ok(()),
            false => Err(SignerError::GrantMissing { peer: peer.to_owned(), kind: "settlement_reveal" }),
        }
    }

    fn vault(&self) -> Result<&LocalProvider, SignerError> {
        self.vault.as_ref().ok_or(SignerError::NothingSeals)
    }
}

fn leaf(peer: &str, tenant: &str, decision: &'static str, reason: String) -> Leaf {
    let (peer, tenant) = (peer.to_owned(), tenant.to_owned());
    Leaf { subject: "secret", tenant, peer, signer: None, request_id: None, decision, reason }
}
