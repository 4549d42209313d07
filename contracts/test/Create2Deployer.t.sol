// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {Errors} from "@openzeppelin/contracts/utils/Errors.sol";
import {Create2Deployer} from "../src/Create2Deployer.sol";
import {TestBase} from "./Vm.sol";

/// @notice What is deployed.
contract Placed {
    uint256 public immutable NUMBER;

    error Refused();

    constructor(uint256 number) {
        if (number == 0) revert Refused();
        NUMBER = number;
    }
}

contract Create2DeployerTest is TestBase {
    Create2Deployer private _deployer;

    function setUp() public {
        _deployer = new Create2Deployer();
    }

    function _code(uint256 number) private pure returns (bytes memory) {
        return bytes.concat(type(Placed).creationCode, abi.encode(number));
    }

    function test_the_address_depends_on_salt_and_code_alone() public {
        address planned = Create2.computeAddress("salt", keccak256(_code(7)), address(_deployer));
        vm.expectEmit(true, true, false, true, address(_deployer));
        emit Create2Deployer.Deployed(planned, "salt");
        vm.prank(address(0xA1));
        assertEq(_deployer.deploy("salt", _code(7)), planned, "whoever calls");
        assertEq(Placed(planned).NUMBER(), 7, "constructed");
        assertTrue(_deployer.deploy("salt", _code(8)) != planned, "other code");
        assertTrue(_deployer.deploy("other", _code(7)) != planned, "other salt");
    }

    function test_what_is_there_is_left_alone() public {
        address first = _deployer.deploy("salt", _code(7));
        vm.recordLogs();
        assertEq(_deployer.deploy("salt", _code(7)), first, "same");
        assertEq(vm.getRecordedLogs().length, 0, "and nothing is announced");
    }

    function test_a_failing_constructor_fails_the_deployment() public {
        vm.expectRevert(Placed.Refused.selector);
        _deployer.deploy("salt", _code(0));
        vm.expectRevert(abi.encodeWithSelector(Create2.Create2EmptyBytecode.selector));
        _deployer.deploy("salt", "");
        vm.expectRevert(Errors.FailedDeployment.selector);
        _deployer.deploy("salt", hex"fe");
    }
}
