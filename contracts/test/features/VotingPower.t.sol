// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {VotingPower} from "../../src/features/VotingPower.sol";
import {IRule} from "../../src/interfaces/IRule.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";

contract VotingPowerTest is Fixture {
    VotingPower private votes;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        votes = new VotingPower(token);
    }

    function _send(address from, address to, uint256 amount) private {
        vm.prank(from);
        token.transfer(to, amount);
    }

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
        assertEq(votes.check(_movement(alice, bob, 1)), ReasonCodes.OK, "judges nothing");
    }

    function test_it_names_itself() public view {
        assertEq(votes.name(), "VotingPower", "name");
        assertTrue(votes.supportsInterface(type(IRule).interfaceId), "a rule");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(votes).code.length, 12_288, "VotingPower");
    }
}
