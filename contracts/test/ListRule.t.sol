// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule} from "../src/interfaces/IRule.sol";
import {ITokenCompliance} from "../src/interfaces/ITokenCompliance.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {ListEntry, ListRule} from "../src/rules/ListRule.sol";
import {RulesFixture} from "./RulesFixture.sol";

contract ListRuleTest is RulesFixture {
    function _put(address account, uint8 lists) private {
        compliance.callModule(address(listRule), abi.encodeCall(ListRule.setEntries, (_entry(account, lists))));
    }

    function testFuzz_lists_and_sides_as_written(
        uint8 allow,
        uint8 blocked,
        uint8 ofAlice,
        uint8 ofBob,
        bool byIdentity
    ) public {
        (allow, blocked) = (uint8(bound(allow, 0, 3)), uint8(bound(blocked, 0, 3)));
        (ofAlice, ofBob) = (uint8(bound(ofAlice, 0, 3)), uint8(bound(ofBob, 0, 3)));
        vm.assume(allow | blocked != 0);
        compliance.addModule(address(listRule), _listParams(allow, blocked));
        _put(byIdentity ? registry.identity(alice) : alice, ofAlice);
        _put(byIdentity ? registry.identity(bob) : bob, ofBob);
        bytes32 expected;
        if (blocked & 2 != 0 && ofAlice & 2 != 0) expected = ReasonCodes.SENDER_BLOCKED;
        else if (allow & 2 != 0 && ofAlice & 1 == 0) expected = ReasonCodes.SENDER_NOT_LISTED;
        else if (blocked & 1 != 0 && ofBob & 2 != 0) expected = ReasonCodes.RECIPIENT_BLOCKED;
        else if (allow & 1 != 0 && ofBob & 1 == 0) expected = ReasonCodes.RECIPIENT_NOT_LISTED;
        (, bytes32 reason) = token.preview(alice, bob, 1);
        assertEq(reason, expected, "verdict");
        if (expected != 0) _refused(alice, bob, 1, listRule, expected);
        else _send(alice, bob, 1);
    }

    function test_identity_covers_all_its_wallets() public {
        compliance.addModule(address(listRule), abi.encode(0, 3, _entry(registry.identity(alice), 2)));
        _refused(bob, alice2, 1, listRule, ReasonCodes.RECIPIENT_BLOCKED);
        _put(registry.identity(alice), 0);
        _send(bob, alice2, 1);
        // Blocking one wallet leaves the other alone.
        _put(alice2, 2);
        _refused(bob, alice2, 1, listRule, ReasonCodes.RECIPIENT_BLOCKED);
        _send(bob, alice, 1);
    }

    function test_a_mint_has_no_sender_to_ask() public {
        compliance.addModule(address(listRule), _listParams(2, 2));
        token.mint(alice, 1);
        compliance.setModuleParams(address(listRule), _listParams(1, 0));
        _refused(address(0), alice, 1, listRule, ReasonCodes.RECIPIENT_NOT_LISTED);
    }

    function test_new_sides_keep_the_lists_and_removal_forgets_them() public {
        compliance.addModule(address(listRule), abi.encode(1, 0, _entry(bob, 1)));
        compliance.setModuleParams(address(listRule), _listParams(1, 1));
        (uint8 allowSides, uint8 blockSides) = listRule.paramsOf(address(compliance));
        assertEq(uint256(allowSides) << 8 | blockSides, 0x0101, "sides");
        assertEq(listRule.listsOf(address(compliance), bob), 1, "still listed");
        _send(alice, bob, 1);
        compliance.removeModule(address(listRule));
        compliance.addModule(address(listRule), _listParams(1, 0));
        assertEq(listRule.listsOf(address(compliance), bob), 0, "forgotten");
        _refused(alice, bob, 1, listRule, ReasonCodes.RECIPIENT_NOT_LISTED);
    }

    function test_unconfigured_refuses() public view {
        bytes32 reason = listRule.check(_movement(alice, bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
    }

    function test_entries_are_changed_by_governance_through_the_compliance() public {
        compliance.addModule(address(listRule), _listParams(1, 0));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotGovernance.selector, stranger));
        vm.prank(stranger);
        compliance.callModule(address(listRule), abi.encodeCall(ListRule.setEntries, (_entry(bob, 1))));
        // Called directly a stranger speaks for himself alone, and he has no lists.
        vm.expectRevert(abi.encodeWithSelector(IRule.NotConfigured.selector, stranger));
        vm.prank(stranger);
        listRule.setEntries(_entry(bob, 1));
        vm.expectEmit(true, true, true, true, address(listRule));
        emit ListRule.Listed(address(compliance), bob, 1);
        _put(bob, 1);
        _expectInvalid("entries");
        compliance.callModule(address(listRule), abi.encodeCall(ListRule.setEntries, (_entry(bob, 4))));
    }

    function test_bad_parameters_are_refused() public {
        _invalid(listRule, _listParams(4, 0), "allowSides");
        _invalid(listRule, _listParams(0, 4), "blockSides");
        _invalid(listRule, _listParams(0, 0), "blockSides");
        _invalid(listRule, abi.encode(1, 0, _entry(address(0), 1)), "entries");
        _invalid(listRule, abi.encode(1, 0, _entry(bob, 4)), "entries");
        _invalid(listRule, hex"01", "encoding");
        _invalid(listRule, abi.encode(1, 0, type(uint256).max), "encoding");
        assertEq(listRule.name(), "ListRule", "name");
    }
}
