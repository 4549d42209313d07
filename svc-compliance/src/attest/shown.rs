//! Calls that show a secret which the attestor is not told. Without it the settlement refuses them at one place: where it compares the secret. What comes
//! before that the refusal proves, what comes after it the settlement's state does, and that the secret is the one the signer has seen.

use super::ruling::{Veto, veto};
use alloy::{
    primitives::{Address, Bytes},
    sol_types::{SolCall as _, SolError as _},
};
use dalp_attestation::sealed::is_sealed;
use dalp_chain::{CallError, TransactionRequest};
use dalp_contracts::bindings::Settlement::{SecretMismatch, revealCall, statusCall};
use dalp_service::Reason;

/// The number of `BREACHED` among the contract's states.
const BREACHED: u8 = 9;

/// What the chain says of showing a secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// The secret is all that is missing.
    Opens,
    /// A custodian broke a lock: the secret would be out and nothing would move.
    Breached(Veto),
    /// The call fails with any secret.
    Fails(CallError),
    /// The node did not say why the call fails.
    NotTold,
}

/// What to ask beside the call itself, if it shows a secret that was left out: the settlement's state.
#[must_use]
pub fn asked(settlement: Address, data: &[u8]) -> Option<TransactionRequest> {
    if !is_sealed(data) {
        return None;
    }
    let terms = revealCall::abi_decode(data).ok()?.terms;
    Some(TransactionRequest::default().to(settlement).input(statusCall { terms }.abi_encode().into()))
}

/// What the answers to the call and to that question say.
#[must_use]
pub fn judged(call: Result<Bytes, CallError>, state: Result<Bytes, CallError>) -> Shown {
    match call {
        // The hash is that of zeros.
        Ok(_) => {}
        Err(CallError::Revert(data)) if data.starts_with(&SecretMismatch::SELECTOR) => {}
        Err(CallError::Revert(data)) if data.is_empty() => return Shown::NotTold,
        Err(error) => return Shown::Fails(error),
    }
    match state.map(|answer| statusCall::abi_decode_returns(&answer)) {
        Ok(Ok(BREACHED)) => Shown::Breached(veto(
            Reason::LegBreached.as_str(),
            "a lock of the settlement was broken: its secret must not be shown".to_owned(),
        )),
        Ok(Ok(_)) => Shown::Opens,
        Ok(Err(_)) => Shown::NotTold,
        Err(error) => Shown::Fails(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{B256, U256, aliases::U40};
    use dalp_attestation::sealed::sealed;
    use dalp_contracts::bindings::Settlement::{Leg, NotLocked, Terms};

    fn reveal(secret: B256) -> Vec<u8> {
        let leg = Leg { asset: Address::ZERO, from: Address::ZERO, to: Address::ZERO, amount: U256::ONE, chainId: 7 };
        let terms = Terms {
            salt: B256::ZERO,
            name: "Pair".to_owned(),
            cutoff: U40::from(9),
            autoExecute: false,
            hashKind: 1,
            hashlock: B256::repeat_byte(1),
            legs: vec![leg],
        };
        revealCall { terms, secret }.abi_encode()
    }

    #[test]
    fn only_a_call_whose_secret_was_left_out_is_judged_so() {
        let (contract, shown) = (Address::repeat_byte(1), reveal(B256::repeat_byte(2)));
        assert_eq!(asked(contract, &shown), None, "one with its secret is simulated as it is");
        let left_out = sealed(&shown).unwrap();
        assert_eq!(left_out, reveal(B256::ZERO), "the contract's own encoding");
        let request = asked(contract, &left_out).unwrap();
        assert_eq!(request.to, Some(alloy::primitives::TxKind::Call(contract)));
        assert_eq!(asked(contract, &left_out[..80]), None, "terms that cannot be read");
    }

    #[test]
    fn only_the_secret_may_be_missing() {
        let state = |number: u8| Bytes::from(B256::with_last_byte(number).to_vec());
        let reverts = |data: Vec<u8>| CallError::Revert(data.into());
        let mismatch = || reverts(SecretMismatch {}.abi_encode());
        assert_eq!(judged(Err(mismatch()), Ok(state(2))), Shown::Opens);
        assert_eq!(judged(Ok(Bytes::new()), Ok(state(2))), Shown::Opens);
        let breached = judged(Err(mismatch()), Ok(state(BREACHED)));
        assert!(matches!(breached, Shown::Breached(veto) if veto.reason == "LEG_BREACHED"));
        let not_locked = reverts(NotLocked {}.abi_encode());
        assert_eq!(judged(Err(not_locked.clone()), Ok(state(1))), Shown::Fails(not_locked));
        let other = reverts(vec![1, 2, 3, 4]);
        assert_eq!(judged(Err(mismatch()), Err(other.clone())), Shown::Fails(other));
        assert_eq!(judged(Err(reverts(vec![])), Ok(state(2))), Shown::NotTold);
        assert_eq!(judged(Err(mismatch()), Ok(Bytes::from(vec![1]))), Shown::NotTold);
    }
}
