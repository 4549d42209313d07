// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ListEntry} from "../../src/rules/ListRule.sol";
import {RulesFixture} from "../RulesFixture.sol";

/// @notice lists_scanned_linearly: what a transfer costs must not depend on how many others are listed, nor on how often
/// somebody was sent a little.
contract ListsScannedLinearlyTest is RulesFixture {
    function _cost() private returns (uint256) {
        _send(alice, bob, 1);
        return vm.lastCallGas().gasTotalUsed;
    }

    function test_long_list_costs_a_transfer_nothing() public {
        compliance.addModule(address(listRule), _listParams(0, 3));
        _cost();
        uint256 alone = _cost();
        ListEntry[] memory many = new ListEntry[](500);
        for (uint160 i; i < 500; ++i) {
            many[i] = ListEntry(address(0xBAD000 + i), listRule.BLOCKED());
        }
        compliance.setModuleParams(address(listRule), abi.encode(0, 3, many));
        assertLe(_cost(), alone, "same with 500 listed");
    }

    function test_many_lots_cost_a_transfer_next_to_nothing() public {
        _fresh(holdingPeriodRule, abi.encode(365, 2));
        token.mint(alice, 1000);
        vm.warp(1_900_000_000);
        _cost();
        uint256 few = _cost();
        for (uint256 day = 1; day <= 200; ++day) {
            vm.warp(1_900_000_000 + day * 1 days);
            token.mint(alice, 1);
        }
        // bob receives on a day without a lot of his own: one more word than in the second measurement above.
        uint256 many = _cost();
        assertLe(many, few + 60_000, "200 lots are searched, not walked");
    }
}
