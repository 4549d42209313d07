// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetConfig} from "../../src/interfaces/IAssetFactory.sol";
import {RuleConfig} from "../../src/interfaces/ITokenCompliance.sol";
import {Fixture} from "../Fixture.sol";

/// @notice same_name_collided: two assets of one name were deployed to one address.
contract SameNameCollidedTest is Fixture {
    function test_two_assets_with_the_same_name_do_not_collide() public {
        AssetConfig memory config = _config("SAME", new RuleConfig[](0));
        address first = factory.create(config);
        config.symbol = "SAME2";
        config.salt = bytes32("another");
        address second = factory.create(config);
        assertTrue(first != second, "two tokens of one name");
        config.symbol = "SAME3";
        vm.expectRevert();
        factory.create(config);
    }
}
