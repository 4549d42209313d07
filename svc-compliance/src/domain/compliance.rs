//! Reading what the rules would say: names, cures and advice of every reason code.

use alloy::primitives::{Address, U256};

/// A movement to judge; a side that is none is a mint or a burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// The token.
    pub asset: Address,
    /// None: mint.
    pub from: Option<Address>,
    /// None: burn.
    pub to: Option<Address>,
    /// Base units.
    pub amount: U256,
    /// By the custodian, against the holder's will.
    pub forced: bool,
}

/// Who can cure a veto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// The holder.
    Holder,
    /// An operator of the asset: issuer, supply, emergency.
    Operator,
    /// Custodian, governance of the rules, identity manager.
    ComplianceOfficer,
    /// An issuer of claims that is trusted for the topic.
    ClaimIssuer,
    /// Nobody.
    Nobody,
}

/// The code of a rule that does not answer; no code of the contracts.
pub const RULE_FAILED: &str = "RULE_FAILED";

/// What can be done about a reason code. One row per code of the contracts; a test compares the table with their sources.
pub const REASONS: &[(&str, Cure, &str)] = &[
    ("TOKEN_PAUSED", Cure::Operator, "the emergency role opens transfers with Unpause"),
    ("SENDER_FROZEN", Cure::ComplianceOfficer, "the custodian lifts the freeze of the sender with SetAddressFrozen"),
    (
        "RECIPIENT_FROZEN",
        Cure::ComplianceOfficer,
        "the custodian lifts the freeze of the receiver with SetAddressFrozen",
    ),
    ("RECIPIENT_INVALID", Cure::Nobody, "tokens cannot be sent to this address"),
    (
        "FEE_COLLECTOR_NOT_VERIFIED",
        Cure::ComplianceOfficer,
        "verify the fee's collector for the asset, or name another",
    ),
    ("BALANCE_TOO_LOW", Cure::Holder, "the sender holds less than the amount; send less, or acquire more first"),
    (
        "FREE_BALANCE_TOO_LOW",
        Cure::ComplianceOfficer,
        "the custodian releases frozen tokens with UnfreezePartial, or send less",
    ),
    (
        "BALANCE_HELD",
        Cure::Operator,
        "the amount is held for a settlement; wait for it, or the custodian breaks the hold",
    ),
    ("WALLET_RECOVERED", Cure::Nobody, "the wallet was recovered from; its successor acts in its place"),
    ("SUPPLY_TOO_LARGE", Cure::Nobody, "the total supply would pass what the token can hold"),
    ("COUNTRY_UNKNOWN", Cure::ComplianceOfficer, "register the receiver with its country"),
    (
        "COUNTRY_NOT_ALLOWED",
        Cure::ComplianceOfficer,
        "the receiver's country is not on the asset's list; correct its registration, or governance changes the list",
    ),
    (
        "COUNTRY_BLOCKED",
        Cure::ComplianceOfficer,
        "the receiver's country is barred for this asset; correct its registration, or governance changes the list",
    ),
    (
        "SENDER_CLAIMS_MISSING",
        Cure::ClaimIssuer,
        "a trusted issuer attests to the sender what the asset's claim rule demands",
    ),
    (
        "RECIPIENT_CLAIMS_MISSING",
        Cure::ClaimIssuer,
        "a trusted issuer attests to the receiver what the asset's claim rule demands",
    ),
    ("ASSET_MATURED", Cure::Nobody, "the asset has matured; holders redeem"),
    (
        "SENDER_NOT_LISTED",
        Cure::ComplianceOfficer,
        "governance puts the sender or its identity on the asset's allow list",
    ),
    (
        "RECIPIENT_NOT_LISTED",
        Cure::ComplianceOfficer,
        "governance puts the receiver or its identity on the asset's allow list",
    ),
    (
        "SENDER_BLOCKED",
        Cure::ComplianceOfficer,
        "governance takes the sender and its identity off the asset's block list",
    ),
    (
        "RECIPIENT_BLOCKED",
        Cure::ComplianceOfficer,
        "governance takes the receiver and its identity off the asset's block list",
    ),
    (
        "HOLDER_LIMIT_REACHED",
        Cure::ComplianceOfficer,
        "the asset has as many holders as it may; wait for one to leave, or governance raises the limit",
    ),
    (
        "HOLDER_LIMIT_OF_COUNTRY_REACHED",
        Cure::ComplianceOfficer,
        "the asset has as many holders from the receiver's country as it may; wait for one to leave, or governance raises the limit",
    ),
    ("HOLDERS_NOT_COUNTED", Cure::Operator, "count the holders from before the rule with CountHolders"),
    ("ISSUANCE_CAP_EXCEEDED", Cure::Operator, "the supply would pass its cap; burn, or raise the cap"),
    ("ISSUANCE_LIFETIME_EXCEEDED", Cure::Operator, "more would be issued than ever may be; burning gives no room back"),
    ("ISSUANCE_WINDOW_EXCEEDED", Cure::Operator, "more would be issued than the window allows; wait, or mint less"),
    ("ISSUANCE_PRICE_UNAVAILABLE", Cure::Operator, "the price feed of the issuance limit gives no usable price"),
    ("ISSUANCE_PRICE_STALE", Cure::Operator, "the price of the issuance limit is too old; have the feed updated"),
    ("HOLDING_PERIOD_NOT_OVER", Cure::Nobody, "the sender has not held so much long enough; wait, or send less"),
    ("TRANSFER_NOT_APPROVED", Cure::ComplianceOfficer, "an approver of the asset approves this movement"),
    ("TRANSFER_APPROVAL_EXPIRED", Cure::ComplianceOfficer, "an approver of the asset approves this movement again"),
    ("TRANSFER_AMOUNT_EXCEEDED", Cure::Holder, "send less at a time"),
    ("HOLDER_VOLUME_EXCEEDED", Cure::Holder, "the sender's volume of the window is used up; wait, or send less"),
    ("TOKEN_VOLUME_EXCEEDED", Cure::Nobody, "the asset's volume of the window is used up; wait, or send less"),
    ("COLLATERAL_MISSING", Cure::ClaimIssuer, "have a trusted issuer attest collateral on the asset's identity"),
    ("COLLATERAL_MALFORMED", Cure::ClaimIssuer, "the collateral attestation holds no amount; have it issued again"),
    ("COLLATERAL_TOO_LOW", Cure::Operator, "raise the collateral and have it attested, or mint less"),
    ("COLLATERAL_PRICE_UNAVAILABLE", Cure::Operator, "the price feed of the collateral rule gives no usable price"),
    ("COLLATERAL_PRICE_STALE", Cure::Operator, "the price of the collateral rule is too old; have the feed updated"),
    ("RULE_NOT_CONFIGURED", Cure::ComplianceOfficer, "governance sets the parameters of the rule, or removes it"),
    ("NOT_REGISTERED", Cure::ComplianceOfficer, "register an identity of the wallet with RegisterIdentity"),
    (
        "POLICY_EMPTY",
        Cure::ComplianceOfficer,
        "name claim topics for the asset or the registry: without any nobody is admitted",
    ),
    ("TOPIC_RETIRED", Cure::ComplianceOfficer, "the claim topic was removed; change the asset's claim topics"),
    ("CLAIM_MISSING", Cure::ClaimIssuer, "an issuer trusted for the topic attests it, for instance after KYC"),
    (
        "ISSUER_NOT_TRUSTED",
        Cure::ComplianceOfficer,
        "the claim's issuer is not trusted; trust it or have a trusted issuer attest",
    ),
    ("CLAIM_EXPIRED", Cure::ClaimIssuer, "the issuer attests it again"),
    ("CLAIM_REVOKED", Cure::ClaimIssuer, "the attestation was revoked; a trusted issuer attests anew"),
    ("CLAIM_MALFORMED", Cure::ClaimIssuer, "the identity presents a malformed claim; its issuer issues it again"),
    ("CLAIM_FORBIDDEN", Cure::Nobody, "the identity carries an attestation that the asset excludes"),
    ("ABSENCE_UNPROVABLE", Cure::Nobody, "the asset excludes an attestation, and a foreign identity could hide it"),
];

// === impl Cure ===

impl Cure {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holder => "holder",
            Self::Operator => "operator",
            Self::ComplianceOfficer => "compliance officer",
            Self::ClaimIssuer => "claim issuer",
            Self::Nobody => "nobody",
        }
    }
}

/// Who can cure a reason, and how. An unknown code is the operator's to look into.
#[must_use]
pub fn cure_of(reason: &str) -> (Cure, &'static str) {
    REASONS
        .iter()
        .find(|(code, ..)| *code == reason)
        .map_or((Cure::Operator, "see the documentation of the rule"), |(_, cure, advice)| (*cure, *advice))
}

/// The name of what refuses with a reason code: the token, the registry, or a rule.
#[must_use]
pub fn module_of(reason: &str) -> &'static str {
    match reason {
        "FEE_COLLECTOR_NOT_VERIFIED" => "TransactionFee",
        "TOKEN_PAUSED"
        | "SENDER_FROZEN"
        | "RECIPIENT_FROZEN"
        | "RECIPIENT_INVALID"
        | "BALANCE_TOO_LOW"
        | "FREE_BALANCE_TOO_LOW"
        | "BALANCE_HELD"
        | "WALLET_RECOVERED"
        | "SUPPLY_TOO_LARGE" => "AssetToken",
        "ASSET_MATURED" => "Servicing",
        "SENDER_CLAIMS_MISSING" | "RECIPIENT_CLAIMS_MISSING" => "ClaimRule",
        "SENDER_NOT_LISTED" | "RECIPIENT_NOT_LISTED" | "SENDER_BLOCKED" | "RECIPIENT_BLOCKED" => "ListRule",
        "HOLDER_LIMIT_REACHED" | "HOLDER_LIMIT_OF_COUNTRY_REACHED" | "HOLDERS_NOT_COUNTED" => "HolderLimitRule",
        "HOLDING_PERIOD_NOT_OVER" => "HoldingPeriodRule",
        "TRANSFER_NOT_APPROVED" | "TRANSFER_APPROVAL_EXPIRED" => "ApprovalRule",
        "TRANSFER_AMOUNT_EXCEEDED" | "HOLDER_VOLUME_EXCEEDED" | "TOKEN_VOLUME_EXCEEDED" => "TransferLimitRule",
        "RULE_NOT_CONFIGURED" => "Rule",
        reason if reason.starts_with("ISSUANCE_") => "IssuanceRule",
        reason if reason.starts_with("COLLATERAL_") => "CollateralRule",
        reason if reason.starts_with("COUNTRY_") => "CountryRule",
        _ => "IdentityRegistry",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_code_of_the_contracts() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../contracts/src/");
        let sources = ["Refusals.sol", "libraries/IdentityReasons.sol"]
            .map(|file| std::fs::read_to_string(format!("{root}{file}")).expect("readable"));
        let codes: Vec<&str> = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter(|line| line.contains("bytes32 internal constant"))
            .filter_map(|line| line.split('"').nth(1))
            .collect();
        assert!(codes.len() > 15, "{codes:?}");
        for code in &codes {
            assert!(REASONS.iter().any(|(known, ..)| known == code), "no cure for {code}");
        }
        for (known, ..) in REASONS {
            assert!(codes.contains(known), "{known} is not a code of the contracts");
        }
    }

    #[test]
    fn the_page_shows_every_code_with_module_and_cure() {
        let page = include_str!("../../../docs/errors/COMPLIANCE_REFUSED.md");
        for (code, cure, advice) in REASONS {
            let module = match module_of(code) {
                "Rule" => "any rule",
                name => name,
            };
            let row = format!("| `{code}` | {module} | {} | {advice} |", cure.name());
            assert!(page.contains(&row), "not in the page: {row}");
        }
    }
}
