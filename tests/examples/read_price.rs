//! How a program outside reads a price: it knows a node, the address of the pair's adapter and AggregatorV3, and nothing else of the
//! platform. The address stays when the feed behind it is replaced, and round ids keep growing.
//!
//! ```sh
//! cargo run -p dalp-tests --example read_price -- http://127.0.0.1:8545 0x<adapter> 3600
//! ```

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, aliases::U80, utils::format_units},
    providers::{Provider, ProviderBuilder},
    sol,
};
use anyhow::{Context as _, ensure};

sol! {
    #[sol(rpc)]
    interface AggregatorV3 {
        function decimals() external view returns (uint8);
        function latestRoundData() external view returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
    }
}

/// A price that was good when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Price {
    /// In units, for instance `150.25`.
    pub(crate) text: String,
    /// Grows with every update, also across feeds.
    pub(crate) round_id: U80,
    /// Unix seconds.
    pub(crate) observed_at: u64,
}

/// Reads a price that is positive and at most so old, by the chain's own clock.
///
/// # Errors
/// When the node does not answer, or there is no such price.
pub(crate) async fn read(node: &impl Provider, adapter: Address, max_age_s: u64) -> anyhow::Result<Price> {
    let prices = AggregatorV3::new(adapter, node);
    let latest = node.get_block_by_number(BlockNumberOrTag::Latest).await?.context("the chain has no block")?;
    let at = latest.header.hash.into();
    let round = prices.latestRoundData().block(at).call().await?;
    let decimals = prices.decimals().block(at).call().await?;
    ensure!(round.answer.is_positive(), "{} is no price", round.answer);
    let observed_at: u64 = round.updatedAt.saturating_to();
    let age_s = latest.header.timestamp.saturating_sub(observed_at);
    ensure!(age_s <= max_age_s, "the price is {age_s} s old, more than {max_age_s} s");
    Ok(Price { text: format_units(round.answer, decimals)?, round_id: round.roundId, observed_at })
}

#[tokio::main]
#[allow(clippy::print_stdout)] // a command-line tool
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &'static str| arguments.next().with_context(|| format!("{what} is missing"));
    let (node, adapter, max_age_s) =
        (next("the node's URL")?, next("the adapter")?, next("the greatest age in seconds")?);
    let node = ProviderBuilder::default().connect_http(node.parse()?);
    let price = read(&node, adapter.parse()?, max_age_s.parse()?).await?;
    println!("{} in round {}, observed at {}", price.text, price.round_id, price.observed_at);
    Ok(())
}
