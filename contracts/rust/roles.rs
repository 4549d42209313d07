//! Role bits and address-book keys, equal to `src/Roles.sol`.
use alloy::primitives::{B256, U256};

/// Roles of a tenant's `System`.
pub mod system {
    use super::U256;
    /// Daily administration: address book and every role but this one.
    pub const PLATFORM_ADMIN: U256 = U256::from_limbs([1, 0, 0, 0]);
    /// Identities and registrations.
    pub const IDENTITY_MANAGER: U256 = U256::from_limbs([2, 0, 0, 0]);
    /// Creates assets.
    pub const TOKEN_MANAGER: U256 = U256::from_limbs([4, 0, 0, 0]);
    /// Compliance defaults.
    pub const COMPLIANCE_MANAGER: U256 = U256::from_limbs([8, 0, 0, 0]);
    /// Topics, trusted issuers, policies.
    pub const CLAIM_POLICY_MANAGER: U256 = U256::from_limbs([16, 0, 0, 0]);
    /// Feeds.
    pub const FEEDS_MANAGER: U256 = U256::from_limbs([32, 0, 0, 0]);
    /// Every role besides `PLATFORM_ADMIN`.
    pub const ALL_MANAGERS: U256 = U256::from_limbs([62, 0, 0, 0]);
}

/// Roles of one asset; none implies another.
pub mod asset {
    use super::U256;
    /// Upgrades, terms, rules.
    pub const GOVERNANCE: U256 = U256::from_limbs([1, 0, 0, 0]);
    /// Mint and burn.
    pub const SUPPLY: U256 = U256::from_limbs([2, 0, 0, 0]);
    /// Freeze, forced transfer, recovery.
    pub const CUSTODIAN: U256 = U256::from_limbs([4, 0, 0, 0]);
    /// Pause and unpause.
    pub const EMERGENCY: U256 = U256::from_limbs([8, 0, 0, 0]);
    /// Sells through offerings.
    pub const SALE: U256 = U256::from_limbs([16, 0, 0, 0]);
    /// Moves the treasury.
    pub const FUNDS: U256 = U256::from_limbs([32, 0, 0, 0]);
    /// Takes fees out of free balances: for fee features, never for people.
    pub const FEES: U256 = U256::from_limbs([64, 0, 0, 0]);
    /// All of them.
    pub const ALL: U256 = U256::from_limbs([127, 0, 0, 0]);
}

/// Key of the `System` address book: the name as ASCII, padded with zeros.
///
/// # Panics
/// At compile time (const use) or run time when `name` is longer than 32 bytes.
pub const fn book_key(name: &str) -> B256 {
    let bytes = name.as_bytes();
    assert!(bytes.len() <= 32, "an address-book name has at most 32 bytes");
    let mut word = [0_u8; 32];
    let mut i = 0;
    while i < bytes.len() {
        word[i] = bytes[i];
        i += 1;
    }
    B256::new(word)
}

/// Keys of the contracts that `Bootstrap` registers.
pub mod names {
    use super::{B256, book_key};
    /// The merged identity registry.
    pub const IDENTITY_REGISTRY: B256 = book_key("IdentityRegistry");
    /// The identity factory.
    pub const IDENTITY_FACTORY: B256 = book_key("IdentityFactory");
    /// The topic scheme registry.
    pub const TOPIC_SCHEMES: B256 = book_key("TopicSchemeRegistry");
    /// The asset factory.
    pub const ASSET_FACTORY: B256 = book_key("AssetFactory");
    /// The country rule.
    pub const COUNTRY_RULE: B256 = book_key("CountryRule");
    /// The claim rule.
    pub const CLAIM_RULE: B256 = book_key("ClaimRule");
    /// The list rule.
    pub const LIST_RULE: B256 = book_key("ListRule");
    /// The holder limit rule.
    pub const HOLDER_LIMIT_RULE: B256 = book_key("HolderLimitRule");
    /// The issuance rule.
    pub const ISSUANCE_RULE: B256 = book_key("IssuanceRule");
    /// The holding period rule.
    pub const HOLDING_PERIOD_RULE: B256 = book_key("HoldingPeriodRule");
    /// The approval rule.
    pub const APPROVAL_RULE: B256 = book_key("ApprovalRule");
    /// The transfer limit rule.
    pub const TRANSFER_LIMIT_RULE: B256 = book_key("TransferLimitRule");
    /// The collateral rule.
    pub const COLLATERAL_RULE: B256 = book_key("CollateralRule");
    /// Which feed speaks for a subject and topic.
    pub const FEEDS_DIRECTORY: B256 = book_key("FeedsDirectory");
    /// Creates issuer-signed scalar feeds.
    pub const SCALAR_FEED_FACTORY: B256 = book_key("IssuerSignedScalarFeedFactory");
    /// Many feed updates in one transaction.
    pub const FEED_BATCH: B256 = book_key("FeedBatch");
    /// Creates ERC-4337 accounts.
    pub const SMART_ACCOUNT_FACTORY: B256 = book_key("SmartAccountFactory");
    /// Creates airdrops, sales and treasuries.
    pub const ADDON_FACTORY: B256 = book_key("AddonFactory");
    /// Exchanges value for value.
    pub const SETTLEMENT: B256 = book_key("Settlement");
    /// The yearly fee that assets may have attached.
    pub const MANAGEMENT_FEE: B256 = book_key("ManagementFee");
    /// The fee per transfer that assets may have attached.
    pub const TRANSACTION_FEE: B256 = book_key("TransactionFee");
}
