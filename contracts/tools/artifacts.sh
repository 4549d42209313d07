#!/bin/sh
# Committed artifacts (abi, bytecode, deployedBytecode) of every contract under src/ that has code (no interfaces, abstract
# contracts or libraries), so that cargo needs no Node.
#   artifacts.sh write   build and write artifacts/*.json and artifacts/SOURCES.sha256
#   artifacts.sh check   fail when the artifacts do not belong to the sources, or when a built contract differs
set -eu
cd "$(dirname -- "$0")/.."

sources() {
    # The compiler, its settings and the library version are sources too.
    { find src -name '*.sol'; echo foundry.toml; echo package-lock.json; } | LC_ALL=C sort | xargs sha256sum
}

emit() { # target directory
    node -e '
        const [target] = process.argv.slice(1);
        const fs = require("node:fs"), path = require("node:path");
        const files = (dir) => fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) =>
            entry.isDirectory() ? files(path.join(dir, entry.name)) : entry.name.endsWith(".json") ? [path.join(dir, entry.name)] : []);
        const seen = new Map();
        for (const file of files("out")) {
            const { abi, bytecode, deployedBytecode, metadata } = JSON.parse(fs.readFileSync(file));
            const [[source, name]] = Object.entries(metadata?.settings?.compilationTarget ?? { "": "" });
            // `out` keeps results of files that are gone. A library starts by pushing its own address.
            const library = deployedBytecode?.object.startsWith(`0x73${"0".repeat(40)}`);
            if (!source.startsWith("src/") || !fs.existsSync(source) || bytecode.object === "0x" || library) continue;
            if (seen.has(name)) { console.error(`${name}: in ${seen.get(name)} and in ${source}`); process.exit(1); }
            seen.set(name, source);
            const code = { abi, bytecode: bytecode.object, deployedBytecode: deployedBytecode.object };
            fs.writeFileSync(path.join(target, `${name}.json`), JSON.stringify(code) + "\n");
        }
    ' "$1"
}

case "${1:-}" in
write)
    tools/forge build --skip test
    mkdir -p artifacts
    rm -f artifacts/*.json
    emit artifacts
    sources > artifacts/SOURCES.sha256
    ;;
check)
    sources | diff artifacts/SOURCES.sha256 - || { echo "artifacts: sources changed, run tools/artifacts.sh write" >&2; exit 1; }
    # Without the npm tools the hash alone must do; with them the build must reproduce the artifacts.
    [ -x node_modules/@foundry-rs/forge-linux-amd64/bin/forge ] || exit 0
    tools/forge build --skip test
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    emit "$fresh"
    diff -r --exclude=SOURCES.sha256 artifacts "$fresh" || { echo "artifacts: the build differs, run tools/artifacts.sh write" >&2; exit 1; }
    ;;
*)
    echo "usage: tools/artifacts.sh write|check" >&2
    exit 2
    ;;
esac
