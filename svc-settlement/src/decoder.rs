//! Turns what the contracts answer into failures of the error catalogue.

use dalp_contracts::decode_revert;
use dalp_domain::refusals::failure_of;
use dalp_engine::{Decoder, Failure};
use dalp_service::Reason;

/// The decoder of this service's contracts.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContractDecoder;

impl Decoder for ContractDecoder {
    fn decode_revert(&self, data: &[u8]) -> Failure {
        failure_of(&decode_revert(data))
    }

    fn judge(&self, decoder: &str, _: &[u8]) -> Result<(), Failure> {
        Err(Failure::new(Reason::Internal.as_str(), format!("no rule reads the answer of {decoder}")))
    }
}

/// Why a leg could not move, in words, as it stands in the history.
#[must_use]
pub fn reason_of_revert(data: &[u8]) -> String {
    match data {
        [] => "the currency refused without saying why".to_owned(),
        // PostgreSQL keeps no NUL, and a foreign currency may say anything.
        data => decode_revert(data).to_string().replace('\0', "\u{fffd}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::{Address, U256},
        sol_types::{Revert, SolError as _},
    };
    use dalp_contracts::{
        bindings::{
            AssetToken::ComplianceRefused,
            Settlement::{LegNotCompliant, NotVoted},
        },
        roles::book_key,
    };

    #[test]
    fn a_refusal_keeps_its_arguments() {
        let (module, reason) = (Address::repeat_byte(0xaa), book_key("NOT_REGISTERED"));
        let failure =
            ContractDecoder.decode_revert(&LegNotCompliant { leg: U256::from(3), module, reason }.abi_encode());
        assert_eq!((failure.reason.as_str(), failure.metadata["leg"].as_str()), ("LEG_NOT_COMPLIANT", "3"));
        assert_eq!(failure.metadata["reason"], "NOT_REGISTERED");
        let unvoted = ContractDecoder.decode_revert(&NotVoted { party: module }.abi_encode());
        assert_eq!((unvoted.reason.as_str(), &unvoted.metadata["party"]), ("NOT_APPROVED", &module.to_string()));
        assert!(ContractDecoder.judge("preview", &[]).is_err());
    }

    #[test]
    fn a_leg_that_could_not_move_has_a_reason_in_words() {
        let data = ComplianceRefused { module: Address::ZERO, reason: book_key("CLAIM_MISSING") }.abi_encode();
        assert!(reason_of_revert(&data).contains("CLAIM_MISSING"));
        assert_eq!(reason_of_revert(&[]), "the currency refused without saying why");
        assert!(!reason_of_revert(&Revert::from("a\0b").abi_encode()).contains('\0'));
    }
}
