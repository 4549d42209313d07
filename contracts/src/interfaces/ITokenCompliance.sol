// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICompliance} from "./ICompliance.sol";
import {Movement} from "./IRule.sol";
import {Verdict} from "../Refusals.sol";

/// @notice A rule and its parameters.
struct RuleConfig {
    address module;
    bytes params;
}

/// @notice Compliance of one token: an ordered list of at most 25 rules, first veto wins.
interface ITokenCompliance is ICompliance {
    event ModuleAdded(address indexed module, uint8 hooks, bytes params);
    event ModuleRemoved(address indexed module);

    error NotToken(address caller);
    error NotGovernance(address caller);
    error AlreadyBound(address token);
    error NotARule(address module);
    error ModuleAlreadyBound(address module);
    error ModuleNotBound(address module);
    error TooManyModules();
    error InvalidCall();

    /// @notice Once, by the creator of the clone: the token served, the rules and their parameters.
    function initialize(address token, RuleConfig[] calldata rules) external;

    /// @notice Adds a rule at the end and sets its parameters. Asset governance only. Emits `ModuleAdded`.
    function addModule(address module, bytes calldata params) external;

    /// @notice Removes a rule and lets it forget its parameters. Asset governance only. Emits `ModuleRemoved`.
    function removeModule(address module) external;

    /// @notice Replaces the parameters of a bound rule. Asset governance only.
    function setModuleParams(address module, bytes calldata params) external;

    /// @notice Calls any other function of a bound rule as this compliance. Asset governance only.
    function callModule(address module, bytes calldata data) external returns (bytes memory);

    /// @notice The token this compliance was made for, bound or not.
    function token() external view returns (address);

    function getModules() external view returns (address[] memory);
    function isModuleBound(address module) external view returns (bool);
    function moduleHooks(address module) external view returns (uint8);

    /// @notice The first veto, or two zeros; the token asks with the registry's answer at hand. `canTransfer` says the same as a bool.
    function check(Movement calldata movement) external view returns (address module, bytes32 reason);

    /// @notice Every verdict on a movement: the token's state (entry 0), the recipient's identity (entry 1), then each rule that
    /// judges movements, in order. It passes when all reasons are zero. `to` zero is a burn, which only the token judges.
    function explain(address from, address to, uint256 amount) external view returns (Verdict[] memory);
}
