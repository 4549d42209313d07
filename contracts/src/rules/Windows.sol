// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

/// @title Sums over time, exact to the second
/// @notice A fixed window starts again at `start + n * length`; a rolling one looks back `length` seconds from now; the lifetime
/// never ends. Nothing has to be called when a window turns, and no past entry is iterated over.
library Windows {
    using Checkpoints for Checkpoints.Trace208;

    uint8 internal constant FIXED = 1;
    uint8 internal constant ROLLING = 2;
    uint8 internal constant LIFETIME = 3;

    /// @dev One word.
    struct Limit {
        uint128 max;
        uint8 kind;
        uint32 lengthSeconds;
        uint48 start;
        // Names the counter, so that a limit of another nature never continues a sum of other units.
        uint40 counter;
    }

    struct Counter {
        uint208 sum;
        // Of a fixed window: which one `sum` belongs to.
        uint48 index;
        // Of a rolling window: running total by second.
        Checkpoints.Trace208 totals;
    }

    /// @notice Whether kind, length and start describe a fixed or rolling window that has begun.
    function isWindow(uint8 kind, uint32 lengthSeconds, uint48 start) internal view returns (bool) {
        if (lengthSeconds == 0) return false;
        return kind == FIXED ? start <= block.timestamp : kind == ROLLING && start == 0;
    }

    /// @notice Whether two limits measure the same thing, whatever their maximum.
    function sameNature(Limit memory a, Limit memory b) internal pure returns (bool) {
        return a.kind == b.kind && a.lengthSeconds == b.lengthSeconds && a.start == b.start;
    }

    /// @notice Whether `amount` more stays within the limit.
    function fits(Counter storage counter, Limit memory limit, uint256 amount) internal view returns (bool) {
        if (amount > limit.max) return false;
        return used(counter, limit) <= limit.max - amount;
    }

    /// @notice The sum in force now.
    function used(Counter storage counter, Limit memory limit) internal view returns (uint256) {
        if (limit.kind == LIFETIME) return counter.sum;
        if (limit.kind == FIXED) return counter.index == _index(limit) ? counter.sum : 0;
        uint256 total = counter.totals.latest();
        if (total == 0 || block.timestamp < limit.lengthSeconds) return total;
        return total - counter.totals.upperLookupRecent(SafeCast.toUint48(block.timestamp - limit.lengthSeconds));
    }

    function add(Counter storage counter, Limit memory limit, uint256 amount) internal {
        if (limit.kind == ROLLING) {
            uint208 total = SafeCast.toUint208(counter.totals.latest() + amount);
            counter.totals.push(SafeCast.toUint48(block.timestamp), total);
            return;
        }
        uint208 sum = SafeCast.toUint208(used(counter, limit) + amount);
        (counter.sum, counter.index) = (sum, limit.kind == FIXED ? _index(limit) : 0);
    }

    function _index(Limit memory limit) private view returns (uint48) {
        return SafeCast.toUint48((block.timestamp - limit.start) / limit.lengthSeconds);
    }
}
