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

/// Revert data in words, as it stands beside a recipient that was skipped.
#[must_use]
pub fn reason_of_revert(data: &[u8]) -> String {
    match data {
        [] => "the token refused without saying why".to_owned(),
        data => decode_revert(data).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::{Address, U256},
        sol_types::SolError as _,
    };
    use dalp_contracts::bindings::Distribution::{AlreadyPaid, NotRecipient};

    #[test]
    fn a_refusal_keeps_its_arguments() {
        let failure = ContractDecoder.decode_revert(&AlreadyPaid { index: U256::from(3) }.abi_encode());
        assert_eq!((failure.reason.as_str(), failure.metadata["index"].as_str()), ("ALREADY_PAID", "3"));
        assert!(ContractDecoder.judge("preview", &[]).is_err());
    }

    #[test]
    fn a_skipped_recipient_has_a_reason_in_words() {
        let data = NotRecipient { caller: Address::ZERO, account: Address::ZERO }.abi_encode();
        assert!(reason_of_revert(&data).starts_with("NotRecipient("));
        assert_eq!(reason_of_revert(&[]), "the token refused without saying why");
    }
}
