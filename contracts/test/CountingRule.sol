// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hooks, Movement} from "../src/interfaces/IRule.sol";
import {Rule} from "../src/rules/Rule.sol";

/// @notice A rule with every hook that only counts; it refuses to be removed, as a broken rule might.
contract CountingRule is Rule {
    uint256 public transfers;
    uint256 public mints;
    uint256 public burns;

    function name() external pure returns (string memory) {
        return "CountingRule";
    }

    function hooks() external pure returns (uint8) {
        return Hooks.ALL;
    }

    function validate(bytes calldata) external pure {}

    function _apply(bytes calldata) internal override {}

    function _forget() internal pure override {
        revert InvalidParams("removal");
    }

    function check(Movement calldata) external pure returns (bytes32) {
        return 0;
    }

    function moved(address, address from, address to, uint256) external override {
        if (from == address(0)) ++mints;
        else if (to == address(0)) ++burns;
        else ++transfers;
    }
}
