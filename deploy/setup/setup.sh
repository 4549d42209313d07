#!/usr/bin/env bash
# Installs what is missing beside the Rust toolchain, and only that. Safe to repeat.
#   setup.sh run         what the stack needs to run: PostgreSQL, SoftHSM, the npm packages with the development chain
#   setup.sh contracts   that, and what the contract tests are compared with: Chainlink's mock aggregator
#   setup.sh check       that, and what the checks and tests need: cargo-nextest, cargo-deny, slither, the clients of custody providers,
#                        the trees that airdrops are compared with
#   setup.sh bench       what running needs, and the libraries that the bench compares the platform with: viem, ethers, web3.py
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
run_needs() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || packages+=(postgresql)
    compgen -G '/usr/lib/softhsm/libsofthsm2.so' >/dev/null || compgen -G '/usr/lib/*/softhsm/libsofthsm2.so' >/dev/null \
        || packages+=(softhsm2)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
}

python_needs() {
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
}

check_needs() {
    python_needs
    command -v openssl >/dev/null || packages+=(openssl)
}

install_packages() {
    [ "${#packages[@]}" -gt 0 ] || return 0
    say "installing system packages: ${packages[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

# solc, OpenZeppelin, forge, anvil and buf, at the locked versions.
npm_packages() {
    local stamp="$root/contracts/node_modules/.installed"
    cmp -s "$root/contracts/package-lock.json" "$stamp" && return
    say "installing npm packages (solc, forge, anvil, buf)"
    (cd "$root/contracts" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    cp "$root/contracts/package-lock.json" "$stamp"
}

# The aggregator that Chainlink gives its users to test against (MIT): our feeds answer as it does. Packed without the package's
# dependencies, which its few files do not need; only tests compile them, nothing of them is kept or shipped.
chainlink_mock() {
    local version=1.3.0 target="$root/contracts/node_modules/@chainlink/contracts" folder
    local sum=564f779e28d30b9891156fcbe85294cde32e272ee4e5d37302daa51e976b7aab732fb79f3bfa976d80a4aa32453571aeadf39755e84795e845a07e2d5af49b7f
    [ "$(cat "$target/.fetched" 2>/dev/null)" = "$version" ] && return
    say "fetching the mock aggregator of @chainlink/contracts $version"
    folder=$(mktemp -d)
    (cd "$folder" && npm pack --silent "@chainlink/contracts@$version" >/dev/null)
    printf '%s  %s\n' "$sum" "$folder/chainlink-contracts-$version.tgz" | sha512sum --check --quiet >&2
    mkdir -p "$target"
    tar -xzf "$folder/chainlink-contracts-$version.tgz" -C "$target" --strip-components=1 \
        package/src/v0.8/tests/MockV3Aggregator.sol package/src/v0.8/shared/interfaces
    rm -rf "$folder"
    echo "$version" > "$target/.fetched"
}

# Debug builds: they compile in a fraction of the time and run long enough only once.
cargo_tool() {
    local name=$1 version=$2
    "$name" "${name#cargo-}" --version 2>/dev/null | grep -qwF "$version" && return
    say "building $name $version"
    cargo install --quiet --locked --debug --root "$root/.tools" --target-dir "$root/target/tools" "$name@$version"
}

# A test-time tool in an environment of its own: it analyses the contracts, nothing of it is linked.
slither() {
    local version=$1
    "$root/.tools/py/bin/slither" --version 2>/dev/null | grep -qx "$version" && return
    say "installing slither $version"
    python3 -m venv "$root/.tools/py"
    "$root/.tools/py/bin/pip" install --quiet --disable-pip-version-check "slither-analyzer==$version"
}

# What the platform is compared with, at the locked versions; nothing of it is linked.
bench_clients() {
    local clients="$root/tests/bench-clients" python="$root/.tools/bench-py"
    if ! cmp -s "$clients/package-lock.json" "$clients/node_modules/.installed"; then
        say "installing npm packages (viem, ethers)"
        (cd "$clients" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
        cp "$clients/package-lock.json" "$clients/node_modules/.installed"
    fi
    if ! cmp -s "$clients/requirements.txt" "$python/.installed"; then
        say "installing web3.py"
        python3 -m venv "$python"
        "$python/bin/pip" install --quiet --disable-pip-version-check -r "$clients/requirements.txt"
        cp "$clients/requirements.txt" "$python/.installed"
    fi
}

# What the tests compare with or are driven by, at the locked versions; nothing of it is linked.
test_packages() {
    local folder="$root/tests/$1" what=$2
    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed" && return
    say "installing npm packages ($what)"
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    cp "$folder/package-lock.json" "$folder/node_modules/.installed"
}

case "${1:-}" in
run)
    run_needs
    install_packages
    npm_packages
    ;;
contracts)
    run_needs
    install_packages
    npm_packages
    chainlink_mock
    ;;
check)
    run_needs
    check_needs
    install_packages
    npm_packages
    chainlink_mock
    cargo_tool cargo-nextest 0.9.143
    cargo_tool cargo-deny 0.20.2
    slither 0.11.3
    test_packages custody-clients 'clients of custody providers'
    test_packages merkle-tree '@openzeppelin/merkle-tree'
    ;;
bench)
    run_needs
    python_needs
    install_packages
    npm_packages
    bench_clients
    ;;
*)
    say "usage: setup.sh run | contracts | check | bench"
    exit 2
    ;;
esac
