//! What an operator writes down for the attestor; `attestor.example.toml` shows every key.

use super::ruleset::{RuleSet, TenantRules};
use dalp_chain::ChainConfig;
use dalp_service::config::{Problems, ServerConfig, TelemetryConfig, Validate};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Prefix of environment variables that override keys.
pub const ENVIRONMENT_PREFIX: &str = "DALP_ATTESTOR";

/// The configuration of `svc-compliance --role attest`. There is no database, and no certificate to call anybody with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestorConfig {
    /// Listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// What holds on every chain.
    #[serde(default)]
    pub attest: AttestSection,
    /// The chains, by names of the operator's.
    pub chains: BTreeMap<String, JudgedChain>,
}

/// `[attest]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttestSection {
    /// How long a verdict may be used, in seconds.
    pub validity_s: u64,
}

/// `[chains.<name>]`: a chain, and how payloads of it are judged. Addresses mean nothing on another chain, so the rules are its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedChain {
    /// The chain, through nodes that no domain service uses.
    pub chain: ChainConfig,
    /// Blocks after which a refusal is looked at a second time before it counts; 0: the first one counts.
    #[serde(default = "defaults::second_look_blocks")]
    pub second_look_blocks: u64,
    /// Age in seconds beyond which the latest block is too old to judge at; 0: any age will do.
    #[serde(default = "defaults::head_age_max_s")]
    pub head_age_max_s: u64,
    /// First block in which a contract of ours may have been created.
    #[serde(default)]
    pub from_block: u64,
    /// The rules.
    #[serde(default)]
    pub rules: RuleSet,
}

mod defaults {
    pub(super) fn second_look_blocks() -> u64 {
        2
    }
    pub(super) fn head_age_max_s() -> u64 {
        300
    }
}

impl Default for AttestSection {
    fn default() -> Self {
        Self { validity_s: 60 }
    }
}

// === impl JudgedChain ===

impl JudgedChain {
    /// Whether a latest block of this time is too old to judge at. One of the future, as on test chains, never is.
    #[must_use]
    pub fn is_stale(&self, timestamp_s: u64, now_s: u64) -> bool {
        self.head_age_max_s != 0 && now_s.saturating_sub(timestamp_s) > self.head_age_max_s
    }
}

impl Validate for AttestorConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("attest", |problems| {
            if !(5..=600).contains(&self.attest.validity_s) {
                problems.push("validity_s", "must lie between 5 and 600");
            }
        });
        problems.section("chains", |problems| {
            if self.chains.is_empty() {
                problems.push("", "no chain is judged: describe one under [chains.<name>]");
            }
            let mut ids: BTreeMap<u64, &str> = BTreeMap::new();
            for (name, judged) in &self.chains {
                problems.section(name, |problems| judged.validate(problems));
                if let Some(other) = ids.insert(judged.chain.chain_id, name) {
                    let (id, key) = (judged.chain.chain_id, format!("{name}.chain.chain_id"));
                    problems.push(key, format!("{id} is that of {other} already"));
                }
            }
        });
    }
}

impl Validate for JudgedChain {
    fn validate(&self, problems: &mut Problems) {
        for problem in self.chain.problems() {
            problems.push("chain", problem);
        }
        if self.second_look_blocks > 64 {
            problems.push("second_look_blocks", "must be at most 64");
        }
        for (index, TenantRules { id, .. }) in self.rules.tenants.iter().enumerate() {
            if self.rules.tenants[..index].iter().any(|other| other.id == *id) {
                problems.push(format!("rules.tenants[{index}].id"), format!("{id} has rules already"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> AttestorConfig {
        let head = "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\ncertificate = \"a\"\nkey = \"b\"\ntrust_anchors = \"c\"\n";
        toml::from_str(&format!("{head}{text}")).expect("parses")
    }

    fn chain(name: &str, id: u64) -> String {
        format!(
            "[chains.{name}.chain]\nchain_id = {id}\n[[chains.{name}.chain.upstreams]]\nname = \"a\"\nurl = \"http://a\"\n"
        )
    }

    /// Problems of the chains alone; the files of the listener are none here.
    fn problems(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        of(text).validate(&mut problems);
        let found = problems.found().iter().filter(|problem| problem.key.starts_with("chains"));
        found.map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
    }

    #[test]
    fn a_head_is_stale_by_its_age_alone() {
        let config = of(&chain("home", 1));
        let judged = &config.chains["home"];
        assert_eq!((judged.head_age_max_s, judged.second_look_blocks, judged.from_block), (300, 2, 0));
        assert!(judged.is_stale(1_000, 1_301));
        assert!(!judged.is_stale(1_000, 1_300));
        assert!(!judged.is_stale(9_000_000, 1_000), "a chain whose time was moved on");
        assert!(!JudgedChain { head_age_max_s: 0, ..judged.clone() }.is_stale(0, u64::MAX), "off");
    }

    #[test]
    fn chains_are_told_apart_by_their_ids() {
        assert!(problems(&(chain("home", 1) + &chain("away", 2))).is_empty());
        let twice = problems(&(chain("home", 1) + &chain("away", 1)));
        assert_eq!(twice, ["chains.home.chain.chain_id: 1 is that of away already"]);
        assert_eq!(problems("[chains]\n"), ["chains: no chain is judged: describe one under [chains.<name>]"]);
        let tenants = "[[chains.home.rules.tenants]]\nid = \"bank\"\n".repeat(2);
        let twice = problems(&(chain("home", 1) + &chain("away", 2) + &tenants));
        assert_eq!(twice, ["chains.home.rules.tenants[1].id: bank has rules already"]);
        let both = ["home", "away"].map(|name| format!("[[chains.{name}.rules.tenants]]\nid = \"bank\"\n")).concat();
        assert!(problems(&(chain("home", 1) + &chain("away", 2) + &both)).is_empty(), "a tenant on two chains");
    }
}
