// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistryErrors, IRegistryQuestions} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {IdentityRegistry} from "../src/IdentityRegistry.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {AssetRoles} from "../src/Roles.sol";
import {RulesFixture} from "./RulesFixture.sol";

/// @notice A contract that holds tokens and has no identity.
contract Escrow {}

/// @notice Contracts that receive an asset without an identity: per asset and contract, set by the asset's governance, and never a
/// way around what is asked of the sender.
contract ExemptionTest is RulesFixture {
    address private _escrow;

    function setUp() public override {
        super.setUp();
        _escrow = address(new Escrow());
    }

    function _exempt() private {
        registry.setExempt(address(token), _escrow, true);
    }

    function test_contract_without_identity_receives_only_when_exempt() public {
        _expectPreviewed(alice, _escrow, 1, address(registry), IdentityReasons.NOT_REGISTERED);
        vm.prank(alice);
        token.transfer(_escrow, 1);
        vm.expectEmit(true, true, false, true, address(registry));
        emit IRegistryErrors.ExemptionSet(address(token), _escrow, true);
        _exempt();
        assertTrue(registry.isExempt(address(token), _escrow), "exempt");
        assertTrue(registry.isVerifiedFor(address(token), _escrow), "admitted");
        assertTrue(!registry.isVerified(_escrow), "not for the tenant");
        (bytes32 reason, address identity, uint16 country, bool exempt) = registry.admission(address(token), _escrow);
        assertTrue(reason == 0 && identity == address(0) && country == 0 && exempt, "by exemption alone");
        _send(alice, _escrow, 5);
        token.mint(_escrow, 5);
        token.forcedTransfer(bob, _escrow, 5);
        assertEq(token.balanceOf(_escrow), 15, "received");
        registry.setExempt(address(token), _escrow, false);
        _expectPreviewed(alice, _escrow, 1, address(registry), IdentityReasons.NOT_REGISTERED);
        vm.prank(alice);
        token.transfer(_escrow, 1);
    }

    function test_exemption_holds_for_one_asset_only() public {
        _exempt();
        (token,) = _asset("OTHER", new RuleConfig[](0));
        token.mint(alice, 10);
        _expectPreviewed(alice, _escrow, 1, address(registry), IdentityReasons.NOT_REGISTERED);
        vm.prank(alice);
        token.transfer(_escrow, 1);
    }

    function test_whoever_meets_the_policy_is_not_admitted_by_exemption() public {
        _exempt();
        _registeredContract();
        (bytes32 reason, address identity, uint16 country, bool exempt) = registry.admission(address(token), _escrow);
        assertTrue(reason == 0 && identity != address(0) && country == US && !exempt, "by its identity");
        compliance.addModule(address(countryRule), _countryParams(false, US));
        _refused(alice, _escrow, 1, countryRule, ReasonCodes.COUNTRY_BLOCKED);
    }

    function _registeredContract() private {
        address identity = identities.createFor(_escrow, address(this));
        registry.registerIdentity(_escrow, identity, US);
        _claim(identity, kyc);
    }

    /* WHAT IS ASKED OF THE RECIPIENT'S IDENTITY */

    function test_country_and_claims_are_not_asked_of_an_exempt_recipient() public {
        _exempt();
        compliance.addModule(address(countryRule), _countryParams(true, DE));
        compliance.addModule(address(claimRule), abi.encode(uint8(1), _policy(accredited)));
        _claim(registry.identity(alice), accredited);
        _send(alice, _escrow, 1);
        compliance.setModuleParams(address(claimRule), abi.encode(uint8(3), _policy(accredited)));
        _send(alice, _escrow, 1);
        _refused(alice, carol, 1, countryRule, ReasonCodes.COUNTRY_NOT_ALLOWED);
        _refused(alice, bob, 1, claimRule, ReasonCodes.RECIPIENT_CLAIMS_MISSING);
    }

    function test_a_rule_without_parameters_refuses_an_exempt_recipient_too() public {
        _exempt();
        assertEq(countryRule.check(_movement(alice, _escrow, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "country");
        assertEq(claimRule.check(_movement(alice, _escrow, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "claims");
    }

    /* WHAT IS ASKED OF THE SENDER, AND OF THE MOVEMENT */

    function test_senders_rules_still_run() public {
        _exempt();
        compliance.addModule(address(claimRule), abi.encode(uint8(2), _policy(accredited)));
        _refused(alice, _escrow, 1, claimRule, ReasonCodes.SENDER_CLAIMS_MISSING);
        compliance.removeModule(address(claimRule));
        compliance.addModule(address(listRule), abi.encode(uint8(0), uint8(2), _entry(alice, 2)));
        _refused(alice, _escrow, 1, listRule, ReasonCodes.SENDER_BLOCKED);
        compliance.removeModule(address(listRule));
        compliance.addModule(address(transferLimitRule), abi.encode(10, _noVolume(), _noVolume()));
        _refused(alice, _escrow, 11, transferLimitRule, ReasonCodes.TRANSFER_AMOUNT_EXCEEDED);
        compliance.removeModule(address(transferLimitRule));
        compliance.addModule(address(holdingPeriodRule), abi.encode(30, 2));
        _refused(alice, _escrow, 1, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
    }

    function test_block_list_and_holder_limit_bind_an_exempt_recipient() public {
        _exempt();
        compliance.addModule(address(listRule), abi.encode(uint8(0), uint8(1), _entry(_escrow, 2)));
        _refused(alice, _escrow, 1, listRule, ReasonCodes.RECIPIENT_BLOCKED);
        compliance.removeModule(address(listRule));
        _fresh(holderLimitRule, _holders(1));
        _exempt();
        token.mint(alice, 10);
        _refused(alice, _escrow, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
    }

    function test_frozen_sender_cannot_send_to_an_exempt_recipient() public {
        _exempt();
        token.setAddressFrozen(alice, true);
        _expectPreviewed(alice, _escrow, 1, address(token), ReasonCodes.SENDER_FROZEN);
        vm.prank(alice);
        token.transfer(_escrow, 1);
    }

    /* WHO MAY, AND FOR WHOM */

    function test_only_the_assets_governance_exempts() public {
        token.grant(bob, AssetRoles.ALL & ~AssetRoles.GOVERNANCE);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, bob));
        vm.prank(bob);
        registry.setExempt(address(token), _escrow, true);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, address(this)));
        registry.setExempt(stranger, _escrow, true);
    }

    function test_a_persons_wallet_is_never_exempt() public {
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotContract.selector, stranger));
        registry.setExempt(address(token), stranger, true);
        // A wallet that borrows code (EIP-7702) still signs for itself.
        vm.etch(stranger, abi.encodePacked(hex"ef0100", _escrow));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotContract.selector, stranger));
        registry.setExempt(address(token), stranger, true);
    }

    function test_records_called_directly_do_not_touch_the_registry() public {
        address code = IdentityRegistry(address(registry)).RECORDS();
        IRegistryQuestions(code).setExempt(address(token), _escrow, true);
        assertTrue(!registry.isExempt(address(token), _escrow), "unchanged");
    }
}
