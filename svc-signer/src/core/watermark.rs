//! One nonce, one intent: what a second request for a nonce must look like.

use alloy::primitives::Address;

use super::payload::UnsignedTransaction;

/// What the signer remembers of the request that holds a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The request.
    pub request_id: uuid::Uuid,
    /// Hash over target, value and calldata of its transaction.
    pub content_hash: [u8; 32],
}

/// A request that wants a nonce which is held.
#[derive(Debug, Clone, Copy)]
pub struct Claimant {
    /// Hash over target, value and calldata.
    pub content_hash: [u8; 32],
    /// Whether it only cancels.
    pub is_cancel: bool,
    /// Whether it names a request that was accepted for this very nonce.
    pub names_the_held_nonce: bool,
}

/// Whether a transaction is a zero-value self-transfer, the only content that may replace another.
#[must_use]
pub fn is_cancel(tx: &UnsignedTransaction, signer: Address) -> bool {
    tx.to().to() == Some(&signer) && tx.value_wei().is_zero() && tx.data().is_empty()
}

/// Whether the claimant may take the nonce over from its holder.
#[must_use]
pub fn may_replace(holder: &Holder, claimant: Claimant) -> bool {
    claimant.names_the_held_nonce && (claimant.is_cancel || claimant.content_hash == holder.content_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_names_the_nonce_and_keeps_the_content_or_cancels() {
        let holder = Holder { request_id: uuid::Uuid::from_u128(1), content_hash: [1; 32] };
        let claimant = Claimant { content_hash: [1; 32], is_cancel: false, names_the_held_nonce: true };
        assert!(may_replace(&holder, claimant));
        assert!(!may_replace(&holder, Claimant { names_the_held_nonce: false, ..claimant }));
        assert!(!may_replace(&holder, Claimant { content_hash: [2; 32], ..claimant }));
        assert!(may_replace(&holder, Claimant { content_hash: [2; 32], is_cancel: true, ..claimant }));
        assert!(!may_replace(&holder, Claimant { is_cancel: true, names_the_held_nonce: false, ..claimant }));
    }
}
