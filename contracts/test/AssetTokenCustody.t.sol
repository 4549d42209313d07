// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {IAssetToken} from "../src/interfaces/IAssetToken.sol";
import {AssetTokenCustody} from "../src/token/AssetTokenCustody.sol";
import {AssetRoles} from "../src/Roles.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The token's freezes and forced movements; holds, recovery and fees have files of their own.
contract AssetTokenCustodyTest is Fixture {
    function test_freezing_more_than_free_is_refused() public {
        token.freezePartialTokens(alice, 700);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.FreeBalanceExceeded.selector, alice, 300, 301));
        token.freezePartialTokens(alice, 301);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.FrozenAmountExceeded.selector, alice, 700, 701));
        token.unfreezePartialTokens(alice, 701);
    }

    function test_batches_of_the_custodian() public {
        address[] memory who = new address[](2);
        (who[0], who[1]) = (alice, bob);
        uint256[] memory amounts = new uint256[](2);
        (amounts[0], amounts[1]) = (10, 20);
        bool[] memory yes = new bool[](2);
        (yes[0], yes[1]) = (true, true);
        token.batchFreezePartialTokens(who, amounts);
        assertEq(token.getFrozenTokens(bob), 20, "frozen");
        token.batchUnfreezePartialTokens(who, amounts);
        assertEq(token.getFrozenTokens(bob), 0, "unfrozen");
        token.batchSetAddressFrozen(who, yes);
        assertTrue(token.isFrozen(alice) && token.isFrozen(bob), "accounts frozen");
        address[] memory to = new address[](2);
        (to[0], to[1]) = (bob, alice);
        token.batchForcedTransfer(who, to, amounts);
        assertEq(token.balanceOf(alice), 1010, "10 out, 20 in");
        token.batchBurn(who, amounts);
        assertEq(token.totalSupply(), 1970, "burned");
        token.batchSetAddressFrozen(who, new bool[](2));
        token.batchMint(who, amounts);
        assertEq(token.totalSupply(), 2000, "minted");
        uint256[] memory short = new uint256[](1);
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchFreezePartialTokens(who, short);
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchUnfreezePartialTokens(who, short);
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchSetAddressFrozen(who, new bool[](1));
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchForcedTransfer(who, to, short);
    }

    function test_every_function_is_the_custodians() public {
        bytes[11] memory calls = [
            abi.encodeCall(token.forcedTransfer, (alice, bob, 1)),
            abi.encodeCall(token.forcedTransferFor, (alice, bob, 1, "ORDER")),
            abi.encodeCall(token.batchForcedTransfer, (new address[](0), new address[](0), new uint256[](0))),
            abi.encodeCall(token.breakHold, (alice, "", bob, 1, "ORDER")),
            abi.encodeCall(token.recoveryAddress, (alice, bob, address(1))),
            abi.encodeCall(token.setAddressFrozen, (alice, true)),
            abi.encodeCall(token.batchSetAddressFrozen, (new address[](0), new bool[](0))),
            abi.encodeCall(token.freezePartialTokens, (alice, 1)),
            abi.encodeCall(token.unfreezePartialTokens, (alice, 1)),
            abi.encodeCall(token.batchFreezePartialTokens, (new address[](0), new uint256[](0))),
            abi.encodeCall(token.batchUnfreezePartialTokens, (new address[](0), new uint256[](0)))
        ];
        token.grant(carol, AssetRoles.ALL & ~AssetRoles.CUSTODIAN);
        for (uint256 i; i < calls.length; ++i) {
            vm.prank(carol);
            (bool done, bytes memory why) = address(token).call(calls[i]);
            assertTrue(!done, "all other roles together do not suffice");
            bytes memory expected =
                abi.encodeWithSelector(IAssetToken.MissingRole.selector, carol, AssetRoles.CUSTODIAN);
            assertEq(keccak256(why), keccak256(expected), "reason");
        }
    }

    function test_a_forced_transfer_burns_nothing() public {
        _expectRefusal(address(token), ReasonCodes.RECIPIENT_INVALID);
        token.forcedTransfer(alice, address(0), 1);
    }

    function test_a_forced_transfer_to_oneself_needs_the_balance() public {
        _expectRefusal(address(token), ReasonCodes.BALANCE_TOO_LOW);
        token.forcedTransfer(alice, alice, 1001);
        token.forcedTransfer(alice, alice, 1000);
    }

    function test_the_code_is_of_no_use_by_itself() public {
        AssetTokenCustody custody = AssetTokenCustody(token.CUSTODY());
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, address(this), AssetRoles.CUSTODIAN));
        custody.setAddressFrozen(alice, true);
    }

    function test_size_stays_in_budget() public view {
        assertLe(AssetToken(factory.TOKEN_IMPLEMENTATION()).CUSTODY().code.length, 12_288, "AssetTokenCustody");
    }
}
