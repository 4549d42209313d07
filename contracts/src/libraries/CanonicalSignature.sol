// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Only one byte string per (key, digest, nonce) counts as a signature
/// @notice 65 bytes r, s, v with s in the lower half of the curve order and v 27 or 28. Everything else recovers to zero, so a
/// revoked signature has no second form that still verifies.
library CanonicalSignature {
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    function split(bytes memory signature) internal pure returns (bool canonical, bytes32 r, bytes32 s, uint8 v) {
        if (signature.length != 65) return (false, 0, 0, 0);
        // Reading word by word through calldata-style slices needs assembly; abi.decode of a padded copy does not.
        (r, s) = abi.decode(signature, (bytes32, bytes32));
        v = uint8(signature[64]);
        canonical = uint256(s) <= HALF_ORDER && (v == 27 || v == 28);
    }

    /// @return signer zero when the signature is not canonical or recovers to nobody
    function recover(bytes32 hash, bytes memory signature) internal pure returns (address signer) {
        (bool canonical, bytes32 r, bytes32 s, uint8 v) = split(signature);
        return canonical ? ecrecover(hash, v, r, s) : address(0);
    }
}
