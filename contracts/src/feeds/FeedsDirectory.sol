// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {ERC165Checker} from "@openzeppelin/contracts/utils/introspection/ERC165Checker.sol";
import {AggregatorV3Interface} from "../interfaces/IAggregatorV3.sol";
import {IAssetFactory} from "../interfaces/IAssetFactory.sol";
import {IAssetRoles} from "../interfaces/IAssetToken.sol";
import {FeedKind, IFeedsDirectory} from "../interfaces/IFeedsDirectory.sol";
import {IIssuerSignedScalarFeed} from "../interfaces/IIssuerSignedScalarFeed.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {ITopicSchemeRegistry} from "../interfaces/ITopicSchemeRegistry.sol";
import {AssetRoles, Names, Roles} from "../Roles.sol";

/// @title Directory of feeds
/// @notice Threat model: a feeds manager may point any pair at any contract that answers like a feed, so consumers trust the tenant's
/// administration; an asset's governance has that power over its own asset only.
contract FeedsDirectory is IFeedsDirectory {
    struct Entry {
        address feed;
        FeedKind kind;
        /// Phase of the present feed, or of the next one while there is none.
        uint16 phase;
    }

    uint256 private constant MAX_DECIMALS = 18;
    /// @dev The schema text with and without the parentheses of an ABI tuple.
    bytes32 private constant TUPLE_SCHEMA = keccak256("(int256 value)");
    bytes32 private constant BARE_SCHEMA = keccak256("int256 value");

    ISystem public immutable SYSTEM;
    address public immutable ADAPTER_IMPLEMENTATION;

    mapping(address subject => mapping(uint256 topicId => Entry)) private _entries;
    mapping(address subject => mapping(uint256 topicId => mapping(uint16 phase => address feed))) private _phases;

    constructor(ISystem system, address adapterImplementation) {
        SYSTEM = system;
        ADAPTER_IMPLEMENTATION = adapterImplementation;
    }

    /* WRITE */

    /// @inheritdoc IFeedsDirectory
    function register(address subject, uint256 topicId, address feed) external {
        _onlyRegistrar(subject);
        Entry storage entry = _entries[subject][topicId];
        if (entry.feed != address(0)) revert FeedAlreadyRegistered(subject, topicId, entry.feed);
        _requireScalarTopic(topicId);
        _requireScalarFeed(subject, topicId, feed);
        entry.feed = feed;
        entry.kind = FeedKind.SCALAR;
        _phases[subject][topicId][entry.phase] = feed;
        emit FeedRegistered(subject, topicId, feed, FeedKind.SCALAR, entry.phase);
    }

    /// @inheritdoc IFeedsDirectory
    function replace(address subject, uint256 topicId, address feed) external {
        _onlyRegistrar(subject);
        Entry storage entry = _entries[subject][topicId];
        address previous = _registered(entry, subject, topicId);
        _requireScalarTopic(topicId);
        uint8 decimals = _requireScalarFeed(subject, topicId, feed);
        uint8 expected = AggregatorV3Interface(previous).decimals();
        if (decimals != expected) revert FeedDecimalsDiffer(expected, decimals);
        uint16 phase = entry.phase + 1;
        entry.feed = feed;
        entry.phase = phase;
        _phases[subject][topicId][phase] = feed;
        emit FeedReplaced(subject, topicId, feed, previous, phase);
    }

    /// @inheritdoc IFeedsDirectory
    function remove(address subject, uint256 topicId) external {
        if (!mayManage(msg.sender, subject)) revert FeedsUnauthorized(msg.sender, subject);
        Entry storage entry = _entries[subject][topicId];
        address feed = _registered(entry, subject, topicId);
        entry.feed = address(0);
        entry.kind = FeedKind.NONE;
        entry.phase += 1;
        emit FeedRemoved(subject, topicId, feed);
    }

    /// @inheritdoc IFeedsDirectory
    function createAdapter(address subject, uint256 topicId) external returns (address adapter) {
        address feed = _registered(_entries[subject][topicId], subject, topicId);
        uint8 decimals = AggregatorV3Interface(feed).decimals();
        bytes memory arguments = _adapterArguments(subject, topicId, decimals);
        adapter = _predictAdapter(arguments);
        if (adapter.code.length != 0) return adapter;
        emit AdapterCreated(subject, topicId, adapter, decimals);
        Clones.cloneDeterministicWithImmutableArgs(ADAPTER_IMPLEMENTATION, arguments, 0);
    }

    /* READ */

    /// @inheritdoc IFeedsDirectory
    function resolve(address subject, uint256 topicId) external view returns (address feed, FeedKind kind) {
        Entry storage entry = _entries[subject][topicId];
        return (entry.feed, entry.kind);
    }

    /// @inheritdoc IFeedsDirectory
    function current(address subject, uint256 topicId) external view returns (address feed, uint16 phase) {
        Entry storage entry = _entries[subject][topicId];
        return (entry.feed, entry.phase);
    }

    /// @inheritdoc IFeedsDirectory
    function feedAt(address subject, uint256 topicId, uint16 phase) external view returns (address feed) {
        return _phases[subject][topicId][phase];
    }

    /// @inheritdoc IFeedsDirectory
    function adapterOf(address subject, uint256 topicId) external view returns (address adapter) {
        address feed = _entries[subject][topicId].feed;
        if (feed == address(0)) return address(0);
        adapter = _predictAdapter(_adapterArguments(subject, topicId, AggregatorV3Interface(feed).decimals()));
        if (adapter.code.length == 0) return address(0);
    }

    /// @inheritdoc IFeedsDirectory
    function mayManage(address account, address subject) public view returns (bool) {
        if (SYSTEM.has(account, Roles.FEEDS_MANAGER)) return true;
        address assets = SYSTEM.get(Names.ASSET_FACTORY);
        return assets != address(0) && IAssetFactory(assets).isAsset(subject)
            && IAssetRoles(subject).has(account, AssetRoles.GOVERNANCE);
    }

    /* INTERNAL */

    /// @dev The factory asks for its caller before it registers.
    function _onlyRegistrar(address subject) private view {
        if (msg.sender == SYSTEM.get(Names.SCALAR_FEED_FACTORY)) return;
        if (!mayManage(msg.sender, subject)) revert FeedsUnauthorized(msg.sender, subject);
    }

    function _registered(Entry storage entry, address subject, uint256 topicId) private view returns (address feed) {
        feed = entry.feed;
        if (feed == address(0)) revert FeedNotRegistered(subject, topicId);
    }

    function _requireScalarTopic(uint256 topicId) private view {
        bytes32 schema = ITopicSchemeRegistry(SYSTEM.get(Names.TOPIC_SCHEMES)).schemaHash(topicId);
        if (schema == 0) revert FeedTopicUnknown(topicId);
        if (schema != TUPLE_SCHEMA && schema != BARE_SCHEMA) revert FeedSchemaNotScalar(topicId);
    }

    /// @dev A feed that says what it is about must be about this pair.
    function _requireScalarFeed(address subject, uint256 topicId, address feed) private view returns (uint8 decimals) {
        (bool answered, bytes memory answer) = feed.staticcall(abi.encodeCall(AggregatorV3Interface.decimals, ()));
        if (!answered || answer.length != 32) revert FeedNotScalar(feed);
        uint256 stated = abi.decode(answer, (uint256));
        if (stated > MAX_DECIMALS) revert FeedNotScalar(feed);
        if (ERC165Checker.supportsInterface(feed, type(IIssuerSignedScalarFeed).interfaceId)) {
            (address pinned, uint256 topic) =
                (IIssuerSignedScalarFeed(feed).subject(), IIssuerSignedScalarFeed(feed).topicId());
            if (pinned != subject || topic != topicId) revert FeedPinnedElsewhere(feed, pinned, topic);
        }
        // casting is safe because it is at most 18
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint8(stated);
    }

    function _adapterArguments(address subject, uint256 topicId, uint8 decimals) private view returns (bytes memory) {
        return abi.encode(address(this), subject, topicId, decimals);
    }

    function _predictAdapter(bytes memory arguments) private view returns (address) {
        return Clones.predictDeterministicAddressWithImmutableArgs(ADAPTER_IMPLEMENTATION, arguments, 0);
    }
}
