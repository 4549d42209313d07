#!/bin/sh
# Committed artifacts (abi, bytecode, deployedBytecode) of every deployable contract, so that cargo needs no Node.
#   artifacts.sh write   build and write artifacts/*.json and artifacts/SOURCES.sha256
#   artifacts.sh check   fail when the artifacts do not belong to the sources, or when a built contract differs
set -eu
cd "$(dirname -- "$0")/.."

CONTRACTS="System Identity IdentityFactory IdentityRegistry TopicSchemeRegistry AssetToken AssetProxy TokenCompliance AssetFactory CountryRule ClaimRule Bootstrap Create2Deployer"

sources() {
    # The compiler, its settings and the library version are sources too.
    { find src -name '*.sol'; echo foundry.toml; echo package-lock.json; } | LC_ALL=C sort | xargs sha256sum
}

emit() { # contract, target directory
    node -e '
        const [name, target] = process.argv.slice(1);
        const fs = require("node:fs"), path = require("node:path");
        const find = (dir) => fs.readdirSync(dir, { withFileTypes: true }).flatMap((e) =>
            e.isDirectory() ? find(path.join(dir, e.name)) : e.name === `${name}.json` ? [path.join(dir, e.name)] : []);
        const built = find("out").map((f) => JSON.parse(fs.readFileSync(f)))
            .filter((a) => Object.keys(a.metadata?.settings?.compilationTarget ?? {}).every((f) => f.startsWith("src/")));
        if (built.length !== 1) { console.error(`${name}: ${built.length} build results`); process.exit(1); }
        const { abi, bytecode, deployedBytecode } = built[0];
        const code = { abi, bytecode: bytecode.object, deployedBytecode: deployedBytecode.object };
        fs.writeFileSync(path.join(target, `${name}.json`), JSON.stringify(code) + "\n");
    ' "$1" "$2"
}

case "${1:-}" in
write)
    tools/forge build --skip test
    mkdir -p artifacts
    for contract in $CONTRACTS; do emit "$contract" artifacts; done
    sources > artifacts/SOURCES.sha256
    ;;
check)
    sources | diff artifacts/SOURCES.sha256 - || { echo "artifacts: sources changed, run tools/artifacts.sh write" >&2; exit 1; }
    # Without the npm tools the hash alone must do; with them the build must reproduce the artifacts.
    [ -x node_modules/@foundry-rs/forge-linux-amd64/bin/forge ] || exit 0
    tools/forge build --skip test
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    for contract in $CONTRACTS; do
        emit "$contract" "$fresh"
        cmp "artifacts/$contract.json" "$fresh/$contract.json"
    done
    ;;
*)
    echo "usage: tools/artifacts.sh write|check" >&2
    exit 2
    ;;
esac
