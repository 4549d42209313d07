// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Envelope that puts an expiry inside the signed claim data
/// @notice Layout: 8 bytes tag, 8 bytes expiry in unix seconds (big endian, 0 = never), then the payload in the topic's
/// schema. The issuer signs the envelope, so nobody can strip or stretch the expiry. Data without the tag never expires:
/// that is what issuers outside this platform write. A payload of up to 15 bytes makes the whole claim data one storage slot.
library ClaimData {
    /// @dev First 8 bytes of keccak256("dalp.claim.v1"): abi-encoded foreign data starts with zeros or a hash.
    bytes8 internal constant TAG = bytes8(keccak256("dalp.claim.v1"));

    function encode(uint64 expiresAt, bytes memory payload) internal pure returns (bytes memory) {
        return bytes.concat(TAG, bytes8(expiresAt), payload);
    }

    /// @notice Unix seconds from which the claim no longer counts; zero when it does not expire.
    function expiryOf(bytes memory data) internal pure returns (uint64) {
        if (data.length < 16) return 0;
        bytes32 head = bytes32(data);
        return bytes8(head) == TAG ? uint64(uint256(head) >> 128) : 0;
    }

    function isExpired(uint64 expiresAt) internal view returns (bool) {
        return expiresAt != 0 && block.timestamp >= expiresAt;
    }

    /// @notice The schema-encoded part: everything after the envelope, or all of it when there is none.
    function payloadOf(bytes memory data) internal pure returns (bytes memory payload) {
        if (data.length < 16 || bytes8(bytes32(data)) != TAG) return data;
        payload = new bytes(data.length - 16);
        for (uint256 i = 0; i < payload.length; ++i) {
            payload[i] = data[i + 16];
        }
    }

    /// @notice What an issuer revokes and, eth-signed, signs.
    function digestOf(address identity, uint256 topic, bytes memory data) internal pure returns (bytes32) {
        return keccak256(abi.encode(identity, topic, data));
    }

    function claimId(address issuer, uint256 topic) internal pure returns (bytes32) {
        return keccak256(abi.encode(issuer, topic));
    }
}
