// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @title Country rule
/// @notice Allows or blocks recipients by the country (ISO 3166 numeric, 1-999) their registration names.
/// Parameters: `abi.encode(bool allow, uint16[] countries)`, at least one country. A recipient without a country is refused
/// in both modes, unless it is a contract exempt from identity. Holders may always leave: the sender's country is not looked at.
contract CountryRule is Rule {
    /// Countries per word; the rest of the word holds the mode.
    uint256 private constant PER_WORD = 250;
    uint256 private constant WORDS = 4;
    uint256 private constant MAX_COUNTRY = 999;
    uint256 private constant ALLOW = 1 << 254;
    uint256 private constant BLOCK = 1 << 255;

    /// Word 0 always carries the mode, the others only when they hold a country: a check mostly reads one word.
    mapping(address compliance => uint256[WORDS]) private _words;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "CountryRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (, uint16[] memory countries) = abi.decode(params, (bool, uint16[]));
        if (countries.length == 0) revert InvalidParams("countries");
        for (uint256 i; i < countries.length; ++i) {
            if (countries[i] == 0 || countries[i] > MAX_COUNTRY) revert InvalidParams("countries");
        }
    }

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        uint256[WORDS] storage words = _words[msg.sender];
        uint256 country = movement.country;
        if (movement.exempt) return words[0] == 0 ? ReasonCodes.RULE_NOT_CONFIGURED : ReasonCodes.OK;
        if (country == 0 || country > MAX_COUNTRY) return ReasonCodes.COUNTRY_UNKNOWN;
        uint256 word = words[country / PER_WORD];
        bool listed = word & (1 << (country % PER_WORD)) != 0;
        if (word == 0) word = words[0];
        if (word & ALLOW != 0) return listed ? ReasonCodes.OK : ReasonCodes.COUNTRY_NOT_ALLOWED;
        if (word & BLOCK != 0) return listed ? ReasonCodes.COUNTRY_BLOCKED : ReasonCodes.OK;
        return ReasonCodes.RULE_NOT_CONFIGURED;
    }

    /// @notice Mode and countries of a compliance; no countries when it is not configured.
    function paramsOf(address compliance) external view returns (bool allow, uint16[] memory countries) {
        uint256[WORDS] memory words = _words[compliance];
        allow = words[0] & ALLOW != 0;
        uint16[] memory found = new uint16[](MAX_COUNTRY);
        uint256 count;
        for (uint256 c = 1; c <= MAX_COUNTRY; ++c) {
            // casting to 'uint16' is safe because countries are at most 999
            // forge-lint: disable-next-line(unsafe-typecast)
            if (words[c / PER_WORD] & (1 << (c % PER_WORD)) != 0) found[count++] = uint16(c);
        }
        countries = new uint16[](count);
        for (uint256 i; i < count; ++i) {
            countries[i] = found[i];
        }
    }

    function _apply(bytes calldata params) internal override {
        (bool allow, uint16[] memory countries) = abi.decode(params, (bool, uint16[]));
        uint256 mode = allow ? ALLOW : BLOCK;
        uint256[WORDS] memory words;
        words[0] = mode;
        for (uint256 i; i < countries.length; ++i) {
            uint256 country = countries[i];
            words[country / PER_WORD] |= mode | (1 << (country % PER_WORD));
        }
        _words[msg.sender] = words;
    }

    function _forget() internal override {
        delete _words[msg.sender];
    }
}
