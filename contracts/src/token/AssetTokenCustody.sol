// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {ICompliance} from "../interfaces/ICompliance.sol";
import {IERC3643} from "../interfaces/IERC3643.sol";
import {IERC734} from "../interfaces/IERC734.sol";
import {IHolds} from "../interfaces/IHolds.sol";
import {IIdentityRegistry} from "../interfaces/IIdentityRegistry.sol";
import {IIdentityRegistryPolicy} from "../interfaces/IIdentityRegistryPolicy.sol";
import {ComplianceRefused, ReasonCodes} from "../Refusals.sol";
import {AssetRoles} from "../Roles.sol";
import {AssetTokenState} from "./AssetTokenState.sol";
import {RecordDates} from "./RecordDates.sol";

/// @title The token's custody: freezes, forced transfers, broken holds, recovery
/// @notice Runs in the token's storage: `AssetToken` declares each of these functions and delegates it here. Called directly it could only
/// write its own storage, which nobody reads. What each function does, who may call it and what it reverts stands in the interfaces.
contract AssetTokenCustody is AssetTokenState {
    uint256 private constant MANAGEMENT_KEY = 1;
    /// What stands for the reason where the standard's function has no place for one.
    bytes32 private constant UNSTATED = "UNSTATED";

    address private immutable GOVERNANCE_CODE;

    constructor(address governanceCode) {
        GOVERNANCE_CODE = governanceCode;
    }

    modifier onlyCustodian() {
        _requireRole(AssetRoles.CUSTODIAN);
        _;
    }

    /* CUSTODIAN: forced movements */

    function forcedTransfer(address from, address to, uint256 amount) external onlyCustodian returns (bool) {
        _force(from, to, amount, UNSTATED);
        return true;
    }

    function forcedTransferFor(address from, address to, uint256 amount, bytes32 reason)
        external
        onlyCustodian
        returns (bool)
    {
        if (reason == 0) revert IAssetToken.ReasonMissing();
        _force(from, to, amount, reason);
        return true;
    }

    function batchForcedTransfer(address[] calldata fromList, address[] calldata toList, uint256[] calldata amounts)
        external
        onlyCustodian
    {
        _sameLength(fromList.length, toList.length);
        _sameLength(toList.length, amounts.length);
        for (uint256 i; i < fromList.length; ++i) {
            _force(fromList[i], toList[i], amounts[i], UNSTATED);
        }
    }

    function breakHold(address spender, bytes32 id, address holder, uint256 amount, bytes32 reason)
        external
        onlyCustodian
    {
        if (reason == 0) revert IAssetToken.ReasonMissing();
        _takeFromHold(spender, id, holder, amount);
        emit IHolds.HoldBroken(spender, id, holder, amount, reason);
    }

    /// @dev Freezes and holds add up; the new wallet never loses one.
    function recoveryAddress(address lostWallet, address newWallet, address investorOnchainID)
        external
        onlyCustodian
        returns (bool)
    {
        if (!_mayRecover(lostWallet, newWallet, investorOnchainID)) {
            revert IAssetToken.RecoveryRefused(lostWallet, newWallet, investorOnchainID);
        }
        Account memory lost = _accounts[lostWallet];
        uint256 amount = lost.balance;
        if (amount == 0 && !lost.frozen) revert IAssetToken.NothingToRecover(lostWallet);

        _recoveredTo[lostWallet] = newWallet;
        _changeBalances(lostWallet, newWallet, amount);
        _moveLocks(lostWallet, newWallet, lost.locked);
        if (lost.frozen && !_accounts[newWallet].frozen) _setFrozen(newWallet, true);
        emit IERC3643.RecoverySuccess(lostWallet, newWallet, investorOnchainID);
        _reportForced(lostWallet, newWallet, amount);
        return true;
    }

    /* FEES */

    function collectFee(address from, address to, uint256 amount) external {
        _requireRole(AssetRoles.FEES);
        _requireVerified(to);
        Account storage payer = _accounts[from];
        uint256 free = payer.balance - payer.locked;
        if (amount > free) revert IAssetToken.FreeBalanceExceeded(from, free, amount);
        _changeBalances(from, to, amount);
        _reportForced(from, to, amount);
    }

    /* CUSTODIAN: freezes */

    function setAddressFrozen(address account, bool freeze) external onlyCustodian {
        _setFrozen(account, freeze);
    }

    function batchSetAddressFrozen(address[] calldata accounts, bool[] calldata freeze) external onlyCustodian {
        _sameLength(accounts.length, freeze.length);
        for (uint256 i; i < accounts.length; ++i) {
            _setFrozen(accounts[i], freeze[i]);
        }
    }

    function freezePartialTokens(address account, uint256 amount) external onlyCustodian {
        _freezeTokens(account, amount);
    }

    function batchFreezePartialTokens(address[] calldata accounts, uint256[] calldata amounts) external onlyCustodian {
        _sameLength(accounts.length, amounts.length);
        for (uint256 i; i < accounts.length; ++i) {
            _freezeTokens(accounts[i], amounts[i]);
        }
    }

    function unfreezePartialTokens(address account, uint256 amount) external onlyCustodian {
        _unfreezeTokens(account, amount);
    }

    function batchUnfreezePartialTokens(address[] calldata accounts, uint256[] calldata amounts)
        external
        onlyCustodian
    {
        _sameLength(accounts.length, amounts.length);
        for (uint256 i; i < accounts.length; ++i) {
            _unfreezeTokens(accounts[i], amounts[i]);
        }
    }

    /* INTERNAL */

    function _force(address from, address to, uint256 amount, bytes32 reason) private {
        if (to == address(0)) revert ComplianceRefused(address(this), ReasonCodes.RECIPIENT_INVALID);
        _requireVerified(to);
        emit IAssetToken.TransferForced(from, to, msg.sender, amount, reason);
        if (from == to) {
            // Nothing moves, so nothing may be unfrozen or counted either.
            if (_accounts[from].balance < amount) {
                revert ComplianceRefused(address(this), ReasonCodes.BALANCE_TOO_LOW);
            }
            return;
        }
        _freeUp(from, amount);
        _changeBalances(from, to, amount);
        _reportForced(from, to, amount);
    }

    function _reportForced(address from, address to, uint256 amount) private {
        _forced = true;
        ICompliance(_compliance).transferred(from, to, amount);
        _forced = false;
    }

    function _mayRecover(address lostWallet, address newWallet, address onchainID) private view returns (bool) {
        // Without this, holds named after either wallet could not tell whose tokens they lock.
        if (lostWallet == newWallet || _recoveredTo[newWallet] != address(0)) return false;
        IIdentityRegistry registry = IIdentityRegistry(_registry);
        if (onchainID == address(0) || registry.identity(newWallet) != onchainID) return false;
        if (IIdentityRegistryPolicy(address(registry)).successor(lostWallet) == newWallet) return true;
        return registry.identity(lostWallet) == onchainID
            && IERC734(onchainID).keyHasPurpose(keccak256(abi.encode(newWallet)), MANAGEMENT_KEY);
    }

    function _moveLocks(address lostWallet, address newWallet, uint112 locked) private {
        if (locked == 0) return;
        uint256 held = _held[lostWallet];
        uint256 frozen = locked - held;
        _accounts[lostWallet].locked = 0;
        _accounts[newWallet].locked += locked;
        if (held != 0) {
            _held[lostWallet] = 0;
            _held[newWallet] += held;
            emit IAssetToken.HoldsRecovered(lostWallet, newWallet, held);
        }
        if (frozen != 0) {
            emit IERC3643.TokensUnfrozen(lostWallet, frozen);
            emit IERC3643.TokensFrozen(newWallet, frozen);
        }
    }

    function _setFrozen(address account, bool freeze) private {
        _accounts[account].frozen = freeze;
        emit IERC3643.AddressFrozen(account, freeze, msg.sender);
    }

    function _freezeTokens(address account, uint256 amount) private {
        Account storage a = _accounts[account];
        uint256 free = a.balance - a.locked;
        if (amount > free) revert IAssetToken.FreeBalanceExceeded(account, free, amount);
        // Bounded by the balance, which the supply cap keeps within 112 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        a.locked += uint112(amount);
        emit IERC3643.TokensFrozen(account, amount);
    }

    function _sameLength(uint256 left, uint256 right) private pure {
        if (left != right) revert IAssetToken.LengthMismatch();
    }

    function _passRecordDates() internal override {
        Address.functionDelegateCall(GOVERNANCE_CODE, abi.encodeCall(RecordDates.passRecordDates, ()));
    }
}
