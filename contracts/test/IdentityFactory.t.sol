// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ClaimInput, IIdentity, IIdentityErrors} from "../src/interfaces/IIdentity.sol";
import {IIdentityFactory} from "../src/interfaces/IIdentityFactory.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

contract IdentityFactoryTest is IdentityFixture {
    function testFuzz_address_is_predictable_and_recorded(address wallet, bytes32 salt) public {
        vm.assume(wallet != address(0));
        vm.assume(factory.predict(wallet, salt).code.length == 0);
        vm.prank(manager);
        address created = factory.create(wallet, salt, new ClaimInput[](0));
        assertEq(created, factory.predict(wallet, salt), "predicted");
        assertTrue(factory.isNative(created), "native");
        assertEq(factory.subjectOf(created), wallet, "subject");
        assertTrue(IIdentity(created).keyHasPurpose(keyOf(wallet), 1), "manages itself");
    }

    function test_create_and_register_with_claims_in_one_transaction() public {
        address wallet = vm.addr(0xD00D);
        address predicted = factory.predict(wallet, "s");
        ClaimInput[] memory claims = new ClaimInput[](1);
        claims[0] = ClaimInput(KYC, address(issuer), sign(ISSUER_KEY, predicted, KYC, "kyc"), "kyc", "");
        vm.prank(manager);
        factory.createAndRegister(wallet, "s", 276, claims);
        assertTrue(verified(wallet), "verified at once");
        assertEq(registry.investorCountry(wallet), 276, "country");
        // Given by the tenant, so the holder cannot drop it while it is live.
        bytes32 claimId = claimIdOf(KYC);
        vm.prank(wallet);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimPushed.selector, claimId));
        IIdentity(predicted).removeClaim(claimId);
    }

    function test_forged_claim_at_creation_reverts() public {
        address wallet = vm.addr(0xD00D);
        ClaimInput[] memory claims = new ClaimInput[](1);
        claims[0] =
            ClaimInput(KYC, address(issuer), sign(HOLDER_KEY, factory.predict(wallet, "s"), KYC, "kyc"), "kyc", "");
        vm.prank(manager);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimInvalid.selector, address(issuer), KYC));
        factory.create(wallet, "s", claims);
    }

    function test_contract_identity() public {
        vm.prank(manager);
        address created = factory.createFor(address(topics), admin);
        assertEq(created, factory.predictFor(address(topics), admin), "predicted");
        assertEq(factory.subjectOf(created), address(topics), "subject");
        assertTrue(IIdentity(created).keyHasPurpose(keyOf(admin), 1), "manager");
        vm.prank(manager);
        vm.expectRevert(abi.encodeWithSelector(IIdentityFactory.IdentityFactoryNotContract.selector, stranger));
        factory.createFor(stranger, admin);
    }

    function test_wallet_creates_its_own_but_nobody_elses() public {
        vm.startPrank(stranger);
        factory.create(stranger, 0, new ClaimInput[](0));
        vm.expectRevert(abi.encodeWithSelector(IIdentityFactory.IdentityFactoryUnauthorized.selector, stranger));
        factory.create(address(0x99), 0, new ClaimInput[](0));
        vm.expectRevert(abi.encodeWithSelector(IIdentityFactory.IdentityFactoryUnauthorized.selector, stranger));
        factory.createAndRegister(stranger, "x", 1, new ClaimInput[](0));
        vm.stopPrank();
    }

    function test_same_identity_twice_reverts() public {
        vm.prank(manager);
        vm.expectRevert(abi.encodeWithSelector(IIdentityFactory.IdentityFactoryExists.selector, address(id)));
        factory.create(holder, 0, new ClaimInput[](0));
    }

    function test_implementation_and_clones_cannot_be_initialized() public {
        IIdentity implementation = IIdentity(factory.implementation());
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, address(this)));
        implementation.initialize(address(this), new ClaimInput[](0), false);
        vm.prank(address(factory));
        vm.expectRevert(IIdentityErrors.IdentityAlreadyInitialized.selector);
        id.initialize(stranger, new ClaimInput[](0), false);
    }
}
