// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AggregatorV3Interface} from "../src/interfaces/IAggregatorV3.sol";

/// @notice A price feed of somebody else, which may say anything or break.
contract SettableFeed is AggregatorV3Interface {
    uint8 private _decimals;
    int256 public answer;
    uint256 public updatedAt;
    bool public broken;
    bool public decimalsBroken;

    error Broken();

    constructor(uint8 places, int256 first) {
        _decimals = places;
        set(first);
    }

    function set(int256 next) public {
        setAt(next, block.timestamp);
    }

    function setAt(int256 next, uint256 at_) public {
        (answer, updatedAt) = (next, at_);
    }

    function setDecimals(uint8 places) external {
        _decimals = places;
    }

    function breakDown(bool rounds, bool places) external {
        (broken, decimalsBroken) = (rounds, places);
    }

    function decimals() external view returns (uint8) {
        if (decimalsBroken) revert Broken();
        return _decimals;
    }

    function description() external pure returns (string memory) {
        return "test";
    }

    function version() external pure returns (uint256) {
        return 1;
    }

    function getRoundData(uint80) external view returns (uint80, int256, uint256, uint256, uint80) {
        return this.latestRoundData();
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        if (broken) revert Broken();
        return (1, answer, updatedAt, updatedAt, 1);
    }
}
