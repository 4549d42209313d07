// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISystem} from "./interfaces/ISystem.sol";
import {ITopicSchemeRegistry} from "./interfaces/ITopicSchemeRegistry.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {Names, Roles} from "./Roles.sol";

/// @title Topics a claim may have
/// @notice Removal must bite on the next transfer without the registry asking back on every one of them, so this contract
/// tells the identity registry when a topic disappears or returns.
contract TopicSchemeRegistry is ITopicSchemeRegistry {
    struct Scheme {
        string name;
        string schema;
        bytes32 schemaHash;
    }

    ISystem public immutable SYSTEM;

    mapping(uint256 topic => Scheme) private _schemes;

    constructor(ISystem system) {
        SYSTEM = system;
    }

    modifier onlyPolicyManager() {
        if (!SYSTEM.has(msg.sender, Roles.CLAIM_POLICY_MANAGER)) revert TopicSchemeUnauthorized(msg.sender);
        _;
    }

    /// @inheritdoc ITopicSchemeRegistry
    function registerTopicScheme(string calldata name, string calldata schema)
        external
        onlyPolicyManager
        returns (uint256 topic)
    {
        if (bytes(name).length == 0 || bytes(schema).length == 0) revert TopicSchemeEmpty();
        topic = _topicId(name);
        if (_schemes[topic].schemaHash != 0) revert TopicSchemeExists(topic);
        bytes32 hash = keccak256(bytes(schema));
        _schemes[topic] = Scheme({name: name, schema: schema, schemaHash: hash});
        emit TopicSchemeRegistered(topic, name, schema, hash);
        _tellRegistry(topic, false);
    }

    /// @inheritdoc ITopicSchemeRegistry
    function updateTopicScheme(string calldata name, string calldata schema) external onlyPolicyManager {
        if (bytes(schema).length == 0) revert TopicSchemeEmpty();
        uint256 topic = _topicId(name);
        Scheme storage scheme = _known(topic);
        bytes32 previous = scheme.schemaHash;
        bytes32 hash = keccak256(bytes(schema));
        scheme.schema = schema;
        scheme.schemaHash = hash;
        emit TopicSchemeUpdated(topic, schema, previous, hash);
    }

    /// @inheritdoc ITopicSchemeRegistry
    function removeTopicScheme(string calldata name) external onlyPolicyManager {
        uint256 topic = _topicId(name);
        _known(topic);
        delete _schemes[topic];
        emit TopicSchemeRemoved(topic);
        _tellRegistry(topic, true);
    }

    /// @inheritdoc ITopicSchemeRegistry
    function topicScheme(uint256 topic) external view returns (string memory name, string memory schema) {
        Scheme storage scheme = _schemes[topic];
        return (scheme.name, scheme.schema);
    }

    /// @inheritdoc ITopicSchemeRegistry
    function schemaHash(uint256 topic) external view returns (bytes32) {
        return _schemes[topic].schemaHash;
    }

    /// @inheritdoc ITopicSchemeRegistry
    function exists(uint256 topic) external view returns (bool) {
        return _schemes[topic].schemaHash != 0;
    }

    /// @inheritdoc ITopicSchemeRegistry
    function topicId(string calldata name) external pure returns (uint256) {
        return _topicId(name);
    }

    function _known(uint256 topic) private view returns (Scheme storage scheme) {
        scheme = _schemes[topic];
        if (scheme.schemaHash == 0) revert TopicSchemeUnknown(topic);
    }

    function _tellRegistry(uint256 topic, bool retired) private {
        address registry = SYSTEM.get(Names.IDENTITY_REGISTRY);
        if (registry != address(0)) IIdentityRegistryPolicy(registry).setTopicRetired(topic, retired);
    }

    function _topicId(string calldata name) private pure returns (uint256) {
        return uint256(keccak256(bytes(name)));
    }
}
