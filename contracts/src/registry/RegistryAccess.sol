// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC173} from "../interfaces/IERC173.sol";
import {RegistryState} from "./RegistryState.sol";
import {Roles} from "../Roles.sol";

/// @title Who may do what in the registry
/// @notice The ERC-173 owner is the tenant's admin in `System`; agents are the holders of IDENTITY_MANAGER, the identity factory of the
/// address book, and those the owner adds here for ERC-3643 tools that bring no role.
abstract contract RegistryAccess is IERC173, RegistryState {
    /// @notice The tenant's admin.
    function owner() public view returns (address) {
        return SYSTEM.admin();
    }

    /// @notice Always reverts: ownership follows `System.transferAdmin`, which takes two steps.
    function transferOwnership(address) external pure {
        revert RegistryOwnershipFollowsSystem();
    }

    /// @notice Adds an agent. Caller: owner or PLATFORM_ADMIN. Emits `AgentAdded`.
    function addAgent(address agent) external {
        _onlyOwner();
        if (agent == address(0)) revert RegistryZeroAddress();
        _setAgent(agent, true);
    }

    /// @notice Removes an agent that was added here. Caller: owner or PLATFORM_ADMIN. Emits `AgentRemoved`. Reverts for an agent by
    /// role, which is removed in `System`.
    function removeAgent(address agent) external {
        _onlyOwner();
        if (!_agents[agent]) {
            if (_isRoleAgent(agent)) revert RegistryAgentByRole(agent);
            revert RegistryAgentUnknown(agent);
        }
        _setAgent(agent, false);
    }

    function isAgent(address account) external view returns (bool) {
        return _isAgent(account);
    }

    function _setAgent(address agent, bool active) internal {
        _agents[agent] = active;
        if (active) emit AgentAdded(agent);
        else emit AgentRemoved(agent);
    }

    function _onlyOwner() internal view {
        if (msg.sender != owner() && !SYSTEM.has(msg.sender, Roles.PLATFORM_ADMIN)) {
            revert RegistryUnauthorized(msg.sender);
        }
    }

    function _onlyPolicyManager() internal view {
        if (!SYSTEM.has(msg.sender, Roles.CLAIM_POLICY_MANAGER)) revert RegistryUnauthorized(msg.sender);
    }
}
