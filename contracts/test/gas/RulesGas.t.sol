// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule} from "../../src/interfaces/IRule.sol";
import {Approval} from "../../src/rules/ApprovalRule.sol";
import {RulesFixture} from "../RulesFixture.sol";

/// @notice What each rule adds to a transfer between two holders who have transferred before. Being asked at all costs some 5,500: the
/// compliance's word, the rule's account and the question; a rule's parameters are another cold word (2,100) or two, and one that keeps books writes a
/// word (5,000) and asks whose it is. Bounded here, and exactly in `snapshots/rules.json`, so that nobody makes them dearer unseen.
contract RulesGasTest is RulesFixture {
    uint256 private _without;

    function setUp() public override {
        super.setUp();
        _send(alice, bob, 1);
        _send(alice, bob, 1);
        _without = vm.lastCallGas().gasTotalUsed;
    }

    /// @dev Second transfer: the first one creates what the rule keeps.
    function _adds(IRule rule, bytes memory params, uint256 budget, string memory name) private {
        compliance.addModule(address(rule), params);
        _measure(budget, name);
    }

    function _measure(uint256 budget, string memory name) private {
        _send(alice, bob, 1);
        _send(alice, bob, 1);
        uint256 added = vm.lastCallGas().gasTotalUsed - _without;
        vm.snapshotValue("rules", name, added);
        assertLe(added, budget, name);
    }

    function test_gas_of_a_country_rule() public {
        _adds(countryRule, _countryParams(false, US), 12_000, "CountryRule");
    }

    function test_gas_of_a_claim_rule() public {
        _adds(claimRule, abi.encode(uint8(1), _policy(kyc)), 16_000, "ClaimRule");
    }

    function test_gas_of_an_approval_rule() public {
        address[] memory approvers = new address[](1);
        approvers[0] = address(this);
        compliance.addModule(address(approvalRule), abi.encode(approvers, 30 days, false));
        approvalRule.approve(address(compliance), Approval(alice, bob, 10, uint48(block.timestamp + 1 days), true));
        _measure(24_000, "ApprovalRule");
    }

    function test_gas_of_a_list_rule() public {
        _adds(listRule, _listParams(0, 1), 16_000, "ListRule");
    }

    function test_gas_of_an_issuance_rule() public {
        _adds(issuanceRule, _issuance(_liveCap(10_000)), 7_000, "IssuanceRule");
    }

    function test_gas_of_a_collateral_rule() public {
        _adds(collateralRule, abi.encode(1, 1, address(0), 0), 7_000, "CollateralRule");
    }

    function test_gas_of_a_holder_limit_rule() public {
        _adds(holderLimitRule, _holders(100), 20_000, "HolderLimitRule");
    }

    function test_gas_of_a_holding_period_rule() public {
        _adds(holdingPeriodRule, abi.encode(30, 1), 45_000, "HoldingPeriodRule");
    }

    function test_gas_of_a_transfer_limit_rule() public {
        _adds(
            transferLimitRule, abi.encode(1000, _fixedVolume(1 days, 0, 1000), _noVolume()), 40_000, "TransferLimitRule"
        );
    }
}
