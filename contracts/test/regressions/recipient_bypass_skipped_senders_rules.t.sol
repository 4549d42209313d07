// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReasonCodes} from "../../src/Refusals.sol";
import {HoldingPeriodRule} from "../../src/rules/HoldingPeriodRule.sol";
import {TransferLimitRule} from "../../src/rules/TransferLimitRule.sol";
import {RulesFixture} from "../RulesFixture.sol";

/// @notice recipient_bypass_skipped_senders_rules: whoever sent to an exempt contract got rid of locked tokens and limits.
contract RecipientBypassTest is RulesFixture {
    function test_exempt_recipient_frees_no_sender_from_the_holding_period() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        compliance.callModule(address(holdingPeriodRule), abi.encodeCall(HoldingPeriodRule.setExempt, (carol, true)));
        token.mint(alice, 100);
        _refused(alice, carol, 1, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
    }

    function test_exempt_recipient_frees_no_sender_from_limits() public {
        _fresh(transferLimitRule, abi.encode(10, _fixedVolume(1 days, 0, 15), _noVolume()));
        compliance.callModule(address(transferLimitRule), abi.encodeCall(TransferLimitRule.setExempt, (carol, true)));
        token.mint(alice, 100);
        _refused(alice, carol, 11, transferLimitRule, ReasonCodes.TRANSFER_AMOUNT_EXCEEDED);
        _send(alice, carol, 10);
        _refused(alice, carol, 6, transferLimitRule, ReasonCodes.HOLDER_VOLUME_EXCEEDED);
    }

    function test_allow_listed_recipient_frees_no_sender() public {
        compliance.addModule(address(listRule), abi.encode(1, 2, _entry(carol, 1)));
        compliance.addModule(address(holdingPeriodRule), abi.encode(30, 2));
        _refused(alice, carol, 1, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
    }
}
