// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC734} from "../interfaces/IERC734.sol";
import {IIdentityErrors} from "../interfaces/IIdentity.sol";

/// @title ERC-734 keys with exact purposes
/// @notice One storage word per key, so that "does this key hold CLAIM" is one read on the transfer path. The number of keys
/// is bounded, so that recovery, which walks them, cannot be blocked by a thief who adds keys.
abstract contract KeyRing is IIdentityErrors {
    uint256 internal constant MANAGEMENT = 1;
    uint256 internal constant ACTION = 2;
    uint256 internal constant CLAIM = 3;
    uint256 internal constant KEY_TYPE_ECDSA = 1;
    uint256 internal constant MAX_KEYS = 32;
    uint256 internal constant MAX_PURPOSE = 15;

    /// @dev Word of a key: bits 0-7 type, 8-15 position + 1 in `_keys`, 16 signature-revocation mark, 32+p purpose p.
    uint256 private constant MARK = 1 << 16;
    uint256 private constant PURPOSES = ((1 << (MAX_PURPOSE + 1)) - 1) << 32;
    uint256 private constant CONTROL = (1 << (32 + MANAGEMENT)) | (1 << (32 + ACTION));

    mapping(bytes32 key => uint256 word) internal _words;
    bytes32[] internal _keys;
    uint8 private _managementKeys;
    bool private _signatureRevocations;

    /* INTERNAL */

    function keyOf(address account) internal pure returns (bytes32) {
        return keccak256(abi.encode(account));
    }

    function _hasPurpose(bytes32 key, uint256 purpose) internal view returns (bool) {
        return (_words[key] >> (32 + purpose)) & 1 == 1;
    }

    function _keyHasPurpose(bytes32 key, uint256 purpose) internal view returns (bool) {
        return purpose != 0 && purpose <= MAX_PURPOSE && _hasPurpose(key, purpose);
    }

    function _isKnown(bytes32 key) internal view returns (bool) {
        return _words[key] != 0;
    }

    function _hasKeys() internal view returns (bool) {
        return _keys.length != 0;
    }

    /// @dev A CLAIM key that was there when a signature was revoked answers no: digest alone cannot tell its claims apart.
    function _isUnmarkedClaimKey(bytes32 key) internal view returns (bool) {
        return _words[key] & (MARK | (1 << (32 + CLAIM))) == 1 << (32 + CLAIM);
    }

    function _markSignatureRevocations() internal {
        _signatureRevocations = true;
        for (uint256 i = 0; i < _keys.length; ++i) {
            _words[_keys[i]] |= MARK;
        }
    }

    /// @dev All three purposes for a wallet that is to be in full control.
    function _addFirstKey(address wallet) internal {
        bytes32 key = keyOf(wallet);
        for (uint256 purpose = MANAGEMENT; purpose <= CLAIM; ++purpose) {
            if (!_hasPurpose(key, purpose)) _givePurpose(key, purpose);
        }
    }

    /// @dev For the registry's recovery: neither the bound nor a type that a thief chose for the new wallet's key may block it.
    function _givePurpose(bytes32 key, uint256 purpose) private {
        uint256 word = _words[key];
        _writePurpose(key, word, purpose, word == 0 ? KEY_TYPE_ECDSA : word & 0xff);
    }

    function _addPurpose(bytes32 key, uint256 purpose, uint256 keyType) internal {
        if (purpose == 0 || purpose > MAX_PURPOSE) revert IdentityUnknownPurpose(purpose);
        uint256 word = _words[key];
        if (word == 0) {
            if (keyType == 0 || keyType > 0xff) revert IdentityKeyTypeMismatch(key);
            if (_keys.length >= MAX_KEYS) revert IdentityTooManyKeys();
        } else if (word & 0xff != keyType) {
            revert IdentityKeyTypeMismatch(key);
        }
        _writePurpose(key, word, purpose, keyType);
    }

    function _writePurpose(bytes32 key, uint256 word, uint256 purpose, uint256 keyType) private {
        if (word == 0) {
            _keys.push(key);
            word = keyType | (_keys.length << 8);
            // A key that comes back may have signed what was revoked by signature before.
            if (_signatureRevocations) word |= MARK;
        }
        uint256 bit = 1 << (32 + purpose);
        if (word & bit != 0) revert IdentityKeyExists(key, purpose);
        _words[key] = word | bit;
        if (purpose == MANAGEMENT) ++_managementKeys;
        emit IERC734.KeyAdded(key, purpose, keyType);
    }

    function _removePurpose(bytes32 key, uint256 purpose) internal {
        if (purpose == MANAGEMENT && _managementKeys == 1 && _hasPurpose(key, MANAGEMENT)) {
            revert IdentityLastManagementKey();
        }
        _dropPurpose(key, purpose);
    }

    /// @return moved false when `lost` is no key here
    function _moveKey(bytes32 lost, bytes32 replacement) internal returns (bool moved) {
        uint256 word = _words[lost];
        if (word == 0 || lost == replacement) return false;
        // Freed first: a full ring must not block recovery.
        for (uint256 purpose = 1; purpose <= MAX_PURPOSE; ++purpose) {
            if ((word >> (32 + purpose)) & 1 == 1) _dropPurpose(lost, purpose);
        }
        for (uint256 purpose = 1; purpose <= MAX_PURPOSE; ++purpose) {
            if ((word >> (32 + purpose)) & 1 == 1 && !_hasPurpose(replacement, purpose)) {
                _givePurpose(replacement, purpose);
            }
        }
        return true;
    }

    /// @dev Takes MANAGEMENT and ACTION from every key. Backwards, because a key without purposes leaves the list.
    function _stripControl() internal {
        for (uint256 i = _keys.length; i > 0; --i) {
            bytes32 key = _keys[i - 1];
            uint256 word = _words[key];
            if (word & CONTROL == 0) continue;
            if (_hasPurpose(key, MANAGEMENT)) _dropPurpose(key, MANAGEMENT);
            if (_hasPurpose(key, ACTION)) _dropPurpose(key, ACTION);
        }
    }

    function _dropPurpose(bytes32 key, uint256 purpose) private {
        if (purpose == 0 || purpose > MAX_PURPOSE) revert IdentityUnknownPurpose(purpose);
        uint256 word = _words[key];
        uint256 bit = 1 << (32 + purpose);
        if (word & bit == 0) revert IdentityKeyUnknown(key, purpose);
        word &= ~bit;
        if (purpose == MANAGEMENT) --_managementKeys;
        emit IERC734.KeyRemoved(key, purpose, word & 0xff);
        if (word & PURPOSES != 0) {
            _words[key] = word;
            return;
        }
        delete _words[key];
        uint256 position = (word >> 8) & 0xff;
        uint256 length = _keys.length;
        if (position != length) {
            bytes32 last = _keys[length - 1];
            _keys[position - 1] = last;
            _words[last] = (_words[last] & ~uint256(0xff00)) | (position << 8);
        }
        _keys.pop();
    }
}
