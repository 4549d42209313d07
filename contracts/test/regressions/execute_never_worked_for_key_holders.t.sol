// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentityErrors} from "../../src/interfaces/IIdentity.sol";
import {IdentityFixture} from "../identity/IdentityFixture.sol";

contract Target {
    uint256 public calls;
    address public caller;

    error Refused();

    function poke() external payable {
        ++calls;
        caller = msg.sender;
    }

    function refuse() external pure {
        revert Refused();
    }
}

/// @notice execute_never_worked_for_key_holders: ERC-734 requests run, at once for keys that suffice, else by approval.
contract ExecuteNeverWorkedForKeyHoldersTest is IdentityFixture {
    address private constant ACTOR = address(0xAC);
    address private constant CLAIMER = address(0xC3);
    Target private target;

    function setUp() public override {
        super.setUp();
        target = new Target();
        vm.startPrank(holder);
        id.addKey(keyOf(ACTOR), 2, 1);
        id.addKey(keyOf(CLAIMER), 3, 1);
        vm.stopPrank();
    }

    function test_action_key_executes_with_value() public {
        vm.deal(ACTOR, 1 ether);
        vm.prank(ACTOR);
        id.execute{value: 1 ether}(address(target), 1 ether, abi.encodeCall(Target.poke, ()));
        assertEq(target.calls(), 1, "ran");
        assertEq(target.caller(), address(id), "as the identity");
        assertEq(address(target).balance, 1 ether, "with value");
    }

    function test_request_of_a_claim_key_waits_for_an_action_key() public {
        vm.prank(CLAIMER);
        uint256 request = id.execute(address(target), 0, abi.encodeCall(Target.poke, ()));
        assertEq(target.calls(), 0, "not yet");
        vm.prank(CLAIMER);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, CLAIMER));
        id.approve(request, true);
        vm.prank(ACTOR);
        id.approve(request, true);
        assertEq(target.calls(), 1, "ran once");
        vm.prank(ACTOR);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityExecutionUnknown.selector, request));
        id.approve(request, true);
    }

    function test_calls_to_the_identity_itself_need_management() public {
        bytes memory addKey = abi.encodeCall(id.addKey, (keyOf(stranger), 1, 1));
        vm.prank(ACTOR);
        uint256 request = id.execute(address(id), 0, addKey);
        assertTrue(!id.keyHasPurpose(keyOf(stranger), 1), "action key must not promote anybody");
        vm.prank(holder);
        id.approve(request, true);
        assertTrue(id.keyHasPurpose(keyOf(stranger), 1), "approved by management");
    }

    function test_rejected_request_is_gone() public {
        vm.prank(CLAIMER);
        uint256 request = id.execute(address(target), 0, abi.encodeCall(Target.poke, ()));
        vm.prank(ACTOR);
        id.approve(request, false);
        (address to,,) = id.pendingExecution(request);
        assertEq(to, address(0), "dropped");
    }

    function test_strangers_leave_no_requests() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityExecutionWithoutKey.selector, stranger));
        id.execute(address(target), 0, "");
    }

    function test_failed_call_reverts_with_the_targets_error_and_the_request_stays() public {
        vm.prank(CLAIMER);
        uint256 request = id.execute(address(target), 0, abi.encodeCall(Target.refuse, ()));
        vm.prank(ACTOR);
        vm.expectRevert(
            abi.encodeWithSelector(
                IIdentityErrors.IdentityExecutionFailed.selector,
                request,
                abi.encodeWithSelector(Target.Refused.selector)
            )
        );
        id.approve(request, true);
        (address to,,) = id.pendingExecution(request);
        assertEq(to, address(target), "stays");
    }
}
