//! Typed reverts: from the bytes a node returns to the name of the error, and for refusals who refused and why.
use std::collections::HashMap;
use std::sync::LazyLock;

use alloy::dyn_abi::{DynSolValue, ErrorExt};
use alloy::json_abi::{Error as AbiError, JsonAbi};
use alloy::primitives::{Address, B256, hex};

use crate::reasons::{Meaning, meaning_of};

/// A decoded revert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the custom error (`ComplianceRefused`, `MissingRole`, `ERC20InsufficientAllowance`, ...), `Error` or `Panic` for
    /// Solidity's own, the selector in hex when unknown (with the data as its only argument), and empty when the contract gave none.
    pub contract_error: String,
    /// Arguments in order, as (name, printed value).
    pub args: Vec<(String, String)>,
    /// Who refused: the token, the identity registry or a rule. Only for `ComplianceRefused`.
    pub module: Option<Address>,
    /// The reason code, for instance `COUNTRY_NOT_ALLOWED`. Only for `ComplianceRefused`.
    pub reason: Option<String>,
}

impl Refusal {
    /// True when compliance (token state, identity or a rule) refused the movement.
    pub fn is_compliance(&self) -> bool {
        self.reason.is_some()
    }

    /// What the error means to a caller; `None` for errors that are none of ours.
    pub fn meaning(&self) -> Option<Meaning> {
        meaning_of(&self.contract_error)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.contract_error.as_str() {
            "" => return f.write_str("no reason given"),
            unknown if unknown.starts_with("0x") => write!(f, "unknown error {unknown}(")?,
            name => write!(f, "{name}(")?,
        }
        for (i, (name, value)) in self.args.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {value}")?;
        }
        write!(f, ")")
    }
}

/// Every custom error of every contract, by selector.
static ERRORS: LazyLock<HashMap<[u8; 4], AbiError>> = LazyLock::new(|| {
    let mut errors: HashMap<[u8; 4], AbiError> = HashMap::new();
    for text in ABIS {
        let abi: JsonAbi =
            serde_json::from_str::<Artifact>(text).expect("committed artifacts are checked by a test").abi;
        errors.extend(abi.errors.into_values().flatten().map(|error| (error.selector().0, error)));
    }
    for (name, kind) in [("Error", "string"), ("Panic", "uint256")] {
        let error = AbiError::parse(&format!("{name}({kind} value)")).expect("a constant signature parses");
        errors.insert(error.selector().0, error);
    }
    errors
});

#[derive(serde::Deserialize)]
struct Artifact {
    abi: JsonAbi,
}

const ABIS: &[&str] = &[
    include_str!("../artifacts/System.json"),
    include_str!("../artifacts/Identity.json"),
    include_str!("../artifacts/IdentityControl.json"),
    include_str!("../artifacts/IdentityFactory.json"),
    include_str!("../artifacts/IdentityRegistry.json"),
    include_str!("../artifacts/RegistryRecords.json"),
    include_str!("../artifacts/RegistryAdministration.json"),
    include_str!("../artifacts/TopicSchemeRegistry.json"),
    include_str!("../artifacts/AssetToken.json"),
    include_str!("../artifacts/AssetTokenCustody.json"),
    include_str!("../artifacts/AssetTokenGovernance.json"),
    include_str!("../artifacts/AssetProxy.json"),
    include_str!("../artifacts/TokenCompliance.json"),
    include_str!("../artifacts/AssetFactory.json"),
    include_str!("../artifacts/CountryRule.json"),
    include_str!("../artifacts/ClaimRule.json"),
    include_str!("../artifacts/ListRule.json"),
    include_str!("../artifacts/HolderLimitRule.json"),
    include_str!("../artifacts/IssuanceRule.json"),
    include_str!("../artifacts/HoldingPeriodRule.json"),
    include_str!("../artifacts/ApprovalRule.json"),
    include_str!("../artifacts/TransferLimitRule.json"),
    include_str!("../artifacts/CollateralRule.json"),
    include_str!("../artifacts/AddonFactory.json"),
    include_str!("../artifacts/Distribution.json"),
    include_str!("../artifacts/Offering.json"),
    include_str!("../artifacts/Servicing.json"),
    include_str!("../artifacts/ServicingLifecycle.json"),
    include_str!("../artifacts/Settlement.json"),
    include_str!("../artifacts/ManagementFee.json"),
    include_str!("../artifacts/TransactionFee.json"),
    include_str!("../artifacts/VotingPower.json"),
    include_str!("../artifacts/Bootstrap.json"),
    include_str!("../artifacts/Create2Deployer.json"),
    include_str!("../artifacts/FeedsDirectory.json"),
    include_str!("../artifacts/IssuerSignedScalarFeed.json"),
    include_str!("../artifacts/IssuerSignedScalarFeedFactory.json"),
    include_str!("../artifacts/ScalarFeedAdapter.json"),
    include_str!("../artifacts/FeedBatch.json"),
    include_str!("../artifacts/SmartAccount.json"),
    include_str!("../artifacts/SmartAccountFactory.json"),
];

/// The most bytes of an unknown error that are shown.
const SHOWN_BYTES: usize = 256;

/// Decodes the data of a revert. Never fails: what cannot be decoded keeps its selector as `contract_error` and its data.
pub fn decode_revert(data: &[u8]) -> Refusal {
    let refusal = |contract_error: String, args| Refusal { contract_error, args, module: None, reason: None };
    let Some(selector) = data.first_chunk::<4>() else {
        return match data {
            [] => refusal(String::new(), Vec::new()),
            short => refusal(hex::encode_prefixed(short), Vec::new()),
        };
    };
    let unknown = || {
        let shown = &data[4..data.len().min(4 + SHOWN_BYTES)];
        refusal(hex::encode_prefixed(selector), vec![("data".to_owned(), hex::encode_prefixed(shown))])
    };
    let Some(error) = ERRORS.get(selector) else { return unknown() };
    let Ok(decoded) = error.decode_error(data) else { return unknown() };
    let refused = error.name == "ComplianceRefused";
    let mut refusal = refusal(error.name.clone(), Vec::new());
    for (input, value) in error.inputs.iter().zip(&decoded.body) {
        match value {
            DynSolValue::Address(module) if refused => refusal.module = Some(*module),
            DynSolValue::FixedBytes(word, _) if refused => refusal.reason = Some(reason_text(*word)),
            // What the called contract refused with, in words where we know them.
            DynSolValue::Bytes(cause) if WITH_CAUSE.contains(&error.name.as_str()) => {
                refusal.args.push(("cause".to_owned(), decode_revert(cause).to_string()));
                continue;
            }
            _ => {}
        }
        refusal.args.push((input.name.clone(), print(value)));
    }
    refusal
}

/// Errors that carry the error of a contract that was called.
const WITH_CAUSE: &[&str] = &["IdentityExecutionFailed", "LegFailed"];

/// Whether a selector is that of an error we know.
#[cfg(test)]
pub(crate) fn name_of(selector: [u8; 4]) -> Option<&'static str> {
    ERRORS.get(&selector).map(|error| error.name.as_str())
}

/// A reason code as text: ASCII up to the first zero byte; hex when a foreign module used something else.
pub fn reason_text(word: B256) -> String {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(32);
    match std::str::from_utf8(&word[..end]) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => word.to_string(),
    }
}

fn print(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Address(address) => address.to_string(),
        DynSolValue::Uint(number, _) => number.to_string(),
        DynSolValue::Int(number, _) => number.to_string(),
        DynSolValue::Bool(flag) => flag.to_string(),
        DynSolValue::String(text) => text.clone(),
        DynSolValue::FixedBytes(word, 32) => reason_text(*word),
        DynSolValue::Bytes(bytes) => hex::encode_prefixed(bytes),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::AssetToken;
    use alloy::primitives::address;
    use alloy::sol_types::SolError;

    const MODULE: Address = address!("0x00000000000000000000000000000000000000aa");

    #[test]
    fn refusal_names_module_and_reason() {
        let data = AssetToken::ComplianceRefused { module: MODULE, reason: crate::roles::book_key("COUNTRY_BLOCKED") };
        let refusal = decode_revert(&data.abi_encode());
        assert_eq!(refusal.contract_error, "ComplianceRefused");
        assert_eq!(refusal.module, Some(MODULE));
        assert_eq!(refusal.reason.as_deref(), Some("COUNTRY_BLOCKED"));
        assert!(refusal.is_compliance());
    }

    #[test]
    fn other_errors_keep_name_and_arguments() {
        let data = AssetToken::NotOwner { caller: MODULE };
        let refusal = decode_revert(&data.abi_encode());
        assert_eq!(refusal.to_string(), format!("NotOwner(caller: {MODULE})"));
        assert!(!refusal.is_compliance());
    }

    #[test]
    fn refusals_of_feeds_keep_their_names() {
        use crate::bindings::IssuerSignedScalarFeed::{InvalidNonce, ValueNotPositive};
        use alloy::primitives::{I256, U256};
        let nonce = InvalidNonce { expected: U256::from(2), given: U256::from(7) };
        assert_eq!(decode_revert(&nonce.abi_encode()).to_string(), "InvalidNonce(expected: 2, given: 7)");
        let value = ValueNotPositive { value: I256::MINUS_ONE };
        assert_eq!(decode_revert(&value.abi_encode()).to_string(), "ValueNotPositive(value: -1)");
    }

    #[test]
    fn solidity_errors_and_garbage_do_not_fail() {
        let require = alloy::sol_types::Revert::from("no").abi_encode();
        assert_eq!(decode_revert(&require).contract_error, "Error");
        assert_eq!(decode_revert(&[]).contract_error, "");
        let truncated = &AssetToken::NotOwner { caller: MODULE }.abi_encode()[..10];
        assert!(decode_revert(truncated).contract_error.starts_with("0x"));
    }

    #[test]
    fn an_unknown_error_is_shown_in_hex() {
        let refusal = decode_revert(&[1, 2, 3, 4, 5]);
        assert_eq!(refusal.contract_error, "0x01020304");
        assert_eq!(refusal.to_string(), "unknown error 0x01020304(data: 0x05)");
        assert_eq!(refusal.meaning(), None);
        assert_eq!(decode_revert(&[0xab, 0xcd]).contract_error, "0xabcd", "too short for a selector");
        let long = decode_revert(&[0xff; 5000]);
        assert_eq!(long.args[0].1.len(), 2 + 2 * SHOWN_BYTES);
    }

    #[test]
    fn the_cause_of_a_failed_leg_is_decoded() {
        use crate::bindings::Settlement::LegFailed;
        use alloy::primitives::U256;
        let failed = |cause: Vec<u8>| LegFailed { leg: U256::from(1), cause: cause.into() }.abi_encode();
        let known = decode_revert(&failed(AssetToken::NotPaused {}.abi_encode()));
        assert_eq!(known.to_string(), "LegFailed(leg: 1, cause: NotPaused())");
        assert_eq!(known.meaning(), Some(Meaning::Reason("CALLED_CONTRACT_FAILED")));
        let unknown = decode_revert(&failed(vec![9, 9, 9, 9]));
        assert_eq!(unknown.args[1].1, "unknown error 0x09090909(data: 0x)");
        assert_eq!(decode_revert(&failed(vec![])).args[1].1, "no reason given");
    }
}
