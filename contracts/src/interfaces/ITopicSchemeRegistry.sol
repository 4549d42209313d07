// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Topics a claim may have
/// @notice Topic id = `uint256(keccak256(bytes(name)))`; the schema is an ABI signature such as "(uint64 date,string level)".
interface ITopicSchemeRegistry {
    error TopicSchemeUnauthorized(address caller);
    error TopicSchemeExists(uint256 topic);
    error TopicSchemeUnknown(uint256 topic);
    error TopicSchemeEmpty();

    event TopicSchemeRegistered(uint256 indexed topic, string name, string schema, bytes32 schemaHash);
    event TopicSchemeUpdated(uint256 indexed topic, string schema, bytes32 previousHash, bytes32 schemaHash);
    event TopicSchemeRemoved(uint256 indexed topic);

    /// @notice Adds a topic. Caller: CLAIM_POLICY_MANAGER. Emits `TopicSchemeRegistered`. Reverts when it exists or when name or
    /// schema is empty.
    function registerTopicScheme(string calldata name, string calldata schema) external returns (uint256 topic);

    /// @notice Replaces the schema. Caller: CLAIM_POLICY_MANAGER. Emits `TopicSchemeUpdated`.
    function updateTopicScheme(string calldata name, string calldata schema) external;

    /// @notice Removes a topic; claims of it stop counting at once. Caller: CLAIM_POLICY_MANAGER. Emits `TopicSchemeRemoved`.
    function removeTopicScheme(string calldata name) external;

    function topicScheme(uint256 topic) external view returns (string memory name, string memory schema);
    /// @notice keccak256 of the schema text, zero when the topic does not exist.
    function schemaHash(uint256 topic) external view returns (bytes32);
    function exists(uint256 topic) external view returns (bool);
    function topicId(string calldata name) external pure returns (uint256);
}
