// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A transfer or mint was refused. `module` is who refused (the token, the registry or a rule) and `reason` one of
/// `ReasonCodes`. Pre-checks (`preview`, `explain`) return the same pair that enforcement reverts with.
error ComplianceRefused(address module, bytes32 reason);

/// @notice What one module says of a movement; `reason` zero means it agrees.
struct Verdict {
    address module;
    bytes32 reason;
}

/// @notice Every reason a movement can be refused for, as readable ASCII in a word. The identity registry adds its own
/// codes; a code is never renamed once released.
library ReasonCodes {
    bytes32 internal constant OK = 0;

    // token
    bytes32 internal constant TOKEN_PAUSED = "TOKEN_PAUSED";
    bytes32 internal constant SENDER_FROZEN = "SENDER_FROZEN";
    bytes32 internal constant RECIPIENT_FROZEN = "RECIPIENT_FROZEN";
    bytes32 internal constant RECIPIENT_INVALID = "RECIPIENT_INVALID";
    bytes32 internal constant BALANCE_TOO_LOW = "BALANCE_TOO_LOW";
    bytes32 internal constant FREE_BALANCE_TOO_LOW = "FREE_BALANCE_TOO_LOW";
    /// Forced transfers and burns leave held tokens alone.
    bytes32 internal constant BALANCE_HELD = "BALANCE_HELD";
    /// TransactionFee: what it takes could not be paid out.
    bytes32 internal constant FEE_COLLECTOR_NOT_VERIFIED = "FEE_COLLECTOR_NOT_VERIFIED";
    /// A wallet that was recovered from places no holds: they would name the wallet that took over.
    bytes32 internal constant WALLET_RECOVERED = "WALLET_RECOVERED";
    bytes32 internal constant SUPPLY_TOO_LARGE = "SUPPLY_TOO_LARGE";

    // CountryRule
    bytes32 internal constant COUNTRY_UNKNOWN = "COUNTRY_UNKNOWN";
    bytes32 internal constant COUNTRY_NOT_ALLOWED = "COUNTRY_NOT_ALLOWED";
    bytes32 internal constant COUNTRY_BLOCKED = "COUNTRY_BLOCKED";

    // ClaimRule
    bytes32 internal constant SENDER_CLAIMS_MISSING = "SENDER_CLAIMS_MISSING";
    bytes32 internal constant RECIPIENT_CLAIMS_MISSING = "RECIPIENT_CLAIMS_MISSING";

    // Servicing
    bytes32 internal constant ASSET_MATURED = "ASSET_MATURED";

    // ListRule
    bytes32 internal constant SENDER_NOT_LISTED = "SENDER_NOT_LISTED";
    bytes32 internal constant RECIPIENT_NOT_LISTED = "RECIPIENT_NOT_LISTED";
    bytes32 internal constant SENDER_BLOCKED = "SENDER_BLOCKED";
    bytes32 internal constant RECIPIENT_BLOCKED = "RECIPIENT_BLOCKED";

    // HolderLimitRule
    bytes32 internal constant HOLDER_LIMIT_REACHED = "HOLDER_LIMIT_REACHED";
    bytes32 internal constant HOLDER_LIMIT_OF_COUNTRY_REACHED = "HOLDER_LIMIT_OF_COUNTRY_REACHED";
    /// Holders from before the rule are not all counted yet: `HolderLimitRule.sync` counts them.
    bytes32 internal constant HOLDERS_NOT_COUNTED = "HOLDERS_NOT_COUNTED";

    // IssuanceRule
    bytes32 internal constant ISSUANCE_CAP_EXCEEDED = "ISSUANCE_CAP_EXCEEDED";
    bytes32 internal constant ISSUANCE_LIFETIME_EXCEEDED = "ISSUANCE_LIFETIME_EXCEEDED";
    bytes32 internal constant ISSUANCE_WINDOW_EXCEEDED = "ISSUANCE_WINDOW_EXCEEDED";
    bytes32 internal constant ISSUANCE_PRICE_UNAVAILABLE = "ISSUANCE_PRICE_UNAVAILABLE";
    bytes32 internal constant ISSUANCE_PRICE_STALE = "ISSUANCE_PRICE_STALE";

    // HoldingPeriodRule
    bytes32 internal constant HOLDING_PERIOD_NOT_OVER = "HOLDING_PERIOD_NOT_OVER";

    // ApprovalRule
    bytes32 internal constant TRANSFER_NOT_APPROVED = "TRANSFER_NOT_APPROVED";
    bytes32 internal constant TRANSFER_APPROVAL_EXPIRED = "TRANSFER_APPROVAL_EXPIRED";

    // TransferLimitRule
    bytes32 internal constant TRANSFER_AMOUNT_EXCEEDED = "TRANSFER_AMOUNT_EXCEEDED";
    bytes32 internal constant HOLDER_VOLUME_EXCEEDED = "HOLDER_VOLUME_EXCEEDED";
    bytes32 internal constant TOKEN_VOLUME_EXCEEDED = "TOKEN_VOLUME_EXCEEDED";

    // CollateralRule
    bytes32 internal constant COLLATERAL_MISSING = "COLLATERAL_MISSING";
    bytes32 internal constant COLLATERAL_MALFORMED = "COLLATERAL_MALFORMED";
    bytes32 internal constant COLLATERAL_TOO_LOW = "COLLATERAL_TOO_LOW";
    bytes32 internal constant COLLATERAL_PRICE_UNAVAILABLE = "COLLATERAL_PRICE_UNAVAILABLE";
    bytes32 internal constant COLLATERAL_PRICE_STALE = "COLLATERAL_PRICE_STALE";

    /// A rule is bound but has no parameters for this token: it refuses rather than agree to everything.
    bytes32 internal constant RULE_NOT_CONFIGURED = "RULE_NOT_CONFIGURED";
}
