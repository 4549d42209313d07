//! What the attestor and the signer must agree on: what is judged, how a judgement reads, and the one hash over both. All of it is pure.
//!
//! - [`Subject`]: the payload in the terms that a judgement is bound to.
//! - [`Judgement`], [`attestation_hash`]: the verdict, and what binds it to its subject.
//! - [`sealed`]: calls that show a secret, without it.
//! - [`wire`]: messages to these types and back; [`wire::accept`] is what the signer asks before it believes an answer.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod sealed;
pub mod wire;

use alloy::{
    primitives::{Address, B256, U256, eip191_hash_message, keccak256},
    sol_types::SolValue as _,
};
use uuid::Uuid;

/// Separates this hash from every other one, and one version of its layout from the next.
const DOMAIN: &str = "dalp.attestation.v1(uint8 kind,bytes32 tenant,uint256 chainId,uint128 requestId,address sender,bool creates,address target,\
     uint256 valueWei,bytes32 content,uint256 blockNumber,bytes32 blockHash,bytes32 ruleset,uint8 verdict,uint256 expiresAt)";

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An EVM transaction.
    Call,
    /// An EIP-712 document.
    Document,
    /// An ERC-735 claim.
    Claim,
}

/// A payload in the terms that a judgement is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// Owner of the key.
    pub tenant: String,
    /// EIP-155 chain id; 0 where the payload names none.
    pub chain_id: u64,
    /// The sign request.
    pub request_id: Uuid,
    /// The key.
    pub sender: Address,
    /// Called contract, verifying contract of a document, identity of a claim; absent for a creation, or a document that names none.
    pub target: Option<Address>,
    /// Native amount.
    pub value_wei: U256,
    /// keccak256 of calldata, or what the key signs of a document or claim.
    pub content: B256,
}

/// Whether a payload may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Pass,
    /// It must not.
    Veto,
}

/// A verdict, where it was reached, under which rules, and until when it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Height of the block.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: B256,
    /// Hash of the rules' canonical form.
    pub ruleset: B256,
    /// Unix seconds.
    pub expires_at_s: u64,
}

/// A judgement bound to its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    /// The judgement.
    pub judgement: Judgement,
    /// What [`attestation_hash`] gave of it and its subject.
    pub hash: B256,
}

/// The hash that binds a judgement to its subject. Both sides compute it; neither believes the other's.
#[must_use]
pub fn attestation_hash(subject: &Subject, judgement: &Judgement) -> B256 {
    let words = (
        keccak256(DOMAIN),
        U256::from(subject.kind.number()),
        keccak256(subject.tenant.as_bytes()),
        U256::from(subject.chain_id),
        U256::from(subject.request_id.as_u128()),
        subject.sender,
        subject.target.is_none(),
        subject.target.unwrap_or_default(),
        subject.value_wei,
        subject.content,
        U256::from(judgement.block_number),
        judgement.block_hash,
        judgement.ruleset,
    );
    // A tuple ends at so many words; the two last follow as words of their own.
    let rest = (U256::from(judgement.verdict.number()), U256::from(judgement.expires_at_s));
    keccak256([words.abi_encode_params(), rest.abi_encode_params()].concat())
}

/// What a claim's issuer signs: the eth-signed hash of `abi.encode(identity, topic, data)`.
#[must_use]
pub fn claim_digest(identity: Address, topic: B256, data: &[u8]) -> B256 {
    let encoded = (identity, topic, alloy::primitives::Bytes::copy_from_slice(data)).abi_encode_params();
    eip191_hash_message(keccak256(encoded))
}

// === impl Kind ===

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Document => 2,
            Self::Claim => 3,
        }
    }
}

// === impl Verdict ===

impl Verdict {
    const fn number(self) -> u8 {
        match self {
            Self::Pass => 1,
            Self::Veto => 2,
        }
    }

    /// As stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Veto => "VETO",
        }
    }

    /// As stored.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Pass, Self::Veto].into_iter().find(|verdict| verdict.as_str() == text)
    }
}

// === impl Attestation ===

impl Attestation {
    /// Binds a judgement to its subject.
    #[must_use]
    pub fn of(subject: &Subject, judgement: Judgement) -> Self {
        Self { judgement, hash: attestation_hash(subject, &judgement) }
    }

    /// Whether it is a pass over this very subject that may be used at this time.
    #[must_use]
    pub fn covers(&self, subject: &Subject, now_s: u64) -> bool {
        self.judgement.verdict == Verdict::Pass
            && self.judgement.expires_at_s > now_s
            && self.hash == attestation_hash(subject, &self.judgement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            kind: Kind::Call,
            tenant: "bank".to_owned(),
            chain_id: 1,
            request_id: Uuid::from_u128(7),
            sender: Address::repeat_byte(1),
            target: Some(Address::repeat_byte(2)),
            value_wei: U256::ZERO,
            content: B256::repeat_byte(3),
        }
    }

    fn judgement() -> Judgement {
        Judgement {
            verdict: Verdict::Pass,
            block_number: 5,
            block_hash: B256::repeat_byte(4),
            ruleset: B256::repeat_byte(5),
            expires_at_s: 100,
        }
    }

    #[test]
    fn the_hash_binds_every_field() {
        let of = |change: fn(&mut Subject, &mut Judgement)| {
            let (mut subject, mut judgement) = (subject(), judgement());
            change(&mut subject, &mut judgement);
            attestation_hash(&subject, &judgement)
        };
        let hashes = [
            of(|_, _| {}),
            of(|subject, _| subject.kind = Kind::Document),
            of(|subject, _| subject.tenant = "bank2".to_owned()),
            of(|subject, _| subject.chain_id = 2),
            of(|subject, _| subject.request_id = Uuid::from_u128(8)),
            of(|subject, _| subject.sender = Address::repeat_byte(9)),
            of(|subject, _| subject.target = Some(Address::repeat_byte(9))),
            of(|subject, _| subject.target = None),
            of(|subject, _| subject.target = Some(Address::ZERO)),
            of(|subject, _| subject.value_wei = U256::from(1)),
            of(|subject, _| subject.content = B256::repeat_byte(9)),
            of(|_, judgement| judgement.block_number = 6),
            of(|_, judgement| judgement.block_hash = B256::repeat_byte(9)),
            of(|_, judgement| judgement.ruleset = B256::repeat_byte(9)),
            of(|_, judgement| judgement.verdict = Verdict::Veto),
            of(|_, judgement| judgement.expires_at_s = 101),
        ];
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn only_a_pass_over_the_same_subject_in_time_covers_it() {
        let attestation = Attestation::of(&subject(), judgement());
        assert!(attestation.covers(&subject(), 99));
        assert!(!attestation.covers(&subject(), 100), "expired");
        assert!(!attestation.covers(&Subject { request_id: Uuid::from_u128(8), ..subject() }, 99), "replayed");
        let veto = Attestation::of(&subject(), Judgement { verdict: Verdict::Veto, ..judgement() });
        assert!(!veto.covers(&subject(), 99));
        let turned = Attestation { judgement: judgement(), ..veto };
        assert!(!turned.covers(&subject(), 99), "a veto's hash under a pass");
    }
}
