// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Addon} from "./addons/Addon.sol";
import {OfferingPrices} from "./addons/OfferingPrices.sol";
import {IAddon} from "./interfaces/IAddon.sol";
import {IAssetRoles, IAssetToken} from "./interfaces/IAssetToken.sol";
import {Allocation, IOffering, OfferingStatus, OfferingTerms, Purchase} from "./interfaces/IOffering.sol";
import {AssetRoles} from "./Roles.sol";

/// @title Offering
/// @notice One primary sale of an asset for payment in one of several ERC-20 currencies, with presale, caps and lock-up.
///
/// Threat model: the terms stand in the code, so no price, cap or receiver changes once the sale exists. Whoever is
/// eligible is the asset's decision, taken by the same code that will deliver. Success and refund are decided once, by
/// `finalize`, from numbers only; after it money has one way to go, and FUNDS moves proceeds to the address of the terms.
/// Sold tokens and refundable money are out of everybody's reach. Currencies are trusted not to call back with effect
/// (transient guard) and must deliver what is sent; one that fails stops payments in it and in no other.
contract Offering is IOffering, Addon {
    using OfferingPrices for OfferingTerms;
    using SafeERC20 for IERC20;

    /// On the allow-list's refusal.
    bytes32 private constant NOT_ON_ALLOW_LIST = "NOT_ON_ALLOW_LIST";

    enum Phase {
        SETUP,
        ACTIVE,
        SUCCEEDED,
        REFUNDING
    }

    /// One slot: what every purchase reads and writes.
    struct Book {
        uint120 sold;
        /// Sold and not delivered.
        uint120 owed;
        Phase phase;
        bool paused;
    }

    /* STORAGE */

    Book private _book;
    mapping(address buyer => Allocation) private _allocations;
    mapping(address identity => uint256) private _bought;
    mapping(address buyer => mapping(address currency => uint256)) private _paid;
    mapping(address currency => uint256) private _collected;

    /* RUNNING THE SALE */

    /// @inheritdoc IOffering
    function activate() external {
        OfferingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.SALE);
        if (_book.phase != Phase.SETUP) revert SaleNotActive(_status(t));
        if (block.timestamp >= t.end) revert SaleEnded(t.end);
        uint256 available = IERC20(t.token).balanceOf(address(this));
        bool covered = t.minted ? IAssetRoles(t.token).has(address(this), AssetRoles.SUPPLY) : available >= t.hardCap;
        if (!covered) revert HardCapUncovered(t.hardCap, t.minted ? 0 : available);
        _book.phase = Phase.ACTIVE;
        emit Activated(msg.sender);
    }

    /// @inheritdoc IOffering
    function pause(bool on) external {
        OfferingTerms memory t = terms();
        _requireRole(t.token, on ? AssetRoles.SALE | AssetRoles.EMERGENCY : AssetRoles.SALE);
        if (_book.phase != Phase.ACTIVE || _book.paused == on) revert SaleNotActive(_status(t));
        _book.paused = on;
        emit PauseSet(on, msg.sender);
    }

    /// @inheritdoc IOffering
    function finalize() external {
        OfferingTerms memory t = terms();
        Book memory book = _book;
        if (book.phase != Phase.ACTIVE) revert SaleNotActive(_status(t));
        if (block.timestamp < t.end && book.sold < t.hardCap) revert SaleNotEnded(t.end);
        bool succeeded = book.sold >= t.softCap;
        book.phase = succeeded ? Phase.SUCCEEDED : Phase.REFUNDING;
        // Refunded buyers keep no claim on tokens.
        if (!succeeded) book.owed = 0;
        _book = book;
        emit Finalized(succeeded, book.sold);
    }

    /* BUYING */

    /// @inheritdoc IOffering
    function buy(Purchase calldata purchase) external nonReentrant returns (uint256 tokens, uint256 cost) {
        OfferingTerms memory t = terms();
        _requireOpen(t);
        (tokens, cost) = OfferingPrices.quote(t.priceAt(purchase.currency, block.timestamp), purchase.payment);
        if (purchase.termsHash != t.termsHash) revert TermsNotAcknowledged(t.termsHash);
        if (tokens < purchase.minimumTokens) revert TooFewTokens(purchase.minimumTokens, tokens);
        if (block.timestamp < t.presale.end) _requireListed(t.presale.allowList, purchase.proof);

        Allocation memory allocation = _allocations[msg.sender];
        _count(t, tokens);
        _requireEligible(t, allocation.bought - allocation.released + tokens);

        bool atOnce = t.softCap == 0 && t.lockup.duration == 0;
        // `tokens` is within the hard cap, which fits in 120 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 amount = uint128(tokens);
        allocation.bought += amount;
        if (atOnce) allocation.released += amount;
        // forge-lint: disable-next-line(unsafe-typecast)
        else _book.owed += uint120(tokens);
        _allocations[msg.sender] = allocation;
        _paid[msg.sender][purchase.currency] += cost;
        _collected[purchase.currency] += cost;
        emit Purchased(msg.sender, purchase.currency, tokens, cost, t.termsHash);

        _pull(purchase.currency, cost);
        if (atOnce) _deliver(t, msg.sender, msg.sender, tokens);
    }

    /// @dev Counts a purchase against the investor's limits and the hard cap.
    function _count(OfferingTerms memory t, uint256 tokens) private {
        address investor = _investor(t.token, msg.sender);
        uint256 total = _bought[investor] + tokens;
        if (tokens == 0 || total < t.minimum) revert PurchaseBelowMinimum(t.minimum, total);
        if (total > t.maximum) revert AllocationExceeded(t.maximum, total);
        uint256 left = t.hardCap - _book.sold;
        if (tokens > left) revert HardCapExceeded(left, tokens);
        _bought[investor] = total;
        // forge-lint: disable-next-line(unsafe-typecast)
        _book.sold += uint120(tokens);
    }

    /// @dev Limits count identities, however many wallets one has; a buyer exempt from identity counts as itself.
    function _investor(address token, address buyer) private view returns (address investor) {
        investor = address(_registry(token).identity(buyer));
        if (investor == address(0)) investor = buyer;
    }

    function _pull(address currency, uint256 cost) private {
        uint256 before = IERC20(currency).balanceOf(address(this));
        IERC20(currency).safeTransferFrom(msg.sender, address(this), cost);
        if (IERC20(currency).balanceOf(address(this)) - before != cost) revert CurrencyTakesFees(currency);
    }

    function _requireOpen(OfferingTerms memory t) private view {
        OfferingStatus now_ = _status(t);
        if (now_ == OfferingStatus.PRESALE || now_ == OfferingStatus.PUBLIC_SALE) return;
        if (now_ == OfferingStatus.SETUP && _book.phase == Phase.ACTIVE) revert SaleNotStarted(t.start);
        if (now_ == OfferingStatus.SETUP || now_ == OfferingStatus.PAUSED) revert SaleNotActive(now_);
        if (_book.sold == t.hardCap) revert HardCapExceeded(0, 1);
        revert SaleEnded(t.end);
    }

    function _requireListed(bytes32 root, bytes32[] calldata proof) private view {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(msg.sender))));
        if (!MerkleProof.verifyCalldata(proof, root, leaf)) revert BuyerNotEligible(address(this), NOT_ON_ALLOW_LIST);
    }

    /// @dev Asks the asset about everything the buyer is still to receive, so that a limit cannot be passed in slices.
    function _requireEligible(OfferingTerms memory t, uint256 outstanding) private view {
        address from = t.minted ? address(0) : address(this);
        (address module, bytes32 reason) = IAssetToken(t.token).preview(from, msg.sender, outstanding);
        if (reason != 0) revert BuyerNotEligible(module, reason);
    }

    /* AFTER THE OUTCOME */

    /// @inheritdoc IOffering
    function claim(address buyer) external nonReentrant returns (uint256 amount) {
        OfferingTerms memory t = terms();
        _requireOutcome(t);
        if (_book.phase != Phase.SUCCEEDED) revert SoftCapNotMet(t.softCap, _book.sold);
        amount = _claimable(t, buyer);
        if (amount == 0) revert NothingDue(buyer);
        // `amount` is part of the hard cap, which fits in 120 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint120 part = uint120(amount);
        _allocations[buyer].released += part;
        _book.owed -= part;
        _deliver(t, buyer, _payee(t.token, buyer), amount);
    }

    /// @inheritdoc IOffering
    function refund(address buyer, address currency) external nonReentrant returns (uint256 amount) {
        OfferingTerms memory t = terms();
        if (_book.phase != Phase.REFUNDING) revert RefundNotOpen(_status(t));
        amount = _paid[buyer][currency];
        if (amount == 0) revert NothingDue(buyer);
        _paid[buyer][currency] = 0;
        _collected[currency] -= amount;
        address to = _payee(t.token, buyer);
        emit Refunded(buyer, to, currency, amount);
        IERC20(currency).safeTransfer(to, amount);
    }

    /// @inheritdoc IOffering
    function withdrawProceeds(address currency) external nonReentrant returns (uint256 amount) {
        OfferingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.FUNDS);
        _requireOutcome(t);
        if (currency == t.token) revert CurrencyUnsupported(currency);
        amount = IERC20(currency).balanceOf(address(this));
        if (_book.phase == Phase.SUCCEEDED) {
            _collected[currency] = 0;
        } else {
            amount -= _collected[currency];
            if (amount == 0) revert SoftCapNotMet(t.softCap, _book.sold);
        }
        emit ProceedsWithdrawn(currency, t.proceedsTo, amount);
        IERC20(currency).safeTransfer(t.proceedsTo, amount);
    }

    /// @inheritdoc IOffering
    function withdrawUnsold() external nonReentrant returns (uint256 amount) {
        OfferingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.SALE);
        if (_book.phase != Phase.SETUP) _requireOutcome(t);
        amount = IERC20(t.token).balanceOf(address(this));
        // What a minting sale holds was never meant for its buyers.
        if (!t.minted) amount -= _book.owed;
        emit UnsoldWithdrawn(t.unsoldTo, amount);
        IERC20(t.token).safeTransfer(t.unsoldTo, amount);
    }

    function _deliver(OfferingTerms memory t, address buyer, address to, uint256 amount) private {
        emit Claimed(buyer, to, amount);
        if (t.minted) IAssetToken(t.token).mint(to, amount);
        else IERC20(t.token).safeTransfer(to, amount);
    }

    function _requireOutcome(OfferingTerms memory t) private view {
        if (_book.phase < Phase.SUCCEEDED) revert OutcomeOpen(_status(t));
    }

    function _claimable(OfferingTerms memory t, address buyer) private view returns (uint256) {
        Allocation memory allocation = _allocations[buyer];
        uint256 free = allocation.bought;
        if (t.lockup.duration != 0) {
            free = _vested(free, t.lockup.start, t.lockup.cliff, t.lockup.duration, block.timestamp);
        }
        return free - allocation.released;
    }

    /* READ */

    /// @inheritdoc IOffering
    function terms() public view returns (OfferingTerms memory) {
        return abi.decode(_encodedTerms(), (OfferingTerms));
    }

    /// @inheritdoc IAddon
    function asset() public view override(Addon, IAddon) returns (address) {
        return terms().token;
    }

    /// @inheritdoc IOffering
    function status() external view returns (OfferingStatus) {
        return _status(terms());
    }

    /// @inheritdoc IOffering
    function quote(address currency, uint256 payment) external view returns (uint256 tokens, uint256 cost) {
        return OfferingPrices.quote(terms().priceAt(currency, block.timestamp), payment);
    }

    /// @inheritdoc IOffering
    function allocationOf(address buyer) external view returns (Allocation memory) {
        return _allocations[buyer];
    }

    /// @inheritdoc IOffering
    function boughtBy(address identity) external view returns (uint256) {
        return _bought[identity];
    }

    /// @inheritdoc IOffering
    function paidBy(address buyer, address currency) external view returns (uint256) {
        return _paid[buyer][currency];
    }

    /// @inheritdoc IOffering
    function claimable(address buyer) external view returns (uint256) {
        return _book.phase == Phase.SUCCEEDED ? _claimable(terms(), buyer) : 0;
    }

    /// @inheritdoc IOffering
    function sold() external view returns (uint256 total, uint256 owed) {
        return (_book.sold, _book.owed);
    }

    /// @inheritdoc IOffering
    function collected(address currency) external view returns (uint256) {
        return _collected[currency];
    }

    function _status(OfferingTerms memory t) private view returns (OfferingStatus) {
        Book memory book = _book;
        if (book.phase > Phase.ACTIVE) {
            if (_isSettled(t, book)) return OfferingStatus.CLOSED;
            return book.phase == Phase.SUCCEEDED ? OfferingStatus.SUCCEEDED : OfferingStatus.REFUNDING;
        }
        if (book.phase == Phase.SETUP || block.timestamp < t.start) return OfferingStatus.SETUP;
        if (block.timestamp >= t.end || book.sold == t.hardCap) return OfferingStatus.ENDED;
        if (book.paused) return OfferingStatus.PAUSED;
        return block.timestamp < t.presale.end ? OfferingStatus.PRESALE : OfferingStatus.PUBLIC_SALE;
    }

    function _isSettled(OfferingTerms memory t, Book memory book) private view returns (bool) {
        if (book.owed != 0) return false;
        for (uint256 i; i < t.currencies.length; ++i) {
            if (_collected[t.currencies[i].currency] != 0) return false;
        }
        return true;
    }
}
