"""Breaks what is rendered, one thing at a time, and sees that check.py finds it."""
import copy
import unittest

import check

PRODUCTION = check.render("production")


def deployment(docs, name="svc-feeds"):
    return check.of(docs, "Deployment")[name]["spec"]["template"]["spec"]


def container(docs, name="svc-feeds"):
    return deployment(docs, name)["containers"][0]


def policy(docs, name):
    return check.of(docs, "NetworkPolicy")[name]["spec"]


def without(docs, kind, name):
    docs.remove(check.of(docs, kind)[name])


def edit(docs, service, old, new):
    volume = next(one for one in deployment(docs, service)["volumes"] if one["name"] == "config")
    data = check.of(docs, "ConfigMap")[volume["configMap"]["name"]]["data"]
    assert old in data["service.toml"], old
    data["service.toml"] = data["service.toml"].replace(old, new)


ANYWHERE = {"ipBlock": {"cidr": "0.0.0.0/0"}}
BREAKS = {
    "may be root": lambda docs: deployment(docs)["securityContext"].pop("runAsNonRoot"),
    "without seccomp": lambda docs: deployment(docs)["securityContext"].pop("seccompProfile"),
    "without a token": lambda docs: deployment(docs).update(automountServiceAccountToken=True),
    "hostNetwork": lambda docs: deployment(docs).update(hostNetwork=True),
    "neither configuration, secret nor empty": lambda docs: deployment(docs)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "may gain privileges": lambda docs: container(docs)["securityContext"].update(allowPrivilegeEscalation=True),
    "its root may be written": lambda docs: container(docs)["securityContext"].pop("readOnlyRootFilesystem"),
    "keeps capabilities": lambda docs: container(docs)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "no limit of memory": lambda docs: container(docs)["resources"].pop("limits"),
    "mounted by subPath": lambda docs: container(docs)["volumeMounts"][0].update(subPath="x"),
    "may be written": lambda docs: container(docs)["volumeMounts"][0].pop("readOnly"),
    "does not ask for /readyz": lambda docs: container(docs).pop("readinessProbe"),
    "killed before it has drained": lambda docs: deployment(docs).update(terminationGracePeriodSeconds=5),
    "deployments: ": lambda docs: docs.append(copy.deepcopy(check.of(docs, "Deployment")["svc-feeds"]) | {"metadata": {"name": "svc-more"}}),
    "PodDisruptionBudget: ": lambda docs: without(docs, "PodDisruptionBudget", "svc-signer"),
    "a number of replicas": lambda docs: check.of(docs, "Deployment")["svc-feeds"]["spec"].update(replicas=3),
    "may be another tomorrow": lambda docs: container(docs).update(image="dalp/svc-feeds:latest"),
    "do not belong into manifests": lambda docs: docs.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}),
    "nobody brings the Secret": lambda docs: deployment(docs)["volumes"].append({"name": "x", "secret": {"secretName": "unheard-of"}}),
    "has what belongs to svc-signer": lambda docs: deployment(docs)["volumes"].append({"name": "x", "secret": {"secretName": "svc-signer-secrets"}}),
    "a secret stands in its configuration": lambda docs: edit(docs, "svc-feeds", "file:/etc/dalp/secrets/database-url", "postgres://me:pass@db/x"),
    "its pods open": lambda docs: edit(docs, "svc-feeds", "0.0.0.0:7000", "0.0.0.0:7001"),
    "nobody is at": lambda docs: edit(docs, "svc-feeds", 'address = "svc-signer:7000"', 'address = "svc-signer:7002"'),
    "does not show": lambda docs: edit(docs, "svc-feeds", "dalp.example/svc-signer", "dalp.example/svc-gateway"),
    "nobody has a certificate of": lambda docs: edit(docs, "svc-signer", "dalp.example/svc-settlement", "dalp.example/svc-unknown"),
    "is mounted nowhere": lambda docs: edit(docs, "svc-feeds", "/etc/dalp/trust/ca.pem", "/etc/dalp/elsewhere/ca.pem"),
    "has what it needs not": lambda docs: edit(docs, "svc-attestor", "[chains.main.chain]\n", "[database]\n[chains.main.chain]\n"),
    "through the nodes of those": lambda docs: edit(docs, "svc-attestor", "judge-a.chain", "node-a.chain"),
    "judges nothing on chain": lambda docs: edit(docs, "svc-settlement", "[chain]\n", '[[further_chains]]\nchain_id = 7\nupstreams = []\n\n[chain]\n'),
    "signs with attestation": lambda docs: edit(docs, "svc-signer", 'attestation = "required"', 'attestation = "off"'),
    "nothing is denied by default": lambda docs: without(docs, "NetworkPolicy", "deny-all"),
    "svc-signer:7000 is reached by": lambda docs: policy(docs, "signer")["ingress"][0]["from"].append({"podSelector": {}} | {"namespaceSelector": {"matchLabels": {"dalp.dev/network": "edge"}}}),
    "svc-feeds:7000 is reached by": lambda docs: policy(docs, "domain-services")["ingress"][0]["from"].append({"podSelector": {"matchLabels": {check.NAME: "svc-compliance"}}}),
    "svc-signer reaches": lambda docs: policy(docs, "signer")["egress"].append({"to": [ANYWHERE], "ports": [{"port": 443}]}),
    "webhooks are on without a way out": lambda docs: edit(docs, "svc-gateway", "[verification]", "[webhooks]\nallow_http = true\n\n[verification]"),
    "webhooks are the component's": lambda docs: container(docs, "svc-gateway").setdefault("env", []).append({"name": "DALP_GATEWAY__WEBHOOKS__TIMEOUT_MS", "value": "1000"}),
    "nothing to seal secrets and factors with": lambda docs: edit(docs, "svc-gateway", '[[sealing.keys]]\nid = "first"\nkey = "file:/etc/dalp/secrets/sealing-key"\n', ""),
    "its key is kept": lambda docs: check.of(docs, "Certificate")["svc-feeds"]["spec"]["privateKey"].update(rotationPolicy="Never"),
    "renewed too late": lambda docs: check.of(docs, "Certificate")["svc-feeds"]["spec"].update(renewBefore="24h"),
    "Additional properties are not allowed": lambda docs: check.of(docs, "Certificate")["svc-feeds"]["spec"].update(renewbefore="240h"),
    "HorizontalPodAutoscaler svc-feeds: ": lambda docs: check.of(docs, "HorizontalPodAutoscaler")["svc-feeds"]["spec"].update(minReplicas="three"),
}
# The last two.
OF_SCHEMAS = list(BREAKS)[-2:]


class Check(unittest.TestCase):
    def test_what_is_rendered_passes(self):
        self.assertEqual(check.problems_of(PRODUCTION, "production"), [])

    def test_every_component_is_rendered(self):
        in_overlays = {"luna-client", "monitoring"}  # named by an overlay itself
        here = {path.name for path in (check.HERE.parent / "components").iterdir()}
        rendered = {overlay.partition(" with ")[2] for overlay in check.OVERLAYS} - {""}
        self.assertEqual(here - in_overlays, rendered)
        used = [component for overlay in check.OVERLAYS for component in check.components_of(overlay)]
        self.assertTrue(in_overlays <= set(used), used)

    def test_each_break_is_found(self):
        for said, break_it in BREAKS.items():
            with self.subTest(said):
                docs = copy.deepcopy(PRODUCTION)
                break_it(docs)
                # Schemas take long, and what breaks them is nothing for the rules.
                first = check.FIRST if said in OF_SCHEMAS else [check.every_service_is_there]
                found = check.problems_of(docs, "production", first)
                self.assertTrue(any(said in problem for problem in found), found)


if __name__ == "__main__":
    unittest.main()
