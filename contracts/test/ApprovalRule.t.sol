// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReasonCodes} from "../src/Refusals.sol";
import {Approval, ApprovalRule} from "../src/rules/ApprovalRule.sol";
import {RulesFixture} from "./RulesFixture.sol";

contract ApprovalRuleTest is RulesFixture {
    uint256 private constant START = 1_800_000_000;
    address private _approver = address(0xA99);

    function _params(address approver, bool mints) private pure returns (bytes memory) {
        address[] memory approvers = new address[](1);
        approvers[0] = approver;
        return abi.encode(approvers, 30 days, mints);
    }

    function _bind(bool mints) private {
        compliance.addModule(address(approvalRule), _params(_approver, mints));
    }

    function _approve(address from, address to, uint128 amount, bool standing) private returns (bytes32) {
        vm.prank(_approver);
        return approvalRule.approve(
            address(compliance), Approval(from, to, amount, uint48(block.timestamp + 1 days), standing)
        );
    }

    function _unapproved(address from, address to, uint256 amount) private {
        _refused(from, to, amount, approvalRule, ReasonCodes.TRANSFER_NOT_APPROVED);
    }

    function test_one_time_approval_is_for_one_movement_of_exactly_that() public {
        _bind(false);
        _unapproved(alice, bob, 10);
        bytes32 id = _approve(alice, bob, 10, false);
        assertEq(id, approvalRule.idOf(alice, bob, 10, false), "id");
        _unapproved(alice, bob, 9);
        _unapproved(alice, carol, 10);
        _unapproved(bob, alice, 10);
        vm.expectEmit(true, true, true, true, address(approvalRule));
        emit ApprovalRule.ApprovalUsed(address(compliance), id);
        _send(alice, bob, 10);
        _unapproved(alice, bob, 10);
    }

    function test_standing_approval_holds_until_it_expires() public {
        _bind(false);
        bytes32 id = _approve(alice, bob, 10, true);
        assertEq(id, approvalRule.idOf(alice, bob, 0, true), "id");
        _send(alice, bob, 10);
        _send(alice, bob, 10);
        _unapproved(alice, bob, 11);
        (address approver, uint48 expiresAt, uint128 max) = approvalRule.approvalOf(address(compliance), id);
        assertTrue(approver == _approver && expiresAt == START + 1 days && max == 10, "read back");
        vm.warp(START + 1 days - 1);
        _send(alice, bob, 1);
        vm.warp(START + 1 days);
        _refused(alice, bob, 1, approvalRule, ReasonCodes.TRANSFER_APPROVAL_EXPIRED);
    }

    function test_expired_one_time_approval_is_named() public {
        _bind(false);
        _approve(alice, bob, 10, false);
        vm.warp(START + 1 days);
        _refused(alice, bob, 10, approvalRule, ReasonCodes.TRANSFER_APPROVAL_EXPIRED);
    }

    function test_standing_approval_is_used_before_a_one_time_one() public {
        _bind(false);
        bytes32 id = _approve(alice, bob, 10, false);
        _approve(alice, bob, 10, true);
        _send(alice, bob, 10);
        (address approver,, uint128 max) = approvalRule.approvalOf(address(compliance), id);
        assertTrue(approver == _approver && max == 0, "still there");
    }

    function test_mints_need_approval_only_when_asked_for() public {
        _bind(false);
        token.mint(alice, 5);
        compliance.setModuleParams(address(approvalRule), _params(_approver, true));
        _unapproved(address(0), alice, 5);
        _approve(address(0), alice, 5, false);
        token.mint(alice, 5);
        _unapproved(address(0), alice, 5);
    }

    function test_nothing_to_approve() public {
        _bind(false);
        _send(alice, bob, 0);
        _send(alice, alice, 5);
    }

    function test_dismissed_approver_approved_nothing() public {
        _bind(false);
        _approve(alice, bob, 10, true);
        compliance.setModuleParams(address(approvalRule), _params(carol, false));
        _unapproved(alice, bob, 10);
        vm.expectRevert(abi.encodeWithSelector(ApprovalRule.NotApprover.selector, _approver));
        _approve(alice, bob, 10, true);
        (address[] memory approvers, uint32 validity, bool mints) = approvalRule.paramsOf(address(compliance));
        assertTrue(approvers.length == 1 && approvers[0] == carol && validity == 30 days && !mints, "read back");
    }

    function test_revoked_approval() public {
        _bind(false);
        bytes32 id = _approve(alice, bob, 10, true);
        vm.prank(_approver);
        approvalRule.revoke(address(compliance), id);
        _unapproved(alice, bob, 10);
        vm.expectRevert(abi.encodeWithSelector(ApprovalRule.ApprovalUnknown.selector, id));
        vm.prank(_approver);
        approvalRule.revoke(address(compliance), id);
        id = _approve(alice, bob, 10, false);
        vm.expectRevert(abi.encodeWithSelector(ApprovalRule.NotApprover.selector, stranger));
        vm.prank(stranger);
        approvalRule.revoke(address(compliance), id);
        vm.prank(_approver);
        approvalRule.revoke(address(compliance), id);
        _unapproved(alice, bob, 10);
    }

    function test_approval_must_expire_within_the_validity() public {
        _bind(false);
        for (uint256 i; i < 2; ++i) {
            uint48 expiresAt = i == 0 ? uint48(START) : uint48(START + 30 days + 1);
            vm.expectRevert(
                abi.encodeWithSelector(ApprovalRule.ApprovalExpiryInvalid.selector, expiresAt, START + 30 days)
            );
            vm.prank(_approver);
            approvalRule.approve(address(compliance), Approval(alice, bob, 1, expiresAt, true));
        }
        vm.expectRevert(ApprovalRule.ApprovalAmountZero.selector);
        _approve(alice, bob, 0, true);
    }

    function test_forced_transfer_uses_the_approval_and_recovery_ends_it() public {
        _bind(false);
        _approve(alice, bob, 10, false);
        token.forcedTransfer(alice, bob, 10);
        _unapproved(alice, bob, 10);
        _approve(alice, bob, 10, true);
        _recover(alice, alice2);
        _unapproved(alice2, bob, 10);
    }

    function test_removal_forgets_approvals() public {
        _bind(false);
        _approve(alice, bob, 10, true);
        compliance.removeModule(address(approvalRule));
        (address[] memory approvers,,) = approvalRule.paramsOf(address(compliance));
        assertEq(approvers.length, 0, "forgotten");
        _bind(false);
        _unapproved(alice, bob, 10);
    }

    function test_unconfigured_refuses_and_follows_nothing() public {
        bytes32 reason = approvalRule.check(_movement(alice, bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
        approvalRule.moved(address(token), alice, bob, 1);
    }

    function test_bad_parameters_are_refused() public {
        _invalid(approvalRule, abi.encode(new address[](0), 1, false), "approvers");
        _invalid(approvalRule, abi.encode(new address[](17), 1, false), "approvers");
        _invalid(approvalRule, _params(address(0), false), "approvers");
        address[] memory approvers = new address[](1);
        approvers[0] = alice;
        _invalid(approvalRule, abi.encode(approvers, 0, false), "maxValidity");
        _invalid(approvalRule, abi.encode(approvers, 1, 2), "encoding");
        assertEq(approvalRule.name(), "ApprovalRule", "name");
    }
}
