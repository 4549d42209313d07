// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IdentityRegistry} from "../src/IdentityRegistry.sol";
import {IRegistryErrors} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {RegistryRecords} from "../src/registry/RegistryRecords.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

/// @notice Registrations and linked registries; recovery and exemptions have files of their own.
contract RegistryRecordsTest is IdentityFixture {
    function testFuzz_rows(address wallet, address identity, uint16 country, uint16 moved) public {
        vm.assume(wallet != address(0) && wallet != holder && identity != address(0));
        vm.startPrank(manager);
        registry.registerIdentity(wallet, identity, country);
        assertTrue(registry.contains(wallet), "contains");
        assertEq(registry.storedIdentity(wallet), identity, "storage view");
        registry.updateCountry(wallet, moved);
        (address read, uint16 where) = registry.registration(wallet);
        assertEq(read, identity, "identity");
        assertEq(uint256(where), moved, "country");
        assertEq(uint256(registry.storedInvestorCountry(wallet)), moved, "storage country");
        registry.updateIdentity(wallet, address(id));
        assertEq(registry.identity(wallet), address(id), "updated");
        assertTrue(verified(wallet), "verified through the identity it has now");
        registry.deleteIdentity(wallet);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotRegistered.selector, wallet));
        registry.deleteIdentity(wallet);
        vm.stopPrank();
        assertReason(wallet, IdentityReasons.NOT_REGISTERED);
    }

    function test_batch_is_all_or_nothing() public {
        address[] memory wallets = new address[](2);
        address[] memory identities = new address[](2);
        (wallets[0], wallets[1], identities[0], identities[1]) = (stranger, holder, address(id), address(id));
        vm.startPrank(manager);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryAlreadyRegistered.selector, holder));
        registry.batchRegisterIdentity(wallets, identities, new uint16[](2));
        vm.expectRevert(IRegistryErrors.RegistryLengthMismatch.selector);
        registry.batchRegisterIdentity(wallets, identities, new uint16[](1));
        wallets[1] = admin;
        registry.batchRegisterIdentity(wallets, identities, new uint16[](2));
        vm.stopPrank();
        assertTrue(registry.contains(stranger) && registry.contains(admin), "both");
    }

    function test_bound_registry_writes_until_unbound() public {
        address other = address(0x1212);
        vm.prank(admin);
        registry.bindIdentityRegistry(other);
        assertEq(registry.linkedIdentityRegistries()[1], other, "linked");
        vm.startPrank(other);
        registry.addIdentityToStorage(stranger, address(id), 1);
        registry.modifyStoredInvestorCountry(stranger, 2);
        registry.modifyStoredIdentity(stranger, address(issuer));
        registry.removeIdentityFromStorage(stranger);
        vm.stopPrank();
        vm.prank(admin);
        registry.unbindIdentityRegistry(other);
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, other));
        registry.addIdentityToStorage(stranger, address(id), 1);
        assertEq(registry.linkedIdentityRegistries().length, 1, "self stays");
    }

    function test_rows_are_never_about_nobody() public {
        vm.startPrank(manager);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.registerIdentity(address(0), address(id), 1);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.registerIdentity(stranger, address(0), 1);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.updateIdentity(holder, address(0));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotRegistered.selector, stranger));
        registry.resetIdentityKeys(address(id), stranger);
        vm.stopPrank();
    }

    function test_only_the_owner_links_registries() public {
        vm.startPrank(manager);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, manager));
        registry.bindIdentityRegistry(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, manager));
        registry.unbindIdentityRegistry(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, manager));
        registry.setTrustedIssuersRegistry(address(registry));
        vm.stopPrank();
    }

    function test_a_registry_is_linked_once_and_at_most_50_are() public {
        vm.startPrank(admin);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.bindIdentityRegistry(address(0));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotRegistered.selector, stranger));
        registry.unbindIdentityRegistry(stranger);
        for (uint160 i = 1; i <= 50; ++i) {
            registry.bindIdentityRegistry(address(0x1000 + i));
        }
        vm.expectRevert(IRegistryErrors.RegistryTooManyRegistries.selector);
        registry.bindIdentityRegistry(stranger);
        registry.unbindIdentityRegistry(address(0x1001));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryAlreadyRegistered.selector, address(0x1002)));
        registry.bindIdentityRegistry(address(0x1002));
        vm.stopPrank();
        assertEq(registry.linkedIdentityRegistries().length, 50, "49 and itself");
    }

    function test_the_code_called_directly_does_not_touch_the_registry() public {
        RegistryRecords code = RegistryRecords(IdentityRegistry(address(registry)).RECORDS());
        vm.prank(manager);
        code.registerIdentity(stranger, address(id), 1);
        assertTrue(!registry.contains(stranger), "unchanged");
    }
}
