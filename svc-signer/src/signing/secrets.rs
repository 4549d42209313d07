//! Secrets of settlements: made and sealed here, told by their hash, and written into the call that shows them.

use alloy::primitives::B256;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{SignOrder, Signer};
use crate::{
    core::{
        digest,
        payload::{Payload, UnsignedTransaction},
        reveal::{Call, Purpose, SecretHash, filled},
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
            let (secret, sealed) = vault.make_secret(tenant, id)?;
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
        let now_s = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
        // What was accepted before may have been signed, and a replacement is of something that was.
        let first = order.replaces.is_none() && self.store.request(order.request_id).await?.is_none();
        if first && stored.purpose.is_none() {
            return Err(SignerError::SecretUnbound);
        }
        let not_after_s = stored.purpose.map_or(reveal.not_after_s, |purpose| purpose.cutoff_s.min(reveal.not_after_s));
        if first && now_s > not_after_s {
            let why = format!("secret {} is not shown after {not_after_s}", reveal.secret_id);
            self.leaves.submit(leaf(peer, &order.tenant, "refused", why)).await?;
            return Err(SignerError::RevealTooLate { not_after_s });
        }
        let secret = self.vault()?.open_secret(&order.tenant, reveal.secret_id, &stored.sealed)?;
        let Payload::Transaction(tx) = &mut order.payload else { return Err(SignerError::SecretNotFound) };
        let (chain_id, target) = (tx.chain_id(), tx.to().into_to());
        let input = match tx {
            UnsignedTransaction::Eip1559(tx) => &mut tx.input,
            UnsignedTransaction::Legacy(tx) => &mut tx.input,
        };
        let shown = filled(Call { chain_id, target, data: input }, stored.purpose.as_ref(), stored.kind, &secret);
        if let Err(error) = &shown {
            let why = format!("secret {} in request {}: {error}", reveal.secret_id, order.request_id);
            self.leaves.submit(leaf(peer, &order.tenant, "refused", why)).await?;
        }
        *input = shown?;
        order.digest = digest::digest(&order.payload).map_err(|_| SignerError::SecretNotFound)?;
        if first {
            let why = format!("secret {} in request {}", reveal.secret_id, order.request_id);
            self.leaves.submit(leaf(peer, &order.tenant, "shown", why)).await?;
        }
        Ok(order)
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
