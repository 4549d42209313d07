// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReasonCodes} from "../../src/Refusals.sol";
import {RulesFixture} from "../RulesFixture.sol";

/// @notice investor_limit_counted_wallets: a limit of people must not be reached by one person's wallets, nor be passed by
/// wallets that are counted as gone while the person stays.
contract InvestorLimitCountedWalletsTest is RulesFixture {
    function test_many_wallets_of_one_investor_are_one_holder() public {
        _fresh(holderLimitRule, _holders(2));
        token.mint(alice, 100);
        for (uint160 i = 1; i <= 5; ++i) {
            address wallet = address(0xA000 + i);
            _secondWallet(alice, wallet);
            _send(alice, wallet, 1);
        }
        _send(alice, bob, 1);
        (uint256 holders,) = holderLimitRule.holdersOf(address(compliance));
        assertEq(holders, 2, "alice and bob");
        _refused(alice, carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
        // Emptying one wallet of several makes no room.
        token.burn(address(0xA001), 1);
        _refused(alice, carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
    }
}
