// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRecordDates} from "../interfaces/IRecordDates.sol";
import {AssetRoles} from "../Roles.sol";
import {AssetTokenState} from "./AssetTokenState.sol";

/// @title Which record dates there are and which have passed
/// @notice A series is computed, never stored date by date. Walks are bounded: 32 dates and series ahead, 8 series for ever.
abstract contract RecordDates is AssetTokenState {
    uint256 private constant MAX_UPCOMING = 32;
    uint256 private constant MAX_SERIES = 8;
    uint48 private constant NEVER = type(uint48).max;

    /// @dev See `IRecordDates`.
    function addRecordDate(uint48 date) external {
        _requireRole(AssetRoles.GOVERNANCE | AssetRoles.FUNDS);
        if (_isSingleDate[date]) revert IRecordDates.RecordDateInvalid(date);
        _isSingleDate[date] = true;
        _add(date, 0, date);
    }

    /// @dev See `IRecordDates`.
    function addRecordDates(uint48 first, uint32 interval_s, uint32 count) external {
        _requireRole(AssetRoles.GOVERNANCE | AssetRoles.FUNDS);
        if (interval_s == 0 || count < 2) revert IRecordDates.RecordDateInvalid(first);
        uint256 last = first + uint256(interval_s) * (count - 1);
        if (last >= NEVER) revert IRecordDates.RecordDateInvalid(NEVER);
        if (_series.length == MAX_SERIES) revert IRecordDates.TooManyRecordDates();
        // forge-lint: disable-next-line(unsafe-typecast)
        _series.push(_add(first, interval_s, uint48(last)));
    }

    /// @notice Moves on to the epoch after the dates that have passed. Only `AssetToken` calls it, before a movement.
    function passRecordDates() external {
        _passRecordDates();
    }

    function _passRecordDates() internal override {
        uint48 latest = _lastRecordDate;
        uint48 next = NEVER;
        for (uint256 i = _upcoming.length; i > 0; --i) {
            (uint48 passed, uint48 ahead) = _position(_upcoming[i - 1]);
            if (passed > latest) latest = passed;
            if (ahead < next) next = ahead;
            if (ahead == NEVER) {
                _upcoming[i - 1] = _upcoming[_upcoming.length - 1];
                _upcoming.pop();
            }
        }
        _lastRecordDate = latest;
        _nextRecordDate = next;
        ++_epoch;
    }

    /// @return passed the latest date of the entry that lies behind, or zero
    /// @return ahead the first that does not, or `NEVER`
    function _position(uint256 entry) private view returns (uint48 passed, uint48 ahead) {
        // forge-lint: disable-start(unsafe-typecast)
        uint48 first = uint48(entry);
        uint48 last = uint48(entry >> 48);
        uint32 interval_s = uint32(entry >> 96);
        if (first >= block.timestamp) return (0, first);
        if (last < block.timestamp) return (last, NEVER);
        // The latest date of the series is meant, so the division has to drop the rest.
        // slither-disable-next-line divide-before-multiply
        passed = uint48(first + (block.timestamp - 1 - first) / interval_s * interval_s);
        // forge-lint: disable-end(unsafe-typecast)
        return (passed, passed + interval_s);
    }

    function _add(uint48 first, uint32 interval_s, uint48 last) private returns (uint256 entry) {
        // A date in this very block is fine: the block's movements, earlier or later in it, count before the date.
        if (first < block.timestamp || last == NEVER) revert IRecordDates.RecordDateInvalid(first);
        if (block.timestamp > _nextRecordDate) _passRecordDates();
        if (_upcoming.length == MAX_UPCOMING) revert IRecordDates.TooManyRecordDates();
        entry = first | uint256(last) << 48 | uint256(interval_s) << 96;
        _upcoming.push(entry);
        if (first < _nextRecordDate) _nextRecordDate = first;
        emit IRecordDates.RecordDatesAdded(first, interval_s, last);
    }
}
