//! The call that shows the secret of a settlement: the one place where a secret meets calldata.

use alloy::{
    primitives::{B256, Bytes, keccak256},
    sol,
    sol_types::SolCall as _,
};
use sha2::{Digest as _, Sha256};

sol! {
    struct Leg {
        address asset;
        address from;
        address to;
        uint256 amount;
        uint64 chainId;
    }

    struct Terms {
        bytes32 salt;
        string name;
        uint40 cutoff;
        bool autoExecute;
        uint8 hashKind;
        bytes32 hashlock;
        Leg[] legs;
    }

    function reveal(Terms terms, bytes32 secret) external;
}

/// How a secret is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretHash {
    /// keccak256.
    Keccak256,
    /// SHA-256.
    Sha256,
}

/// Why a secret is not written into calldata.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevealError {
    /// It is another call.
    #[error("must call reveal(terms, secret)")]
    OtherCall,
    /// It carries a secret already.
    #[error("must leave the secret zero: the signer writes it")]
    NotEmpty,
    /// The terms are locked by another hash.
    #[error("the terms are not locked by the hash of this secret")]
    OtherLock,
}

// === impl SecretHash ===

impl SecretHash {
    /// The name under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keccak256 => "keccak256",
            Self::Sha256 => "sha256",
        }
    }

    /// The kind of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Keccak256, Self::Sha256].into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its number in the contract.
    const fn number(self) -> u8 {
        match self {
            Self::Keccak256 => 1,
            Self::Sha256 => 2,
        }
    }

    /// The hash of a secret.
    #[must_use]
    pub fn hash(self, secret: &[u8; 32]) -> B256 {
        match self {
            Self::Keccak256 => keccak256(secret),
            Self::Sha256 => B256::from_slice(&Sha256::digest(secret)),
        }
    }
}

/// Writes a secret into the call that shows it, if the terms of the call are locked by its hash.
pub fn filled(data: &Bytes, kind: SecretHash, secret: &[u8; 32]) -> Result<Bytes, RevealError> {
    let call = revealCall::abi_decode(data).map_err(|_| RevealError::OtherCall)?;
    if !call.secret.is_zero() {
        return Err(RevealError::NotEmpty);
    }
    if call.terms.hashlock != kind.hash(secret) || call.terms.hashKind != kind.number() {
        return Err(RevealError::OtherLock);
    }
    Ok(revealCall { secret: B256::from(*secret), ..call }.abi_encode().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn call(kind: SecretHash, secret: B256) -> revealCall {
        let terms = Terms {
            salt: B256::ZERO,
            name: "Pair".to_owned(),
            cutoff: alloy::primitives::aliases::U40::from(9),
            autoExecute: false,
            hashKind: kind.number(),
            hashlock: kind.hash(&SECRET),
            legs: Vec::new(),
        };
        revealCall { terms, secret }
    }

    #[test]
    fn a_secret_is_written_only_where_its_hash_stands() {
        for kind in [SecretHash::Keccak256, SecretHash::Sha256] {
            let empty: Bytes = call(kind, B256::ZERO).abi_encode().into();
            let full = filled(&empty, kind, &SECRET).unwrap();
            assert_eq!(full, Bytes::from(call(kind, B256::from(SECRET)).abi_encode()));
            assert_eq!(full.len(), empty.len());
            assert_eq!(filled(&full, kind, &SECRET), Err(RevealError::NotEmpty));
            assert_eq!(filled(&empty, kind, &[8; 32]), Err(RevealError::OtherLock));
        }
        let empty: Bytes = call(SecretHash::Sha256, B256::ZERO).abi_encode().into();
        assert_eq!(filled(&empty, SecretHash::Keccak256, &SECRET), Err(RevealError::OtherLock));
        assert_eq!(filled(&Bytes::from_static(b"anything"), SecretHash::Sha256, &SECRET), Err(RevealError::OtherCall));
    }

    /// As the contract has it, so that the terms mean the same on both sides.
    #[test]
    fn the_function_is_the_contract_s() {
        let signature =
            "reveal((bytes32,string,uint40,bool,uint8,bytes32,(address,address,address,uint256,uint64)[]),bytes32)";
        assert_eq!(revealCall::SIGNATURE, signature);
    }
}
