//! Which crate may depend on which: read from the manifests alone, so that the rule is checked before anything is built.

use std::{collections::BTreeMap, fs, path::Path};

/// Crates that hold keys or talk to custody providers.
const KEY_HOLDING: &[&str] = &[
    "cryptoki",
    "cryptoki-sys",
    "secp256k1",
    "k256",
    "coins-bip32",
    "coins-bip39",
    "alloy-signer-local",
    "fireblocks-sdk",
    "dfns-sdk",
];
/// The one crate that may depend on them.
const KEY_HOLDER: &str = "svc-signer";
/// What a test tool needs of them: the module that the partition's process loads in tests is written with the standard's types. Nothing links it.
const TEST_MODULE: (&str, &str) = ("dalp-quorum-module", "cryptoki-sys");

/// A manifest: the folder of its crate, and the packages it names in any kind of dependency.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub folder: String,
    pub name: String,
    pub dependencies: Vec<String>,
}

/// Every rule that `manifests` break, in words.
pub fn violations(manifests: &[Manifest]) -> Vec<String> {
    let folders: BTreeMap<&str, &str> = manifests.iter().map(|one| (one.name.as_str(), one.folder.as_str())).collect();
    let is_service = |name: &str| folders.get(name).is_some_and(|folder| folder.starts_with("svc-"));
    let mut found = Vec::new();
    for manifest in manifests {
        let library = ["crates/", "proto", "contracts"].iter().any(|place| manifest.folder.starts_with(place));
        for dependency in &manifest.dependencies {
            let from = &manifest.name;
            if library && is_service(dependency) {
                found.push(format!("{from} is a library and depends on the service {dependency}"));
            }
            if is_service(from) && is_service(dependency) && from != dependency {
                found.push(format!("the service {from} depends on the service {dependency}"));
            }
            let tool = (from.as_str(), dependency.as_str()) == TEST_MODULE;
            if KEY_HOLDING.contains(&dependency.as_str()) && from != KEY_HOLDER && !tool {
                found.push(format!("{from} depends on {dependency}, which only {KEY_HOLDER} may"));
            }
        }
    }
    found
}

/// Reads one manifest. A renamed dependency counts by its package, not by its alias.
pub fn manifest(folder: &str, text: &str) -> Manifest {
    let parsed: toml::Table = text.parse().expect("a manifest is TOML");
    let name = parsed["package"]["name"].as_str().expect("a package has a name").to_owned();
    let mut dependencies = Vec::new();
    collect(&parsed, &mut dependencies);
    if let Some(targets) = parsed.get("target").and_then(toml::Value::as_table) {
        targets.values().filter_map(toml::Value::as_table).for_each(|target| collect(target, &mut dependencies));
    }
    Manifest { folder: folder.to_owned(), name, dependencies }
}

fn collect(table: &toml::Table, into: &mut Vec<String>) {
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (alias, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
            let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(alias);
            into.push(package.to_owned());
        }
    }
}

/// The manifests of all members of the workspace at `root`.
pub fn workspace(root: &Path) -> Vec<Manifest> {
    let text = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let workspace: toml::Table = text.parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| {
            let folder = member.as_str().unwrap();
            manifest(folder, &fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap())
        })
        .collect()
}
