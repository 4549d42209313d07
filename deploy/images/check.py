#!/usr/bin/env python3
"""Checks the Dockerfile; no image is built, for that takes a container engine and a registry.

- hadolint finds nothing.
- The last stage begins from nothing, is no root, has no shell, and what is copied into it gives exactly files.txt. That is played with the
  programs that stand in target/debug or target/release, if any do: their libraries are those of the image.
- Every workspace member is copied, and .dockerignore lets it through. The builder's version is that of rust-toolchain.toml.
"""
import fnmatch
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCKERFILE = HERE / "Dockerfile"
SERVICES = ["svc-gateway", "svc-compliance", "svc-signer", "svc-feeds", "svc-settlement", "svc-distribution"]
# In order, but for labels and arguments.
LAST_STAGE = [
    "COPY --from=build /root-of-the-image/ /",
    "COPY --from=build /etc-of-the-image/ /etc/",
    "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
    "COPY --from=build --chmod=0555 /out/service /usr/local/bin/service",
    "USER 65532:65532",
    "EXPOSE 7000 9000",
    'ENTRYPOINT ["/usr/local/bin/service"]',
]

problems = []


def instructions(text):
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [" ".join(line.split()) for line in lines.splitlines() if line.strip()]


def check_stages(steps):
    stages = [at for at, step in enumerate(steps) if step.startswith("FROM ")]
    if len(stages) != 2 or steps[stages[-1]] != "FROM scratch":
        problems.append(f"the last of two stages begins from nothing: {[steps[at] for at in stages]}")
    last = [step for step in steps[stages[-1] + 1 :] if not step.startswith(("ARG ", "LABEL "))]
    if last != LAST_STAGE:
        problems.append(f"the last stage is another than check.py knows:\n  " + "\n  ".join(last))
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    builder = next(step for step in steps if step.startswith("ARG BUILDER="))
    if f":{channel}-" not in builder:
        problems.append(f"{builder}: rust-toolchain.toml says {channel}")
    return steps[stages[0] : stages[-1]]


def ignored(path):
    """As .dockerignore says: the last pattern that fits a path or one of its folders decides."""
    verdict = False
    parts = [str(one) for one in [path, *path.parents]][:-1]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if any(fnmatch.fnmatch(part, pattern) and part.count("/") == pattern.count("/") for part in parts):
                verdict = not line.startswith("!")
    return verdict


def check_sources(build):
    copied = [source for step in build if step.startswith("COPY ") for source in step.split()[1:-1]]
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    for member in [*members, "Cargo.toml", "Cargo.lock"]:
        if not any(member == source or member.startswith(f"{source}/") for source in copied):
            problems.append(f"{member} is not copied into the build")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for source in copied:
        if not (ROOT / source).exists():
            problems.append(f"{source} is copied and is not there")
        for file in tracked:
            if (file == source or file.startswith(f"{source}/")) and ignored(pathlib.Path(file)):
                problems.append(f"{file} is copied, and .dockerignore keeps it out")
    for kept_out in (".git/config", "target/debug/x", "contracts/node_modules/x/y", "docs/adr/x.md", ".tools/bin/x"):
        if not ignored(pathlib.Path(kept_out)):
            problems.append(f".dockerignore lets {kept_out} in")


def check_files(program):
    wanted = {line for line in (HERE / "files.txt").read_text().splitlines() if line.startswith("/")}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        done = subprocess.run([HERE / "closure.sh", program, root], capture_output=True, text=True, check=False)
        if done.returncode:
            problems.append(f"{program.relative_to(ROOT)}: {done.stderr.strip()}")
            return
        for name in ("passwd", "group", "nsswitch.conf"):
            (root / "etc").mkdir(exist_ok=True)
            shutil.copy(HERE / name, root / "etc" / name)
        files = {f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file()}
        files |= {"/etc/ssl/certs/ca-certificates.crt", "/usr/local/bin/service"}
        if files != wanted:
            problems.append(f"{program.name}: the image would hold {sorted(files - wanted)} too much, and lack {sorted(wanted - files)}")


def refuses_what_is_foreign():
    """The closure's own check can fail: a program of the system with libraries that the image has not."""
    foreign = shutil.which("openssl")
    if foreign and subprocess.run([HERE / "closure.sh", foreign], capture_output=True, check=False).returncode == 0:
        problems.append("closure.sh takes a program that needs libssl")


def main():
    lint = subprocess.run([pathlib.Path(sys.executable).parent / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    if lint.returncode:
        problems.append(lint.stdout + lint.stderr)
    check_sources(check_stages(instructions(DOCKERFILE.read_text())))
    refuses_what_is_foreign()
    built = [ROOT / "target" / profile / name for profile in ("debug", "release") for name in SERVICES]
    built = [program for program in built if program.exists()]
    for program in built:
        check_files(program)
    if problems:
        sys.exit("\n".join(problems))
    print(f"images: Dockerfile and file list, with {len(built)} built programs")


main()
