// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Recipient} from "../../src/interfaces/IDistribution.sol";

/// @notice Trees as `StandardMerkleTree.of(rows, types, {sortLeaves: false})` of @openzeppelin/merkle-tree builds them: a
/// complete binary tree in an array, leaves at its end in reverse order.
library Merkle {
    function leaf(Recipient memory row) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(row.index, row.account, row.amount))));
    }

    function leaf(address account) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account))));
    }

    function build(bytes32[] memory leaves) internal pure returns (bytes32[] memory tree) {
        tree = new bytes32[](2 * leaves.length - 1);
        for (uint256 i; i < leaves.length; ++i) {
            tree[tree.length - 1 - i] = leaves[i];
        }
        for (uint256 i = tree.length - leaves.length; i > 0; --i) {
            tree[i - 1] = _hash(tree[2 * i - 1], tree[2 * i]);
        }
    }

    function build(Recipient[] memory rows) internal pure returns (bytes32[] memory) {
        bytes32[] memory leaves = new bytes32[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            leaves[i] = leaf(rows[i]);
        }
        return build(leaves);
    }

    /// @dev The proof of leaf number `i` of the list.
    function proof(bytes32[] memory tree, uint256 i) internal pure returns (bytes32[] memory path) {
        uint256 node = tree.length - 1 - i;
        path = new bytes32[](64);
        uint256 length;
        while (node > 0) {
            path[length++] = tree[_sibling(node)];
            node = (node - 1) / 2;
        }
        return _cut(path, length);
    }

    /// @dev One proof of the leaves `first` to `first + count - 1` of the list, in that order.
    function multiProof(bytes32[] memory tree, uint256 first, uint256 count)
        internal
        pure
        returns (bytes32[] memory path, bool[] memory flags)
    {
        uint256[] memory queue = new uint256[](2 * tree.length + 2);
        uint256 tail;
        while (tail < count) {
            queue[tail] = tree.length - 1 - first - tail;
            ++tail;
        }
        path = new bytes32[](tree.length);
        flags = new bool[](tree.length);
        uint256 head;
        uint256 paths;
        uint256 steps;
        while (head < tail && queue[head] > 0) {
            uint256 node = queue[head++];
            bool joined = head < tail && queue[head] == _sibling(node);
            if (joined) ++head;
            else path[paths++] = tree[_sibling(node)];
            flags[steps++] = joined;
            queue[tail++] = (node - 1) / 2;
        }
        path = _cut(path, paths);
        bool[] memory exact = new bool[](steps);
        for (uint256 i; i < steps; ++i) {
            exact[i] = flags[i];
        }
        flags = exact;
    }

    function _cut(bytes32[] memory list, uint256 length) private pure returns (bytes32[] memory shorter) {
        shorter = new bytes32[](length);
        for (uint256 i; i < length; ++i) {
            shorter[i] = list[i];
        }
    }

    function _sibling(uint256 node) private pure returns (uint256) {
        return node % 2 == 0 ? node - 1 : node + 1;
    }

    function _hash(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }
}
