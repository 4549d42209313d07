// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Memory} from "@openzeppelin/contracts/utils/Memory.sol";
import {DistributionKind, DistributionTerms, IDistribution} from "../interfaces/IDistribution.sol";

/// @title Terms of a distribution as they stand behind its code
/// @notice In this order: a word of token, kind and rows per root; a word of times; the roots; leftoverTo; cap. A claim unpacks the first three
/// words, however many roots there are.
library DistributionArgs {
    using Memory for bytes;
    using Memory for Memory.Slice;

    uint256 private constant ROOTS = 64;
    /// Everything but the roots.
    uint256 private constant FIXED = 128;

    function encode(DistributionTerms memory t) internal pure returns (bytes memory) {
        uint256 first = uint256(uint160(t.token)) | uint256(t.kind) << 160 | uint256(t.rowsPerRoot) << 168;
        uint256 times = uint256(t.start) | uint256(t.end) << 64 | uint256(t.cliff) << 128 | uint256(t.duration) << 192;
        return abi.encodePacked(first, times, t.roots, uint256(uint160(t.leftoverTo)), t.cap);
    }

    /// @notice Everything but the roots, which stay empty.
    function head(bytes memory args) internal pure returns (DistributionTerms memory t) {
        (uint256 first, uint256 times) = abi.decode(args, (uint256, uint256));
        (t.token, t.kind, t.rowsPerRoot) = (token(first), kind(first), rowsPerRoot(first));
        // Each field is as wide as what `encode` put there.
        // forge-lint: disable-start(unsafe-typecast)
        (t.start, t.end) = (uint64(times), uint64(times >> 64));
        (t.cliff, t.duration) = (uint64(times >> 128), uint64(times >> 192));
        t.leftoverTo = address(uint160(uint256(args.asSlice().load(args.length - 64))));
        // forge-lint: disable-end(unsafe-typecast)
        t.cap = uint256(args.asSlice().load(args.length - 32));
    }

    function decode(bytes memory args) internal pure returns (DistributionTerms memory t) {
        t = head(args);
        t.roots = new bytes32[]((args.length - FIXED) / 32);
        for (uint256 i; i < t.roots.length; ++i) {
            t.roots[i] = args.asSlice().load(ROOTS + 32 * i);
        }
    }

    /// @notice What a claim needs: the first word, the window, and the root a row is proven against. Reverts `ProofInvalid` for a row
    /// beyond the last part.
    function ofRow(bytes memory args, uint256 index)
        internal
        pure
        returns (uint256 first, uint64 start, uint64 end, bytes32 root)
    {
        uint256 times;
        (first, times, root) = abi.decode(args, (uint256, uint256, bytes32));
        // forge-lint: disable-next-line(unsafe-typecast)
        (start, end) = (uint64(times), uint64(times >> 64));
        uint256 rows = rowsPerRoot(first);
        if (rows != 0) root = rootOf(args, index / rows);
    }

    function rootOf(bytes memory args, uint256 part) internal pure returns (bytes32) {
        if (part >= (args.length - FIXED) / 32) revert IDistribution.ProofInvalid();
        return args.asSlice().load(ROOTS + 32 * part);
    }

    function token(uint256 first) internal pure returns (address) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(first));
    }

    function kind(uint256 first) internal pure returns (DistributionKind) {
        return DistributionKind((first >> 160) & 0xff);
    }

    function rowsPerRoot(uint256 first) internal pure returns (uint64) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint64(first >> 168);
    }
}
