//! Turns what the contracts answer into failures of the error catalogue.

use crate::{
    domain::{asset::AssetRole, compliance::module_of, system::SystemRole},
    metric_definitions as metric,
    readers::{assets, systems},
};
use alloy::{
    primitives::Address,
    sol_types::{SolCall as _, SolError as _},
};
use dalp_contracts::{
    Refusal,
    bindings::AssetToken,
    decode_revert,
    erc4337::interface::EntryPoint::{FailedOp, FailedOpWithRevert},
    revert::reason_text,
};
use dalp_domain::refusals::failure_of;
use dalp_engine::{Decoder, Failure};
use dalp_service::Reason;

/// Name of the pre-check that asks `AssetToken.preview`.
pub const PREVIEW: &str = "preview";

/// The decoder of this service's contracts.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContractDecoder;

impl Decoder for ContractDecoder {
    fn decode_revert(&self, data: &[u8]) -> Failure {
        if let Some(failure) = of_entry_point(data) {
            return failure;
        }
        let refusal = decode_revert(data);
        if let (Some(module), Some(reason)) = (refusal.module, &refusal.reason) {
            return refused(module, reason);
        }
        let named = failure_of(&refusal);
        match role_of(&refusal) {
            Some((role, granted_by)) => named.with("role", role).with("granted_by", granted_by),
            None => named,
        }
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

/// What an entry point refuses a user operation with, before any call of it is made.
fn of_entry_point(data: &[u8]) -> Option<Failure> {
    let (why, cause) = match FailedOpWithRevert::abi_decode(data) {
        Ok(error) => (error.reason, Some(decode_revert(&error.inner).to_string())),
        Err(_) => (FailedOp::abi_decode(data).ok()?.reason, None),
    };
    let failure = Failure::new(Reason::SimulationReverted.as_str(), format!("the entry point refuses: {why}"));
    let failure = failure.with("contract_error", "FailedOp").with("entry_point_error", why);
    Some(match cause {
        Some(cause) => failure.with("cause", cause),
        None => failure,
    })
}

/// A movement that compliance refuses, with who and why.
fn refused(module: Address, reason: &str) -> Failure {
    let name = module_of(reason);
    metric::refused(name, reason);
    Failure::new(Reason::ComplianceRefused.as_str(), format!("{name} refuses: {reason}"))
        .with("module", name)
        .with("module_address", module.to_checksum(None))
        .with("module_reason", reason)
}

/// The role that was missing, by the name callers know, and how it is obtained.
fn role_of(refusal: &Refusal) -> Option<(&'static str, &'static str)> {
    let mask = |of: &str| refusal.args.iter().find(|(name, _)| name == of).and_then(|(_, value)| value.parse().ok());
    match refusal.contract_error.as_str() {
        "MissingSystemRole" | "SystemUnauthorized" => {
            Some((SystemRole::of_mask(mask("roleMask")?)?.name(), systems::GRANTED_BY))
        }
        "TopicSchemeUnauthorized" => Some((SystemRole::ClaimPolicyManager.name(), systems::GRANTED_BY)),
        "IdentityFactoryUnauthorized" => Some((SystemRole::IdentityManager.name(), systems::GRANTED_BY)),
        "MissingRole" => Some((AssetRole::of_mask(mask("role")?)?.name(), assets::GRANTED_BY)),
        "NotOwner" => Some(("admin", assets::GRANTED_BY)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::{B256, address},
        sol_types::SolValue as _,
    };
    use dalp_contracts::bindings::{
        AssetFactory,
        AssetToken::{ComplianceRefused, MissingRole},
        IdentityFactory,
    };

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
        assert_eq!((failure.reason.as_str(), failure.metadata["role"].as_str()), ("ASSET_ROLE_MISSING", "supply"));
        let missing = AssetFactory::MissingSystemRole { caller: MODULE, roleMask: SystemRole::TokenManager.mask() };
        let failure = ContractDecoder.decode_revert(&missing.abi_encode());
        assert_eq!((failure.reason.as_str(), failure.metadata["role"].as_str()), ("ROLE_MISSING", "token_manager"));
        assert!(failure.metadata["granted_by"].contains("SystemService.GrantRole"));
        let exists = IdentityFactory::IdentityFactoryExists { identity: MODULE }.abi_encode();
        assert_eq!(ContractDecoder.decode_revert(&exists).reason, "IDENTITY_EXISTS");
        assert_eq!(ContractDecoder.decode_revert(&[]).reason, "SIMULATION_REVERTED");
        assert!(ContractDecoder.judge(PREVIEW, &[]).is_err());
    }

    #[test]
    fn an_unknown_error_is_shown_in_hex() {
        let failure = ContractDecoder.decode_revert(&[0xde, 0xad, 0xbe, 0xef, 0x01]);
        assert_eq!(failure.reason, "SIMULATION_REVERTED");
        assert_eq!(
            (failure.metadata["contract_error"].as_str(), failure.metadata["data"].as_str()),
            ("0xdeadbeef", "0x01")
        );
        assert!(failure.message.contains("0xdeadbeef"), "{}", failure.message);
    }

    #[test]
    fn an_entry_point_says_why_it_takes_no_operation() {
        use alloy::primitives::{Bytes, U256};
        let plain = FailedOp { opIndex: U256::ZERO, reason: "AA24 signature error".into() };
        let failure = ContractDecoder.decode_revert(&plain.abi_encode());
        assert_eq!((failure.reason.as_str(), failure.metadata.get("cause")), ("SIMULATION_REVERTED", None));
        assert_eq!(failure.metadata["entry_point_error"], "AA24 signature error");
        let inner = AssetToken::NotPaused {}.abi_encode().into();
        let caused = FailedOpWithRevert { opIndex: U256::ZERO, reason: "AA23 reverted".into(), inner };
        let failure = ContractDecoder.decode_revert(&caused.abi_encode());
        assert_eq!(failure.metadata["cause"], "NotPaused()");
        let none = FailedOpWithRevert { opIndex: U256::ZERO, reason: "AA23 reverted".into(), inner: Bytes::new() };
        assert_eq!(ContractDecoder.decode_revert(&none.abi_encode()).metadata["cause"], "no reason given");
    }
}
