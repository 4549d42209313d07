//! The configuration loader: every problem at once, nothing unknown, no secret in a file.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;

use dalp_service::config::{
    self, DatabaseConfig, ExposeSecret, MapEnvironment, PeerConfig, Problems, SecretRef, TelemetryConfig, Validate,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    limits: Limits,
    signer: PeerConfig,
    database: DatabaseConfig,
    #[serde(default)]
    telemetry: TelemetryConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    lanes: u32,
    label: String,
    #[serde(default)]
    enabled: bool,
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.name.trim().is_empty() {
            problems.push("name", "must not be blank");
        }
        problems.section("limits", |problems| {
            if self.limits.lanes == 0 {
                problems.push("lanes", "must be at least 1");
            }
        });
        problems.section("database", |problems| self.database.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
    }
}

const GOOD: &str = r#"
name = "one"
[limits]
lanes = 4
label = "7"
[signer]
address = "127.0.0.1:7001"
spiffe_id = "spiffe://dalp.dev/svc-signer"
[database]
url = "file:URL_FILE"
"#;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("url"), "postgres://app:hunter2@localhost/app\n").unwrap();
        Self { dir }
    }

    fn load(&self, toml: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<(String, String)>> {
        let path: PathBuf = self.dir.path().join("service.toml");
        let url = self.dir.path().join("url");
        std::fs::write(&path, toml.replace("URL_FILE", url.to_str().unwrap())).unwrap();
        config::load(Some(&path), &MapEnvironment::new(variables.iter().copied()), "DALP_TEST")
            .map_err(|problems| problems.problems.into_iter().map(|problem| (problem.key, problem.message)).collect())
    }

    fn keys(&self, toml: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let mut keys: Vec<_> = self.load(toml, variables).unwrap_err().into_iter().map(|(key, _)| key).collect();
        keys.sort();
        keys
    }
}

#[test]
fn a_good_file_loads_and_variables_override_it() {
    let fixture = Fixture::new();
    let variables = [
        ("DALP_TEST__LIMITS__LANES", "8"),
        ("DALP_TEST__LIMITS__LABEL", "42"),
        ("DALP_TEST__LIMITS__ENABLED", "true"),
        ("DALP_TEST__SIGNER__ADDRESS", "signer.internal:9"),
        ("DALP_TEST__TELEMETRY__LOG_FILTER", "debug"),
        ("DALP_TESTING__NAME", "of another program"),
    ];
    let config = fixture.load(GOOD, &variables).unwrap();
    assert_eq!(config.name, "one");
    assert_eq!((config.limits.lanes, config.limits.label.as_str(), config.limits.enabled), (8, "42", true));
    assert_eq!(config.signer.address.as_str(), "signer.internal:9");
    assert_eq!(config.telemetry.log_filter, "debug");
    assert_eq!(config.database.url.resolve().unwrap().expose_secret(), "postgres://app:hunter2@localhost/app");
}

#[test]
fn all_problems_are_listed_in_one_run() {
    let toml = r#"
        nmae = "typo"
        [limits]
        lanes = "many"
        colour = "red"
        [signer]
        address = "no port"
        spiffe_id = "svc-signer"
        [database]
        url = "postgres://app:hunter2@localhost/app"
        max_connections = 0
        [telemetry]
        log_filter = "=="
    "#;
    let keys = Fixture::new().keys(toml, &[]);
    let expected = [
        "database.max_connections",
        "database.url",
        "limits.colour",
        "limits.label",
        "limits.lanes",
        "name",
        "nmae",
        "signer.address",
        "signer.spiffe_id",
        "telemetry.log_filter",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_missing_section_is_named_with_what_it_needs() {
    let keys = Fixture::new().keys("name = \"one\"", &[]);
    for key in ["limits", "signer", "database"] {
        assert!(keys.iter().any(|found| found == key), "{key} in {keys:?}");
    }
}

#[test]
fn an_unknown_variable_is_named() {
    let problems = Fixture::new().load(GOOD, &[("DALP_TEST__LIMITS__LANSE", "8")]).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].0, "limits.lanse");
    assert!(problems[0].1.contains("DALP_TEST__LIMITS__LANSE"), "{}", problems[0].1);
}

#[test]
fn a_literal_secret_is_refused_and_never_echoed() {
    let fixture = Fixture::new();
    for literal in ["\"postgres://app:hunter2@localhost/app\"", "31337", "\"hunter2\""] {
        let toml = GOOD.replace("\"file:URL_FILE\"", literal);
        let problems = fixture.load(&toml, &[]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].0, "database.url");
        assert!(!problems[0].1.contains("hunter2") && !problems[0].1.contains("31337"), "{}", problems[0].1);
    }
    let broken = fixture.load("password = \"hunter2", &[]).unwrap_err();
    assert!(!broken[0].1.contains("hunter2"), "{}", broken[0].1);
}

#[test]
fn secrets_are_resolved_by_reference() {
    let environment = MapEnvironment::new([("PIN", "1234"), ("BLANK", "  ")]);
    let resolve = |text: &str| text.parse::<SecretRef>().unwrap().resolve_in(&environment);
    assert_eq!(resolve("env:PIN").unwrap().expose_secret(), "1234");
    assert!(resolve("env:BLANK").is_err());
    assert!(resolve("env:UNSET").is_err());
    assert!(resolve("file:/nowhere/at/all").is_err());
    assert!("1234".parse::<SecretRef>().is_err());
    assert!("env:".parse::<SecretRef>().is_err());
}

#[test]
fn without_a_file_the_environment_is_enough() {
    let variables = MapEnvironment::new([
        ("DALP_TEST__NAME", "one"),
        ("DALP_TEST__LIMITS__LANES", "1"),
        ("DALP_TEST__LIMITS__LABEL", "text"),
        ("DALP_TEST__SIGNER__ADDRESS", "127.0.0.1:1"),
        ("DALP_TEST__SIGNER__SPIFFE_ID", "spiffe://dalp.dev/svc-signer"),
        ("DALP_TEST__DATABASE__URL", "file:/etc/hostname"),
    ]);
    let config: Config = config::load(None, &variables, "DALP_TEST").unwrap();
    assert_eq!(config.limits.label, "text");
}
