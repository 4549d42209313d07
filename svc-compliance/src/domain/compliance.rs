//! Reading what the rules would say: names, cures and advice of every reason code.

/// Who can cure a veto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// The holder.
    Holder,
    /// An operator of the asset.
    Operator,
    /// Nobody.
    Nobody,
}

/// What can be done about a reason code. One row per code of the contracts; a test compares the table with their sources.
pub const REASONS: &[(&str, Cure, &str)] = &[
    ("TOKEN_PAUSED", Cure::Operator, "the emergency role opens transfers with Unpause"),
    ("SENDER_FROZEN", Cure::Operator, "the custodian lifts the freeze of the sender with SetAddressFrozen"),
    ("RECIPIENT_FROZEN", Cure::Operator, "the custodian lifts the freeze of the receiver with SetAddressFrozen"),
    ("RECIPIENT_INVALID", Cure::Nobody, "tokens cannot be sent to this address"),
    ("FEE_COLLECTOR_NOT_VERIFIED", Cure::Operator, "verify the fee's collector for the asset, or name another"),
    ("BALANCE_TOO_LOW", Cure::Holder, "the sender holds less than the amount"),
    ("FREE_BALANCE_TOO_LOW", Cure::Operator, "the custodian releases frozen tokens with UnfreezePartial, or send less"),
    (
        "BALANCE_HELD",
        Cure::Operator,
        "the amount is held for a settlement; wait for it, or the custodian breaks the hold",
    ),
    ("WALLET_RECOVERED", Cure::Nobody, "the wallet was recovered from; its successor acts in its place"),
    ("SUPPLY_TOO_LARGE", Cure::Nobody, "the total supply would pass what the token can hold"),
    ("COUNTRY_UNKNOWN", Cure::Operator, "register the receiver with its country"),
    ("COUNTRY_NOT_ALLOWED", Cure::Nobody, "the receiver's country is not on the asset's list"),
    ("COUNTRY_BLOCKED", Cure::Nobody, "the receiver's country is barred for this asset"),
    ("SENDER_CLAIMS_MISSING", Cure::Holder, "the sender obtains the claims that the asset's claim rule demands"),
    ("RECIPIENT_CLAIMS_MISSING", Cure::Holder, "the receiver obtains the claims that the asset's claim rule demands"),
    ("ASSET_MATURED", Cure::Nobody, "the asset has matured; holders redeem"),
    ("SENDER_NOT_LISTED", Cure::Operator, "governance puts the sender or its identity on the asset's allow list"),
    ("RECIPIENT_NOT_LISTED", Cure::Operator, "governance puts the receiver or its identity on the asset's allow list"),
    ("SENDER_BLOCKED", Cure::Operator, "governance takes the sender and its identity off the asset's block list"),
    ("RECIPIENT_BLOCKED", Cure::Operator, "governance takes the receiver and its identity off the asset's block list"),
    ("HOLDER_LIMIT_REACHED", Cure::Operator, "the asset has as many holders as it may; wait for one to leave"),
    (
        "HOLDER_LIMIT_OF_COUNTRY_REACHED",
        Cure::Operator,
        "the asset has as many holders from the receiver's country as it may",
    ),
    ("HOLDERS_NOT_COUNTED", Cure::Operator, "count the holders from before the rule with HolderLimitRule.sync"),
    ("ISSUANCE_CAP_EXCEEDED", Cure::Operator, "the supply would pass its cap; burn, or raise the cap"),
    ("ISSUANCE_LIFETIME_EXCEEDED", Cure::Operator, "more would be issued than ever may be; burning gives no room back"),
    ("ISSUANCE_WINDOW_EXCEEDED", Cure::Operator, "more would be issued than the window allows; wait, or mint less"),
    ("ISSUANCE_PRICE_UNAVAILABLE", Cure::Operator, "the price feed of the issuance limit gives no usable price"),
    ("ISSUANCE_PRICE_STALE", Cure::Operator, "the price of the issuance limit is too old; have the feed updated"),
    ("HOLDING_PERIOD_NOT_OVER", Cure::Nobody, "the sender has not held so much long enough; wait, or send less"),
    ("TRANSFER_NOT_APPROVED", Cure::Operator, "an approver of the asset approves this movement"),
    ("TRANSFER_APPROVAL_EXPIRED", Cure::Operator, "an approver of the asset approves this movement again"),
    ("TRANSFER_AMOUNT_EXCEEDED", Cure::Holder, "send less at a time"),
    ("HOLDER_VOLUME_EXCEEDED", Cure::Holder, "the sender's volume of the window is used up; wait, or send less"),
    ("TOKEN_VOLUME_EXCEEDED", Cure::Nobody, "the asset's volume of the window is used up; wait, or send less"),
    ("COLLATERAL_MISSING", Cure::Operator, "have a trusted issuer attest collateral on the asset's identity"),
    ("COLLATERAL_MALFORMED", Cure::Operator, "the collateral attestation holds no amount; have it issued again"),
    ("COLLATERAL_TOO_LOW", Cure::Operator, "raise the collateral and have it attested, or mint less"),
    ("RULE_NOT_CONFIGURED", Cure::Operator, "governance sets the parameters of the rule, or removes it"),
    ("NOT_REGISTERED", Cure::Operator, "register the receiver's identity with RegisterIdentity"),
    ("POLICY_EMPTY", Cure::Operator, "name claim topics for the asset or the registry: without any nobody is admitted"),
    ("TOPIC_RETIRED", Cure::Operator, "the claim topic was removed; change the asset's claim topics"),
    ("CLAIM_MISSING", Cure::Holder, "the receiver completes the missing attestation, for instance KYC"),
    (
        "ISSUER_NOT_TRUSTED",
        Cure::Operator,
        "the claim's issuer is not trusted; trust it or have a trusted issuer attest",
    ),
    ("CLAIM_EXPIRED", Cure::Holder, "the receiver renews the expired attestation"),
    ("CLAIM_REVOKED", Cure::Holder, "the attestation was revoked; the receiver obtains a new one"),
    ("CLAIM_MALFORMED", Cure::Holder, "the receiver's identity presents a malformed claim; have it issued again"),
    ("CLAIM_FORBIDDEN", Cure::Nobody, "the receiver carries an attestation that the asset excludes"),
    ("ABSENCE_UNPROVABLE", Cure::Nobody, "the asset excludes an attestation, and a foreign identity could hide it"),
];

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
            let row = format!("| `{code}` | {module} | {} | {advice} |", format!("{cure:?}").to_lowercase());
            assert!(page.contains(&row), "not in the page: {row}");
        }
    }
}
