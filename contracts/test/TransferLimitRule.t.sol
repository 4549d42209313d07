// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule} from "../src/interfaces/IRule.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {TransferLimitRule, VolumeLimit} from "../src/rules/TransferLimitRule.sol";
import {RulesFixture} from "./RulesFixture.sol";

contract TransferLimitRuleTest is RulesFixture {
    uint256 private constant START = 1_800_000_000;

    function _bind(uint128 maxAmount, VolumeLimit memory perHolder, VolumeLimit memory perToken) private {
        compliance.addModule(address(transferLimitRule), abi.encode(maxAmount, perHolder, perToken));
    }

    function _volume(address holder) private view returns (uint256 ofHolder, uint256 ofToken) {
        return transferLimitRule.volumeOf(address(compliance), registry.identity(holder));
    }

    function test_amount_of_a_single_transfer() public {
        _bind(100, _noVolume(), _noVolume());
        _send(alice, bob, 100);
        _refused(alice, bob, 101, transferLimitRule, ReasonCodes.TRANSFER_AMOUNT_EXCEEDED);
        // Neither a mint nor a move between own wallets is a transfer.
        token.mint(bob, 500);
        _send(alice, alice2, 500);
        _send(alice, alice, 400);
    }

    function test_fixed_window_per_holder_counts_all_wallets_of_an_identity() public {
        _bind(0, _fixedVolume(1 days, uint48(START), 100), _noVolume());
        _send(alice, alice2, 200);
        _send(alice, bob, 60);
        _refused(alice2, bob, 41, transferLimitRule, ReasonCodes.HOLDER_VOLUME_EXCEEDED);
        _send(alice2, bob, 40);
        _send(bob, alice, 100);
        (uint256 ofHolder, uint256 ofToken) = _volume(alice);
        assertTrue(ofHolder == 100 && ofToken == 0, "volume");
        vm.warp(START + 1 days - 1);
        _refused(alice, bob, 1, transferLimitRule, ReasonCodes.HOLDER_VOLUME_EXCEEDED);
        vm.warp(START + 1 days);
        _send(alice, bob, 100);
        vm.warp(START + 10 days + 5);
        _send(alice, bob, 100);
    }

    function test_rolling_window_of_the_token_is_exact_to_the_second() public {
        _bind(0, _noVolume(), _rollingVolume(1 days, 100));
        _send(alice, bob, 60);
        vm.warp(START + 12 hours);
        _send(bob, carol, 40);
        _refused(alice, bob, 1, transferLimitRule, ReasonCodes.TOKEN_VOLUME_EXCEEDED);
        vm.warp(START + 1 days - 1);
        _refused(alice, bob, 1, transferLimitRule, ReasonCodes.TOKEN_VOLUME_EXCEEDED);
        vm.warp(START + 1 days);
        _refused(alice, bob, 61, transferLimitRule, ReasonCodes.TOKEN_VOLUME_EXCEEDED);
        _send(alice, bob, 60);
        vm.warp(START + 36 hours);
        (, uint256 ofToken) = _volume(alice);
        assertEq(ofToken, 60, "the first two are out");
    }

    function testFuzz_rolling_window_equals_a_naive_sum(uint256 seed) public {
        _bind(0, _noVolume(), _rollingVolume(1000, type(uint128).max));
        uint256[12] memory amounts;
        uint256[12] memory times;
        uint256 time = START;
        for (uint256 i; i < 12; ++i) {
            time += seed % 300;
            seed = uint256(keccak256(abi.encode(seed)));
            (amounts[i], times[i]) = (1 + seed % 80, time);
            vm.warp(time);
            _send(alice, bob, amounts[i]);
            uint256 expected;
            for (uint256 j; j <= i; ++j) {
                if (times[j] + 1000 > time) expected += amounts[j];
            }
            (, uint256 ofToken) = _volume(alice);
            assertEq(ofToken, expected, "window");
        }
    }

    function test_windows_longer_than_time_itself() public {
        vm.warp(1000);
        _bind(0, _rollingVolume(1 days, 50), _noVolume());
        _send(alice, bob, 50);
        _refused(alice, bob, 1, transferLimitRule, ReasonCodes.HOLDER_VOLUME_EXCEEDED);
        _refused(bob, alice, 51, transferLimitRule, ReasonCodes.HOLDER_VOLUME_EXCEEDED);
    }

    function test_forced_transfer_counts_and_is_not_refused_and_recovery_does_not_count() public {
        _bind(0, _fixedVolume(1 days, 0, 100), _noVolume());
        token.forcedTransfer(alice, bob, 150);
        _refused(alice, bob, 1, transferLimitRule, ReasonCodes.HOLDER_VOLUME_EXCEEDED);
        _recover(bob, address(0xB2));
        (uint256 ofHolder,) = _volume(address(0xB2));
        assertEq(ofHolder, 0, "recovered, not sent");
        token.burn(alice, 10);
        (ofHolder,) = _volume(alice);
        assertEq(ofHolder, 150, "a burn is no transfer");
    }

    function test_exempt_sender_is_neither_limited_nor_counted() public {
        _bind(10, _noVolume(), _rollingVolume(1 days, 100));
        bytes memory call = abi.encodeCall(TransferLimitRule.setExempt, (alice, true));
        compliance.callModule(address(transferLimitRule), call);
        assertTrue(transferLimitRule.isExempt(address(compliance), alice), "exempt");
        _send(alice, bob, 500);
        _refused(bob, alice, 11, transferLimitRule, ReasonCodes.TRANSFER_AMOUNT_EXCEEDED);
        (, uint256 ofToken) = _volume(alice);
        assertEq(ofToken, 0, "not counted");
        vm.expectRevert(abi.encodeWithSelector(IRule.NotConfigured.selector, address(this)));
        transferLimitRule.setExempt(alice, true);
    }

    function test_new_parameters_keep_sums_of_the_same_window_only() public {
        _bind(0, _fixedVolume(1 days, 0, 100), _rollingVolume(1 days, 200));
        _send(alice, bob, 100);
        compliance.setModuleParams(
            address(transferLimitRule), abi.encode(7, _fixedVolume(1 days, 0, 150), _rollingVolume(2 days, 200))
        );
        (uint256 ofHolder, uint256 ofToken) = _volume(alice);
        assertTrue(ofHolder == 100 && ofToken == 0, "same window continues, another starts");
        (uint128 maxAmount, VolumeLimit memory perHolder, VolumeLimit memory perToken) =
            transferLimitRule.paramsOf(address(compliance));
        assertTrue(maxAmount == 7 && perHolder.max == 150 && perToken.lengthSeconds == 2 days, "read back");
        compliance.removeModule(address(transferLimitRule));
        (maxAmount, perHolder,) = transferLimitRule.paramsOf(address(compliance));
        assertTrue(maxAmount == 0 && perHolder.kind == 0, "forgotten");
        _bind(0, _fixedVolume(1 days, 0, 100), _noVolume());
        (ofHolder,) = _volume(alice);
        assertEq(ofHolder, 0, "a new binding counts anew");
    }

    function test_unconfigured_refuses_and_follows_nothing() public {
        bytes32 reason = transferLimitRule.check(_movement(alice, bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
        transferLimitRule.moved(address(token), alice, bob, 1);
        (, uint256 ofToken) = transferLimitRule.volumeOf(address(this), alice);
        assertEq(ofToken, 0, "nothing");
    }

    function test_bad_parameters_are_refused() public {
        VolumeLimit memory none = _noVolume();
        _invalid(transferLimitRule, abi.encode(0, none, none), "maxAmount");
        _invalid(transferLimitRule, abi.encode(1, _fixedVolume(0, 0, 1), none), "perHolder");
        _invalid(transferLimitRule, abi.encode(1, _fixedVolume(1, 0, 0), none), "perHolder");
        _invalid(transferLimitRule, abi.encode(1, none, _fixedVolume(1, uint48(START + 1), 1)), "perToken");
        VolumeLimit memory odd = _rollingVolume(1, 1);
        odd.start = 1;
        _invalid(transferLimitRule, abi.encode(1, none, odd), "perToken");
        (odd.start, odd.kind) = (0, 3);
        _invalid(transferLimitRule, abi.encode(1, none, odd), "perToken");
        odd.kind = 0;
        _invalid(transferLimitRule, abi.encode(1, odd, none), "perHolder");
        _invalid(transferLimitRule, abi.encode(1), "encoding");
        assertEq(transferLimitRule.name(), "TransferLimitRule", "name");
    }
}
