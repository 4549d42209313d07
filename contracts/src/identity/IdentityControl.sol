// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC734} from "../interfaces/IERC734.sol";
import {IIdentityControl} from "../interfaces/IIdentity.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {Names} from "../Roles.sol";
import {IdentityState} from "./IdentityState.sol";

/// @title An identity's keys and execution
/// @notice Runs in the identity's storage by delegation. Called directly it has no keys, so nobody can make it do anything.
contract IdentityControl is IdentityState, IERC734, IIdentityControl {
    constructor(ISystem system) IdentityState(system) {}

    /* KEYS (ERC-734) */

    /// @notice Adds a purpose to a key. Caller: MANAGEMENT key or the identity itself. Emits `KeyAdded`.
    function addKey(bytes32 key, uint256 purpose, uint256 keyType) external returns (bool) {
        _onlyManagement();
        _addPurpose(key, purpose, keyType);
        return true;
    }

    /// @notice Takes a purpose from a key. Caller: MANAGEMENT key or the identity itself. Emits `KeyRemoved`. Claims signed
    /// by a key that loses CLAIM stop counting at once. Reverts for the last MANAGEMENT key.
    function removeKey(bytes32 key, uint256 purpose) external returns (bool) {
        _onlyManagement();
        _removePurpose(key, purpose);
        return true;
    }

    /// @inheritdoc IIdentityControl
    function recoverKey(address lostWallet, address newWallet) external {
        _onlyRegistry();
        if (newWallet == address(0)) revert IdentityZeroAddress();
        if (_moveKey(keyOf(lostWallet), keyOf(newWallet))) {
            emit KeysRecovered(keyOf(lostWallet), keyOf(newWallet), false);
        }
    }

    /// @inheritdoc IIdentityControl
    function resetKeys(address wallet) external {
        _onlyRegistry();
        if (wallet == address(0)) revert IdentityZeroAddress();
        _stripControl();
        _addFirstKey(wallet);
        emit KeysRecovered(bytes32(0), keyOf(wallet), true);
    }

    /* EXECUTION (ERC-734) */

    /// @notice Runs a call as this identity, at once when the caller's key suffices (MANAGEMENT for calls to the identity
    /// itself; ACTION or MANAGEMENT for any other target), else keeps it for `approve`. A failing call reverts with
    /// `IdentityExecutionFailed`, which carries the target's error.
    /// Caller: any key. Emits `ExecutionRequested`, and `Approved` and `Executed` when it ran.
    function execute(address to, uint256 value, bytes calldata data) external payable returns (uint256 executionId) {
        bytes32 key = keyOf(msg.sender);
        if (!_isKnown(key)) revert IdentityExecutionWithoutKey(msg.sender);
        executionId = _executionCount++;
        emit ExecutionRequested(executionId, to, value, data);
        if (_mayExecute(key, to)) {
            emit Approved(executionId, true);
            _run(executionId, to, value, data);
        } else {
            _pending[executionId] = Execution({to: to, value: value, data: data});
        }
    }

    /// @notice Runs (true) or drops (false) a kept request. Caller: a key that could have executed it at once. When the call
    /// fails, the transaction reverts with `IdentityExecutionFailed` and the request stays.
    function approve(uint256 executionId, bool approved) external returns (bool) {
        Execution memory request = _pending[executionId];
        if (request.to == address(0)) revert IdentityExecutionUnknown(executionId);
        if (!_mayExecute(keyOf(msg.sender), request.to)) revert IdentityUnauthorized(msg.sender);
        // Cleared first: a call that comes back here must not run the same request twice.
        delete _pending[executionId];
        emit Approved(executionId, approved);
        if (approved) _run(executionId, request.to, request.value, request.data);
        return true;
    }

    /// @inheritdoc IIdentityControl
    function pendingExecution(uint256 executionId)
        external
        view
        returns (address to, uint256 value, bytes memory data)
    {
        Execution storage request = _pending[executionId];
        return (request.to, request.value, request.data);
    }

    function keyHasPurpose(bytes32 key, uint256 purpose) external view returns (bool) {
        return _keyHasPurpose(key, purpose);
    }

    function getKey(bytes32 key) external view returns (uint256[] memory purposes, uint256 keyType, bytes32) {
        uint256 word = _words[key];
        return (_purposesOf(word), word & 0xff, word == 0 ? bytes32(0) : key);
    }

    function getKeyPurposes(bytes32 key) external view returns (uint256[] memory) {
        return _purposesOf(_words[key]);
    }

    function getKeysByPurpose(uint256 purpose) external view returns (bytes32[] memory keys) {
        uint256 length = _keys.length;
        bytes32[] memory found = new bytes32[](length);
        uint256 count;
        if (purpose != 0 && purpose <= MAX_PURPOSE) {
            for (uint256 i = 0; i < length; ++i) {
                if (_hasPurpose(_keys[i], purpose)) found[count++] = _keys[i];
            }
        }
        keys = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            keys[i] = found[i];
        }
    }

    /* INTERNAL */

    function _onlyManagement() private view {
        if (msg.sender != address(this) && !_hasPurpose(keyOf(msg.sender), MANAGEMENT)) {
            revert IdentityUnauthorized(msg.sender);
        }
    }

    function _mayExecute(bytes32 key, address to) private view returns (bool) {
        return _hasPurpose(key, MANAGEMENT) || (to != address(this) && _hasPurpose(key, ACTION));
    }

    function _run(uint256 executionId, address to, uint256 value, bytes memory data) private {
        emit Executed(executionId, to, value, data);
        (bool success, bytes memory result) = to.call{value: value}(data);
        if (!success) revert IdentityExecutionFailed(executionId, result);
    }

    function _onlyRegistry() private view {
        if (msg.sender != SYSTEM.get(Names.IDENTITY_REGISTRY)) revert IdentityUnauthorized(msg.sender);
    }

    function _purposesOf(uint256 word) private pure returns (uint256[] memory purposes) {
        uint256 count;
        for (uint256 purpose = 1; purpose <= MAX_PURPOSE; ++purpose) {
            count += (word >> (32 + purpose)) & 1;
        }
        purposes = new uint256[](count);
        for (uint256 purpose = MAX_PURPOSE; purpose > 0; --purpose) {
            if ((word >> (32 + purpose)) & 1 == 1) purposes[--count] = purpose;
        }
    }
}
