// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Roles} from "../src/Roles.sol";
import {System} from "../src/System.sol";
import {ISystem} from "../src/interfaces/ISystem.sol";
import {TestBase} from "./Vm.sol";

contract SystemTest is TestBase {
    address private constant ADMIN = address(0xAD);
    address private constant OPERATOR = address(0x0B);
    address private constant OTHER = address(0x0C);
    System private system;

    function setUp() public {
        system = new System(ADMIN, address(this));
    }

    function test_has_is_true_for_any_bit_of_the_mask() public {
        system.grant(OPERATOR, Roles.IDENTITY_MANAGER);
        assertTrue(system.has(OPERATOR, Roles.IDENTITY_MANAGER | Roles.TOKEN_MANAGER), "one of two");
        assertTrue(!system.has(OPERATOR, Roles.TOKEN_MANAGER), "other bit");
        assertTrue(!system.has(OPERATOR, 0), "empty mask");
    }

    function testFuzz_grant_and_revoke_touch_only_their_bits(uint256 granted, uint256 revoked) public {
        vm.assume(granted != 0 && revoked != 0);
        vm.startPrank(ADMIN);
        system.grant(OTHER, granted);
        system.revoke(OTHER, revoked);
        vm.stopPrank();
        assertEq(system.rolesOf(OTHER), granted & ~revoked, "roles");
    }

    function test_platform_admin_cannot_make_platform_admins() public {
        vm.expectRevert(
            abi.encodeWithSelector(ISystem.SystemUnauthorized.selector, address(this), Roles.PLATFORM_ADMIN)
        );
        system.grant(OTHER, Roles.PLATFORM_ADMIN | Roles.TOKEN_MANAGER);
        vm.expectRevert(
            abi.encodeWithSelector(ISystem.SystemUnauthorized.selector, address(this), Roles.PLATFORM_ADMIN)
        );
        system.revoke(ADMIN, Roles.PLATFORM_ADMIN);
        vm.prank(ADMIN);
        system.grant(OTHER, Roles.PLATFORM_ADMIN);
        assertTrue(system.has(OTHER, Roles.PLATFORM_ADMIN), "by the admin");
    }

    function test_configurator_leaves_nothing_behind() public {
        system.set("X", OTHER);
        system.renounce(Roles.PLATFORM_ADMIN);
        assertEq(system.rolesOf(address(this)), 0, "no role");
        vm.expectRevert(
            abi.encodeWithSelector(ISystem.SystemUnauthorized.selector, address(this), Roles.PLATFORM_ADMIN)
        );
        system.set("X", address(0));
        assertEq(system.get("X"), OTHER, "kept");
    }

    function test_admin_changes_hands_in_two_steps() public {
        vm.prank(ADMIN);
        system.transferAdmin(OTHER);
        assertEq(system.admin(), ADMIN, "first step changes nothing");
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(ISystem.SystemNotPendingAdmin.selector, OPERATOR));
        system.acceptAdmin();
        vm.prank(OTHER);
        system.acceptAdmin();
        assertEq(system.admin(), OTHER, "second step");
        assertTrue(!system.has(ADMIN, Roles.PLATFORM_ADMIN), "the bit moves");
        assertTrue(system.has(OTHER, Roles.PLATFORM_ADMIN), "with the admin");
    }

    function test_set_many() public {
        bytes32[] memory names = new bytes32[](2);
        address[] memory accounts = new address[](2);
        (names[0], names[1], accounts[0], accounts[1]) = (bytes32("A"), bytes32("B"), OPERATOR, OTHER);
        system.setMany(names, accounts);
        assertEq(system.get("B"), OTHER, "second");
        vm.expectRevert(ISystem.SystemLengthMismatch.selector);
        system.setMany(names, new address[](1));
    }

    function testFuzz_strangers_change_nothing(address caller, uint256 mask) public {
        vm.assume(caller != ADMIN && caller != address(this));
        vm.startPrank(caller);
        vm.expectRevert();
        system.grant(caller, mask);
        vm.expectRevert();
        system.set("X", caller);
        vm.expectRevert();
        system.transferAdmin(caller);
        vm.stopPrank();
    }

    function test_nobody_is_given_and_nothing_is_taken() public {
        vm.expectRevert(ISystem.SystemZeroAddress.selector);
        new System(address(0), address(this));
        vm.expectRevert(ISystem.SystemZeroAddress.selector);
        system.grant(address(0), Roles.TOKEN_MANAGER);
        vm.expectRevert(ISystem.SystemEmptyMask.selector);
        system.grant(OTHER, 0);
        vm.expectRevert(ISystem.SystemEmptyMask.selector);
        system.revoke(OTHER, 0);
        vm.expectRevert(ISystem.SystemEmptyMask.selector);
        system.renounce(0);
    }

    function test_only_the_admin_starts_a_transfer_and_may_change_its_mind() public {
        vm.expectRevert(abi.encodeWithSelector(ISystem.SystemNotAdmin.selector, address(this)));
        system.transferAdmin(OTHER);
        vm.startPrank(ADMIN);
        system.transferAdmin(OTHER);
        system.transferAdmin(ADMIN);
        system.acceptAdmin();
        vm.stopPrank();
        assertTrue(system.has(ADMIN, Roles.PLATFORM_ADMIN), "taking over from oneself loses nothing");
        vm.prank(OTHER);
        vm.expectRevert(abi.encodeWithSelector(ISystem.SystemNotPendingAdmin.selector, OTHER));
        system.acceptAdmin();
    }

    function test_without_a_configurator_only_the_admin_administers() public {
        System alone = new System(ADMIN, address(0));
        assertEq(alone.rolesOf(address(0)), 0, "the zero address is no configurator");
        assertEq(alone.rolesOf(ADMIN), Roles.PLATFORM_ADMIN, "the admin");
    }
}
