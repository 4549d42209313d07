//! Calls that show the secret of a settlement, without the secret. The signer keeps it until the transaction that shows it is signed: it compares its
//! hash with the terms itself, and asks the attestor about the call with zeros in its place. So neither the attestor nor its nodes know a secret before
//! the chain does, and an attestation of such a call is over the call with zeros.

use alloy::sol_types::SolCall as _;
use contract::revealCall;

#[allow(missing_docs, unreachable_pub)] // its members are the contract's
mod contract {
    alloy::sol! {
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
}

/// Where the secret stands in calldata: behind the selector and the place of the terms.
const SECRET: std::ops::Range<usize> = 36..68;

/// Calldata with zeros in the place of the secret that it shows; `None` of calldata that shows none.
#[must_use]
pub fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    shows(data).then(|| {
        let mut data = data.to_vec();
        data[SECRET].fill(0);
        data
    })
}

/// Whether calldata shows a secret that was left out.
#[must_use]
pub fn is_sealed(data: &[u8]) -> bool {
    shows(data) && data[SECRET].iter().all(|byte| *byte == 0)
}

fn shows(data: &[u8]) -> bool {
    data.starts_with(&revealCall::SELECTOR) && data.len() >= SECRET.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{Address, B256, U256, aliases::U40};
    use contract::{Leg, Terms};

    fn call(secret: B256) -> Vec<u8> {
        let leg =
            Leg { asset: Address::ZERO, from: Address::ZERO, to: Address::ZERO, amount: U256::from(1), chainId: 2 };
        let terms = Terms {
            salt: B256::repeat_byte(1),
            name: "Pair".to_owned(),
            cutoff: U40::from(9),
            autoExecute: false,
            hashKind: 1,
            hashlock: B256::repeat_byte(2),
            legs: vec![leg],
        };
        revealCall { terms, secret }.abi_encode()
    }

    #[test]
    fn a_secret_is_left_out_and_nothing_else() {
        let (shown, empty) = (call(B256::repeat_byte(0xab)), call(B256::ZERO));
        assert_eq!(sealed(&shown), Some(empty.clone()));
        assert_eq!(sealed(&empty), Some(empty.clone()));
        assert!(is_sealed(&empty) && !is_sealed(&shown));
    }

    #[test]
    fn other_calls_are_as_they_are() {
        let mut other = call(B256::ZERO);
        other[0] ^= 1;
        let cut = &call(B256::ZERO)[..67];
        for data in [&other[..], cut, &[], &revealCall::SELECTOR] {
            assert_eq!(sealed(data), None);
            assert!(!is_sealed(data));
        }
    }
}
