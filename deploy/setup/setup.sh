#!/usr/bin/env bash
# Installs what the build and the tests need beside the Rust toolchain, and only what is missing. Safe to repeat.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export PATH="$root/.tools/bin:$PATH"

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else
        say "cannot install system packages: run as root, install sudo, or install by hand: ${packages[*]}"
        exit 1
    fi
}

packages=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || packages+=(postgresql)
compgen -G '/usr/lib/softhsm/libsofthsm2.so' >/dev/null || compgen -G '/usr/lib/*/softhsm/libsofthsm2.so' >/dev/null \
    || packages+=(softhsm2)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
command -v openssl >/dev/null || packages+=(openssl)
if [ "${#packages[@]}" -gt 0 ]; then
    say "installing system packages: ${packages[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

# npm packages: solc, OpenZeppelin, forge, anvil and buf, at the locked versions.
stamp="$root/contracts/node_modules/.installed"
if ! cmp -s "$root/contracts/package-lock.json" "$stamp"; then
    say "installing npm packages (solc, forge, anvil, buf)"
    (cd "$root/contracts" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    cp "$root/contracts/package-lock.json" "$stamp"
fi

# Cargo tools, pinned. Debug builds: they compile in a fraction of the time and run long enough only once.
cargo_tool() {
    local name=$1 version=$2
    "cargo-${name#cargo-}" --version >/dev/null 2>&1 && return
    say "building $name $version"
    cargo install --quiet --locked --debug --root "$root/.tools" --target-dir "$root/target/tools" "$name@$version"
}
command -v cargo-nextest >/dev/null || cargo_tool cargo-nextest 0.9.143
command -v cargo-deny >/dev/null || cargo_tool cargo-deny 0.20.2

# slither analyses the contracts; a test-time tool in an environment of its own, nothing of it is linked.
slither_version=0.11.3
if ! "$root/.tools/py/bin/slither" --version 2>/dev/null | grep -qx "$slither_version"; then
    say "installing slither $slither_version"
    python3 -m venv "$root/.tools/py"
    "$root/.tools/py/bin/pip" install --quiet --disable-pip-version-check "slither-analyzer==$slither_version"
fi
