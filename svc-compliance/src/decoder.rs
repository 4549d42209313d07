//! Turns what the contracts answer into failures of the error catalogue.

use crate::domain::compliance::module_of;
use alloy::{primitives::Address, sol_types::SolCall as _};
use dalp_contracts::{bindings::AssetToken, decode_revert, revert::reason_text};
use dalp_engine::{Decoder, Failure};
use dalp_service::Reason;

/// Name of the pre-check that asks `AssetToken.preview`.
pub const PREVIEW: &str = "preview";

/// The decoder of this service's contracts.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContractDecoder;

impl Decoder for ContractDecoder {
    fn decode_revert(&self, data: &[u8]) -> Failure {
        let refusal = decode_revert(data);
        if let (Some(module), Some(reason)) = (refusal.module, &refusal.reason) {
            return refused(module, reason);
        }
        let reason = reason_of(&refusal.contract_error);
        let message = match refusal.contract_error.as_str() {
            "" => "the contract refused without saying why".to_owned(),
            _ => format!("the contract refused: {refusal}"),
        };
        let named = Failure::new(reason.as_str(), message).with("contract_error", &refusal.contract_error);
        refusal
            .args
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .fold(named, |failure, (name, value)| failure.with(name.clone(), value))
    }

    fn judge(&self, decoder: &str, answer: &[u8]) -> Result<(), Failure> {
        if decoder != PREVIEW {
            return Err(Failure::new(Reason::Internal.as_str(), format!("no rule reads the answer of {decoder}")));
        }
        let verdict = AssetToken::previewCall::abi_decode_returns(answer)
            .map_err(|_| Failure::new(Reason::NotFound.as_str(), "the address does not answer like an asset"))?;
        match verdict.reason.is_zero() {
            true => Ok(()),
            false => Err(refused(verdict.module, &reason_text(verdict.reason))),
        }
    }
}

/// A movement that compliance refuses, with who and why.
fn refused(module: Address, reason: &str) -> Failure {
    let name = module_of(reason);
    Failure::new(Reason::ComplianceRefused.as_str(), format!("{name} refuses: {reason}"))
        .with("module", name)
        .with("module_address", module.to_checksum(None))
        .with("module_reason", reason)
}

fn reason_of(contract_error: &str) -> Reason {
    match contract_error {
        "MissingRole" | "NotOwner" | "NotGovernance" => Reason::AssetRoleMissing,
        "MissingSystemRole"
        | "SystemUnauthorized"
        | "IdentityFactoryUnauthorized"
        | "RegistryUnauthorized"
        | "TopicSchemeUnauthorized"
        | "IdentityUnauthorized" => Reason::RoleMissing,
        "SymbolTaken" => Reason::SymbolTaken,
        "RegistryAlreadyRegistered" | "FailedDeployment" => Reason::IdentityExists,
        "RegistryNotRegistered" => Reason::IdentityNotFound,
        "RegistryTopicUnknown" | "TopicSchemeUnknown" => Reason::TopicUnknown,
        "TopicSchemeExists" | "RegistryIssuerKnown" | "IdentityKeyExists" | "ModuleAlreadyBound" => {
            Reason::AlreadyExists
        }
        "RegistryIssuerUnknown" | "IdentityKeyUnknown" | "ModuleNotBound" | "NotAnAsset" => Reason::NotFound,
        "IdentityIssuerNotTrusted" => Reason::IssuerNotTrusted,
        "IdentityClaimInvalid" | "IdentityClaimExpired" => Reason::ClaimInvalid,
        "NotARule" => Reason::ModuleUnknown,
        name if name == "InvalidParams" || name.starts_with("ClaimExpression") => Reason::ModuleParametersInvalid,
        _ => Reason::SimulationReverted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::{B256, address},
        sol_types::{SolError as _, SolValue as _},
    };
    use dalp_contracts::bindings::AssetToken::{ComplianceRefused, MissingRole};

    const MODULE: Address = address!("0x00000000000000000000000000000000000000aa");

    fn word(text: &str) -> B256 {
        let mut word = [0; 32];
        word[..text.len()].copy_from_slice(text.as_bytes());
        B256::new(word)
    }

    #[test]
    fn a_refusal_names_module_and_reason() {
        let failure = ContractDecoder
            .decode_revert(&ComplianceRefused { module: MODULE, reason: word("COUNTRY_BLOCKED") }.abi_encode());
        assert_eq!(failure.reason, "COMPLIANCE_REFUSED");
        assert_eq!(
            (failure.metadata["module"].as_str(), failure.metadata["module_reason"].as_str()),
            ("CountryRule", "COUNTRY_BLOCKED")
        );
        let judged = ContractDecoder.judge(PREVIEW, &(MODULE, word("CLAIM_MISSING")).abi_encode()).unwrap_err();
        assert_eq!(
            (judged.reason.as_str(), judged.metadata["module"].as_str()),
            ("COMPLIANCE_REFUSED", "IdentityRegistry")
        );
        assert_eq!(ContractDecoder.judge(PREVIEW, &(Address::ZERO, B256::ZERO).abi_encode()), Ok(()));
    }

    #[test]
    fn other_errors_have_their_reason() {
        let failure = ContractDecoder
            .decode_revert(&MissingRole { caller: MODULE, role: alloy::primitives::U256::from(2) }.abi_encode());
        assert_eq!(failure.reason, "ASSET_ROLE_MISSING");
        assert_eq!(ContractDecoder.decode_revert(&[]).reason, "SIMULATION_REVERTED");
        assert!(ContractDecoder.judge(PREVIEW, &[]).is_err());
    }
}
