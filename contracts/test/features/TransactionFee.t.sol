// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TransactionFee} from "../../src/features/TransactionFee.sol";
import {IAssetToken} from "../../src/interfaces/IAssetToken.sol";
import {IRule} from "../../src/interfaces/IRule.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";

contract TransactionFeeTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);

    TransactionFee private perTransfer;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        perTransfer = new TransactionFee();
        token.grant(address(perTransfer), AssetRoles.FEES);
    }

    function _send(address from, address to, uint256 amount) private {
        vm.prank(from);
        token.transfer(to, amount);
    }

    function test_a_transfer_pays_its_fee_out_of_what_arrives() public {
        compliance.addModule(address(perTransfer), abi.encode(uint16(250), carol));
        token.freezePartialTokens(bob, 1000);
        _send(alice, bob, 1000);
        assertEq(token.balanceOf(bob), 1975, "less the fee");
        assertEq(token.balanceOf(carol), 25, "the fee");
        assertEq(token.totalSupply(), 2000, "nothing else");
        _send(carol, alice, 25);
        assertEq(token.balanceOf(alice), 25, "the collector pays nothing");
    }

    function test_forced_movements_mints_and_burns_cost_nothing() public {
        compliance.addModule(address(perTransfer), abi.encode(uint16(250), carol));
        token.mint(alice, 1000);
        token.burn(alice, 500);
        token.forcedTransfer(alice, bob, 500);
        registry.recover(alice, NEW_WALLET);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
        assertEq(token.balanceOf(carol), 0, "no fee");
        assertEq(token.balanceOf(NEW_WALLET), 1000, "recovered whole");
        assertTrue(!token.isForced(), "and over");
    }

    function test_a_collector_that_cannot_be_paid_shows_in_the_pre_check() public {
        compliance.addModule(address(perTransfer), abi.encode(uint16(250), stranger));
        _expectPreviewed(alice, bob, 100, address(perTransfer), ReasonCodes.FEE_COLLECTOR_NOT_VERIFIED);
        _send(alice, bob, 100);
        _send(alice, bob, 39);
        assertEq(
            perTransfer.check(_movement(alice, bob, 1)),
            ReasonCodes.RULE_NOT_CONFIGURED,
            "not configured for this caller"
        );
        compliance.setModuleParams(address(perTransfer), abi.encode(uint16(10), bob));
        (uint16 bps, address collector) = perTransfer.paramsOf(address(compliance));
        assertEq(bps, 10, "rate");
        assertEq(collector, bob, "collector");
        compliance.removeModule(address(perTransfer));
    }

    function test_only_a_fee_feature_takes_fees_and_only_free_tokens() public {
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, alice, AssetRoles.FEES));
        vm.prank(alice);
        token.collectFee(bob, alice, 1);
        token.freezePartialTokens(bob, 999);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.FreeBalanceExceeded.selector, bob, 1, 2));
        token.collectFee(bob, alice, 2);
        _expectRefusal(address(registry), "NOT_REGISTERED");
        token.collectFee(bob, stranger, 1);
        token.collectFee(bob, alice, 1);
    }

    function test_nobody_takes_a_fee_with_parameters_of_its_own() public {
        compliance.addModule(address(perTransfer), abi.encode(uint16(250), carol));
        // Parameters are kept per caller, so everybody may have some; the role is the asset's.
        vm.startPrank(carol);
        perTransfer.setParams(abi.encode(uint16(1000), carol));
        vm.expectRevert(abi.encodeWithSelector(TransactionFee.NotTheAssetsCompliance.selector, carol));
        perTransfer.moved(address(token), alice, bob, 10_000);
        vm.stopPrank();
        assertEq(token.balanceOf(bob), 1000, "bob keeps his");
    }

    function test_the_rate_and_the_collector_have_limits() public {
        bytes[3] memory bad =
            [abi.encode(uint16(0), carol), abi.encode(uint16(1001), carol), abi.encode(uint16(1), address(0))];
        bytes32[3] memory fields = [bytes32("bps"), "bps", "collector"];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, fields[i]));
            compliance.addModule(address(perTransfer), bad[i]);
        }
    }

    function test_it_names_itself() public view {
        assertEq(perTransfer.name(), "TransactionFee", "name");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(perTransfer).code.length, 12_288, "TransactionFee");
    }
}
