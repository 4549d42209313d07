// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The agent role of ERC-3643 (interface id 0x0cba0fa8).
interface IAgentRole {
    event AgentAdded(address indexed _agent);
    event AgentRemoved(address indexed _agent);

    function addAgent(address _agent) external;
    function removeAgent(address _agent) external;
    function isAgent(address _agent) external view returns (bool);
}
