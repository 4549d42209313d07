#!/usr/bin/env python3
"""Checks the alert rules, their tests and the dashboards; needs promtool on the PATH.

- Rules parse, ask only for metrics and labels that the services export, and every alert says what it is, how bad, and where its runbook stands.
- Every alert has a test in which it stays silent and one in which it fires, and all tests pass.
- The dashboards are what the metric definitions give, and each of their expressions parses.
"""
import json
import pathlib
import re
import runpy
import subprocess
import sys
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent
# What the scraper adds, and what histograms have.
COMMON_LABELS = {"job", "instance", "le", "quantile", "alertname", "alertstate", "severity"}
SEVERITIES = {"page", "ticket"}

problems = []


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        problems.append(f"{' '.join(str(part) for part in command[:3])}:\n{done.stdout}{done.stderr}")


def alerts_and_expressions(rules):
    for path in rules:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path, rule


def check_rule(path, rule, metrics):
    name = rule.get("alert") or rule["record"]
    where = f"{path.name}: {name}"
    for metric, matchers in re.findall(r"\b((?:dalp|grpc|tls)_[a-z_]+[a-z])(?:\{([^}]*)\})?", rule["expr"]):
        base = metric if metric in metrics else re.sub(r"_(bucket|count|sum)$", "", metric)
        if base not in metrics:
            problems.append(f"{where}: nothing exports {metric}")
            continue
        for label in re.findall(r"(\w+)\s*[=!]~?=?", re.sub(r'"[^"]*"', "", matchers)):
            if label not in COMMON_LABELS | set(metrics[base][2]):
                problems.append(f"{where}: {metric} has no label {label}")
    if "alert" not in rule:
        return
    notes = rule.get("annotations", {})
    if not notes.get("summary"):
        problems.append(f"{where}: has no summary")
    if notes.get("runbook") != f"docs/runbooks/{name}.md":
        problems.append(f"{where}: its runbook is docs/runbooks/{name}.md, not {notes.get('runbook')}")
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        problems.append(f"{where}: its severity is none of {sorted(SEVERITIES)}")


def check_tests(tests, alerts):
    silent, firing = set(), set()
    for path in tests:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for one in test.get("promql_expr_test", []):
                asked = re.fullmatch(r'count\(ALERTS\{alertname="(\w+)",alertstate="firing"\}\)', one["expr"])
                if asked:
                    (firing if one["exp_samples"] else silent).add(asked[1])
    for what, named in (("stays silent", silent), ("fires", firing)):
        problems.extend(f"no test in which {name} {what}" for name in sorted(alerts - named))
        problems.extend(f"a test in which {name} {what}, but there is no such alert" for name in sorted(named - alerts))


def check_expressions(folder):
    rules = []
    for path in sorted(folder.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "5m").replace("$job", ".*")
                rules.append({"record": f"x:{path.stem.replace('-', '_')}:p{panel['id']}{target['refId']}", "expr": expression})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}, file)
        file.flush()
        run("promtool", "check", "rules", file.name)


def main():
    rules, tests = sorted((HERE / "rules").glob("*.yaml")), sorted((HERE / "tests").glob("*.yaml"))
    metrics = runpy.run_path(str(HERE / "dashboards.py"))["definitions"]()
    seen = list(alerts_and_expressions(rules))
    for path, rule in seen:
        check_rule(path, rule, metrics)
    names = [rule["alert"] for _, rule in seen if "alert" in rule]
    problems.extend(f"{name} stands twice" for name in sorted({name for name in names if names.count(name) > 1}))
    check_tests(tests, set(names))
    run("promtool", "check", "config", HERE / "prometheus.example.yaml")
    run("promtool", "test", "rules", *tests)
    run(sys.executable, HERE / "dashboards.py", "check")
    check_expressions(HERE / "dashboards")
    if problems:
        sys.exit("\n".join(problems))
    print(f"observability: {len(names)} alerts, each silent and firing in a test; {len(metrics)} metrics on dashboards")


if __name__ == "__main__":
    main()
