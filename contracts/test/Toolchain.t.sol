// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestBase} from "./Vm.sol";

contract ToolchainTest is TestBase {
    function test_compilerIsNew() public view {
        assertTrue(block.chainid != 0, "chain id");
    }
}
