// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Roles of the tenant's `System`: one bit each, combined in a mask. `System.has` is true when an account holds
/// at least one bit of the mask asked for.
library Roles {
    uint256 internal constant PLATFORM_ADMIN = 1;
    uint256 internal constant IDENTITY_MANAGER = 2;
    uint256 internal constant TOKEN_MANAGER = 4;
    uint256 internal constant COMPLIANCE_MANAGER = 8;
    uint256 internal constant CLAIM_POLICY_MANAGER = 16;
    uint256 internal constant FEEDS_MANAGER = 32;
}

/// @notice Roles of one asset: one bit each; none implies another.
library AssetRoles {
    /// Upgrades, terms, modules and the identity policy.
    uint256 internal constant GOVERNANCE = 1;
    /// Mint and burn.
    uint256 internal constant SUPPLY = 2;
    /// Freeze, forced transfer, recovery.
    uint256 internal constant CUSTODIAN = 4;
    /// Pause and unpause.
    uint256 internal constant EMERGENCY = 8;
    /// Sells through offerings and distributes by airdrops.
    uint256 internal constant SALE = 16;
    /// Moves an asset's treasury.
    uint256 internal constant FUNDS = 32;
    /// Takes fees out of free balances: for fee features, never for people.
    uint256 internal constant FEES = 64;

    uint256 internal constant ALL = 127;
}

/// @notice Keys of the `System` address book.
library Names {
    bytes32 internal constant IDENTITY_REGISTRY = "IdentityRegistry";
    bytes32 internal constant IDENTITY_FACTORY = "IdentityFactory";
    bytes32 internal constant TOPIC_SCHEMES = "TopicSchemeRegistry";
    bytes32 internal constant ASSET_FACTORY = "AssetFactory";
    bytes32 internal constant COUNTRY_RULE = "CountryRule";
    bytes32 internal constant CLAIM_RULE = "ClaimRule";
    bytes32 internal constant FEEDS_DIRECTORY = "FeedsDirectory";
    bytes32 internal constant SCALAR_FEED_FACTORY = "IssuerSignedScalarFeedFactory";
    bytes32 internal constant FEED_BATCH = "FeedBatch";
    bytes32 internal constant SMART_ACCOUNT_FACTORY = "SmartAccountFactory";
    bytes32 internal constant ADDON_FACTORY = "AddonFactory";
    bytes32 internal constant SETTLEMENT = "Settlement";
    bytes32 internal constant MANAGEMENT_FEE = "ManagementFee";
    bytes32 internal constant TRANSACTION_FEE = "TransactionFee";
    bytes32 internal constant LIST_RULE = "ListRule";
    bytes32 internal constant HOLDER_LIMIT_RULE = "HolderLimitRule";
    bytes32 internal constant ISSUANCE_RULE = "IssuanceRule";
    bytes32 internal constant HOLDING_PERIOD_RULE = "HoldingPeriodRule";
    bytes32 internal constant APPROVAL_RULE = "ApprovalRule";
    bytes32 internal constant TRANSFER_LIMIT_RULE = "TransferLimitRule";
    bytes32 internal constant COLLATERAL_RULE = "CollateralRule";
}
