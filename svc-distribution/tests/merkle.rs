//! Trees, proofs and proofs of many, against the npm package `@openzeppelin/merkle-tree` on random lists.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use svc_distribution::{
    airdrop::{
        list::Recipient,
        tree::{MultiProof, Tree},
    },
    offering::terms::allow_list_tree,
};

#[derive(Deserialize)]
struct Theirs {
    root: B256,
    proofs: Vec<Vec<B256>>,
    together: Vec<Together>,
}

#[derive(Deserialize)]
struct Together {
    proof: Vec<B256>,
    flags: Vec<bool>,
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/merkle-tree");
    assert!(
        folder.join("node_modules/@openzeppelin/merkle-tree").is_dir(),
        "the package is not installed: make tools (or npm ci in tests/merkle-tree)"
    );
    folder
}

fn theirs(types: &[&str], rows: &[Value], runs: &[Vec<usize>]) -> Theirs {
    let mut node = Command::new("node")
        .arg("tree.mjs")
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({ "types": types, "rows": rows, "runs": runs });
    node.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn trees_and_proofs_are_those_of_openzeppelin_on_random_lists() {
    let seed = rand::random();
    println!("seed {seed}"); // printed by the runner when the test fails
    let mut random = StdRng::seed_from_u64(seed);
    for count in [1, 2, 3, 16, 17, 100, random.random_range(4..300), random.random_range(300..700)] {
        let first = random.random_range(0..1_000_000);
        let rows: Vec<Recipient> = (0..count)
            .map(|_| Recipient { account: Address::from(random.random::<[u8; 20]>()), amount: random.random() })
            .collect();
        let mut runs = vec![vec![], (0..count).collect::<Vec<_>>()];
        for _ in 0..10 {
            let from = random.random_range(0..count);
            runs.push((from..random.random_range(from..count) + 1).collect());
            runs.push((0..count).filter(|_| random.random_bool(0.2)).collect());
        }
        let listed: Vec<_> = rows
            .iter()
            .zip(first..)
            .map(|(row, index)| json!([index.to_string(), row.account.to_checksum(None), row.amount.to_string()]))
            .collect();
        let theirs = theirs(&["uint256", "address", "uint256"], &listed, &runs);
        let ours = Tree::of_part(first, &rows);
        assert_eq!(ours.root(), theirs.root, "{count} rows");
        for (leaf, proof) in theirs.proofs.into_iter().enumerate() {
            assert_eq!(ours.proof(leaf), proof, "row {leaf} of {count}");
        }
        for (run, Together { proof, flags }) in runs.iter().zip(theirs.together) {
            assert_eq!(ours.multi_proof(run), MultiProof { proof, flags }, "{run:?} of {count}");
        }
    }
}

#[test]
fn allow_lists_are_those_of_openzeppelin() {
    let mut random = StdRng::seed_from_u64(7);
    for count in [1, 2, 5, 33] {
        let accounts: Vec<Address> = (0..count).map(|_| Address::from(random.random::<[u8; 20]>())).collect();
        let listed: Vec<_> = accounts.iter().map(|account| json!([account.to_checksum(None)])).collect();
        let (ours, theirs) = (allow_list_tree(&accounts), theirs(&["address"], &listed, &[]));
        assert_eq!(ours.root(), theirs.root, "{count} accounts");
        for (leaf, proof) in theirs.proofs.into_iter().enumerate() {
            assert_eq!(ours.proof(leaf), proof, "account {leaf} of {count}");
        }
    }
}
