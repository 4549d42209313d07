//! One of two nodes lies, in one way after another; then both are down.

use std::time::{Duration, Instant};

use anyhow::ensure;
use dalp_chain::testing::Anvil;
use dalp_devstack::stack::Options;

use super::lanes::compare_lanes;
use super::lying::{Lie, LyingNode};
use super::{Measures, Outcome, Run, Site};
use crate::wire::Wire;

/// A lie lasts so much of the time that other things are away.
const SHARE: u32 = 4;
/// How long the platform may take to ask something that can be answered with a lie, and how often that is looked at.
const ASKED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let defaults = Options::default();
    let node = Anvil::start(&defaults.chain_arguments);
    let (liar, honest) = (LyingNode::before(&node.url).await?, Wire::start(&node.url).await);
    let options = Options { chain_url: Some(liar.url()), other_node: Some(honest.url.clone()), ..defaults };
    let site = Site::open_at(&options, "local", Some(&node.url)).await?;
    let mut run = Run::begin(&site, "upstreams", measures).await?;
    let gateway = site.stack.client()?.gateway();
    let height = site.chain.height().await?;
    let lies = [
        ("one swallows transactions", Lie::Swallows),
        ("one stands still", Lie::StandsStill(height)),
        ("one invents nonces", Lie::Nonces),
        ("one is of another chain", Lie::OtherChain),
    ];
    for (what, lie) in lies {
        let from = Instant::now();
        let compared = async {
            // Nobody asks for a nonce while a lane goes well.
            match lie {
                Lie::Nonces => Ok(compare_lanes(&gateway, what).await?),
                _ => Ok(()),
            }
        };
        let (told, ()) = tokio::try_join!(lie_for(&liar, lie, measures.away / SHARE), compared)?;
        run.remark(format!("{what}: {told} lies"));
        run.over(what, from, Instant::now()).await?;
    }
    let from = Instant::now();
    honest.cut();
    let told = lie_for(&liar, Lie::Down, measures.away).await?;
    honest.mend();
    run.remark(format!("both down: {told} connections ended without an answer"));
    run.over("both down", from, Instant::now()).await?;
    run.finish(&site).await
}

/// Has a node lie so long, and longer where it was not asked anything that it lies about; says how often it has lied.
async fn lie_for(liar: &LyingNode, lie: Lie, lasts: Duration) -> anyhow::Result<u64> {
    let (before, begun) = (liar.lies(), Instant::now());
    liar.tell(lie);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while begun.elapsed() < lasts || liar.lies() == before {
        ensure!(begun.elapsed() < lasts + ASKED_WITHIN, "nobody asked the node anything about which it lies ({lie:?})");
        looks.tick().await;
    }
    liar.tell(Lie::Nothing);
    Ok(liar.lies() - before)
}
