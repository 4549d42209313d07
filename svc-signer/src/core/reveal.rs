//! The call that shows the secret of a settlement: the one place where a secret meets calldata.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol,
    sol_types::{SolCall as _, SolValue as _},
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
    /// It is another settlement than the one it was made for.
    #[error("{0} is not what the secret was made for")]
    OtherTerms(&'static str),
}

/// Something that moves when a secret is shown: asset, from, to, base units.
pub type Movement = (Address, Address, Address, U256);

/// What a secret was made for. It is shown for nothing else: its owner gets by it what was agreed on, or does not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// The chain where it is shown.
    pub chain_id: u64,
    /// The settlement contract there.
    pub contract: Address,
    /// Unix seconds.
    pub cutoff_s: u64,
    /// What moves there, whatever its order: keccak256 of the ABI encoding of the sorted movements.
    pub movements: B256,
}

// === impl Purpose ===

impl Purpose {
    /// What a secret is made for.
    #[must_use]
    pub fn new(chain_id: u64, contract: Address, cutoff_s: u64, mut movements: Vec<Movement>) -> Self {
        movements.sort_unstable();
        Self { chain_id, contract, cutoff_s, movements: keccak256(movements.abi_encode()) }
    }

    /// Over all of it.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256((U256::from(self.chain_id), self.contract, U256::from(self.cutoff_s), self.movements).abi_encode())
    }

    /// In what a call of a contract is for something else.
    fn other(&self, chain_id: u64, target: Option<Address>, terms: &Terms) -> Option<&'static str> {
        // What moves on other chains is looked at there.
        let local = terms.legs.iter().filter(|leg| leg.chainId == 0);
        let movements = local.map(|leg| (leg.asset, leg.from, leg.to, leg.amount)).collect();
        let Some(contract) = target else { return Some("creating a contract") };
        let found = Self::new(chain_id, contract, terms.cutoff.to(), movements);
        [
            (self.chain_id != found.chain_id, "the chain"),
            (self.contract != found.contract, "the contract"),
            (self.cutoff_s != found.cutoff_s, "the cutoff"),
            (self.movements != found.movements, "what moves on the chain"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
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

/// Why a secret that fits is kept all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// Nothing says what it was made for.
    Unbound,
    /// It is later than this, unix seconds.
    TooLate {
        /// Until when it was shown.
        not_after_s: u64,
    },
}

/// Whether a secret may be shown at a time. One that may be public already always may: nothing is kept by keeping it, and whoever shows it last
/// may lose what it was to pay for.
pub fn may_show(has_left: bool, purpose: Option<&Purpose>, not_after_s: u64, now_s: u64) -> Result<(), Withheld> {
    if has_left {
        return Ok(());
    }
    let not_after_s = purpose.ok_or(Withheld::Unbound)?.cutoff_s.min(not_after_s);
    if now_s > not_after_s { Err(Withheld::TooLate { not_after_s }) } else { Ok(()) }
}

/// A call to a contract on a chain.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The chain.
    pub chain_id: u64,
    /// The contract; absent: it is to be created.
    pub target: Option<Address>,
    /// Calldata.
    pub data: &'a Bytes,
}

/// Writes a secret into the call that shows it, if that is the settlement it was made for, locked by its hash.
///
/// `purpose` is absent for one that was shown before secrets had one.
pub fn filled(
    to: Call<'_>,
    purpose: Option<&Purpose>,
    kind: SecretHash,
    secret: &[u8; 32],
) -> Result<Bytes, RevealError> {
    let call = revealCall::abi_decode(to.data).map_err(|_| RevealError::OtherCall)?;
    if !call.secret.is_zero() {
        return Err(RevealError::NotEmpty);
    }
    if call.terms.hashlock != kind.hash(secret) || call.terms.hashKind != kind.number() {
        return Err(RevealError::OtherLock);
    }
    if let Some(what) = purpose.and_then(|purpose| purpose.other(to.chain_id, to.target, &call.terms)) {
        return Err(RevealError::OtherTerms(what));
    }
    Ok(revealCall { secret: B256::from(*secret), ..call }.abi_encode().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const CONTRACT: Address = Address::repeat_byte(5);

    fn leg(to: u8, chain_id: u64) -> Leg {
        let address = Address::repeat_byte;
        Leg { asset: address(1), from: address(2), to: address(to), amount: U256::from(10), chainId: chain_id }
    }

    fn call(kind: SecretHash, secret: B256) -> revealCall {
        let terms = Terms {
            salt: B256::ZERO,
            name: "Pair".to_owned(),
            cutoff: alloy::primitives::aliases::U40::from(9),
            autoExecute: false,
            hashKind: kind.number(),
            hashlock: kind.hash(&SECRET),
            legs: vec![leg(3, 0), leg(4, 0), leg(5, 77)],
        };
        revealCall { terms, secret }
    }

    fn purpose() -> Purpose {
        let [first, second] = [leg(3, 0), leg(4, 0)].map(|leg| (leg.asset, leg.from, leg.to, leg.amount));
        Purpose::new(1, CONTRACT, 9, vec![second, first])
    }

    fn tried(data: &Bytes, kind: SecretHash, secret: &[u8; 32]) -> Result<Bytes, RevealError> {
        filled(Call { chain_id: 1, target: Some(CONTRACT), data }, Some(&purpose()), kind, secret)
    }

    #[test]
    fn a_secret_is_written_only_where_its_hash_stands() {
        for kind in [SecretHash::Keccak256, SecretHash::Sha256] {
            let empty: Bytes = call(kind, B256::ZERO).abi_encode().into();
            let full = tried(&empty, kind, &SECRET).unwrap();
            assert_eq!(full, Bytes::from(call(kind, B256::from(SECRET)).abi_encode()));
            assert_eq!(full.len(), empty.len());
            assert_eq!(tried(&full, kind, &SECRET), Err(RevealError::NotEmpty));
            assert_eq!(tried(&empty, kind, &[8; 32]), Err(RevealError::OtherLock));
        }
        let empty: Bytes = call(SecretHash::Sha256, B256::ZERO).abi_encode().into();
        assert_eq!(tried(&empty, SecretHash::Keccak256, &SECRET), Err(RevealError::OtherLock));
        assert_eq!(tried(&Bytes::from_static(b"anything"), SecretHash::Sha256, &SECRET), Err(RevealError::OtherCall));
    }

    /// A counterparty may open any number of settlements under our hash: the secret is shown for the agreed one alone.
    #[test]
    fn a_secret_is_written_only_for_what_it_was_made_for() {
        let kind = SecretHash::Keccak256;
        let with = |change: &dyn Fn(&mut Terms)| {
            let mut changed = call(kind, B256::ZERO);
            change(&mut changed.terms);
            tried(&changed.abi_encode().into(), kind, &SECRET).map(drop)
        };
        assert_eq!(with(&|terms| terms.legs.reverse()), Ok(()), "in any order");
        assert_eq!(with(&|terms| terms.legs.truncate(2)), Ok(()), "what moves elsewhere is looked at there");
        assert_eq!(with(&|terms| (terms.salt, terms.name) = (B256::repeat_byte(1), "Theirs".to_owned())), Ok(()));
        let moves = Err(RevealError::OtherTerms("what moves on the chain"));
        for change in [
            (|terms: &mut Terms| terms.legs[0].amount -= U256::ONE) as fn(&mut Terms),
            |terms| terms.legs[0].asset = CONTRACT,
            |terms| terms.legs[0].from = CONTRACT,
            |terms| terms.legs[0].to = CONTRACT,
            |terms| terms.legs[0].chainId = 77,
            |terms| terms.legs.push(leg(3, 0)),
            |terms| terms.legs = vec![leg(3, 0)],
            |terms| terms.legs.clear(),
        ] {
            assert_eq!(with(&change), moves);
        }
        let late = |terms: &mut Terms| terms.cutoff = alloy::primitives::aliases::U40::from(10);
        assert_eq!(with(&late), Err(RevealError::OtherTerms("the cutoff")));
        let data: Bytes = call(kind, B256::ZERO).abi_encode().into();
        let at =
            |chain_id, target| filled(Call { chain_id, target, data: &data }, Some(&purpose()), kind, &SECRET).err();
        assert_eq!(at(1, Some(CONTRACT)), None);
        assert_eq!(at(2, Some(CONTRACT)), Some(RevealError::OtherTerms("the chain")));
        assert_eq!(at(1, Some(Address::ZERO)), Some(RevealError::OtherTerms("the contract")));
        assert_eq!(at(1, None), Some(RevealError::OtherTerms("creating a contract")));
    }

    #[test]
    fn a_secret_is_shown_in_time_unless_it_is_out() {
        let bound = purpose();
        let at = |has_left, purpose, not_after_s, now_s| may_show(has_left, purpose, not_after_s, now_s);
        assert_eq!(at(false, Some(&bound), u64::MAX, 9), Ok(()));
        assert_eq!(at(false, Some(&bound), u64::MAX, 10), Err(Withheld::TooLate { not_after_s: 9 }), "the cutoff");
        assert_eq!(at(false, Some(&bound), 5, 6), Err(Withheld::TooLate { not_after_s: 5 }), "the caller's own");
        assert_eq!(at(false, None, u64::MAX, 0), Err(Withheld::Unbound));
        assert_eq!((at(true, Some(&bound), 5, 10), at(true, None, 5, 10)), (Ok(()), Ok(())), "it is public");
    }

    /// As the contract has it, so that the terms mean the same on both sides.
    #[test]
    fn the_function_is_the_contract_s() {
        let signature =
            "reveal((bytes32,string,uint40,bool,uint8,bytes32,(address,address,address,uint256,uint64)[]),bytes32)";
        assert_eq!(revealCall::SIGNATURE, signature);
    }
}
