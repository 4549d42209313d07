//! One of two nodes lies, in one way after another; then both are down.

use std::time::Instant;

use dalp_chain::testing::Anvil;
use dalp_devstack::stack::Options;

use super::lying::{Lie, LyingNode};
use super::{Measures, Outcome, Run, Site};
use crate::wire::Wire;

/// A lie lasts so much of the time that other things are away.
const SHARE: u32 = 4;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let defaults = Options::default();
    let node = Anvil::start(&defaults.chain_arguments);
    let (liar, honest) = (LyingNode::before(&node.url).await?, Wire::start(&node.url).await);
    let options = Options { chain_url: Some(liar.url()), other_node: Some(honest.url.clone()), ..defaults };
    let site = Site::open_at(&options, "local", Some(&node.url)).await?;
    let mut run = Run::begin(&site, "upstreams", measures).await?;
    let height = site.chain.height().await?;
    let lies = [
        ("one swallows transactions", Lie::Swallows),
        ("one stands still", Lie::StandsStill(height)),
        ("one invents nonces", Lie::Nonces),
        ("one is of another chain", Lie::OtherChain),
    ];
    for (what, lie) in lies {
        let from = Instant::now();
        liar.tell(lie);
        tokio::time::sleep(measures.away / SHARE).await;
        liar.tell(Lie::Nothing);
        run.over(what, from, Instant::now()).await?;
    }
    let from = Instant::now();
    liar.tell(Lie::Down);
    honest.cut();
    tokio::time::sleep(measures.away).await;
    liar.tell(Lie::Nothing);
    honest.mend();
    run.over("both down", from, Instant::now()).await?;
    run.finish(&site).await
}
