// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAddon} from "./IAddon.sol";

/// @notice Where a sale stands. The first five follow from time and sales, the last three from `finalize`.
enum OfferingStatus {
    /// Not activated, or activated and not started.
    SETUP,
    PRESALE,
    PUBLIC_SALE,
    PAUSED,
    /// Over or sold out; `finalize` has not run.
    ENDED,
    SUCCEEDED,
    REFUNDING,
    /// Nobody is owed anything any more.
    CLOSED
}

/// @notice A currency the sale takes. `price` is base units of the currency for 1e18 base units of the asset.
struct PaymentCurrency {
    address currency;
    uint256 price;
}

/// @notice The first part of the sale, for listed buyers at a lower price. `end` zero means there is none.
struct Presale {
    uint64 end;
    uint16 discountBps;
    /// Root of the buyers' tree: leaf = keccak256(keccak256(abi.encode(account))).
    bytes32 allowList;
}

/// @notice Lock-up of what was bought. `duration` zero means there is none.
struct Lockup {
    uint64 start;
    uint64 cliff;
    uint64 duration;
}

/// @notice Everything a sale is bound to. Token amounts are base units of the asset.
struct OfferingTerms {
    address token;
    /// The sale mints what it delivers (it holds SUPPLY) instead of holding it.
    bool minted;
    /// Receives the money of a sale that succeeded.
    address proceedsTo;
    /// Receives tokens that were not sold.
    address unsoldTo;
    uint64 start;
    uint64 end;
    uint128 hardCap;
    /// Zero: the sale succeeds whatever it sells.
    uint128 softCap;
    /// Least and most an investor (an identity, not a wallet) may hold of this sale.
    uint128 minimum;
    uint128 maximum;
    /// Hash of the terms a buyer must acknowledge; zero when there are none.
    bytes32 termsHash;
    Presale presale;
    Lockup lockup;
    PaymentCurrency[] currencies;
}

/// @notice What a buyer asks for.
struct Purchase {
    address currency;
    /// The most the buyer pays. Only the cost of whole base units of the asset is taken.
    uint256 payment;
    /// Refused when it buys less: guards against a price that rose when the presale ended.
    uint256 minimumTokens;
    bytes32 termsHash;
    /// The buyer's place on the allow-list; empty outside the presale.
    bytes32[] proof;
}

/// @notice A buyer's tokens.
struct Allocation {
    uint128 bought;
    uint128 released;
}

/// @notice One primary sale.
interface IOffering is IAddon {
    event Activated(address indexed by);
    event PauseSet(bool paused, address indexed by);
    event Purchased(
        address indexed buyer, address indexed currency, uint256 tokens, uint256 cost, bytes32 indexed termsHash
    );
    event Finalized(bool succeeded, uint256 sold);
    event Claimed(address indexed buyer, address indexed to, uint256 amount);
    event Refunded(address indexed buyer, address indexed to, address indexed currency, uint256 amount);
    event ProceedsWithdrawn(address indexed currency, address indexed to, uint256 amount);
    event UnsoldWithdrawn(address indexed to, uint256 amount);

    error SaleNotStarted(uint64 start);
    error SaleEnded(uint64 end);
    error SaleNotEnded(uint64 end);
    error SaleNotActive(OfferingStatus status);
    error PurchaseBelowMinimum(uint256 minimum, uint256 asked);
    error AllocationExceeded(uint256 maximum, uint256 asked);
    error HardCapExceeded(uint256 left, uint256 asked);
    /// @notice The sale neither holds nor may mint what it is to sell.
    error HardCapUncovered(uint256 needed, uint256 available);
    error CurrencyUnsupported(address currency);
    /// @notice The currency delivered less than was sent.
    error CurrencyTakesFees(address currency);
    /// @notice Who refuses the buyer and why: the asset, its registry, a rule, or this sale's allow-list.
    error BuyerNotEligible(address module, bytes32 reason);
    error TermsNotAcknowledged(bytes32 termsHash);
    error TooFewTokens(uint256 minimumTokens, uint256 tokens);
    error SoftCapNotMet(uint256 softCap, uint256 sold);
    error RefundNotOpen(OfferingStatus status);
    /// @notice Success or refund is not decided yet.
    error OutcomeOpen(OfferingStatus status);
    error NothingDue(address account);

    /// @notice Opens the sale for its dates. Caller: SALE. Emits `Activated`. Reverts `SaleNotActive` when it was activated before,
    /// `SaleEnded`, `HardCapUncovered`.
    function activate() external;

    /// @notice Stops buying, or lets it go on; nothing else is affected. Caller: SALE, and EMERGENCY to stop. Emits `PauseSet`.
    /// Reverts `SaleNotActive`.
    function pause(bool on) external;

    /// @notice Buys for the caller. The asset itself judges the buyer: state, identity and rules, for everything the buyer is
    /// still to receive. Without soft cap and lock-up the tokens are delivered in the same transaction. Rounding: tokens are rounded
    /// down, then the cost of those tokens is rounded up, and never exceeds the payment. Emits `Purchased`, and `Claimed`
    /// on delivery. Reverts `SaleNotStarted`, `SaleEnded`, `SaleNotActive`, `CurrencyUnsupported`, `TermsNotAcknowledged`,
    /// `TooFewTokens`, `PurchaseBelowMinimum`, `AllocationExceeded`, `HardCapExceeded`, `BuyerNotEligible`, `CurrencyTakesFees`.
    function buy(Purchase calldata purchase) external returns (uint256 tokens, uint256 cost);

    /// @notice Decides success or refund, once, when the sale is over or sold out. Anyone. Emits `Finalized`.
    /// Reverts `SaleNotActive`, `SaleNotEnded`.
    function finalize() external;

    /// @notice Delivers what is released by now to the buyer or its registered successor. Anyone may call. Emits `Claimed`.
    /// Reverts `OutcomeOpen`, `SoftCapNotMet`, `NothingDue`, and what the asset refuses with.
    function claim(address buyer) external returns (uint256 amount);

    /// @notice Returns what was paid in one currency to the buyer or its registered successor. Anyone may call. Emits `Refunded`.
    /// Reverts `RefundNotOpen`, `NothingDue`.
    function refund(address buyer, address currency) external returns (uint256 amount);

    /// @notice Sends the money of a sale that succeeded to `proceedsTo`. In a sale that refunds, only what exceeds the refunds.
    /// Caller: FUNDS. Emits `ProceedsWithdrawn`. Reverts `OutcomeOpen`, `SoftCapNotMet`, `CurrencyUnsupported` for the asset.
    function withdrawProceeds(address currency) external returns (uint256 amount);

    /// @notice Sends tokens that nobody bought to `unsoldTo`: before activation or after the outcome, never a sold one. Caller: SALE.
    /// Emits `UnsoldWithdrawn`. Reverts `OutcomeOpen`.
    function withdrawUnsold() external returns (uint256 amount);

    function terms() external view returns (OfferingTerms memory);
    function status() external view returns (OfferingStatus);

    /// @notice Tokens and cost for a payment now, for one who is eligible.
    function quote(address currency, uint256 payment) external view returns (uint256 tokens, uint256 cost);

    function allocationOf(address buyer) external view returns (Allocation memory);

    /// @notice What an identity has bought over all its wallets.
    function boughtBy(address identity) external view returns (uint256);

    function paidBy(address buyer, address currency) external view returns (uint256);

    /// @notice What `claim` would deliver now.
    function claimable(address buyer) external view returns (uint256);

    /// @notice Tokens sold, and sold tokens not delivered yet.
    function sold() external view returns (uint256 total, uint256 owed);

    /// @notice Money of buyers in this contract: refundable, or proceeds not withdrawn.
    function collected(address currency) external view returns (uint256);
}
