#!/usr/bin/env python3
"""Grafana dashboards, made from the metric definitions of the crates.

    dashboards.py write    writes deploy/observability/dashboards/*.json
    dashboards.py check    fails when they are not what would be written

What a metric is called, what it means and which labels it has stands in a `metric_definitions.rs`; a panel is made of each. Which dashboard it
goes to follows from its name (PLACES); a metric that fits nowhere is an error, so that none is forgotten.
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/observability/dashboards"

# Prefix of a metric to the dashboards that show it; the longest prefix that fits counts.
PLACES = {
    "grpc_": ["overview"],
    "tls_": ["overview"],
    "dalp_gateway_": ["overview"],
    "dalp_audit_": ["overview"],
    "dalp_webhook_": ["overview"],
    "dalp_engine_": ["lanes-and-custody"],
    "dalp_engine_operations_": ["overview", "lanes-and-custody"],
    "dalp_chain_": ["lanes-and-custody"],
    "dalp_chain_upstream_requests_total": ["overview", "lanes-and-custody"],
    "dalp_signer_": ["lanes-and-custody"],
    "dalp_signer_provider_ready": ["overview", "lanes-and-custody"],
    "dalp_signer_attestor_ready": ["overview", "lanes-and-custody"],
    "dalp_attestor_": ["lanes-and-custody"],
    "dalp_compliance_": ["issuance-and-transfers"],
    "dalp_feeds_": ["feeds"],
    "dalp_distribution_": ["airdrops", "offerings", "treasury"],
    "dalp_airdrop_": ["airdrops"],
    "dalp_offering_": ["offerings"],
    "dalp_treasury_": ["treasury"],
    "dalp_settlement_": ["settlement"],
    "dalp_wallet_": ["smart-wallets"],
}
# Title, tenants of the wire (packages and services whose calls belong to it) and kinds of operations of each dashboard.
BOARDS = {
    "overview": ("Overview", None, None),
    "issuance-and-transfers": (
        "Issuance, compliance, transfers",
        "/dalp.(system|identity|asset|compliance|holder).v1.+",
        "(system|identity|claim|asset|compliance|holder).+",
    ),
    "feeds": ("Feeds", "/dalp.feeds.v1.+", "feed.+"),
    "offerings": ("Sales", "/dalp.distribution.v1.OfferingService.+", "offering.+"),
    "airdrops": ("Airdrops", "/dalp.distribution.v1.AirdropService.+", "airdrop.+"),
    "treasury": ("Treasury payouts", "/dalp.distribution.v1.TreasuryService.+", "treasury.+"),
    "settlement": ("Settlement", "/dalp.settlement.v1.+", "settlement.+"),
    "smart-wallets": ("Smart wallets", "/dalp.wallet.v1.+", "wallet.+"),
    "lanes-and-custody": ("Lanes and custody", None, None),
}
# What the dashboards show of the objectives, by the rules that record it (rules/slo.yaml).
OBJECTIVES = [("gateway_calls", 0.001), ("gateway_latency", 0.01), ("signer_calls", 0.001)]


def definitions():
    """Every metric: name, meaning, kind, labels."""
    found = {}
    for path in sorted(ROOT.glob("*/src/metric_definitions.rs")) + sorted(ROOT.glob("crates/*/src/metric_definitions.rs")):
        text = path.read_text()
        constant = re.compile(r'((?:^ *///[^\n]*\n)+) *pub(?:\(crate\))? const (\w+): &str =\s*"([^"]+)";', re.M)
        for comment, symbol, name in constant.findall(text):
            meaning = " ".join(line.strip().removeprefix("///").strip() for line in comment.strip().splitlines())
            # The kind and labels are those of the calls that record it, wherever in the crate they stand.
            uses = "".join(source.read_text() for source in sorted(path.parent.rglob("*.rs")))
            kinds = set(re.findall(rf"\b(?:describe_)?(counter|gauge|histogram)!\(\s*(?:\w+::)*{symbol}\b", uses))
            if len(kinds) != 1:
                sys.exit(f"{path}: {symbol} is recorded as {sorted(kinds) or 'nothing'}")
            calls = re.findall(rf"\b(?:counter|gauge|histogram)!\(\s*(?:\w+::)*{symbol}\b([^;]*?)\)\s*\.", uses)
            labels = sorted({label for call in calls for label in re.findall(r'"(\w+)"\s*=>', call)})
            found[name] = (meaning, kinds.pop(), labels)
    return found


def panel(title, description, targets, unit="short", kind="timeseries", width=12):
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "gridPos": {"h": 8, "w": width},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend, "datasource": {"type": "prometheus", "uid": "${datasource}"}}
            for at, (expression, legend) in enumerate(targets)
        ],
    }


def legend(labels):
    return " ".join("{{" + label + "}}" for label in labels) or "all"


def of_metric(name, meaning, kind, labels):
    """The panel of one metric."""
    # Which process says it; gRPC metrics say so themselves.
    by = labels if "service" in labels else ["job", *labels]
    of = 'job=~"$job"'
    grouped = ", ".join(by)
    title = name.removeprefix("dalp_").removesuffix("_total").removesuffix("_seconds").replace("_", " ")
    if kind == "counter":
        return panel(title, meaning, [(f"sum by ({grouped}) (rate({name}{{{of}}}[$__rate_interval]))", legend(by))], "ops")
    if kind == "histogram" and name.endswith("_seconds"):
        shown = [label for label in by if label != "method"]
        targets = [
            (
                f"histogram_quantile({share}, sum by ({', '.join([*shown, 'le'])}) (rate({name}_bucket{{{of}}}[$__rate_interval])))",
                f"p{share * 100:g} {legend(shown)}",
            )
            for share in (0.5, 0.95, 0.99)
        ]
        return panel(title, meaning, targets, "s")
    if kind == "histogram":  # exported with quantiles
        return panel(title, meaning, [(f'max by ({grouped}, quantile) ({name}{{{of},quantile=~"0.5|0.95|0.99"}})', "p{{quantile}} " + legend(by))])
    if name.endswith(("_not_after_seconds", "_next_update_seconds")):
        return panel(title + ", from now", meaning, [(f"min by ({grouped}) ({name}{{{of}}}) - time()", legend(by))], "s")
    # A gauge of shared state is told by each replica alike; of a replica's own, its sum counts.
    fold = "sum" if name in ("grpc_server_in_flight", "dalp_engine_lanes_leased", "dalp_airdrop_pushes_running") else "max"
    return panel(title, meaning, [(f"{fold} by ({grouped}) ({name}{{{of}}})", legend(by))])


def of_calls(methods):
    """Panels of the calls of a flow, as its service answers them."""
    of = f'service!="svc-gateway",method=~"{methods}"'
    return [
        panel("calls", "Calls that the service answered, by method.", [(f"sum by (method) (rate(grpc_server_requests_total{{{of}}}[$__rate_interval]))", "{{method}}")], "ops"),
        panel("refusals and failures", "Answers other than OK, by method and code.", [(f'sum by (method, code) (rate(grpc_server_requests_total{{{of},code!="OK"}}[$__rate_interval]))', "{{code}} {{method}}")], "ops"),
        panel("time of calls, p95", "Time to the end of the answer.", [(f"histogram_quantile(0.95, sum by (method, le) (rate(grpc_server_duration_seconds_bucket{{{of}}}[$__rate_interval])))", "{{method}}")], "s"),
    ]


def of_operations(kinds):
    return panel("operations accepted", "Operations of this flow that were accepted, by kind.", [(f'sum by (kind) (rate(dalp_engine_operations_accepted_total{{kind=~"{kinds}"}}[$__rate_interval]))', "{{kind}}")], "ops")


def head_of_overview():
    objectives = [
        panel(
            f"{name.replace('_', ' ')}: share of the month's error budget burnt per month",
            f"1 burns exactly the budget of {budget:.1%}; over three days, six hours, one hour.",
            [(f"dalp:{name}:error_ratio_rate{window} / {budget}", window) for window in ("3d", "6h", "1h")],
            width=8,
        )
        for name, budget in OBJECTIVES
    ]
    return [
        panel("alerts", "What fires now; each has a page in docs/runbooks.", [('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{severity}} {{alertname}}")], kind="bargauge"),
        panel("replicas that answer", "As the scraper sees them.", [('sum by (job) (up{job=~"svc-.+"})', "{{job}}")]),
        *objectives,
    ]


def dashboard(slug, title, panels):
    x = y = height = 0
    for at, one in enumerate(panels, start=1):
        place = one["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        place.update(x=x, y=y)
        x, height = x + place["w"], max(height, place["h"])
        one["id"] = at
    job = {
        "name": "job",
        "label": "service",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": 'label_values(up{job=~"svc-.+"}, job)',
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return {
        "uid": f"dalp-{slug}",
        "title": f"DALP: {title}",
        "tags": ["dalp"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}, job]},
        "links": [{"type": "dashboards", "tags": ["dalp"], "asDropdown": True, "title": "dashboards"}],
        "panels": panels,
    }


def made():
    """Every dashboard's file name and text."""
    boards = {slug: [] for slug in BOARDS}
    for name, (meaning, kind, labels) in sorted(definitions().items()):
        fits = [prefix for prefix in PLACES if name.startswith(prefix)]
        if not fits:
            sys.exit(f"{name} is on no dashboard: give its prefix a place in {pathlib.Path(__file__).name}")
        for slug in PLACES[max(fits, key=len)]:
            boards[slug].append(of_metric(name, meaning, kind, labels))
    for slug, (title, methods, kinds) in BOARDS.items():
        head = head_of_overview() if slug == "overview" else []
        if methods:
            head += [of_operations(kinds), *of_calls(methods)]
        yield f"{slug}.json", json.dumps(dashboard(slug, title, head + boards[slug]), indent=1, ensure_ascii=False) + "\n"


def main():
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    if verb not in ("write", "check"):
        sys.exit(__doc__)
    wanted = dict(made())
    if verb == "write":
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob("*.json"):
            path.unlink()
        for name, text in wanted.items():
            (FOLDER / name).write_text(text)
        return
    present = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if stale:
        sys.exit(f"not what the metric definitions give: {', '.join(stale)}; run `make dashboards`")


if __name__ == "__main__":
    main()
