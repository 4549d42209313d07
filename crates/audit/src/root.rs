//! What the signer's audit key signs: the root of a tenant's log at a size.
//!
//! It is an EIP-712 document whose domain names no chain, so that it is valid on none, and so that the signer, which refuses such documents
//! from everybody, makes a signature over it in no other way.

use alloy::{
    primitives::{Address, B256, Signature, keccak256},
    sol_types::{Eip712Domain, SolStruct as _, eip712_domain},
};

use uuid::Uuid;

use crate::tree::Hash;

alloy::sol! {
    /// As it is signed.
    struct AuditRoot {
        string tenant;
        uint64 size;
        bytes32 root;
        uint64 sealedAt;
    }
}

/// The root of a tenant's log at a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Whose log.
    pub tenant: String,
    /// How many leaves it covers.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// When it was made, in microseconds since 1970, UTC.
    pub sealed_at_us: u64,
}

/// Namespace of the ids under which roots are signed.
const REQUESTS: Uuid = Uuid::from_u128(0x6461_6c70_2e61_7564_8974_2e72_6f6f_7401);

/// The id under which the signer is asked for a root: one of each key and size, so that a key signs one root of a size, for ever.
#[must_use]
pub fn request_id(key: Address, size: u64) -> Uuid {
    Uuid::new_v5(&REQUESTS, format!("{key:#x}/{size}").as_bytes())
}

/// Who may have signed: a public key, or the address that stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditKey(pub Address);

/// A text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a key: expected 0x and the hex digits of an uncompressed public key (65 bytes), or of an address (20 bytes)"
)]
pub struct NotAKey;

fn domain() -> Eip712Domain {
    eip712_domain! { name: "DALP audit log", version: "1", }
}

// === impl Root ===

impl Root {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let message = AuditRoot {
            tenant: self.tenant.clone(),
            size: self.size,
            root: B256::from(self.root),
            sealedAt: self.sealed_at_us,
        };
        message.eip712_signing_hash(&domain())
    }

    /// Who signed it; `None` when the signature is none of anybody.
    #[must_use]
    pub fn signer(&self, signature: &[u8]) -> Option<AuditKey> {
        self.public_key(signature).map(|point| AuditKey::of_point(&point[1..]))
    }

    /// The public key that signed it, uncompressed; `None` when the signature is none of anybody.
    #[must_use]
    pub fn public_key(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let signature = Signature::from_raw(signature).ok()?;
        // The same statement must not have two signatures: what somebody kept would differ from what we show.
        if signature.normalize_s().is_some() {
            return None;
        }
        let key = signature.recover_from_prehash(&self.digest()).ok()?;
        Some(key.to_encoded_point(false).as_bytes().to_vec())
    }
}

// === impl AuditKey ===

impl AuditKey {
    /// The key whose point this is: 64 bytes.
    fn of_point(point: &[u8]) -> Self {
        Self(Address::from_slice(&keccak256(point)[12..]))
    }
}

impl std::str::FromStr for AuditKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = hex::decode(text.trim().trim_start_matches("0x")).map_err(|_| NotAKey)?;
        match bytes.as_slice() {
            [4, point @ ..] if point.len() == 64 => Ok(Self::of_point(point)),
            address if address.len() == 20 => Ok(Self(Address::from_slice(address))),
            _ => Err(NotAKey),
        }
    }
}

impl std::fmt::Display for AuditKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloy::signers::{SignerSync as _, local::PrivateKeySigner};

    pub(crate) fn key() -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap()
    }

    pub(crate) fn signed(root: &Root) -> Vec<u8> {
        key().sign_hash_sync(&root.digest()).unwrap().as_bytes().to_vec()
    }

    fn root() -> Root {
        Root { tenant: "acme".into(), size: 3, root: [1; 32], sealed_at_us: 1_763_856_000_000_000 }
    }

    /// Written out by hand as EIP-712 says, so that the library is not held against itself.
    #[test]
    fn the_digest_is_that_of_the_standard() {
        let word = |number: u64| B256::left_padding_from(&number.to_be_bytes());
        let domain =
            [keccak256("EIP712Domain(string name,string version)"), keccak256("DALP audit log"), keccak256("1")]
                .concat();
        let message = [
            keccak256("AuditRoot(string tenant,uint64 size,bytes32 root,uint64 sealedAt)"),
            keccak256("acme"),
            word(3),
            B256::repeat_byte(1),
            word(1_763_856_000_000_000),
        ]
        .concat();
        let digest = keccak256([&[0x19, 0x01], keccak256(domain).as_slice(), keccak256(message).as_slice()].concat());
        assert_eq!(root().digest(), digest);
    }

    #[test]
    fn a_signature_is_that_of_one_key_over_every_field() {
        let signature = signed(&root());
        let by = AuditKey(key().address());
        assert_eq!(root().signer(&signature), Some(by));
        let point = key().credential().verifying_key().to_encoded_point(false);
        assert_eq!(root().public_key(&signature).as_deref(), Some(point.as_bytes()));
        for other in [
            Root { tenant: "other".into(), ..root() },
            Root { size: 4, ..root() },
            Root { root: [2; 32], ..root() },
            Root { sealed_at_us: 1, ..root() },
        ] {
            assert_ne!(other.signer(&signature), Some(by));
        }
        assert_eq!(root().signer(&signature[1..]), None);
    }

    #[test]
    fn a_key_is_told_by_its_point_or_its_address() {
        let point = key().credential().verifying_key().to_encoded_point(false);
        let text = format!("0x{}", hex::encode(point.as_bytes()));
        let by_point: AuditKey = text.parse().unwrap();
        assert_eq!(by_point, AuditKey(key().address()));
        assert_eq!(key().address().to_string().parse(), Ok(by_point));
        for wrong in ["", "0x", "0x04", "zz", &text[..text.len() - 2]] {
            assert_eq!(wrong.parse::<AuditKey>(), Err(NotAKey));
        }
    }
}
