#!/bin/sh
# Storage layouts of what is upgradeable, committed: an upgrade must only append. `AssetToken` and the two contracts it delegates to
# share one layout, so all three are held against the one file.
#   layouts.sh write   take the present layout (a reviewer reads the difference)
#   layouts.sh check   fail when a layout differs from the committed one
set -eu
cd "$(dirname -- "$0")/.."
[ -x node_modules/@foundry-rs/forge-linux-amd64/bin/forge ] || { echo "layouts: npm tools not installed, skipped" >&2; exit 0; }

layout() { # contract
    node -e '
        const { storage, types } = JSON.parse(require("node:fs").readFileSync(process.argv[1])).storageLayout;
        // Ids in the names of types change with every edit of the sources; sizes and members are what matters.
        const plain = (type) => type.replace(/\)\d+(?=_|,|\)|$)/g, ")");
        const rows = (list) => list.map(({ label, slot, offset, type }) => `${slot}:${offset} ${label} ${plain(type)}`);
        const structs = Object.entries(types).filter(([, type]) => type.members)
            .map(([name, type]) => [plain(name), rows(type.members)]).sort();
        console.log(JSON.stringify({ storage: rows(storage), structs: Object.fromEntries(structs) }, null, 2));' \
        "$out/$1.sol/$1.json"
}

# Apart from the usual output, which does not carry layouts.
out=cache/layouts
tools/forge build src/AssetToken.sol --extra-output storageLayout --out "$out" --cache-path "$out/cache" >/dev/null
case "${1:-}" in
write)
    mkdir -p layouts
    layout AssetToken > layouts/AssetToken.json
    ;;
check)
    for contract in AssetToken AssetTokenGovernance AssetTokenCustody; do
        layout "$contract" | diff layouts/AssetToken.json - || {
            echo "layouts: the storage of $contract differs; after an intended, appending change run tools/layouts.sh write" >&2
            exit 1
        }
    done
    ;;
*)
    echo "usage: tools/layouts.sh write|check" >&2
    exit 2
    ;;
esac
