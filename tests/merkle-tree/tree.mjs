// Reads {"types": ["uint256", ...], "rows": [[index, account, amount], ...], "runs": [[leaf, ...], ...]} and answers with root, the proof of
// every row, and one proof of each run of leaves, as @openzeppelin/merkle-tree makes them.
import { readFileSync } from "node:fs";
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";

const { types, rows, runs } = JSON.parse(readFileSync(0, "utf8"));
const tree = StandardMerkleTree.of(rows, types, { sortLeaves: false });
const together = (run) => {
  const { proof, proofFlags } = tree.getMultiProof(run);
  return { proof, flags: proofFlags };
};
process.stdout.write(
  JSON.stringify({ root: tree.root, proofs: rows.map((_, leaf) => tree.getProof(leaf)), together: runs.map(together) }),
);
