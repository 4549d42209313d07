// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SmartAccount} from "../../src/account/SmartAccount.sol";
import {AccountConfig, ISmartAccountFactory} from "../../src/interfaces/ISmartAccount.sol";
import {AccountFixture} from "./AccountFixture.sol";

contract SmartAccountFactoryTest is AccountFixture {
    function test_creation_is_repeatable_and_binds_the_owners() public {
        AccountConfig memory config = _config();
        assertEq(factory.createAccount(config, 0), address(account), "same");
        assertEq(factory.predict(config, 0), address(account), "predicted");
        config.owners.threshold = 1;
        assertTrue(factory.predict(config, 0) != address(account), "other owners, other address");
    }

    function test_anybody_may_make_it_and_nobody_can_put_other_owners_there() public {
        AccountConfig memory config = _config();
        address planned = factory.predict(config, "salt");
        vm.expectEmit(true, true, false, true, address(factory));
        emit ISmartAccountFactory.AccountCreated(planned, "salt");
        vm.prank(sender);
        assertEq(factory.createAccount(config, "salt"), planned, "planned");
        SmartAccount made = SmartAccount(payable(planned));
        assertEq(made.getSignerCount(), 3, "signers");
        assertEq(uint256(made.threshold()), 2, "threshold");
        assertTrue(!made.isSigner(abi.encodePacked(sender)), "not its maker's");
        config.guardian = sender;
        assertTrue(factory.predict(config, "salt") != planned, "another guardian, another address");
    }

    function test_finding_it_there_is_no_failure() public {
        vm.recordLogs();
        assertEq(factory.createAccount(_config(), 0), address(account), "same");
        assertEq(vm.getRecordedLogs().length, 0, "nothing is announced twice");
    }

    function test_a_configuration_that_cannot_sign_is_not_deployed() public {
        AccountConfig memory config = _config();
        config.owners.threshold = 5;
        vm.expectRevert();
        factory.createAccount(config, 0);
        assertEq(factory.predict(config, 0).code.length, 0, "nothing there");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(factory).code.length, 12_288, "SmartAccountFactory");
    }
}
