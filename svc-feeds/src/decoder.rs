//! Turns what the contracts answer into failures of the error catalogue.

use dalp_contracts::decode_revert;
use dalp_domain::refusals::failure_of;
use dalp_engine::{Decoder, Failure};
use dalp_service::Reason;

/// How the missing right is obtained; stands in the metadata of every refusal for it.
pub const GRANTED_BY: &str =
    "SystemService.GrantRole of feeds_manager; for an asset's own feeds also AssetService.GrantRole of governance";

/// The decoder of this service's contracts.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContractDecoder;

impl Decoder for ContractDecoder {
    fn decode_revert(&self, data: &[u8]) -> Failure {
        failure_of_revert(data)
    }

    fn judge(&self, decoder: &str, _: &[u8]) -> Result<(), Failure> {
        Err(Failure::new(Reason::Internal.as_str(), format!("no rule reads the answer of {decoder}")))
    }
}

/// Revert data as a failure.
#[must_use]
pub fn failure_of_revert(data: &[u8]) -> Failure {
    let refusal = decode_revert(data);
    let failure = failure_of(&refusal);
    match refusal.contract_error.as_str() {
        "FeedsUnauthorized" => failure.with("role", "feeds_manager").with("granted_by", GRANTED_BY),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::{Address, U256},
        sol_types::SolError as _,
    };
    use dalp_contracts::bindings::{FeedsDirectory::FeedsUnauthorized, IssuerSignedScalarFeed::InvalidNonce};

    #[test]
    fn a_refusal_keeps_its_arguments() {
        let data = InvalidNonce { expected: U256::from(3), given: U256::from(9) }.abi_encode();
        let failure = ContractDecoder.decode_revert(&data);
        assert_eq!((failure.reason.as_str(), failure.metadata["expected"].as_str()), ("FEED_NONCE_INVALID", "3"));
        assert_eq!(failure.metadata["contract_error"], "InvalidNonce");
        assert_eq!(crate::flows::expected_nonce(&failure), Some(3));
    }

    #[test]
    fn a_missing_right_says_how_it_is_granted() {
        let data = FeedsUnauthorized { caller: Address::ZERO, subject: Address::ZERO }.abi_encode();
        let failure = failure_of_revert(&data);
        assert_eq!((failure.reason.as_str(), failure.metadata["role"].as_str()), ("ROLE_MISSING", "feeds_manager"));
        assert!(ContractDecoder.judge("preview", &[]).is_err());
    }
}
