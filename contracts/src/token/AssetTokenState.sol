// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IERC3643} from "../interfaces/IERC3643.sol";
import {IHolds} from "../interfaces/IHolds.sol";
import {IIdentityRegistryPolicy} from "../interfaces/IIdentityRegistryPolicy.sol";
import {ComplianceRefused, ReasonCodes} from "../Refusals.sol";

/// @title State of an asset token, and the rules of its balances
/// @notice The token is one contract to the outside and three in code, because one would exceed our size limit: `AssetToken` holds
/// what transfers and settlements ask and hands every administrative call to its `AssetTokenGovernance` or `AssetTokenCustody`. All inherit
/// this contract and declare no state of their own, so they see the same storage. `layouts/AssetToken.json` records the layout and
/// `tools/layouts.sh check` proves that all three have it.
abstract contract AssetTokenState {
    using Checkpoints for Checkpoints.Trace208;

    uint256 internal constant MAX_SUPPLY = type(uint112).max;

    /// All of a holder in one slot: a transfer then reads and writes one word per side, freezes, holds and record dates included.
    struct Account {
        uint112 balance;
        // Frozen and held tokens together; a transfer needs no more. What of it is held stands in `_held`.
        uint112 locked;
        // Value of `_epoch` at the last movement.
        uint24 epoch;
        bool frozen;
    }

    /* STORAGE: only append; the library parents of `AssetToken` keep theirs in ERC-7201 namespaces. */

    address internal _registry;
    bool internal _paused;
    uint8 internal _decimals;
    /// How often movements resumed after a record date.
    uint24 internal _epoch;
    /// Earliest record date that no movement has followed yet; the largest value when there is none.
    uint48 internal _nextRecordDate;

    address internal _compliance;
    /// Latest record date that a movement has followed: the key under which former balances are kept in this epoch.
    uint48 internal _lastRecordDate;
    uint24 internal _supplyEpoch;

    address internal _owner;
    address internal _onchainID;
    string internal _name;
    string internal _symbol;
    mapping(address holder => Account) internal _accounts;
    uint256 internal _supply;
    mapping(address account => uint256 mask) internal _roles;
    bytes32 internal _upgradeHash;
    uint256 internal _upgradeNotBefore;

    mapping(address holder => uint256 amount) internal _held;
    mapping(bytes32 holdKey => uint256 amount) internal _holds;
    mapping(address lostWallet => address newWallet) internal _recoveredTo;

    mapping(address holder => Checkpoints.Trace208) internal _history;
    Checkpoints.Trace208 internal _supplyHistory;
    /// Dates and series that lie ahead, wholly or in part: first | last << 48 | interval_s << 96.
    uint256[] internal _upcoming;
    /// Every series there ever was, in the same form.
    uint256[] internal _series;
    mapping(uint256 at => bool) internal _isSingleDate;

    /// True while a forced transfer, a recovery or a fee is reported, so that fees can tell it from a holder's transfer.
    bool internal transient _forced;

    /* INTERNAL: balances */

    /// @dev The one place that changes balances. Amounts are bounded by a balance or, for mints, by the supply cap that
    /// `stateReason` enforces, so the casts below keep their value.
    function _changeBalances(address from, address to, uint256 amount) internal {
        if (block.timestamp > _nextRecordDate) _passRecordDates();
        uint24 epoch = _epoch;
        if (from == address(0)) {
            _changeSupply(_supply + amount, epoch);
        } else {
            Account storage sender = _accounts[from];
            uint112 balance = sender.balance;
            if (balance < amount) revert IERC20Errors.ERC20InsufficientBalance(from, balance, amount);
            if (sender.epoch != epoch) _keepHistory(from, sender, balance, epoch);
            // forge-lint: disable-next-line(unsafe-typecast)
            sender.balance = balance - uint112(amount);
        }
        if (to == address(0)) {
            _changeSupply(_supply - amount, epoch);
        } else {
            Account storage recipient = _accounts[to];
            uint112 balance = recipient.balance;
            if (recipient.epoch != epoch) _keepHistory(to, recipient, balance, epoch);
            // forge-lint: disable-next-line(unsafe-typecast)
            recipient.balance = balance + uint112(amount);
        }
        emit IERC20.Transfer(from, to, amount);
    }

    function _changeSupply(uint256 supply, uint24 epoch) private {
        if (_supplyEpoch != epoch) {
            // forge-lint: disable-next-line(unsafe-typecast)
            _supplyHistory.push(_lastRecordDate, uint208(_supply));
            _supplyEpoch = epoch;
        }
        _supply = supply;
    }

    /// @dev The first movement after a record date keeps the balance that stood at it.
    function _keepHistory(address holder, Account storage account, uint112 balance, uint24 epoch) private {
        _history[holder].push(_lastRecordDate, balance);
        account.epoch = epoch;
    }

    /// @dev Moves on to the epoch after the dates that have passed.
    function _passRecordDates() internal virtual;

    /* INTERNAL: freezes and holds */

    /// @dev Makes `amount` free: what is free already, then frozen tokens. Held tokens are out of reach.
    function _freeUp(address holder, uint256 amount) internal {
        Account memory account = _accounts[holder];
        if (account.balance < amount) revert ComplianceRefused(address(this), ReasonCodes.BALANCE_TOO_LOW);
        if (account.balance - _held[holder] < amount) {
            revert ComplianceRefused(address(this), ReasonCodes.BALANCE_HELD);
        }
        uint256 free = account.balance - account.locked;
        if (amount > free) _unfreezeTokens(holder, amount - free);
    }

    function _unfreezeTokens(address holder, uint256 amount) internal {
        Account storage account = _accounts[holder];
        uint256 frozen = account.locked - _held[holder];
        if (amount > frozen) revert IAssetToken.FrozenAmountExceeded(holder, frozen, amount);
        // forge-lint: disable-next-line(unsafe-typecast)
        account.locked -= uint112(amount);
        emit IERC3643.TokensUnfrozen(holder, amount);
    }

    function _holdKey(address spender, bytes32 id, address holder) internal pure returns (bytes32) {
        return keccak256(abi.encode(spender, id, holder));
    }

    /// @dev Frees `amount` of a hold and says on whose account the tokens now lie: holds keep the name of a lost wallet.
    function _takeFromHold(address spender, bytes32 id, address holder, uint256 amount)
        internal
        returns (address account)
    {
        bytes32 key = _holdKey(spender, id, holder);
        uint256 held = _holds[key];
        if (held < amount) revert IHolds.HoldTooSmall(spender, id, holder, held, amount);
        _holds[key] = held - amount;
        account = _currentWallet(holder);
        _held[account] -= amount;
        // forge-lint: disable-next-line(unsafe-typecast)
        _accounts[account].locked -= uint112(amount);
    }

    /// @dev Ends: only custodians lengthen the chain, and a wallet that was recovered from takes over from none.
    function _currentWallet(address holder) internal view returns (address account) {
        account = holder;
        for (address next = _recoveredTo[account]; next != address(0); next = _recoveredTo[account]) {
            account = next;
        }
    }

    /* INTERNAL: who may */

    function _requireRole(uint256 role) internal view {
        if (_roles[msg.sender] & role == 0) revert IAssetToken.MissingRole(msg.sender, role);
    }

    function _requireVerified(address to) internal view {
        bytes32 reason = IIdentityRegistryPolicy(_registry).explain(address(this), to);
        if (reason != 0) revert ComplianceRefused(_registry, reason);
    }
}
