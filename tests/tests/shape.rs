//! The shape of the workspace: rules of the house that a reviewer would otherwise have to remember.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "shape/dependencies.rs"]
mod dependencies;
#[path = "shape/installations.rs"]
mod installations;
#[path = "shape/keys.rs"]
mod keys;
#[path = "shape/migrations.rs"]
mod migrations;
#[path = "shape/runbooks.rs"]
mod runbooks;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use dalp_proto::{Exposure, IdempotencyClass, Methods, RateClass};
use dalp_service::Reason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The lines of a golden file, without comments.
fn golden(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("tests/tests/golden").join(name)).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn files(folder: &Path, accept: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "node_modules" && name != ".git" {
            files(&path, accept, found);
        } else if path.is_file() && accept(&path) {
            found.push(path);
        }
    }
}

// === migrations ===

#[test]
fn no_migration_breaks_older_programs_without_saying_so() {
    let mut paths = Vec::new();
    files(
        &root(),
        &|path| {
            path.extension().is_some_and(|end| end == "sql")
                && path.parent().is_some_and(|folder| folder.ends_with("migrations"))
        },
        &mut paths,
    );
    assert!(paths.len() > 40, "{}", paths.len());
    let root = root();
    let found: Vec<String> = paths
        .iter()
        .flat_map(|path| migrations::violations(path.strip_prefix(&root).unwrap(), &fs::read_to_string(path).unwrap()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_migration_check_finds_what_breaks_older_programs() {
    let found = |name: &str, text: &str| migrations::violations(Path::new(name), text).len();
    assert_eq!(found("0001_a.sql", "ALTER TABLE a ADD COLUMN b text; CREATE INDEX c ON a (b); -- drop table a"), 0);
    assert_eq!(found("0001_a.sql", "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN DROP TABLE a; END $$;"), 0);
    for breaks in [
        "ALTER TABLE a DROP COLUMN b",
        "DROP TABLE a",
        "alter table a\n rename to b",
        "ALTER TABLE a RENAME b TO c",
        "ALTER TABLE a ALTER b TYPE text",
        "ALTER TABLE a ADD COLUMN b text NOT NULL",
        "ALTER TABLE a ADD COLUMN b text, ADD COLUMN c text NOT NULL",
        "DO $$ BEGIN DROP TABLE a; END $$",
        "REVOKE SELECT ON a FROM b",
        "DROP FUNCTION f()",
    ] {
        assert_eq!(found("0001_a.sql", breaks), 1, "{breaks}");
        assert_eq!(found("0001_a_breaks_older_programs.sql", breaks), 0, "{breaks}");
    }
    assert_eq!(found("a.sql", ""), 1);
}

// === dependencies ===

#[test]
fn dependencies_point_one_way() {
    let found = dependencies::violations(&dependencies::workspace(&root()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_dependency_check_finds_each_kind_of_violation() {
    let package = |folder: &str, name: &str, rest: &str| {
        dependencies::manifest(folder, &format!("[package]\nname = \"{name}\"\n{rest}"))
    };
    let manifests = [
        package("svc-one", "svc-one", "[dependencies]\nsvc-two.workspace = true\n"),
        package("svc-two", "svc-two", "[target.'cfg(unix)'.dependencies]\ncryptoki = \"1\"\n"),
        package(
            "crates/lib",
            "lib",
            "[dev-dependencies]\nsvc-one = { path = \"../svc-one\" }\n[build-dependencies]\ncurve = { package = \"k256\", version = \"1\" }\n",
        ),
        package("svc-signer", "svc-signer", "[dependencies]\ncryptoki = \"1\"\nsecp256k1 = \"1\"\nlib = \"1\"\n"),
        package("tests", "tests", "[dependencies]\nsvc-one.workspace = true\n"),
    ];
    let found = dependencies::violations(&manifests);
    assert_eq!(
        found,
        [
            "the service svc-one depends on the service svc-two",
            "svc-two depends on cryptoki, which only svc-signer may",
            "lib is a library and depends on the service svc-one",
            "lib depends on k256, which only svc-signer may",
        ]
    );
}

/// alloy can hold keys as well; its feature is unified over the workspace, so the manifests do not show who uses it.
#[test]
fn no_service_but_the_signer_holds_keys_through_alloy() {
    let mut sources = Vec::new();
    for folder in fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if (name.starts_with("svc-") && name != "svc-signer") || name == "crates" {
            files(&folder, &|path| path.extension().is_some_and(|end| end == "rs"), &mut sources);
        }
    }
    let in_tests =
        |path: &Path| path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "testing");
    let holders: Vec<_> = sources
        .into_iter()
        .filter(|path| !in_tests(path) && !path.ends_with("testing.rs") && !path.ends_with("tests.rs"))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            // A module's own unit tests stand at its end.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            code.contains("PrivateKeySigner") || code.contains("signers::local") || code.contains("LocalSigner")
        })
        .collect();
    assert!(holders.is_empty(), "{holders:?}");
}

// === the contracts of the wire ===

#[test]
fn every_rpc_says_who_may_what_a_repeat_means_and_what_it_costs() {
    let methods = Methods::load();
    let well_formed =
        |permission: &str| permission.split_once(':').is_some_and(|(area, verb)| !area.is_empty() && !verb.is_empty());
    let without: BTreeSet<_> =
        methods.iter().filter(|method| !well_formed(&method.permission)).map(|method| method.path.clone()).collect();
    assert_eq!(
        without,
        golden("rpcs_without_permission.txt"),
        "an RPC needs a permission option, or a reasoned line in the golden file"
    );
    let unrouted: BTreeSet<_> =
        methods.iter().filter(|method| method.exposure == Exposure::Mesh).map(|method| method.path.clone()).collect();
    assert_eq!(
        unrouted,
        golden("rpcs_of_the_mesh.txt"),
        "what the gateway does not route is decided in the golden file too"
    );
    let setting_up: BTreeSet<_> =
        methods.iter().filter(|method| method.setup).map(|method| method.path.clone()).collect();
    assert_eq!(setting_up, golden("setup_rpcs.txt"), "what sets a system up is decided in the golden file too");
    for method in methods.iter() {
        assert_ne!(method.idempotency, IdempotencyClass::Unspecified, "{}", method.path);
        assert_ne!(method.rate, RateClass::Unspecified, "{}", method.path);
        // Its caller resumes it with the key.
        let resumes = method.idempotency == IdempotencyClass::Keyed && !method.client_streaming;
        assert!(!method.setup || resumes, "{}", method.path);
    }
}

/// Each public RPC is called over HTTP as well, under a path that is no other's.
#[test]
fn every_public_rpc_has_a_route_of_its_own() {
    let table = svc_gateway::rest::routes::Table::load();
    assert!(table.problems().is_empty(), "{}", table.problems().join("\n"));
    let routed: BTreeSet<_> = table.iter().into_iter().map(|route| route.method.path.clone()).collect();
    let methods = Methods::load();
    let public = methods.iter().filter(|method| method.exposure != Exposure::Mesh);
    let public: BTreeSet<_> = public.map(|method| method.path.clone()).collect();
    assert_eq!(routed, public);
}

// === events ===

/// Types stand in the sources as texts, in Rust as in SQL.
#[test]
fn every_event_is_in_the_catalogue() {
    let mut sources = Vec::new();
    for folder in fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("svc-") || name == "crates" {
            files(&folder, &|path| path.extension().is_some_and(|end| end == "rs"), &mut sources);
        }
    }
    let last = ["pending", "final", "retracted", "recalled"];
    let is_type = |text: &&str| {
        let words: Vec<_> = text.split('.').collect();
        let plain =
            |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        words.len() == 3 && last.contains(&words[2]) && words.iter().all(plain)
    };
    let mut found = BTreeSet::new();
    for path in sources {
        let text = fs::read_to_string(path).unwrap();
        found.extend(text.split(['"', '\'']).filter(is_type).map(str::to_owned));
    }
    let catalogue: BTreeSet<_> = dalp_tests::event_catalogue::read().unwrap().into_keys().collect();
    assert_eq!(found, catalogue, "the events that are written and docs/events.md differ");
}

// === errors ===

#[test]
fn every_reason_has_its_page_and_every_page_its_reason() {
    let folder = root().join("docs/errors");
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|stem| stem != "README")
        .collect();
    let reasons: BTreeSet<String> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(pages, reasons, "docs/errors and the catalogue differ");
    for reason in Reason::ALL {
        let page = fs::read_to_string(folder.join(format!("{reason}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {reason}")), "{reason}: the page begins with its reason");
        assert!(
            page.contains(reason.next().as_str()),
            "{reason}: the page says what the caller does next ({})",
            reason.next().as_str()
        );
        for heading in ["## What happened", "## When", "## What to do"] {
            assert!(page.contains(heading), "{reason}: the page lacks {heading}");
        }
    }
}

// === configuration ===

fn example(service: &str) -> String {
    // A service may have a second role, named behind its folder.
    let (folder, role) = service.split_once('/').unwrap_or((service, "config"));
    let path = root().join(folder).join(format!("{role}.example.toml"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An example with the keys that it shows as comments (`# key = value`) switched on.
fn switched_on(service: &str) -> String {
    let is_key = |line: &str| {
        line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(name, _)| name.starts_with('"') || !name.contains(' '))
    };
    let text = example(service);
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_configuration_key_stands_in_its_example() {
    let examples = [
        ("svc-gateway", keys::missing::<svc_gateway::GatewayConfig>(&switched_on("svc-gateway"))),
        ("svc-signer", keys::missing::<svc_signer::config::SignerConfig>(&switched_on("svc-signer"))),
        ("svc-compliance", keys::missing::<svc_compliance::config::ComplianceConfig>(&switched_on("svc-compliance"))),
        (
            "svc-compliance/attestor",
            keys::missing::<svc_compliance::attest::config::AttestorConfig>(&switched_on("svc-compliance/attestor")),
        ),
        ("svc-feeds", keys::missing::<svc_feeds::config::FeedsConfig>(&switched_on("svc-feeds"))),
        ("svc-settlement", keys::missing::<svc_settlement::config::SettlementConfig>(&switched_on("svc-settlement"))),
        (
            "svc-distribution",
            keys::missing::<svc_distribution::config::DistributionConfig>(&switched_on("svc-distribution")),
        ),
    ];
    for (service, missing) in examples {
        match missing {
            Ok(missing) => assert!(missing.is_empty(), "{service}: not in config.example.toml: {missing:?}"),
            Err(error) => panic!("{service}: config.example.toml does not read: {error}"),
        }
    }
}

#[test]
fn every_key_of_an_example_is_explained() {
    for service in [
        "svc-gateway",
        "svc-signer",
        "svc-compliance",
        "svc-compliance/attestor",
        "svc-feeds",
        "svc-settlement",
        "svc-distribution",
    ] {
        let text = switched_on(service);
        let (mut explained, mut before) = (BTreeSet::new(), "");
        for line in text.lines() {
            let key = line
                .split_once('=')
                .map(|(key, _)| key.trim())
                .filter(|key| !line.starts_with([' ', '#', '"']) && !key.is_empty());
            if let Some(key) = key {
                // The second section of a kind need not repeat what the first one said.
                let said = before.starts_with('#') || line.contains(" # ") || explained.contains(key);
                assert!(said, "{service}: {key} has no comment above it or behind it");
                explained.insert(key.to_owned());
            }
            before = line;
        }
    }
}

#[test]
fn the_key_check_finds_what_is_missing() {
    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        #[serde(default)]
        present: u32,
        #[serde(default)]
        absent: u32,
        inner: Option<Inner>,
        list: Vec<Inner>,
    }
    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        a: Option<String>,
        b: Option<String>,
    }
    let example = "present = 1\n[inner]\na = \"x\"\n[[list]]\na = \"x\"\n[[list]]\nb = \"x\"\n";
    assert_eq!(keys::missing::<Outer>(example).unwrap(), ["absent", "inner.b"]);
}

#[test]
fn every_installation_has_configurations_that_the_services_take() {
    for overlay in ["single-node", "production"] {
        let installation = installations::Installation::new(root().join("deploy/kubernetes"), overlay);
        let problems = [
            ("svc-gateway", installation.problems::<svc_gateway::GatewayConfig>("svc-gateway", "DALP_GATEWAY")),
            ("svc-signer", installation.problems::<svc_signer::config::SignerConfig>("svc-signer", "DALP_SIGNER")),
            (
                "svc-compliance",
                installation.problems::<svc_compliance::config::ComplianceConfig>("svc-compliance", "DALP_COMPLIANCE"),
            ),
            (
                "svc-attestor",
                installation
                    .problems::<svc_compliance::attest::config::AttestorConfig>("svc-attestor", "DALP_ATTESTOR"),
            ),
            ("svc-feeds", installation.problems::<svc_feeds::config::FeedsConfig>("svc-feeds", "DALP_FEEDS")),
            (
                "svc-settlement",
                installation.problems::<svc_settlement::config::SettlementConfig>("svc-settlement", "DALP_SETTLEMENT"),
            ),
            (
                "svc-distribution",
                installation
                    .problems::<svc_distribution::config::DistributionConfig>("svc-distribution", "DALP_DISTRIBUTION"),
            ),
        ];
        for (service, problems) in problems {
            assert!(problems.is_none(), "{overlay}: {service}: {}", problems.unwrap_or_default());
        }
    }
}

// === metrics ===

/// The metric names that a `metric_definitions.rs` defines.
fn metric_names(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            line.trim_start().strip_prefix("pub const ").or_else(|| line.trim_start().strip_prefix("pub(crate) const "))
        })
        .filter_map(|rest| rest.split_once(": &str = \"").and_then(|(_, value)| value.split_once('"')))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Every metric that the crates define.
fn defined_metrics() -> Vec<String> {
    let mut definitions = Vec::new();
    files(&root(), &|path| path.ends_with("metric_definitions.rs"), &mut definitions);
    let names: Vec<String> =
        definitions.iter().flat_map(|path| metric_names(&fs::read_to_string(path).unwrap())).collect();
    assert!(names.len() > 10, "the definitions are read: {names:?}");
    names
}

/// The identifiers of a text; of a histogram's series also the histogram.
fn identifiers(text: &str) -> BTreeSet<&str> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    words.flat_map(|word| [word, word.strip_suffix("_bucket").unwrap_or(word)]).collect()
}

#[test]
fn every_metric_is_documented() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let known = identifiers(&page);
    let lost: Vec<_> = defined_metrics().into_iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "not in docs/metrics.md: {lost:?}");
}

#[test]
fn every_metric_is_on_a_dashboard_or_on_the_allow_list() {
    let mut dashboards = Vec::new();
    let folder = root().join("deploy/observability/dashboards");
    files(&folder, &|path| path.extension().is_some_and(|end| end == "json"), &mut dashboards);
    let text: String = dashboards.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let shown = identifiers(&text);
    let hidden: BTreeSet<String> =
        defined_metrics().into_iter().filter(|name| !shown.contains(name.as_str())).collect();
    assert_eq!(
        hidden,
        golden("metrics_on_no_dashboard.txt"),
        "`make dashboards` places it, or a reasoned line in the golden file"
    );
}

// === runbooks ===

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let folder = root().join("docs/runbooks");
    let alerts = runbooks::alerts(&root().join("deploy/observability/rules"));
    assert!(alerts.len() > 10, "the rules are read: {alerts:?}");
    for (name, page) in &alerts {
        assert_eq!(*page, format!("docs/runbooks/{name}.md"), "{name} names its runbook");
    }
    let named: BTreeSet<String> = alerts.into_iter().map(|(name, _)| name).collect();
    let all = runbooks::pages(&folder);
    let of_alerts: BTreeSet<String> = all.iter().filter(|page| runbooks::is_of_an_alert(page)).cloned().collect();
    assert_eq!(of_alerts, named, "docs/runbooks and the alert rules differ");
    for name in &named {
        let page = fs::read_to_string(folder.join(format!("{name}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {name}\n")), "{name}: the page begins with its alert");
        for heading in ["## What it means", "## What to look at", "## What to do", "## What not to do"] {
            assert!(page.contains(heading), "{name}: the page lacks {heading}");
        }
    }
    let index = fs::read_to_string(folder.join("README.md")).unwrap();
    let unlisted: Vec<_> =
        all.iter().filter(|page| *page != "README" && !index.contains(&format!("]({page}.md)"))).collect();
    assert!(unlisted.is_empty(), "not in docs/runbooks/README.md: {unlisted:?}");
}

#[test]
fn pages_lead_nowhere_that_is_not_there() {
    let mut pages = Vec::new();
    for folder in ["docs", "contracts", "deploy", "tests"] {
        files(&root().join(folder), &|path| path.extension().is_some_and(|end| end == "md"), &mut pages);
    }
    pages.extend(["README.md", "ARCHITECTURE.md"].map(|page| root().join(page)));
    let broken: Vec<_> = pages.iter().flat_map(|page| runbooks::broken_links(page)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_call_that_a_page_tells_to_make_exists() {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(dalp_proto::FILE_DESCRIPTOR_SET).unwrap();
    let (requests, methods) = (runbooks::requests(&set), Methods::load());
    let mut pages = Vec::new();
    files(&root().join("docs"), &|path| path.extension().is_some_and(|end| end == "md"), &mut pages);
    let mut told = 0;
    for page in pages {
        for (path, request) in runbooks::calls(&fs::read_to_string(&page).unwrap()) {
            let at = page.display();
            let fields = requests.get(&path).unwrap_or_else(|| panic!("{at}: there is no {path}"));
            assert_ne!(methods.get(&path).unwrap().exposure, Exposure::Mesh, "{at}: {path} is not at the gateway");
            let unknown: Vec<_> =
                request.as_object().unwrap().keys().filter(|field| !fields.contains(*field)).collect();
            assert!(unknown.is_empty(), "{at}: {path} has no {unknown:?}");
            told += 1;
        }
    }
    assert!(told > 20, "the calls of the pages are read: {told}");
}
