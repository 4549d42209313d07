// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {Addon} from "./addons/Addon.sol";
import {DistributionArgs} from "./addons/DistributionArgs.sol";
import {IAddon} from "./interfaces/IAddon.sol";
import {DistributionKind, DistributionTerms, Grant, IDistribution, Recipient} from "./interfaces/IDistribution.sol";
import {AssetRoles} from "./Roles.sol";

/// @title Distribution
/// @notice One airdrop, by push, by claim within a window, or by vesting. It holds the asset's tokens, so it is a registered
/// holder of the asset like any other, and every payment passes the asset's own checks.
///
/// Threat model: the list is fixed by its root; SALE decides when to push and can pay nobody who is not on it. One bit per
/// row, set before the payment, makes a second payment impossible. Leftovers are what nobody is owed, after the window.
/// Recipients are never called; the asset is trusted not to lie about transfers.
contract Distribution is IDistribution, Addon {
    using BitMaps for BitMaps.BitMap;
    using SafeERC20 for IERC20;

    /// @dev A payment that leaves less than this part of the gas may have failed for want of gas alone.
    uint256 private constant STARVED = 8;

    /* STORAGE */

    BitMaps.BitMap private _paid;
    mapping(uint256 index => Grant) private _grants;
    uint128 private _owed;
    uint128 private _pushed;

    /* PUSH */

    /// @inheritdoc IDistribution
    function push(Recipient[] calldata rows, bytes32[] calldata proof, bool[] calldata flags)
        external
        nonReentrant
        returns (uint256 paid)
    {
        bytes memory args = _encodedTerms();
        DistributionTerms memory t = DistributionArgs.head(args);
        _requireRole(t.token, AssetRoles.SALE);
        if (t.kind != DistributionKind.PUSH) revert WrongKind(t.kind);
        _requireWindow(t.start, t.end);
        _requireProven(args, t.rowsPerRoot, rows, proof, flags);
        uint256 sum;
        for (uint256 i; i < rows.length; ++i) {
            if (_pushOne(t.token, rows[i])) {
                ++paid;
                sum += rows[i].amount;
            }
        }
        uint256 total = _pushed + sum;
        if (t.cap != 0 && total > t.cap) revert CapExceeded(t.cap, total);
        _pushed = SafeCast.toUint128(total);
    }

    function _requireProven(
        bytes memory args,
        uint256 perRoot,
        Recipient[] calldata rows,
        bytes32[] calldata proof,
        bool[] calldata flags
    ) private pure {
        uint256 part = perRoot == 0 || rows.length == 0 ? 0 : rows[0].index / perRoot;
        bytes32[] memory leaves = new bytes32[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            if (perRoot != 0 && rows[i].index / perRoot != part) revert ProofInvalid();
            leaves[i] = _leaf(rows[i].index, rows[i].account, rows[i].amount);
        }
        bytes32 root = DistributionArgs.rootOf(args, part);
        if (!MerkleProof.multiProofVerifyCalldata(proof, flags, root, leaves)) revert ProofInvalid();
    }

    function _pushOne(address token, Recipient calldata row) private returns (bool) {
        if (_paid.get(row.index)) return false;
        _paid.set(row.index);
        uint256 gasBefore = gasleft();
        try IERC20(token).transfer(row.account, row.amount) returns (bool moved) {
            if (moved) {
                emit Pushed(row.index, row.account, row.amount);
                return true;
            }
            emit PushSkipped(row.index, row.account, "");
        } catch (bytes memory reason) {
            // Each call deeper keeps back 1/64 of the gas, and a transfer's questions go up to seven calls deep.
            if (gasleft() < gasBefore / STARVED) revert BatchOutOfGas(row.index);
            emit PushSkipped(row.index, row.account, reason);
        }
        _paid.unset(row.index);
        return false;
    }

    /* CLAIM AND VESTING */

    /// @inheritdoc IDistribution
    function claim(uint256 index, address account, uint256 amount, bytes32[] calldata proof) external {
        (uint256 first, uint64 start, uint64 end, bytes32 root) = DistributionArgs.ofRow(_encodedTerms(), index);
        DistributionKind kind = DistributionArgs.kind(first);
        address token = DistributionArgs.token(first);
        if (kind == DistributionKind.PUSH) revert WrongKind(kind);
        _requireWindow(start, end);
        if (msg.sender != account && _payee(token, account) != msg.sender) revert NotRecipient(msg.sender, account);
        if (_paid.get(index)) revert AlreadyPaid(index);
        if (!MerkleProof.verifyCalldata(proof, root, _leaf(index, account, amount))) revert ProofInvalid();
        _paid.set(index);
        if (kind == DistributionKind.CLAIM) {
            emit Claimed(index, account, amount);
            IERC20(token).safeTransfer(msg.sender, amount);
        } else {
            _startVesting(token, index, account, amount);
        }
    }

    function _startVesting(address token, uint256 index, address account, uint256 amount) private {
        uint256 needed = _owed + amount;
        uint256 available = IERC20(token).balanceOf(address(this));
        if (needed > available) revert Underfunded(needed, available);
        _owed = SafeCast.toUint128(needed);
        // `needed` fits in 128 bits, so `amount` does.
        // forge-lint: disable-next-line(unsafe-typecast)
        _grants[index] = Grant(account, uint64(block.timestamp), uint128(amount), 0);
        emit VestingStarted(index, account, amount);
    }

    /// @inheritdoc IDistribution
    function release(uint256[] calldata indices) external nonReentrant {
        DistributionTerms memory t = _head();
        bool any;
        for (uint256 i; i < indices.length; ++i) {
            Grant storage grant = _grants[indices[i]];
            uint256 due = _releasable(t, grant, indices[i]);
            if (due == 0) continue;
            any = true;
            _release(t.token, indices[i], grant, due);
        }
        // Gas learnt from a call that pays nothing would not do for one that pays.
        if (!any) revert NothingDue();
    }

    function _release(address token, uint256 index, Grant storage grant, uint256 due) private {
        // `due` is at most the grant's amount.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 amount = uint128(due);
        grant.released += amount;
        _owed -= amount;
        address account = grant.account;
        address to = _payee(token, account);
        emit Released(index, account, to, amount);
        IERC20(token).safeTransfer(to, amount);
    }

    /* LEFTOVERS */

    /// @inheritdoc IDistribution
    function withdraw(address currency) external nonReentrant returns (uint256 amount) {
        DistributionTerms memory t = _head();
        _requireRole(t.token, AssetRoles.SALE);
        amount = IERC20(currency).balanceOf(address(this));
        if (currency == t.token) {
            if (block.timestamp < t.end) revert WindowNotClosed(t.end);
            amount -= _owed;
        }
        emit LeftoverWithdrawn(currency, t.leftoverTo, amount);
        IERC20(currency).safeTransfer(t.leftoverTo, amount);
    }

    /* READ */

    /// @inheritdoc IDistribution
    function terms() external view returns (DistributionTerms memory) {
        return DistributionArgs.decode(_encodedTerms());
    }

    /// @inheritdoc IAddon
    function asset() public view override(Addon, IAddon) returns (address) {
        return _head().token;
    }

    /// @inheritdoc IDistribution
    function isPaid(uint256 index) external view returns (bool) {
        return _paid.get(index);
    }

    /// @inheritdoc IDistribution
    function grantOf(uint256 index) external view returns (Grant memory) {
        return _grants[index];
    }

    /// @inheritdoc IDistribution
    function releasable(uint256 index) external view returns (uint256) {
        return _releasable(_head(), _grants[index], index);
    }

    /// @inheritdoc IDistribution
    function owed() external view returns (uint256) {
        return _owed;
    }

    /// @inheritdoc IDistribution
    function pushed() external view returns (uint256) {
        return _pushed;
    }

    /* INTERNAL */

    /// @dev The terms without the roots, which nobody needs all of.
    function _head() private view returns (DistributionTerms memory) {
        return DistributionArgs.head(_encodedTerms());
    }

    function _requireWindow(uint64 start, uint64 end) private view {
        if (block.timestamp < start) revert WindowNotOpen(start);
        if (block.timestamp >= end) revert WindowClosed(end);
    }

    function _releasable(DistributionTerms memory t, Grant storage grant, uint256 index)
        private
        view
        returns (uint256)
    {
        if (grant.account == address(0)) revert GrantUnknown(index);
        return _vested(grant.amount, grant.start, t.cliff, t.duration, block.timestamp) - grant.released;
    }

    /// @dev Hashed twice, so that an inner node of the tree can never pass for a leaf.
    function _leaf(uint256 index, address account, uint256 amount) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(index, account, amount))));
    }
}
