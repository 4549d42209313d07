#!/usr/bin/env python3
"""A bill of materials of each service, CycloneDX JSON, of the locked dependencies as they are linked on the image's platform:
target/sbom/svc-*.cdx.json. Needs cargo-cyclonedx (`setup.sh sbom`).

cargo-cyclonedx lists what the whole workspace resolves to, with what only tests and build scripts use, and with paths of this machine. What
cargo says is linked decides what stays.
"""
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/sbom"
SERVICES = ["svc-gateway", "svc-compliance", "svc-signer", "svc-feeds", "svc-settlement", "svc-distribution"]
PLATFORM = "x86_64-unknown-linux-gnu"
IN_WORK = "component.sbom-in-work"


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def linked(service):
    """Name and version of everything in the program; macros are not, though they wrote parts of it."""
    tree = cargo("tree", "--locked", "--package", service, "--edges", "normal,no-proc-macro", "--target", PLATFORM, "--prefix", "none", "--format", "{p}")
    return {(name, version.removeprefix("v")) for name, version, *_ in (line.split() for line in tree.splitlines() if line)}


def portable(text):
    """Without paths of this machine: what is ours is named by its place in the repository."""
    return text.replace(f"path+file://{ROOT}", "dalp:").replace(f"file://{ROOT}", ".").replace(str(ROOT), ".")


def bill(service):
    made = json.loads(portable((ROOT / service / f"{IN_WORK}.json").read_text()))
    wanted = linked(service) - {(service, made["metadata"]["component"]["version"])}
    made["components"] = [one for one in made["components"] if (one["name"], one["version"]) in wanted]
    missing = wanted - {(one["name"], one["version"]) for one in made["components"]}
    if missing:
        sys.exit(f"{service}: not in the bill: {sorted(missing)}")
    kept = {one["bom-ref"] for one in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    made["dependencies"] = [
        {"ref": one["ref"], "dependsOn": [ref for ref in one.get("dependsOn", []) if ref in kept]}
        for one in made["dependencies"]
        if one["ref"] in kept
    ]
    unlicensed = [one["name"] for one in made["components"] if not one.get("licenses")]
    if unlicensed:
        sys.exit(f"{service}: no licence: {unlicensed}")
    return made


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        cargo("cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--target", PLATFORM, "--override-filename", IN_WORK)
        for service in SERVICES:
            made = bill(service)
            (OUT / f"{service}.cdx.json").write_text(json.dumps(made, indent=1) + "\n")
            print(f"{service}: {len(made['components'])} components")
    finally:
        # It writes beside each manifest of the workspace.
        for manifest in [ROOT, *(path.parent for path in ROOT.glob("*/**/Cargo.toml") if "target" not in path.parts)]:
            (manifest / f"{IN_WORK}.json").unlink(missing_ok=True)


main()
