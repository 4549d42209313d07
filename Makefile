# The verbs of this repository. `make` alone lists them. CI runs `make test`, so what CI runs is what you run.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/bin:$(PATH)
FORGE := contracts/tools/forge
BUF := contracts/tools/buf
DEPLOY_PYTHON := $(TOOLS)/deploy-py/bin/python
export DALP_ANVIL := $(CURDIR)/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil

.PHONY: help setup aws tools contract-tools demo up down test check dashboards sbom fmt lint-contracts contracts test-contracts coverage fuzz gas bench drill drill-upgrade sim soak build

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: ## install what running needs and is missing: PostgreSQL, SoftHSM, Node, npm packages
	@deploy/setup/setup.sh run

tools: ## install also what checks and tests need: cargo-nextest, cargo-deny, slither, clients of custody providers and of the interface
	@deploy/setup/setup.sh check

contract-tools: ## install what the contract tests need beside what running does: Chainlink's mock aggregator
	@deploy/setup/setup.sh contracts

aws:
	@deploy/setup/setup.sh aws

build: setup ## build every service
	@cargo build --workspace --bins

demo: build ## issue a bond and transfer it, end to end, and write target/demo/report.json
	@cargo run --quiet -p dalp-devstack -- demo --report target/demo/report.json

up: build $(if $(filter kms,$(KEYS)),aws) ## start the stack, print commands to try, keep it running until Ctrl-C or `make down` (CHAINS=2: with a second chain; KEYS=pkcs11, luna, kms, dfns or fireblocks: who holds the keys)
	@cargo run --quiet -p dalp-devstack -- up $(if $(filter 2,$(CHAINS)),--second-chain) $(if $(KEYS),--keys $(KEYS))

down: ## end a stack that `make up` started
	@cargo run --quiet -p dalp-devstack -- down

test: check test-contracts ## everything: checks, contract tests, unit, integration, end to end
	@cargo build --workspace --bins --tests --quiet # with the features of the tests, so that nothing is compiled twice
	@cargo nextest run --workspace --no-fail-fast
	@cargo test --quiet --doc --workspace

check: tools ## formatting, lints, wire contracts, licences, artifacts, alert rules with their tests, dashboards, images, manifests
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings
	@cd proto && ../$(BUF) lint
	@cargo deny --log-level error check licenses bans sources
	@contracts/tools/artifacts.sh check
	@contracts/tools/layouts.sh check
	@contracts/tools/inventory.sh
	@contracts/tools/analyse.sh
	@$(DEPLOY_PYTHON) deploy/observability/check.py
	@$(DEPLOY_PYTHON) deploy/images/check.py
	@$(DEPLOY_PYTHON) deploy/kubernetes/check/check.py
	@$(DEPLOY_PYTHON) deploy/kubernetes/check/test_check.py --quiet

dashboards: ## make the Grafana dashboards again from the metric definitions
	@deploy/observability/dashboards.py write

sbom: ## bills of materials of what ships, CycloneDX, one a service; target/sbom
	@deploy/setup/setup.sh sbom
	@deploy/images/sbom.py

fmt: ## format Rust and Solidity
	@cargo fmt --all
	@cd contracts && tools/forge fmt

test-contracts: tools ## forge: unit, fuzz (1,000 runs), invariants, gas budgets, size limits
	@cd contracts && FOUNDRY_PROFILE=ci FORGE_SNAPSHOT_CHECK=true tools/forge test

coverage: contract-tools ## line and branch coverage of the contracts against their goals; target/coverage/report.json
	@contracts/tools/coverage.mjs

fuzz: contract-tools ## every fuzz and invariant test of the contracts at 10,000 runs; target/fuzz/report.json (ONLY=Settlement: a part)
	@contracts/tools/fuzz.mjs $(ONLY)

gas: contract-tools ## gas of the contracts beside others and the budget, sizes, renewed snapshots; target/gas/report.json (ONLY=prefix: a part)
	@contracts/tools/gas.mjs $(ONLY)

bench: ## throughput, latencies, memory and kills beside the chain's ceiling and alloy, viem, ethers, web3.py; target/bench/report.json (ONLY=prefix: a part)
	@deploy/setup/setup.sh bench
	@cargo build --release --workspace --bins
	@target/release/dalp-bench --report target/bench/report.json $(if $(ONLY),--only $(ONLY))

drill: ## kills at every stage of 10,000 payments; then services, replicas, signer, HSM, nodes, certificates, disk, clock and databases fail under load, and databases are restored; target/drill/report.json (ONLY=operations.signer_away: a part)
	@deploy/setup/setup.sh drill
	@cargo build --release --workspace --bins
	@target/release/dalp-drill --report target/drill/$(if $(ONLY),$(ONLY),report).json $(if $(ONLY),--only $(ONLY))

drill-upgrade: ## builds an earlier version, upgrades from it under load and rolls back to it; target/drill/operations.upgraded.json. FROM=<tag, branch or commit>
	@test -n "$(FROM)" || { echo "which version? make drill-upgrade FROM=<tag, branch or commit>" >&2; exit 2; }
	@deploy/setup/setup.sh drill
	@git worktree prune
	@test -e target/upgrade/source || git worktree add --detach target/upgrade/source
	@git -C target/upgrade/source checkout --quiet --detach $$(git rev-parse --verify "$(FROM)^{commit}")
	@cd target/upgrade/source && CARGO_TARGET_DIR=$(CURDIR)/target/upgrade/build cargo build --release --workspace --bins
	@cargo build --release --workspace --bins
	@target/release/dalp-drill --report target/drill/operations.upgraded.json --only operations.upgraded --old-binaries target/upgrade/build/release

soak: ## two hours at half the highest rate: whether memory and latency stay flat; target/soak/report.json. MINUTES=n: shorter or longer
	@deploy/setup/setup.sh run
	@cargo build --release --workspace --bins
	@target/release/dalp-soak --report target/soak/report.json $(if $(MINUTES),--minutes $(MINUTES))

sim: ## 200,000 seeded schedules of faults against the engine; target/sim/report.json. SEED=n replays one with its trace
	@SEED=$(SEED) SCHEDULES=$(SCHEDULES) FROM=$(FROM) cargo run --release --quiet -p dalp-engine --features sim --bin dalp-sim
