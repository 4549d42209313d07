// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ManagementFee} from "../../src/features/ManagementFee.sol";
import {TransactionFee} from "../../src/features/TransactionFee.sol";
import {VotingPower} from "../../src/features/VotingPower.sol";
import {IAssetToken} from "../../src/interfaces/IAssetToken.sol";
import {IRule} from "../../src/interfaces/IRule.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";

/// @notice Features stand in contracts of their own, which the token reaches only when they are attached to its compliance.
contract FeaturesTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);
    uint256 private constant T0 = 1_800_000_000;

    VotingPower private votes;
    ManagementFee private yearly;
    TransactionFee private perTransfer;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        votes = new VotingPower(token);
        yearly = new ManagementFee();
        perTransfer = new TransactionFee();
        token.grant(address(yearly), AssetRoles.SUPPLY);
        token.grant(address(perTransfer), AssetRoles.FEES);
    }

    function _send(address from, address to, uint256 amount) private {
        vm.prank(from);
        token.transfer(to, amount);
    }

    /* VOTING POWER */

    function test_votes_follow_every_movement() public {
        compliance.addModule(address(votes), "");
        assertEq(votes.getPastTotalSupply(_later()), 2000, "units of before count");
        vm.prank(alice);
        votes.delegate(alice);
        vm.prank(bob);
        votes.delegate(carol);
        assertEq(votes.getVotes(alice), 1000, "own votes");
        assertEq(votes.getVotes(carol), 1000, "delegated votes");
        uint256 before = _later();
        _send(alice, bob, 300);
        token.mint(alice, 50);
        token.burn(bob, 100);
        token.forcedTransfer(bob, alice, 10);
        assertEq(votes.getVotes(alice), 760, "alice");
        assertEq(votes.getVotes(carol), 1190, "bob's, by carol");
        assertEq(votes.getPastVotes(alice, before), 1000, "the past stays");
        assertEq(votes.getPastTotalSupply(_later()), 1950, "total");
        assertEq(votes.CLOCK_MODE(), "mode=timestamp", "clock");
    }

    function _later() private returns (uint256 before) {
        before = votes.clock();
        vm.warp(before + 10);
    }

    function test_voting_power_is_attached_once_to_its_own_asset() public {
        vm.expectRevert(VotingPower.NotAttached.selector);
        vm.prank(alice);
        votes.delegate(alice);
        vm.expectRevert(abi.encodeWithSelector(VotingPower.NotTheAssetsCompliance.selector, address(this)));
        votes.setParams("");
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, bytes32("encoding")));
        compliance.addModule(address(votes), hex"01");
        compliance.addModule(address(votes), "");
        vm.expectRevert(abi.encodeWithSelector(VotingPower.NotTheAssetsCompliance.selector, address(this)));
        votes.moved(address(token), alice, bob, 1);
        vm.expectRevert(abi.encodeWithSelector(VotingPower.NotTheAssetsCompliance.selector, address(this)));
        votes.clearParams();
        compliance.removeModule(address(votes));
        vm.expectRevert(VotingPower.AlreadyUsed.selector);
        compliance.addModule(address(votes), "");
        assertEq(votes.check(address(token), address(registry), alice, bob, 1), ReasonCodes.OK, "judges nothing");
    }

    /* MANAGEMENT FEE */

    function test_the_yearly_fee_accrues_on_the_supply_as_it_was() public {
        compliance.addModule(address(yearly), abi.encode(uint16(200), carol));
        token.mint(alice, 98_000);
        vm.warp(T0 + 182.5 days);
        token.burn(alice, 50_000);
        vm.warp(T0 + 365 days);
        // 2 % of 100,000 for half a year, then of 50,000.
        assertEq(yearly.accrued(token), 1500, "accrued");
        vm.prank(stranger);
        assertEq(yearly.collect(token), 1500, "collected");
        assertEq(token.balanceOf(carol), 1500, "minted to the collector");
        vm.expectRevert(ManagementFee.NothingAccrued.selector);
        yearly.collect(token);
        compliance.setModuleParams(address(yearly), abi.encode(uint16(100), bob));
        (uint16 bps, address collector) = yearly.paramsOf(address(compliance));
        assertEq(bps, 100, "rate");
        assertEq(collector, bob, "collector");
        compliance.removeModule(address(yearly));
        vm.expectRevert(ManagementFee.NothingAccrued.selector);
        yearly.collect(token);
    }

    function testFuzz_collecting_often_mints_no_more(uint256 seed) public {
        compliance.addModule(address(yearly), abi.encode(uint16(137), carol));
        token.mint(alice, 1_000_000);
        uint256 supply = token.totalSupply();
        uint256 time = T0;
        for (uint256 i; i < 12; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            time += 1 hours + seed % 30 days;
            vm.warp(time);
            (bool done,) = address(yearly).call(abi.encodeCall(yearly.collect, (token)));
            done;
        }
        uint256 minted = token.balanceOf(carol);
        assertLe(supply * 137 * (time - T0) / 10_000 / 365 days, minted + 1, "no less than simple interest");
        // The fee itself counts as supply from its minting on.
        assertLe(minted, (supply + minted) * 137 * (time - T0) / 10_000 / 365 days, "no more");
    }

    function test_fees_have_limits() public {
        bytes[3] memory bad =
            [abi.encode(uint16(0), carol), abi.encode(uint16(1001), carol), abi.encode(uint16(1), address(0))];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IRule.InvalidParams.selector, i == 2 ? bytes32("collector") : bytes32("yearlyBps")
                )
            );
            compliance.addModule(address(yearly), bad[i]);
            vm.expectRevert(
                abi.encodeWithSelector(IRule.InvalidParams.selector, i == 2 ? bytes32("collector") : bytes32("bps"))
            );
            compliance.addModule(address(perTransfer), bad[i]);
        }
    }

    /* TRANSACTION FEE */

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
            perTransfer.check(address(token), address(registry), alice, bob, 1),
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

    function test_sizes_stay_in_budget() public view {
        assertLe(address(votes).code.length, 12_288, "VotingPower");
        assertLe(address(yearly).code.length, 12_288, "ManagementFee");
        assertLe(address(perTransfer).code.length, 12_288, "TransactionFee");
    }
}
