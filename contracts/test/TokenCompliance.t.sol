// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hooks, Movement} from "../src/interfaces/IRule.sol";
import {ITokenCompliance, RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {ReasonCodes, Verdict} from "../src/Refusals.sol";
import {Rule} from "../src/rules/Rule.sol";
import {CountingRule} from "./CountingRule.sol";
import {Fixture} from "./Fixture.sol";

contract TokenComplianceTest is Fixture {
    function test_only_governance_changes_rules() public {
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotGovernance.selector, alice));
        vm.prank(alice);
        compliance.addModule(address(countryRule), _countryParams(true, DE));
    }

    function test_first_veto_wins_and_explain_shows_all() public {
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        compliance.addModule(address(claimRule), abi.encode(uint8(1), _policy(accredited)));
        token.pause();
        Verdict[] memory verdicts = compliance.explain(alice, bob, 1);
        assertEq(verdicts.length, 4, "token, registry, two rules");
        assertEq(verdicts[0].reason, ReasonCodes.TOKEN_PAUSED, "token");
        assertEq(verdicts[1].reason, ReasonCodes.OK, "registry");
        assertEq(verdicts[2].reason, ReasonCodes.COUNTRY_BLOCKED, "country");
        assertEq(verdicts[3].reason, ReasonCodes.RECIPIENT_CLAIMS_MISSING, "claims");
        token.unpause();
        _expectPreviewed(alice, bob, 1, address(countryRule), ReasonCodes.COUNTRY_BLOCKED);
        vm.prank(alice);
        token.transfer(bob, 1);
        assertTrue(!compliance.canTransfer(alice, bob, 1), "canTransfer says the same");
        compliance.removeModule(address(countryRule));
        _expectPreviewed(alice, bob, 1, address(claimRule), ReasonCodes.RECIPIENT_CLAIMS_MISSING);
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_burn_asks_only_the_token() public {
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        Verdict[] memory verdicts = compliance.explain(alice, address(0), 1001);
        assertEq(verdicts.length, 1, "token only");
        assertEq(verdicts[0].reason, ReasonCodes.BALANCE_TOO_LOW, "reason");
    }

    function test_removal_keeps_order_and_survives_a_broken_rule() public {
        address broken = address(new CountingRule());
        compliance.addModule(broken, "");
        compliance.addModule(address(countryRule), _countryParams(true, DE));
        compliance.addModule(address(claimRule), abi.encode(uint8(1), _policy(kyc)));
        compliance.removeModule(broken);
        address[] memory left = compliance.getModules();
        assertEq(left.length, 2, "two left");
        assertEq(left[0], address(countryRule), "order");
        assertEq(left[1], address(claimRule), "order");
        assertTrue(!compliance.isModuleBound(broken), "gone");
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.ModuleNotBound.selector, broken));
        compliance.removeModule(broken);
    }

    function test_removed_rule_forgets_its_parameters() public {
        compliance.addModule(address(countryRule), _countryParams(false, US));
        compliance.removeModule(address(countryRule));
        (, uint16[] memory countries) = countryRule.paramsOf(address(compliance));
        assertEq(countries.length, 0, "forgotten");
    }

    function test_a_rule_is_bound_once_and_must_be_a_rule() public {
        compliance.addModule(address(countryRule), _countryParams(true, DE));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.ModuleAlreadyBound.selector, address(countryRule)));
        compliance.addModule(address(countryRule), _countryParams(true, DE));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotARule.selector, address(token)));
        compliance.addModule(address(token), "");
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotARule.selector, alice));
        compliance.addModule(alice, "");
    }

    function test_cannot_be_initialized_twice() public {
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.AlreadyBound.selector, address(token)));
        compliance.initialize(alice, new RuleConfig[](0));
        ITokenCompliance implementation = ITokenCompliance(factory.COMPLIANCE_IMPLEMENTATION());
        vm.expectRevert();
        implementation.initialize(alice, new RuleConfig[](0));
    }

    function test_binding_is_the_tokens_alone() public {
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotToken.selector, address(this)));
        compliance.unbindToken(address(token));
        assertTrue(compliance.isTokenBound(address(token)), "bound");
        assertEq(compliance.getTokenBound(), address(token), "bound");
    }

    function test_a_compliance_serves_the_one_token_it_was_made_for() public {
        vm.startPrank(address(token));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.AlreadyBound.selector, address(token)));
        compliance.bindToken(address(token));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotToken.selector, address(token)));
        compliance.bindToken(alice);
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotToken.selector, alice));
        compliance.unbindToken(alice);
        compliance.unbindToken(address(token));
        vm.stopPrank();
        assertEq(compliance.getTokenBound(), address(0), "released");
        assertTrue(!compliance.isTokenBound(address(token)), "released");
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotToken.selector, address(token)));
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_a_rule_that_asks_for_no_hook_or_for_unknown_ones_is_none() public {
        address silent = address(new OddRule(0));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotARule.selector, silent));
        compliance.addModule(silent, "");
        address greedy = address(new OddRule(Hooks.KNOWN + 1));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotARule.selector, greedy));
        compliance.addModule(greedy, "");
    }

    function test_explain_names_judges_only() public {
        address follower = address(new OddRule(Hooks.TRANSFER));
        compliance.addModule(follower, "");
        compliance.addModule(address(countryRule), _countryParams(true, DE));
        assertEq(uint256(compliance.moduleHooks(follower)), Hooks.TRANSFER, "follows transfers");
        assertEq(uint256(compliance.moduleHooks(alice)), 0, "not bound");
        Verdict[] memory verdicts = compliance.explain(alice, bob, 1);
        assertEq(verdicts.length, 3, "token, registry, one judge of two rules");
        assertEq(verdicts[2].module, address(countryRule), "the judge");
    }

    function test_interfaces_that_are_spoken() public view {
        assertTrue(compliance.supportsInterface(type(ITokenCompliance).interfaceId), "ours");
        assertTrue(compliance.supportsInterface(0x01ffc9a7), "ERC-165");
        assertTrue(!compliance.supportsInterface(0xffffffff), "none");
    }

    function test_size_stays_in_budget() public view {
        assertLe(factory.COMPLIANCE_IMPLEMENTATION().code.length, 12_288, "TokenCompliance");
    }
}

/// @notice A rule whose hooks are what it was told.
contract OddRule is Rule {
    uint8 public immutable hooks;

    constructor(uint8 hooks_) {
        hooks = hooks_;
    }

    function name() external pure returns (string memory) {
        return "OddRule";
    }

    function validate(bytes calldata) external pure {}

    function check(Movement calldata) external pure returns (bytes32) {
        return ReasonCodes.OK;
    }

    function _apply(bytes calldata) internal override {}

    function _forget() internal override {}
}
