//! What an operator writes down about one chain.

use serde::Deserialize;
use std::time::Duration;

/// One chain: how to reach it, when a block of it counts as final, and how to pay on it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// EIP-155 chain id. Every upstream is checked against it.
    pub chain_id: u64,
    /// Nodes of this chain, in no particular order: health decides.
    pub upstreams: Vec<UpstreamConfig>,
    /// When a block counts as final.
    #[serde(default = "defaults::finality")]
    pub finality: Finality,
    /// How transactions are priced.
    #[serde(default)]
    pub fees: FeePolicy,
    /// Expected time between blocks. Sets how often heads are polled, nothing else.
    #[serde(default = "defaults::block_time_hint_ms")]
    pub block_time_hint_ms: u64,
    /// Longest wait for one answer of one upstream.
    #[serde(default = "defaults::request_timeout_ms")]
    pub request_timeout_ms: u64,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Shown in logs and metrics instead of the URL, which may carry an API key.
    pub name: String,
    /// `http://` or `https://` JSON-RPC endpoint.
    pub url: String,
}

/// When a block counts as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finality {
    /// Final once this many blocks stand on top of it. 0 is for chains whose consensus is final at once (IBFT, QBFT).
    Depth(u64),
    /// Final when the node's `finalized` tag has reached it.
    FinalizedTag,
}

/// How transactions are priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeePolicy {
    /// Transaction type to build.
    #[serde(default = "defaults::fee_kind")]
    pub kind: FeeKind,
    /// Nothing is ever signed above this price per gas, replacements included.
    #[serde(default = "defaults::max_fee_cap_wei", deserialize_with = "wei")]
    pub max_fee_cap_wei: u128,
    /// Added to the price of the moment, so that a signature survives a queue or an approval. 10,000 = +100 %.
    #[serde(default = "defaults::headroom_bps")]
    pub headroom_bps: u32,
    /// A fixed tip per gas. Absent: what the node suggests.
    #[serde(default, deserialize_with = "some_wei")]
    pub priority_fee_wei: Option<u128>,
}

/// Transaction type to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeeKind {
    /// Base fee and tip (type 2).
    Eip1559,
    /// One gas price (type 0).
    Legacy,
    /// Type 2 if the latest block has a base fee, else type 0.
    Auto,
}

/// TOML knows 64-bit numbers only: amounts beyond are written as decimal text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wei {
    Number(u64),
    Text(String),
}

fn wei<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    match Wei::deserialize(deserializer)? {
        Wei::Number(amount) => Ok(amount.into()),
        Wei::Text(text) => {
            text.parse().map_err(|_| serde::de::Error::custom("expected wei as a number or decimal text"))
        }
    }
}

fn some_wei<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
    wei(deserializer).map(Some)
}

mod defaults {
    use super::{FeeKind, Finality};

    pub(super) fn finality() -> Finality {
        Finality::FinalizedTag
    }
    pub(super) fn block_time_hint_ms() -> u64 {
        12_000
    }
    pub(super) fn request_timeout_ms() -> u64 {
        10_000
    }
    pub(super) fn fee_kind() -> FeeKind {
        FeeKind::Auto
    }
    pub(super) fn max_fee_cap_wei() -> u128 {
        500_000_000_000 // 500 gwei
    }
    pub(super) fn headroom_bps() -> u32 {
        10_000 // six full blocks in a row raise the base fee by 103 %
    }
}

// === impl ChainConfig ===

impl ChainConfig {
    /// Longest wait for one answer of one upstream.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How often heads are polled: half a block, so that a block is seen at most half a block late.
    pub fn poll_interval(&self) -> Duration {
        Duration::from_millis((self.block_time_hint_ms / 2).clamp(50, 6_000))
    }

    /// Every problem of further chains beside this one: their own, and ids that are used twice.
    pub fn problems_beside(&self, further: &[Self]) -> Vec<String> {
        let mut problems: Vec<String> = further.iter().flat_map(Self::problems).collect();
        let mut seen = vec![self.chain_id];
        for chain in further {
            if seen.contains(&chain.chain_id) {
                problems.push(format!("chain_id {} is used twice", chain.chain_id));
            }
            seen.push(chain.chain_id);
        }
        problems
    }

    /// Every problem at once, so that an operator corrects the file once.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.chain_id == 0 {
            problems.push("chain_id must not be 0".into());
        }
        if self.upstreams.is_empty() {
            problems.push("upstreams must not be empty".into());
        }
        if self.request_timeout_ms == 0 {
            problems.push("request_timeout_ms must not be 0".into());
        }
        if self.fees.max_fee_cap_wei == 0 {
            problems.push("fees.max_fee_cap_wei must not be 0".into());
        }
        for (index, upstream) in self.upstreams.iter().enumerate() {
            if self.upstreams[..index].iter().any(|other| other.name == upstream.name) {
                problems.push(format!("upstream name {} is used twice", upstream.name));
            }
            match reqwest::Url::parse(&upstream.url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => {}
                Ok(url) => {
                    problems.push(format!("upstream {}: scheme {} is not http or https", upstream.name, url.scheme()))
                }
                Err(error) => problems.push(format!("upstream {}: {error}", upstream.name)),
            }
        }
        problems
    }
}

// === impl UpstreamConfig ===

impl std::fmt::Debug for UpstreamConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("UpstreamConfig").field("name", &self.name).field("url", &"***").finish()
    }
}

// === impl Finality ===

impl Finality {
    /// Highest final block, given the head and what the `finalized` tag answers. `None`: nothing is final yet.
    pub fn final_height(self, head: u64, finalized_tag: Option<u64>) -> Option<u64> {
        match self {
            Self::Depth(depth) => head.checked_sub(depth),
            Self::FinalizedTag => finalized_tag,
        }
    }
}

// === impl FeePolicy ===

impl Default for FeePolicy {
    fn default() -> Self {
        Self {
            kind: defaults::fee_kind(),
            max_fee_cap_wei: defaults::max_fee_cap_wei(),
            headroom_bps: defaults::headroom_bps(),
            priority_fee_wei: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimal_file_gets_defaults_and_unknown_keys_are_refused() {
        let minimal = "chain_id = 31337\n[[upstreams]]\nname = \"a\"\nurl = \"http://localhost:8545\"\n";
        let config: ChainConfig = toml::from_str(minimal).expect("parses");
        assert_eq!(config.finality, Finality::FinalizedTag);
        assert_eq!(config.fees, FeePolicy::default());
        assert!(config.problems().is_empty());
        assert!(toml::from_str::<ChainConfig>(&format!("surprise = 1\n{minimal}")).is_err());
        let full =
            "chain_id = 1\nfinality = { depth = 3 }\nupstreams = []\n[fees]\nkind = \"legacy\"\nmax_fee_cap_wei = 7\n";
        let config: ChainConfig = toml::from_str(full).expect("parses");
        assert_eq!(config.finality, Finality::Depth(3));
        assert_eq!(config.fees.kind, FeeKind::Legacy);
        assert_eq!(config.problems(), ["upstreams must not be empty"]);
    }

    #[test]
    fn debug_hides_the_url() {
        let upstream = UpstreamConfig { name: "a".into(), url: "https://node/api-key".into() };
        assert!(!format!("{upstream:?}").contains("api-key"));
    }

    #[test]
    fn finality_by_depth_and_by_tag() {
        assert_eq!(Finality::Depth(3).final_height(10, None), Some(7));
        assert_eq!(Finality::Depth(3).final_height(2, None), None);
        assert_eq!(Finality::FinalizedTag.final_height(10, Some(4)), Some(4));
    }
}
