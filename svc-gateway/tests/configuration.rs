//! What is wrong with a configuration is listed before the process exits, all of it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

#[test]
fn every_problem_is_listed_at_once() {
    let pki = support::Pki::new();
    std::fs::write(pki.path("url"), "postgres://x@localhost/y").unwrap();
    let (server, client) = (pki.issue("svc-gateway"), pki.issue("client"));
    let digest = "ab".repeat(32);
    let text = format!(
        r#"
health_interval_ms = 1
[server]
listen = "127.0.0.1:0"
[server.tls]
{server}
[server.allowed_peers]
"/dalp.operator.v1.OperatorService/" = ["svc-desk"]
[client_tls]
{client}
[database]
url = "file:{url}"
[limits]
read = {{ per_second = 0, burst = 1 }}
[access]
cache_entries = 1
cache_ttl_ms = 1
grace_ms = 3600001
read_within_ms = 99
[audit]
heard_within_s = 3601
refusals_burst = 0
[status]
listen = "127.0.0.1:0"
session_idle_s = 59
session_most_s = 58
sessions = 0
sign_ins = {{ per_second = 1, burst = 0 }}
[[upstreams]]
name = "svc-feeds"
address = "127.0.0.1:1"
spiffe_id = "spiffe://dalp.dev/svc-feeds"
[[upstreams]]
name = "svc-feeds"
address = "127.0.0.1:2"
spiffe_id = "spiffe://dalp.dev/svc-feeds"
services = ["dalp.feeds.v1.FeedService", "dalp.operation.v1.OperationService", "dalp.none.v1.None"]
[[upstreams]]
name = "svc-strange"
address = "127.0.0.1:3"
spiffe_id = "spiffe://dalp.dev/svc-strange"
[[tenants]]
id = "acme"
[[tenants]]
id = "acme"
[[roles]]
name = "operator"
permissions = ["*"]
[[roles]]
name = "operator"
permissions = ["asset:fly", "signer:*"]
[[principals]]
id = "a"
tenant = "acme"
roles = ["operator", "ghost"]
spiffe = "spiffe://dalp.dev/clients/a"
[[principals]]
id = "a"
tenant = "acme"
roles = []
spiffe = "spiffe://dalp.dev/clients/a"
scope = "read"
[[principals]]
id = "b"
tenant = "nowhere"
roles = []
[[principals]]
id = "c"
tenant = "acme"
roles = []
prefix = "abcd"
[[principals]]
id = "d"
tenant = "acme"
roles = []
prefix = "abcdef"
api_key_sha256 = "{digest}"
[[principals]]
id = "e"
tenant = "acme"
roles = []
prefix = "abcdef"
api_key_sha256 = "{digest}"
"#,
        url = pki.path("url").display(),
    );
    let problems = support::load(&pki.path("gateway.toml"), &text).unwrap_err();
    let keys: Vec<_> = problems.problems.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "health_interval_ms",
        "limits.read",
        "access.cache_entries",
        "access.cache_ttl_ms",
        "access.grace_ms",
        "access.read_within_ms",
        "audit.heard_within_s",
        "audit.refusals_burst",
        "status",
        "status.session_idle_s",
        "status.session_most_s",
        "status.sessions",
        "status.sign_ins",
        "upstreams[1].name",
        "upstreams[1].services",
        "upstreams[2].services",
        "tenants[1].id",
        "roles[1].name",
        "roles[1].permissions",
        "principals[0].roles",
        "principals[1].id",
        "principals[1].spiffe",
        "principals[1].scope",
        "principals[2].tenant",
        "principals[2].id",
        "principals[3].prefix",
        "principals[5].prefix",
    ] {
        assert!(keys.contains(&key), "{key} is not among the problems:\n{problems}");
    }
    assert_eq!(keys.iter().filter(|key| **key == "upstreams[1].services").count(), 3, "{problems}");
    assert_eq!(keys.iter().filter(|key| **key == "roles[1].permissions").count(), 2, "{problems}");
}

#[test]
fn unknown_keys_are_refused() {
    let pki = support::Pki::new();
    let problems = support::load(&pki.path("gateway.toml"), "colour = \"red\"\n").unwrap_err();
    assert!(problems.to_string().contains("colour"), "{problems}");
}
