// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {AssetToken} from "../src/AssetToken.sol";
import {AssetProxy} from "../src/AssetFactory.sol";
import {IAgentRole} from "../src/interfaces/IAgentRole.sol";
import {IAssetToken, TokenInit} from "../src/interfaces/IAssetToken.sol";
import {AssetTokenGovernance} from "../src/token/AssetTokenGovernance.sol";
import {AssetRoles} from "../src/Roles.sol";
import {Fixture} from "./Fixture.sol";

contract AssetTokenGovernanceTest is Fixture {
    /* ROLES */

    function test_no_role_implies_another() public {
        for (uint256 role = 1; role <= AssetRoles.FUNDS; role <<= 1) {
            address holder = address(uint160(0x1000 + role));
            token.grant(holder, role);
            for (uint256 other = 1; other <= AssetRoles.FUNDS; other <<= 1) {
                assertTrue(token.has(holder, other) == (other == role), "only the granted role");
            }
        }
        assertTrue(!token.isAgent(address(0x1002)), "supply alone is no agent");
    }

    function test_owner_appoints_and_can_do_nothing_else() public {
        token.transferOwnership(carol);
        assertEq(token.owner(), carol, "owner");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.NotOwner.selector, address(this)));
        token.addAgent(bob);
        vm.prank(carol);
        token.addAgent(bob);
        assertTrue(token.isAgent(bob), "agent");
        vm.prank(bob);
        token.pause();
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, carol, AssetRoles.EMERGENCY));
        vm.prank(carol);
        token.unpause();
        vm.prank(carol);
        token.removeAgent(bob);
        assertTrue(!token.isAgent(bob), "removed");
    }

    function test_unknown_role_bits_are_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidRoles.selector, 128));
        token.grant(bob, 128);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidRoles.selector, 0));
        token.grant(bob, 0);
    }

    function test_nobody_is_appointed_to_the_zero_address() public {
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, address(0)));
        token.grant(address(0), AssetRoles.SUPPLY);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, address(0)));
        token.addAgent(address(0));
        // Taking from it harms nobody.
        token.revoke(address(0), AssetRoles.SUPPLY);
    }

    function test_an_agent_is_announced_when_its_three_roles_are_complete() public {
        token.grant(bob, AssetRoles.SUPPLY | AssetRoles.CUSTODIAN);
        vm.expectEmit(true, false, false, true, address(token));
        emit IAgentRole.AgentAdded(bob);
        token.grant(bob, AssetRoles.EMERGENCY);
        vm.expectEmit(true, false, false, true, address(token));
        emit IAgentRole.AgentRemoved(bob);
        token.revoke(bob, AssetRoles.CUSTODIAN);
        assertTrue(!token.isAgent(bob) && token.has(bob, AssetRoles.SUPPLY), "the others stay");
    }

    function test_ownership_can_be_given_up_for_ever() public {
        token.transferOwnership(address(0));
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.NotOwner.selector, address(this)));
        token.transferOwnership(address(this));
    }

    /* INITIALISATION */

    function _init() private view returns (TokenInit memory init) {
        (init.name, init.symbol, init.decimals) = ("Bond", "BOND", 2);
        (init.identityRegistry, init.compliance) = (address(registry), address(compliance));
        init.owner = address(this);
    }

    function _refused(TokenInit memory init, bytes memory why) private {
        AssetToken fresh = AssetToken(address(new AssetProxy(factory.TOKEN_IMPLEMENTATION())));
        vm.expectRevert(why);
        fresh.initialize(init);
    }

    function test_what_a_token_is_not_born_with() public {
        TokenInit memory init = _init();
        init.owner = address(0);
        _refused(init, abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, address(0)));
        init = _init();
        init.decimals = 19;
        _refused(init, abi.encodeWithSelector(IAssetToken.InvalidDecimals.selector, 19));
        init = _init();
        init.grantees = new address[](1);
        _refused(init, abi.encodeWithSelector(IAssetToken.LengthMismatch.selector));
        init = _init();
        init.identityRegistry = stranger;
        _refused(init, abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, stranger));
        init = _init();
        init.name = "";
        _refused(init, abi.encodeWithSelector(IAssetToken.InvalidName.selector));
        init = _init();
        init.symbol = "bond";
        _refused(init, abi.encodeWithSelector(IAssetToken.InvalidSymbol.selector));
    }

    /* GOVERNANCE */

    function test_upgrade_waits_and_is_exactly_what_was_announced() public {
        address next = address(new AssetToken());
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, "");
        token.scheduleUpgrade(next, "");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeTooEarly.selector, 1_800_172_800));
        token.upgradeToAndCall(next, "");
        vm.warp(1_800_172_800);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, hex"01");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, bob, AssetRoles.GOVERNANCE));
        vm.prank(bob);
        token.upgradeToAndCall(next, "");
        token.upgradeToAndCall(next, "");
        assertEq(token.balanceOf(alice), 1000, "storage survives");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, "");
    }

    function test_cancelled_upgrade_cannot_be_applied() public {
        address next = address(new AssetToken());
        token.scheduleUpgrade(next, "");
        token.cancelUpgrade();
        vm.warp(1_900_000_000);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, "");
    }

    function test_names_and_symbols_have_limits() public {
        token.setName("A longer name of the same bond");
        assertEq(token.name(), "A longer name of the same bond", "name");
        vm.expectRevert(IAssetToken.InvalidName.selector);
        token.setName("");
        vm.expectRevert(IAssetToken.InvalidName.selector);
        token.setName("123456789012345678901234567890123456789012345678901");
        vm.expectRevert(IAssetToken.InvalidSymbol.selector);
        token.setSymbol("lower");
        vm.expectRevert(IAssetToken.InvalidSymbol.selector);
        token.setSymbol("ABCDEFGHIJKLMNOPQRSTUVWXY");
    }

    function test_switching_compliance_unbinds_the_old_one() public {
        address fresh = factory.createCompliance(address(token), 0);
        token.setCompliance(fresh);
        assertTrue(!compliance.isTokenBound(address(token)), "old is free");
        assertEq(address(token.compliance()), fresh, "new is bound");
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_references_change_at_governances_word_only() public {
        token.setOnchainID(carol);
        assertEq(token.onchainID(), carol, "onchainID");
        token.setSymbol("OTHER");
        assertEq(token.symbol(), "OTHER", "symbol");
        token.setIdentityRegistry(address(registry));
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, carol));
        token.setIdentityRegistry(carol);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, bob, AssetRoles.GOVERNANCE));
        vm.prank(bob);
        token.setCompliance(address(compliance));
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, carol));
        token.scheduleUpgrade(carol, "");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, address(0)));
        token.cancelUpgrade();
    }

    function test_pausing_twice_is_refused() public {
        vm.expectRevert(IAssetToken.NotPaused.selector);
        token.unpause();
        token.pause();
        vm.expectRevert(IAssetToken.AlreadyPaused.selector);
        token.pause();
        token.unpause();
        assertTrue(!token.paused(), "unpaused");
    }

    function test_the_code_is_of_no_use_by_itself() public {
        AssetTokenGovernance governance = AssetTokenGovernance(token.GOVERNANCE());
        TokenInit memory init;
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        governance.initialize(init);
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        token.initialize(init);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.NotOwner.selector, address(this)));
        governance.grant(alice, 1);
    }

    function test_size_stays_in_budget() public view {
        assertLe(AssetToken(factory.TOKEN_IMPLEMENTATION()).GOVERNANCE().code.length, 12_288, "AssetTokenGovernance");
    }
}
