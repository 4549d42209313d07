// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Balances as they stood at a record date. A record date is a Unix time in seconds; the holding at a date is the one after the last
/// block whose timestamp is not above it. Nothing is written when a date passes: only the first movement of an account after it
/// keeps the former balance. Held and frozen tokens count: they are still the holder's.
interface IRecordDates {
    /// @notice Record dates were announced: `first`, then every `interval_s` up to `last` (a single date has `interval_s` zero).
    event RecordDatesAdded(uint48 indexed first, uint32 interval_s, uint48 last);

    /// @notice The date is not ahead, is there already, or the series has no interval or no length.
    error RecordDateInvalid(uint48 date);
    /// @notice More than 32 dates and series lie ahead, or more than 8 series were ever added.
    error TooManyRecordDates();
    error RecordDateUnknown(uint256 date);
    error RecordDateNotPassed(uint256 date);

    /// @notice Announces one record date, which must lie ahead. Governance or funds. Emits `RecordDatesAdded`.
    /// Reverts `RecordDateInvalid`, `TooManyRecordDates`.
    function addRecordDate(uint48 date) external;

    /// @notice Announces `count` dates at a fixed interval with one storage write, however many they are. Governance or funds. Emits
    /// `RecordDatesAdded`. Reverts `RecordDateInvalid`, `TooManyRecordDates`.
    function addRecordDates(uint48 first, uint32 interval_s, uint32 count) external;

    /// @notice Whether `date` was announced, passed or not.
    function isRecordDate(uint256 date) external view returns (bool);

    /// @notice Balance of `account` at the record date `date`. Reverts `RecordDateUnknown`, `RecordDateNotPassed`: a date has passed
    /// when the block's timestamp is above it.
    function balanceAt(address account, uint256 date) external view returns (uint256);

    /// @notice Total supply at the record date `date`. Reverts like `balanceAt`.
    function supplyAt(uint256 date) external view returns (uint256);
}
