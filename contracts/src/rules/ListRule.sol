// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentityRegistry} from "../interfaces/IIdentityRegistry.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @notice An account (wallet or identity) and the lists it stands on: `ListRule.ALLOWED`, `ListRule.BLOCKED`, both, or 0.
struct ListEntry {
    address account;
    uint8 lists;
}

/// @title List rule
/// @notice An allow list and a block list of wallets and identities per token. A wallet counts as listed when itself or its
/// identity is; blocked wins over allowed. Parameters: `abi.encode(uint8 allowSides, uint8 blockSides, ListEntry[] entries)`; the
/// sides (1 = recipient, 2 = sender, 3 = both, 0 = not used) say whom each list is asked about, and one of them must be used. The entries
/// are added to the lists; `setEntries` changes them later. Lists are mappings: their length costs nothing.
contract ListRule is Rule {
    uint8 public constant RECIPIENT = 1;
    uint8 public constant SENDER = 2;

    uint8 public constant ALLOWED = 1;
    uint8 public constant BLOCKED = 2;

    struct Config {
        uint8 allowSides;
        uint8 blockSides;
        uint32 epoch;
    }

    event Listed(address indexed compliance, address indexed account, uint8 lists);

    mapping(address compliance => Config) private _configs;
    mapping(uint256 key => mapping(address account => uint8 lists)) private _lists;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "ListRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (uint8 allowSides, uint8 blockSides, ListEntry[] memory entries) =
            abi.decode(params, (uint8, uint8, ListEntry[]));
        if (allowSides > RECIPIENT | SENDER) revert InvalidParams("allowSides");
        if (blockSides > RECIPIENT | SENDER || allowSides | blockSides == 0) revert InvalidParams("blockSides");
        for (uint256 i; i < entries.length; ++i) {
            _checkEntry(entries[i]);
        }
    }

    /// @notice Puts accounts on lists and takes them off. Caller: a compliance, for its token (governance by `callModule`).
    /// Emits `Listed`. Reverts `NotConfigured`, `InvalidParams`.
    function setEntries(ListEntry[] calldata entries) external {
        Config memory config = _configs[msg.sender];
        if (config.allowSides | config.blockSides == 0) revert NotConfigured(msg.sender);
        for (uint256 i; i < entries.length; ++i) {
            _checkEntry(entries[i]);
            _set(config.epoch, entries[i]);
        }
    }

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        Config memory config = _configs[msg.sender];
        uint8 sides = config.allowSides | config.blockSides;
        if (sides == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        address from = movement.from;
        // A mint has no sender to ask about.
        if (sides & SENDER != 0 && from != address(0)) {
            uint8 lists = _listsOf(config.epoch, from, IIdentityRegistry(movement.registry).identity(from));
            if (config.blockSides & SENDER != 0 && lists & BLOCKED != 0) return ReasonCodes.SENDER_BLOCKED;
            if (config.allowSides & SENDER != 0 && lists & ALLOWED == 0) return ReasonCodes.SENDER_NOT_LISTED;
        }
        if (sides & RECIPIENT != 0) {
            uint8 lists = _listsOf(config.epoch, movement.to, movement.identity);
            if (config.blockSides & RECIPIENT != 0 && lists & BLOCKED != 0) return ReasonCodes.RECIPIENT_BLOCKED;
            if (config.allowSides & RECIPIENT != 0 && lists & ALLOWED == 0) return ReasonCodes.RECIPIENT_NOT_LISTED;
        }
        return ReasonCodes.OK;
    }

    /// @notice Sides of a compliance; both zero when it is not configured.
    function paramsOf(address compliance) external view returns (uint8 allowSides, uint8 blockSides) {
        return (_configs[compliance].allowSides, _configs[compliance].blockSides);
    }

    /// @notice Lists on which exactly this account stands.
    function listsOf(address compliance, address account) external view returns (uint8 lists) {
        return _lists[_key(compliance, _configs[compliance].epoch)][account];
    }

    function _apply(bytes calldata params) internal override {
        (uint8 allowSides, uint8 blockSides, ListEntry[] memory entries) =
            abi.decode(params, (uint8, uint8, ListEntry[]));
        Config storage config = _configs[msg.sender];
        (config.allowSides, config.blockSides) = (allowSides, blockSides);
        uint32 epoch = config.epoch;
        for (uint256 i; i < entries.length; ++i) {
            _set(epoch, entries[i]);
        }
    }

    function _forget() internal override {
        _configs[msg.sender] = Config({allowSides: 0, blockSides: 0, epoch: _configs[msg.sender].epoch + 1});
    }

    function _set(uint32 epoch, ListEntry memory entry) private {
        _lists[_key(msg.sender, epoch)][entry.account] = entry.lists;
        emit Listed(msg.sender, entry.account, entry.lists);
    }

    function _checkEntry(ListEntry memory entry) private pure {
        if (entry.account == address(0) || entry.lists > ALLOWED | BLOCKED) revert InvalidParams("entries");
    }

    function _listsOf(uint32 epoch, address wallet, address identity) private view returns (uint8) {
        mapping(address account => uint8) storage lists = _lists[_key(msg.sender, epoch)];
        return lists[wallet] | lists[identity];
    }
}
