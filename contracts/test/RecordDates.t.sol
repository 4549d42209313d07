// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetToken} from "../src/interfaces/IAssetToken.sol";
import {IRecordDates} from "../src/interfaces/IRecordDates.sol";
import {AssetRoles} from "../src/Roles.sol";
import {Fixture} from "./Fixture.sol";

contract RecordDatesTest is Fixture {
    uint48 private constant T0 = 1_800_000_000;
    uint48 private constant DAY = 86_400;

    function _move(address from, address to, uint256 amount) private {
        vm.prank(from);
        token.transfer(to, amount);
    }

    function test_balance_at_a_date_is_the_one_after_its_last_block() public {
        token.addRecordDate(T0 + 100);
        vm.warp(T0 + 100);
        _move(alice, bob, 100);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateNotPassed.selector, T0 + 100));
        token.balanceAt(alice, T0 + 100);
        vm.warp(T0 + 101);
        assertEq(token.balanceAt(alice, T0 + 100), 900, "nothing moved since");
        _move(alice, bob, 300);
        _move(bob, alice, 50);
        token.mint(bob, 7);
        assertEq(token.balanceAt(alice, T0 + 100), 900, "alice at the date");
        assertEq(token.balanceAt(bob, T0 + 100), 1100, "bob at the date");
        assertEq(token.supplyAt(T0 + 100), 2000, "supply at the date");
        assertEq(token.balanceOf(alice), 650, "alice now");
    }

    function test_an_account_that_moves_late_has_one_entry_for_many_dates() public {
        token.addRecordDates(T0 + DAY, uint32(DAY), 30);
        vm.warp(T0 + 5 * DAY + 1);
        _move(alice, bob, 1);
        vm.warp(T0 + 20 * DAY + 1);
        _move(bob, alice, 501);
        for (uint256 i = 1; i <= 20; ++i) {
            assertEq(token.balanceAt(alice, T0 + i * DAY), i <= 5 ? 1000 : 999, "alice");
            assertEq(token.balanceAt(bob, T0 + i * DAY), i <= 5 ? 1000 : 1001, "bob");
            assertEq(token.supplyAt(T0 + i * DAY), 2000, "supply");
        }
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateNotPassed.selector, T0 + 21 * DAY));
        token.balanceAt(alice, T0 + 21 * DAY);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateUnknown.selector, T0 + 31 * DAY));
        token.balanceAt(alice, T0 + 31 * DAY);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateUnknown.selector, T0 + DAY + 1));
        token.balanceAt(alice, T0 + DAY + 1);
    }

    function test_a_holder_who_comes_later_had_nothing() public {
        token.addRecordDate(T0 + 10);
        _investor(carol, DE);
        vm.warp(T0 + 11);
        _move(alice, carol, 5);
        assertEq(token.balanceAt(carol, T0 + 10), 0, "no holder then");
        assertEq(token.balanceOf(carol), 5, "a holder now");
    }

    function test_dates_may_come_in_any_order_and_overlap_a_series() public {
        token.addRecordDates(T0 + 100, 100, 3);
        token.addRecordDate(T0 + 150);
        token.addRecordDate(T0 + 50);
        assertTrue(token.isRecordDate(T0 + 300) && !token.isRecordDate(T0 + 400), "series ends");
        uint48[5] memory dates = [T0 + 50, T0 + 100, T0 + 150, T0 + 200, T0 + 300];
        for (uint256 i; i < 5; ++i) {
            vm.warp(dates[i] + 1);
            _move(alice, bob, 10);
        }
        for (uint256 i; i < 5; ++i) {
            assertEq(token.balanceAt(alice, dates[i]), 1000 - 10 * i, "alice");
            assertEq(token.balanceAt(bob, dates[i]), 1000 + 10 * i, "bob");
        }
    }

    function test_frozen_and_held_tokens_count() public {
        token.addRecordDate(T0 + 10);
        token.freezePartialTokens(alice, 300);
        vm.prank(alice);
        token.approve(carol, 200);
        vm.prank(carol);
        token.hold("h", alice, 200);
        vm.warp(T0 + 11);
        assertEq(token.balanceAt(alice, T0 + 10), 1000, "snapshot_ignores_holds");
    }

    function test_a_series_costs_the_same_however_long_it_is() public {
        token.addRecordDates(T0 + 1, 1, 10_000_000);
        vm.warp(T0 + 9_000_000);
        _move(alice, bob, 1);
        assertEq(token.balanceAt(alice, T0 + 5_000_000), 1000, "then");
    }

    function test_what_cannot_be_a_record_date() public {
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateInvalid.selector, T0 - 1));
        token.addRecordDate(T0 - 1);
        token.addRecordDate(T0);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateInvalid.selector, T0));
        token.addRecordDate(T0);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateInvalid.selector, type(uint48).max));
        token.addRecordDate(type(uint48).max);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateInvalid.selector, T0));
        token.addRecordDates(T0, 0, 5);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateInvalid.selector, T0));
        token.addRecordDates(T0, 5, 1);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateInvalid.selector, type(uint48).max));
        token.addRecordDates(T0, type(uint32).max, type(uint32).max);
        vm.expectRevert(
            abi.encodeWithSelector(IAssetToken.MissingRole.selector, alice, AssetRoles.GOVERNANCE | AssetRoles.FUNDS)
        );
        vm.prank(alice);
        token.addRecordDate(T0 + 1);
    }

    function test_dates_ahead_and_series_are_bounded_and_passed_ones_make_room() public {
        for (uint48 i = 1; i <= 32; ++i) {
            token.addRecordDate(T0 + i);
        }
        vm.expectRevert(IRecordDates.TooManyRecordDates.selector);
        token.addRecordDate(T0 + 33);
        vm.warp(T0 + 10);
        for (uint48 i = 33; i <= 41; ++i) {
            token.addRecordDate(T0 + i);
        }
        vm.warp(T0 + 100);
        for (uint48 i; i < 8; ++i) {
            token.addRecordDates(T0 + 1000 + i, 60, 2);
        }
        vm.expectRevert(IRecordDates.TooManyRecordDates.selector);
        token.addRecordDates(T0 + 2000, 60, 2);
    }

    /// @dev Against a plain copy of every balance at every date.
    function testFuzz_history_equals_a_full_copy(uint256 seed) public {
        token.addRecordDates(T0 + 50, 100, 12);
        uint256[13] memory aliceThen;
        uint256[13] memory supplyThen;
        uint256 time = T0;
        uint256 next = 0;
        for (uint256 step; step < 24; ++step) {
            seed = uint256(keccak256(abi.encode(seed)));
            time += seed % 120;
            while (next < 12 && time > T0 + 50 + 100 * next) {
                (aliceThen[next], supplyThen[next]) = (token.balanceOf(alice), token.totalSupply());
                ++next;
            }
            vm.warp(time);
            if (seed & 0x300 == 0x100) token.mint(bob, 5);
            else if (seed & 0x300 == 0x200) token.burn(bob, 5);
            else _move(seed & 0x400 == 0 ? alice : bob, seed & 0x400 == 0 ? bob : alice, (seed >> 16) % 40);
        }
        for (uint256 i; i < next; ++i) {
            assertEq(token.balanceAt(alice, T0 + 50 + 100 * i), aliceThen[i], "alice");
            assertEq(token.supplyAt(T0 + 50 + 100 * i), supplyThen[i], "supply");
        }
    }
}
