//! What each custom error of the contracts means to a caller: a reason of the error catalogue, which has a page under
//! `docs/errors`. `docs/contract-errors.md` shows the table.

/// What a custom error means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A reason of the error catalogue.
    Reason(&'static str),
    /// It cannot reach a caller, because of this. Should it all the same, it is a defect of ours.
    Internal(&'static str),
}

/// Errors by the reason they are answered with.
pub const REASONS: &[(&str, &[&str])] = &[
    ("ASSET_ROLE_MISSING", &["MissingRole", "NotApprover", "NotGovernance", "NotOwner"]),
    (
        "ROLE_MISSING",
        &[
            "AccountUnauthorized",
            "FeedsUnauthorized",
            "IdentityExecutionWithoutKey",
            "IdentityFactoryUnauthorized",
            "IdentityUnauthorized",
            "MissingSystemRole",
            "NotGuardian",
            "NotOperator",
            "RegistryUnauthorized",
            "SystemNotAdmin",
            "SystemNotPendingAdmin",
            "SystemUnauthorized",
            "TopicSchemeUnauthorized",
        ],
    ),
    ("WALLET_NOT_OWNED", &["NotRecipient"]),
    ("COMPLIANCE_REFUSED", &["ComplianceRefused"]),
    ("ADDRESS_FROZEN", &["HolderFrozen"]),
    ("UNFROZEN_BALANCE_INSUFFICIENT", &["ERC20InsufficientBalance", "FreeBalanceExceeded"]),
    ("ALLOWANCE_INSUFFICIENT", &["AllowanceInsufficient", "ERC20InsufficientAllowance"]),
    (
        "SIGNATURE_INVALID",
        &[
            "ECDSAInvalidSignature",
            "ECDSAInvalidSignatureLength",
            "ECDSAInvalidSignatureS",
            "ERC2612ExpiredSignature",
            "ERC2612InvalidSigner",
            "InvalidAccountNonce",
            "VotesExpiredSignature",
        ],
    ),
    (
        "INVALID_FIELD",
        &[
            "ApprovalAmountZero",
            "ApprovalExpiryInvalid",
            "BatchOutOfGas",
            "ERC1967InvalidImplementation",
            "ERC20InvalidApprover",
            "ERC20InvalidReceiver",
            "ERC20InvalidSender",
            "ERC20InvalidSpender",
            "ERC5805FutureLookup",
            "FeedDecimalsDiffer",
            "FeedDecimalsTooMany",
            "FeedHistorySizeZero",
            "FeedPinnedElsewhere",
            "GuardianInvalid",
            "IdentityFactoryNotContract",
            "IdentityFactoryZeroAddress",
            "IdentityKeyTypeMismatch",
            "IdentitySchemeUnsupported",
            "IdentityUnknownPurpose",
            "IdentityZeroAddress",
            "InvalidAddress",
            "InvalidCall",
            "InvalidDecimals",
            "InvalidName",
            "InvalidRoles",
            "InvalidSymbol",
            "InvalidTerms",
            "LegNotLocal",
            "LengthMismatch",
            "MultiSignerERC7913AlreadyExists",
            "MultiSignerERC7913InvalidSigner",
            "MultiSignerERC7913NonexistentSigner",
            "MultiSignerERC7913UnreachableThreshold",
            "MultiSignerERC7913WeightedInvalidWeight",
            "MultiSignerERC7913WeightedMismatchedLength",
            "MultiSignerERC7913ZeroThreshold",
            "ReasonMissing",
            "RecordDateInvalid",
            "RegistryLengthMismatch",
            "RegistryNoTopics",
            "RegistryNotContract",
            "RegistryNotMerged",
            "RegistryTopicDuplicate",
            "RegistryZeroAddress",
            "SafeCastOverflowedUintDowncast",
            "SignerInvalid",
            "SignersTooMany",
            "SystemEmptyMask",
            "SystemLengthMismatch",
            "SystemZeroAddress",
            "TopicSchemeEmpty",
            "UUPSUnsupportedProxiableUUID",
        ],
    ),
    (
        "NOT_FOUND",
        &[
            "ApprovalUnknown",
            "FeedNotRegistered",
            "GrantUnknown",
            "IdentityExecutionUnknown",
            "IdentityKeyUnknown",
            "ModuleNotBound",
            "NotAnAsset",
            "NotConfigured",
            "PayoutUnknown",
            "RegistryAgentUnknown",
            "RegistryIssuerUnknown",
            "SettlementUnknown",
        ],
    ),
    (
        "ALREADY_EXISTS",
        &[
            "AddonExists",
            "AlreadyDelivered",
            "AlreadyMatured",
            "AlreadyScheduled",
            "AlreadyUsed",
            "FeedAlreadyRegistered",
            "FeedSaltUsed",
            "IdentityKeyExists",
            "ModuleAlreadyBound",
            "ReclaimAlreadyStarted",
            "RecoveryPending",
            "RegistryIssuerKnown",
            "SaltUsed",
            "SettlementExists",
            "TopicSchemeExists",
        ],
    ),
    (
        "FAILED_PRECONDITION",
        &[
            "AlreadyPaused",
            "FrozenAmountExceeded",
            "HoldTooSmall",
            "IdentityClaimPushed",
            "IdentityLastManagementKey",
            "IdentityTooManyClaims",
            "IdentityTooManyKeys",
            "NotPaused",
            "RecoveryMismatch",
            "RecoveryNotPending",
            "RecoveryTooEarly",
            "RegistryAgentByRole",
            "RegistryOwnershipFollowsSystem",
            "RegistryTooManyIssuers",
            "RegistryTooManyRegistries",
            "RegistryTooManyTopics",
            "TooManyModules",
            "TooManyRecordDates",
            "UpgradeNotScheduled",
            "UpgradeTooEarly",
            "WrongStatus",
        ],
    ),
    ("CALLED_CONTRACT_FAILED", &["FailedCall", "IdentityExecutionFailed", "LegFailed", "SafeERC20FailedOperation"]),
    ("SYMBOL_TAKEN", &["SymbolTaken"]),
    ("MODULE_UNKNOWN", &["NotARule"]),
    (
        "MODULE_PARAMETERS_INVALID",
        &[
            "ClaimExpressionContradiction",
            "ClaimExpressionEmpty",
            "ClaimExpressionEmptyGroup",
            "ClaimExpressionTooManyGroups",
            "ClaimExpressionTooManyTopics",
            "EarlierBalanceFixed",
            "InvalidParams",
        ],
    ),
    ("IDENTITY_EXISTS", &["IdentityFactoryExists", "RegistryAlreadyRegistered", "RegistryRecoveryWalletTaken"]),
    ("IDENTITY_NOT_FOUND", &["RegistryNotRegistered"]),
    ("WALLET_RECOVERED", &["RegistryWalletRecovered"]),
    ("RECOVERY_KEY_MISSING", &["RegistryRecoveryKeyMissing"]),
    ("RECOVERY_REFUSED", &["RecoveryRefused"]),
    ("NOTHING_TO_RECOVER", &["NothingToRecover"]),
    ("TOPIC_UNKNOWN", &["FeedTopicUnknown", "RegistryTopicUnknown", "TopicSchemeUnknown"]),
    ("ISSUER_NOT_TRUSTED", &["IdentityIssuerNotTrusted"]),
    (
        "CLAIM_INVALID",
        &["IdentityClaimExpired", "IdentityClaimInvalid", "IdentityClaimMismatch", "IdentitySignatureNotCanonical"],
    ),
    ("CLAIM_NOT_FOUND", &["IdentityClaimUnknown"]),
    ("SALE_NOT_STARTED", &["SaleNotStarted"]),
    ("SALE_ENDED", &["SaleEnded"]),
    ("SALE_NOT_ACTIVE", &["SaleNotActive"]),
    ("SALE_NOT_ENDED", &["OutcomeOpen", "SaleNotEnded"]),
    ("PURCHASE_BELOW_MINIMUM", &["PurchaseBelowMinimum"]),
    ("ALLOCATION_EXCEEDED", &["AllocationExceeded"]),
    ("HARD_CAP_EXCEEDED", &["CapExceeded", "HardCapExceeded", "HardCapUncovered"]),
    (
        "CURRENCY_UNSUPPORTED",
        &["CurrencyNotExact", "CurrencyTakesFees", "CurrencyUnsupported", "ReentrancyGuardReentrantCall"],
    ),
    ("BUYER_NOT_ELIGIBLE", &["BuyerNotEligible"]),
    ("TERMS_NOT_ACKNOWLEDGED", &["TermsNotAcknowledged"]),
    ("PRICE_MOVED", &["TooFewTokens"]),
    ("SOFT_CAP_NOT_MET", &["SoftCapNotMet"]),
    ("REFUND_NOT_OPEN", &["RefundNotOpen"]),
    ("AIRDROP_NOT_OPEN", &["WindowClosed", "WindowNotClosed", "WindowNotOpen", "WrongKind"]),
    ("AIRDROP_PROOF_INVALID", &["MerkleProofInvalidMultiproof", "ProofInvalid"]),
    ("ALREADY_PAID", &["AlreadyPaid"]),
    ("TREASURY_UNDERFUNDED", &["TreasuryUnderfunded", "Underfunded"]),
    ("PERIOD_NOT_COMPLETE", &["CouponsUnopened", "PeriodNotComplete"]),
    ("PERIOD_ALREADY_PAID", &["PeriodAlreadyPaid"]),
    ("NOTHING_DUE", &["NothingAccrued", "NothingDue"]),
    ("RECORD_BLOCK_NOT_FINAL", &["RecordDateNotPassed", "RecordDateUnknown"]),
    ("FEATURE_NOT_ATTACHED", &["FeatureNotAttached", "NotAttached"]),
    ("NOT_MATURED", &["NotMatured"]),
    ("CUTOFF_PASSED", &["CutoffPassed"]),
    ("CUTOFF_NOT_REACHED", &["CutoffNotReached"]),
    ("NOT_A_LOCAL_SENDER", &["NotALocalParty", "NotALocalSender"]),
    ("ALREADY_APPROVED", &["AlreadyApproved", "AlreadyVoted"]),
    ("NOT_APPROVED", &["NotApproved", "NotLocked", "NotVoted"]),
    ("SECRET_REQUIRED", &["SecretRequired"]),
    ("SECRET_MISMATCH", &["SecretMismatch"]),
    ("CANCEL_NOT_ALLOWED", &["CancelNotAllowed"]),
    ("LEG_NOT_COMPLIANT", &["LegNotCompliant"]),
    ("LEG_BREACHED", &["LegBreached"]),
    ("RECLAIM_NOT_OPEN", &["ReclaimNotStarted", "ReclaimTooEarly"]),
    ("FEED_UPDATE_MISMATCH", &["SchemaHashMismatch", "TopicMismatch"]),
    ("FEED_SIGNATURE_INVALID", &["InvalidSignature", "InvalidSigner", "IssuerNotAuthorized"]),
    ("FEED_NONCE_INVALID", &["InvalidNonce"]),
    ("FEED_DEADLINE_EXPIRED", &["DeadlineExpired"]),
    ("FEED_VALUE_NOT_POSITIVE", &["ValueNotPositive"]),
    ("FEED_OBSERVATION_INVALID", &["InvalidObservedAt", "ObservedAtTooFarInFuture", "StaleObservation"]),
    ("FEED_ROUND_UNAVAILABLE", &["HistoryNotSupported", "RoundNotFound"]),
    ("FEED_SCHEMA_NOT_SCALAR", &["FeedNotScalar", "FeedSchemaNotScalar"]),
];

/// Errors that cannot reach a caller, and why.
pub const INTERNAL: &[(&str, &str)] = &[
    ("AddressEmptyCode", "calls of ours go to contracts that were seen to have code"),
    ("AlreadyBound", "the factory binds a compliance to its token in the transaction that creates both"),
    ("CheckpointUnorderedInsertion", "checkpoints are keyed by time, which does not go back"),
    ("CloneArgumentsTooLong", "the arguments of our clones have a fixed size below the limit"),
    ("Create2EmptyBytecode", "the deployment plan and the factories bring code along"),
    ("ERC1967NonPayable", "no call of ours to a proxy carries value"),
    ("ERC1967ProxyUninitialized", "the factory creates a token's proxy with its initialisation"),
    ("FailedDeployment", "factories ask whether the address is free, and our constructors do not fail"),
    ("IdentityAlreadyInitialized", "the factory initialises an identity in the transaction that creates it"),
    ("InsufficientBalance", "it is about value in the chain's own coin, which our contracts do not send"),
    ("InvalidInitialization", "the factories initialise what they create, once"),
    ("InvalidShortString", "the names in question are constants of the contracts"),
    ("NotAContract", "the bootstrap comes after every contract of its plan was seen to be there"),
    ("NotInitializing", "it guards functions that only an initialiser calls"),
    ("NotTheAssetsCompliance", "only an asset's compliance reports movements, and the asset names it"),
    ("NotToken", "only an asset reports movements to its compliance"),
    ("StringTooLong", "the names in question are constants of the contracts"),
    ("UUPSUnauthorizedCallContext", "upgrades are sent to assets, never to the code behind them"),
];

/// What a custom error means, by its name; `None` when it is none of ours.
#[must_use]
pub fn meaning_of(contract_error: &str) -> Option<Meaning> {
    let reason = REASONS.iter().find(|(_, errors)| errors.contains(&contract_error));
    let internal = || INTERNAL.iter().find(|(error, _)| *error == contract_error);
    reason.map(|(reason, _)| Meaning::Reason(reason)).or_else(|| internal().map(|(_, why)| Meaning::Internal(why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revert::name_of;
    use alloy::json_abi::JsonAbi;
    use std::collections::{BTreeMap, BTreeSet};

    /// Every custom error of every committed ABI, with its selector.
    fn committed() -> BTreeMap<String, BTreeSet<[u8; 4]>> {
        #[derive(serde::Deserialize)]
        struct Artifact {
            abi: JsonAbi,
        }
        let mut errors: BTreeMap<String, BTreeSet<[u8; 4]>> = BTreeMap::new();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts");
        for file in std::fs::read_dir(folder).expect("the artifacts") {
            let path = file.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("readable");
            let abi = serde_json::from_str::<Artifact>(&text).expect("an artifact").abi;
            for error in abi.errors.into_values().flatten() {
                errors.entry(error.name.clone()).or_default().insert(error.selector().0);
            }
        }
        errors
    }

    #[test]
    fn every_error_of_the_contracts_has_a_meaning_and_is_decoded() {
        let errors = committed();
        assert!(errors.len() > 200, "{}", errors.len());
        let missing: Vec<_> = errors.keys().filter(|name| meaning_of(name).is_none()).collect();
        assert!(missing.is_empty(), "neither a reason nor why they cannot reach a caller: {missing:?}");
        for (name, selectors) in &errors {
            for selector in selectors {
                assert_eq!(name_of(*selector), Some(name.as_str()), "revert.rs does not read the artifact with {name}");
            }
        }
    }

    #[test]
    fn the_tables_name_errors_of_the_contracts_once() {
        let errors = committed();
        let named = REASONS.iter().flat_map(|(_, errors)| errors.iter()).chain(INTERNAL.iter().map(|(error, _)| error));
        let mut seen = BTreeSet::new();
        for name in named {
            assert!(errors.contains_key(*name), "{name} is not an error of the contracts");
            assert!(seen.insert(name), "{name} is named twice");
        }
        let reasons: BTreeSet<_> = REASONS.iter().map(|(reason, _)| reason).collect();
        assert_eq!(reasons.len(), REASONS.len(), "a reason is named twice");
    }

    #[test]
    fn the_page_shows_the_table() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contract-errors.md"))
            .expect("docs/contract-errors.md");
        for (reason, errors) in REASONS {
            let row = format!("| [{reason}](errors/{reason}.md) | {} |", errors.join(", "));
            assert!(page.contains(&row), "not in the page: {row}");
        }
        for (error, why) in INTERNAL {
            let row = format!("| {error} | {why} |");
            assert!(page.contains(&row), "not in the page: {row}");
        }
    }
}
