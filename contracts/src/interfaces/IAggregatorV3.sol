// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The read interface of price feeds that consumers know (interface id 0x73851258)
/// @notice Written from the published function signatures; nothing else of it is used.
interface AggregatorV3Interface {
    /// @notice Places after the decimal point of an answer: human-readable value = answer / 10^decimals.
    function decimals() external view returns (uint8);

    function description() external view returns (string memory);

    function version() external view returns (uint256);

    /// @notice One round. Reverts when the feed does not keep it.
    function getRoundData(uint80 _roundId)
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);

    /// @notice The newest round. Reverts when there is none yet.
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}
