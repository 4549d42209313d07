#!/usr/bin/env python3
"""Renders the overlays and checks what comes out; needs kubectl on the PATH, and nothing of a cluster.

Each object against the schema of its kind (custom resources against check/schemas), and the rules of the house: `problems_of` has one function
for each. test_check.py breaks each rule and sees it found.
"""
import ipaddress
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
OVERLAYS = ["single-node", "production", "single-node with aws-keys", "single-node with webhooks", "production with webhooks"]
KUBERNETES = "1.35"
DOMAIN = ["svc-compliance", "svc-distribution", "svc-feeds", "svc-settlement"]
SERVICES = sorted(["svc-attestor", "svc-gateway", "svc-signer", *DOMAIN])
# What an installation brings itself; deploy/kubernetes/README.md says what each holds.
BROUGHT = {
    "Secret": {f"{service}-secrets" for service in SERVICES if service != "svc-attestor"} | {"mesh-authority", "chain-upstreams", "attestor-upstreams", "luna-configuration"},
    "ConfigMap": {"mesh-trust"},
}
NAME = "app.kubernetes.io/name"


def render(overlay):
    """An overlay as it stands, or with a component that none of them has: "single-node with aws-keys"."""
    base, _, component = overlay.partition(" with ")
    with tempfile.TemporaryDirectory() as made:
        folder = HERE.parent / "overlays" / base
        if component:
            relative = {"resources": [folder], "components": [HERE.parent / "components" / component]}
            text = {key: [os.path.relpath(path, os.path.realpath(made)) for path in paths] for key, paths in relative.items()}
            folder = pathlib.Path(made)
            (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "dalp", **text}))
        done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{overlay}: {done.stderr}")
    return list(yaml.safe_load_all(done.stdout))


def base_of(overlay):
    return overlay.partition(" with ")[0]


def components_of(overlay):
    """The components that the overlay names itself."""
    folder = HERE.parent / "overlays" / base_of(overlay)
    named = yaml.safe_load((folder / "kustomization.yaml").read_text()).get("components", [])
    return [pathlib.Path(path).name for path in named]


def of(docs, kind):
    return {doc["metadata"]["name"]: doc for doc in docs if doc["kind"] == kind}


# === schemas ===


def schemas(docs, overlay):
    own = {path.stem: json.loads(path.read_text()) for path in (HERE / "schemas").glob("*.json")}
    for doc in docs:
        where = f"{doc['kind']} {doc['metadata']['name']}"
        try:
            if doc["kind"].lower() in own:
                jsonschema.validate(doc, own[doc["kind"].lower()])
            else:
                kubernetes_validate.validate(doc, KUBERNETES, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield f"{where}: {error.message} at {'.'.join(str(part) for part in error.path)}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{where}: no schema of {doc['apiVersion']} {doc['kind']}"


# === rules of the house ===


def pods_are_hardened(docs, overlay):
    for name, doc in of(docs, "Deployment").items():
        pod = doc["spec"]["template"]["spec"]
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser") or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: its pods may be root, or run without seccomp"
        if pod.get("automountServiceAccountToken") is not False or pod.get("serviceAccountName") != name:
            yield f"{name}: a service account of its own, without a token"
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(forbidden):
                yield f"{name}: {forbidden}"
        for volume in pod.get("volumes", []):
            if not volume.keys() & {"configMap", "secret", "emptyDir"}:
                yield f"{name}: the volume {volume['name']} is neither configuration, secret nor empty"
        for container in pod["containers"] + pod.get("initContainers", []):
            where, context = f"{name}/{container['name']}", container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("privileged", False):
                yield f"{where}: may gain privileges"
            if context.get("readOnlyRootFilesystem") is not True:
                yield f"{where}: its root may be written"
            if context.get("capabilities", {}).get("drop") != ["ALL"] or context.get("capabilities", {}).get("add"):
                yield f"{where}: keeps capabilities"
            if "memory" not in container.get("resources", {}).get("limits", {}) or "requests" not in container["resources"]:
                yield f"{where}: no requests, or no limit of memory"
            for mount in container.get("volumeMounts", []):
                if "subPath" in mount:
                    yield f"{where}: {mount['mountPath']} is mounted by subPath, which never changes"
                if not mount.get("readOnly") and container in pod["containers"]:
                    yield f"{where}: {mount['mountPath']} may be written"


def pods_are_probed(docs, overlay):
    for name, doc in of(docs, "Deployment").items():
        container = doc["spec"]["template"]["spec"]["containers"][0]
        for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            if container.get(probe, {}).get("httpGet") != {"path": path, "port": "metrics"}:
                yield f"{name}: {probe} does not ask for {path}"
        drain = tomllib.loads(configuration(docs, name))["server"]["drain_ms"] / 1000
        if doc["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] <= drain:
            yield f"{name}: is killed before it has drained"


def every_service_is_there(docs, overlay):
    if sorted(of(docs, "Deployment")) != SERVICES:
        yield f"deployments: {sorted(of(docs, 'Deployment'))}"
    expected = {"Service": SERVICES, "ServiceAccount": SERVICES}
    if base_of(overlay) == "production":
        expected |= {"PodDisruptionBudget": SERVICES, "HorizontalPodAutoscaler": [name for name in SERVICES if name not in ("svc-signer", "svc-attestor")]}
    else:
        expected |= {"PodDisruptionBudget": [], "HorizontalPodAutoscaler": []}
    for kind, names in expected.items():
        if sorted(of(docs, kind)) != sorted(names):
            yield f"{kind}: {sorted(of(docs, kind))}"
    for name, doc in of(docs, "HorizontalPodAutoscaler").items():
        if "replicas" in of(docs, "Deployment")[name]["spec"]:
            yield f"{name}: a number of replicas, and an autoscaler that has another"
        if str(doc["spec"]["minReplicas"]) in ("0", "1"):
            yield f"{name}: one replica is not enough to lose one"


def images_are_pinned(docs, overlay):
    for name, doc in of(docs, "Deployment").items():
        pod = doc["spec"]["template"]["spec"]
        for container in pod["containers"] + pod.get("initContainers", []):
            image = container["image"]
            pinned = re.search(r"@sha256:[0-9a-f]{64}$", image) if base_of(overlay) == "production" else re.search(r":[0-9]+\.[0-9]+\.[0-9]+$", image)
            if not pinned:
                yield f"{name}: the image {image} may be another tomorrow"


def secrets_are_references(docs, overlay):
    if of(docs, "Secret"):
        yield f"secrets do not belong into manifests: {sorted(of(docs, 'Secret'))}"
    made = {
        "Secret": {doc["spec"]["secretName"] for doc in of(docs, "Certificate").values()},
        "ConfigMap": set(of(docs, "ConfigMap")),
    }
    for name, doc in of(docs, "Deployment").items():
        pod = doc["spec"]["template"]["spec"]
        used = [("Secret", volume["secret"]["secretName"]) for volume in pod["volumes"] if "secret" in volume]
        used += [("ConfigMap", volume["configMap"]["name"]) for volume in pod["volumes"] if "configMap" in volume]
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                used += [("Secret", source["secretRef"]["name"])] if "secretRef" in source else [("ConfigMap", source["configMapRef"]["name"])]
        for kind, wanted in used:
            if wanted not in made[kind] | BROUGHT[kind]:
                yield f"{name}: nobody brings the {kind} {wanted}"
        for other in SERVICES:
            if other != name and any(wanted.startswith(f"{other}-") for _, wanted in used):
                yield f"{name}: has what belongs to {other}"
    for name in of(docs, "Deployment"):
        for found in re.findall(r'^(?:url|pin|key|auth_token|credential_key|api_key|secret_key|digest_key|key_encryption_key) = "([^"]*)"', configuration(docs, name), re.M):
            if not found.startswith(("file:/etc/dalp/secrets/", "/etc/dalp/tls/", "http")) or "@" in found:
                yield f"{name}: a secret stands in its configuration"


def configuration(docs, service):
    volumes = of(docs, "Deployment")[service]["spec"]["template"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "config")
    return of(docs, "ConfigMap")[name]["data"]["service.toml"]


def configurations_fit_the_objects(docs, overlay):
    identities = {uri for doc in of(docs, "Certificate").values() for uri in doc["spec"]["uris"]}
    services = of(docs, "Service")
    for name, doc in of(docs, "Deployment").items():
        config = tomllib.loads(configuration(docs, name))
        ports = {port["name"]: port["containerPort"] for port in doc["spec"]["template"]["spec"]["containers"][0]["ports"]}
        for port, key in (("grpc", "listen"), ("metrics", "metrics_listen")):
            if config["server"][key] != f"0.0.0.0:{ports[port]}":
                yield f"{name}: listens on {config['server'][key]}, its pods open {ports[port]}"
        peers = config.get("upstreams", []) + ([config["signer"]] if "address" in config.get("signer", {}) else [])
        peers += [config["attestor"]["peer"]] if "attestor" in config else []
        for peer in peers:
            host, port = peer["address"].split(":")
            if host not in services or int(port) not in [one["port"] for one in services[host]["spec"]["ports"]]:
                yield f"{name}: nobody is at {peer['address']}"
            if peer["spiffe_id"].rsplit("/", 1)[1] != host:
                yield f"{name}: {host} does not show {peer['spiffe_id']}"
        for identity in [peer["spiffe_id"] for peer in peers] + [grant["peer"] for grant in config.get("grants", [])]:
            if identity not in identities:
                yield f"{name}: nobody has a certificate of {identity}"
        if f"/{name}" not in str(of(docs, "Certificate")[name]["spec"]["uris"]):
            yield f"{name}: its certificate is of another"
        for file in re.findall(r'"(?:file:)?(/etc/dalp/[^"]*)"', configuration(docs, name)):
            mounts = [mount["mountPath"] for mount in doc["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
            if not any(file.startswith(mount + "/") for mount in mounts):
                yield f"{name}: {file} is mounted nowhere"
    signer = tomllib.loads(configuration(docs, "svc-signer"))["signer"]
    if base_of(overlay) == "production" and (signer["environment"], signer["attestation"], signer.get("allow_mixed", False)) != ("production", "required", False):
        yield "svc-signer: production signs with attestation and one provider"
    judge = tomllib.loads(configuration(docs, "svc-attestor"))
    if judge.keys() & {"database", "signer", "client_tls"}:
        yield "svc-attestor: has what it needs not"
    nodes, ids = set(), set()
    for service in DOMAIN:
        config = tomllib.loads(configuration(docs, service))
        for chain, key in [(config["chain"], "CHAIN"), *((further, "") for further in config.get("further_chains", []))]:
            nodes |= {node["url"] for node in chain["upstreams"]}
            ids.add((service, int(setting(docs, f"DALP_{service.removeprefix('svc-').upper()}__{key}__CHAIN_ID", chain["chain_id"]))))
    judged = judge["chains"]
    if nodes & {node["url"] for one in judged.values() for node in one["chain"]["upstreams"]}:
        yield "svc-attestor: sees the chain through the nodes of those it judges"
    known = {int(setting(docs, f"DALP_ATTESTOR__CHAINS__{name.upper()}__CHAIN__CHAIN_ID", one["chain"]["chain_id"])) for name, one in judged.items()}
    for service, chain in sorted(ids):
        if chain not in known:
            yield f"svc-attestor: judges nothing on chain {chain}, on which {service} works"


def webhooks_are_whole(docs, overlay):
    """On or off: the section in the configuration, a key that secrets are sealed with, and the way out go together."""
    config = tomllib.loads(configuration(docs, "svc-gateway"))
    variables = [one["name"] for one in of(docs, "Deployment")["svc-gateway"]["spec"]["template"]["spec"]["containers"][0].get("env", [])]
    on = "webhooks" in config or any(name.startswith("DALP_GATEWAY__WEBHOOKS__") for name in variables)
    if on != ("gateway-webhooks" in of(docs, "NetworkPolicy")):
        yield "svc-gateway: webhooks are on without a way out, or the other way round"
    if on != overlay.endswith(" with webhooks"):
        yield "svc-gateway: webhooks are the component's to switch on"
    if (on or "verification" in config) and not config.get("sealing", {}).get("keys"):
        yield "svc-gateway: nothing to seal secrets and factors with"


def setting(docs, variable, otherwise):
    """What a variable of the ConfigMap `settings` says, which goes before the file."""
    found = [data["data"][variable] for name, data in of(docs, "ConfigMap").items() if name.startswith("settings") and variable in data.get("data", {})]
    return found[0] if found else otherwise


def matches(selector, labels):
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In" or labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def reach(docs, direction):
    """For each service and port: the peers that policies let in or out; pods by name, the rest as it is written."""
    found = {}
    for service in SERVICES:
        labels = of(docs, "Deployment")[service]["spec"]["template"]["metadata"]["labels"]
        for policy in of(docs, "NetworkPolicy").values():
            spec = policy["spec"]
            if not matches(spec["podSelector"], labels):
                continue
            for rule in spec.get(direction) or []:
                peers = set()
                for peer in rule.get("from" if direction == "ingress" else "to", [{}]):
                    if set(peer) == {"podSelector"}:
                        peers |= {
                            other for other, doc in of(docs, "Deployment").items()
                            if matches(peer["podSelector"], doc["spec"]["template"]["metadata"]["labels"])
                        }
                    elif "ipBlock" in peer:
                        if ipaddress.ip_network(peer["ipBlock"]["cidr"]).prefixlen < 24:
                            peers.add("anywhere")
                        peers.add("address")
                    elif "namespaceSelector" in peer and peer["namespaceSelector"].get("matchLabels"):
                        where = peer["namespaceSelector"]["matchLabels"]
                        peers.add(where.get("dalp.dev/network") or ("names" if "podSelector" in peer else "anywhere"))
                    else:
                        peers.add("anywhere")
                for port in rule.get("ports", [{"port": "any"}]):
                    found.setdefault((service, port["port"]), set()).update(peers)
    return found


def only_who_must_speaks(docs, overlay):
    closed = [p for p in of(docs, "NetworkPolicy").values() if p["spec"]["podSelector"] == {} and sorted(p["spec"]["policyTypes"]) == ["Egress", "Ingress"]
              and not p["spec"].get("ingress") and not p["spec"].get("egress")]
    if not closed:
        yield "nothing is denied by default"
    wanted_in = {("svc-gateway", 7000): {"edge"}, ("svc-signer", 7000): {"svc-gateway", *DOMAIN}}
    wanted_in |= {(service, 7000): {"svc-gateway"} for service in DOMAIN} | {("svc-attestor", 7000): {"svc-signer"}}
    wanted_in |= {(service, 9000): {"monitoring"} for service in SERVICES}
    got = reach(docs, "ingress")
    for key in sorted(got.keys() | wanted_in.keys(), key=str):
        if got.get(key) != wanted_in.get(key):
            yield f"{key[0]}:{key[1]} is reached by {sorted(got.get(key, []))}, not by {sorted(wanted_in.get(key, []))}"
    outside = {"address"} if base_of(overlay) == "production" else set()
    wanted_out = {(service, 53): {"names"} for service in SERVICES}
    wanted_out |= {(service, 4317): {"telemetry"} for service in SERVICES if service != "svc-signer"}
    wanted_out |= {("svc-gateway", 7000): {"svc-signer", *DOMAIN}, ("svc-gateway", 5432): {"engine-database"} | outside}
    for service in DOMAIN:
        wanted_out |= {(service, 7000): {"svc-signer"}, (service, 5432): {"engine-database"} | outside, (service, 8545): {"chain"} | outside}
        if outside:
            wanted_out[service, 443] = outside
    wanted_out |= {("svc-signer", 7000): {"svc-attestor"}, ("svc-attestor", 8545): {"chain"} | outside}
    if outside:
        wanted_out["svc-attestor", 443] = outside
    wanted_out["svc-signer", 5432] = {"signer-database"} | outside
    if outside:
        wanted_out["svc-signer", 1792] = outside
    if overlay.endswith(" with aws-keys"):
        wanted_out["svc-signer", 443] = {"address"}
    if overlay.endswith(" with webhooks"):
        wanted_out["svc-gateway", 443] = {"address", "anywhere"}
    got = reach(docs, "egress")
    for key in sorted(got.keys() | wanted_out.keys(), key=str):
        if got.get(key) != wanted_out.get(key):
            yield f"{key[0]} reaches {sorted(got.get(key, []))} at port {key[1]}, not {sorted(wanted_out.get(key, []))}"


def certificates_renew(docs, overlay):
    hours = lambda text: int(text.removesuffix("h"))
    for name, doc in of(docs, "Certificate").items():
        spec = doc["spec"]
        if spec["privateKey"].get("rotationPolicy") != "Always":
            yield f"{name}: its key is kept when it is renewed"
        if not 72 < hours(spec["renewBefore"]) <= hours(spec["duration"]) / 2:
            yield f"{name}: is renewed too late for the alerts, or too early"
        if len(spec["uris"]) != 1 or spec["issuerRef"]["name"] not in of(docs, "Issuer"):
            yield f"{name}: one identity, by an issuer that is here"


# What the others take for granted.
FIRST = [every_service_is_there, schemas]
RULES = [
    pods_are_hardened, pods_are_probed, images_are_pinned, secrets_are_references, configurations_fit_the_objects,
    only_who_must_speaks, certificates_renew, webhooks_are_whole,
]  # fmt: skip


def problems_of(docs, overlay, first=FIRST):
    found = [problem for rule in first for problem in rule(docs, overlay)]
    found = found or [problem for rule in RULES for problem in rule(docs, overlay)]
    return [f"{overlay}: {problem}" for problem in found]


if __name__ == "__main__":
    found, count = [], 0
    for each in OVERLAYS:
        rendered = render(each)
        count += len(rendered)
        found += problems_of(rendered, each)
    if found:
        sys.exit("\n".join(found))
    print(f"kubernetes: {count} objects in {len(OVERLAYS)} overlays")
