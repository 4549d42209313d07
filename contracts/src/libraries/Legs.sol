// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Leg} from "../interfaces/ISettlement.sol";

/// @title Arithmetic over the legs of a settlement
/// @notice A sender is known by the bit of its first local leg; a receiver who sends nothing by 32 + the index of the first local leg
/// towards it. At most 32 legs, so the nested walks are bounded.
library Legs {
    uint256 internal constant NONE = type(uint256).max;

    /// @return mask one bit per local leg
    function locals(Leg[] memory legs) internal pure returns (uint32 mask) {
        for (uint256 i; i < legs.length; ++i) {
            if (legs[i].chainId == 0) mask |= uint32(1 << i);
        }
    }

    /// @return mask one bit per local sender
    function senders(Leg[] memory legs) internal pure returns (uint32 mask) {
        for (uint256 i; i < legs.length; ++i) {
            if (legs[i].chainId == 0) mask |= senderBit(legs, legs[i].from);
        }
    }

    /// @return mask one bit per local party
    function parties(Leg[] memory legs) internal pure returns (uint64 mask) {
        mask = senders(legs);
        for (uint256 i; i < legs.length; ++i) {
            if (legs[i].chainId == 0) mask |= partyBit(legs, legs[i].to);
        }
    }

    /// @return bit zero when `account` sends nothing here
    function senderBit(Leg[] memory legs, address account) internal pure returns (uint32 bit) {
        for (uint256 i; i < legs.length; ++i) {
            if (legs[i].from == account && legs[i].chainId == 0) return uint32(1 << i);
        }
    }

    /// @return bit zero when `account` neither sends nor receives here
    function partyBit(Leg[] memory legs, address account) internal pure returns (uint64 bit) {
        bit = senderBit(legs, account);
        for (uint256 i; bit == 0 && i < legs.length; ++i) {
            if (legs[i].to == account && legs[i].chainId == 0) bit = uint64(1 << (32 + i));
        }
    }

    /// @notice Whether leg `index` is the first local one in which the same party sends (`sent`), or gets, the same asset.
    function isFirst(Leg[] memory legs, uint256 index, bool sent) internal pure returns (bool) {
        address party = sent ? legs[index].from : legs[index].to;
        for (uint256 i; i < index; ++i) {
            Leg memory leg = legs[i];
            if ((sent ? leg.from : leg.to) == party && leg.chainId == 0 && leg.asset == legs[index].asset) {
                return false;
            }
        }
        return true;
    }

    /// @notice What `account` sends (`sent`), or gets, of `asset` in all local legs but those of the mask `settled`; when `net`, less what
    /// goes the other way, and zero when that is more.
    function sum(Leg[] memory legs, address account, address asset, bool sent, bool net, uint32 settled)
        internal
        pure
        returns (uint256 total)
    {
        uint256 against;
        for (uint256 i; i < legs.length; ++i) {
            Leg memory leg = legs[i];
            if (leg.asset != asset || leg.chainId != 0 || settled & (1 << i) != 0) continue;
            if ((sent ? leg.from : leg.to) == account) total += leg.amount;
            else if (net && (sent ? leg.to : leg.from) == account) against += leg.amount;
        }
        return total > against ? total - against : 0;
    }

    /// @notice Module and reason of an encoded `ComplianceRefused`.
    function refusal(bytes memory cause) internal pure returns (address module, bytes32 reason) {
        bytes memory arguments = new bytes(64);
        for (uint256 i; i < 64; ++i) {
            arguments[i] = cause[i + 4];
        }
        return abi.decode(arguments, (address, bytes32));
    }
}
