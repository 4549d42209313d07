// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {Fixture} from "../Fixture.sol";

/// @notice claims_lost_on_recovery: the new wallet came without the claims of the lost one and could neither send nor receive.
contract ClaimsLostOnRecoveryTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);

    function _recover() private {
        registry.recover(alice, NEW_WALLET);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
    }

    function test_claims_follow_a_recovery() public {
        _claim(registry.identity(alice), accredited);
        compliance.addModule(address(claimRule), abi.encode(uint8(3), _policy(accredited)));
        _claim(registry.identity(bob), accredited);
        _recover();
        vm.prank(NEW_WALLET);
        token.transfer(bob, 10);
        vm.prank(bob);
        token.transfer(NEW_WALLET, 5);
        (, bytes32 reason) = token.preview(bob, alice, 1);
        assertEq(reason, bytes32("NOT_REGISTERED"), "the lost wallet is out");
    }

    function test_the_registration_moves_with_country_and_link() public {
        _recover();
        assertTrue(registry.isVerifiedFor(address(token), NEW_WALLET), "claims follow");
        assertEq(
            registry.explain(address(token), alice), IdentityReasons.NOT_REGISTERED, "the lost wallet has none any more"
        );
        assertEq(registry.successor(alice), NEW_WALLET, "link");
        assertEq(registry.investorCountry(NEW_WALLET), DE, "country follows");
    }
}
