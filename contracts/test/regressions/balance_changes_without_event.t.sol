// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "../Fixture.sol";
import {Vm} from "../Vm.sol";

/// @notice balance_changes_without_event: who follows the log alone must know every balance.
contract BalanceChangesWithoutEventTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);

    function test_balance_changes_without_event() public {
        // Follow balances by Transfer events alone through every way to change one.
        vm.recordLogs();
        token.mint(alice, 10);
        token.burn(alice, 5);
        token.forcedTransfer(alice, bob, 7);
        vm.prank(bob);
        token.transfer(alice, 3);
        registry.recover(alice, NEW_WALLET);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        int256[3] memory sums;
        address[3] memory who = [alice, bob, NEW_WALLET];
        for (uint256 i; i < logs.length; ++i) {
            if (
                logs[i].emitter != address(token) || logs[i].topics[0] != keccak256("Transfer(address,address,uint256)")
            ) {
                continue;
            }
            int256 amount = int256(abi.decode(logs[i].data, (uint256)));
            for (uint256 w; w < 3; ++w) {
                if (address(uint160(uint256(logs[i].topics[1]))) == who[w]) sums[w] -= amount;
                if (address(uint160(uint256(logs[i].topics[2]))) == who[w]) sums[w] += amount;
            }
        }
        assertEq(uint256(1000 + sums[0]), token.balanceOf(alice), "alice");
        assertEq(uint256(1000 + sums[1]), token.balanceOf(bob), "bob");
        assertEq(uint256(sums[2]), token.balanceOf(NEW_WALLET), "successor");
    }
}
