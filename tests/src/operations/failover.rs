//! The databases are a Patroni cluster whose primary is killed under load, twice; then it hands over by plan, and at last both standbys are away.

use std::time::Instant;

use dalp_devstack::stack::Options;

use super::cluster::Cluster;
use super::{Measures, Outcome, Run, Site};

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let mut cluster = Cluster::start().await?; // outlives the stack, whose databases it holds
    let options = Options { databases: Some(cluster.create_databases().await?), ..Options::default() };
    let site = Site::open(&options, "local").await?;
    let mut run = Run::begin(&site, "failover", measures).await?;
    for what in ["primary killed", "the next primary killed"] {
        let from = Instant::now();
        let killed = cluster.kill_primary().await?;
        cluster.wait_for_primary().await?;
        run.over(what, from, Instant::now()).await?;
        cluster.bring_back(&[killed])?;
        cluster.wait_until_whole().await?;
    }
    let from = Instant::now();
    cluster.switch_over().await?;
    run.over("handed over by plan", from, Instant::now()).await?;
    cluster.wait_until_whole().await?;
    let from = Instant::now();
    let killed = cluster.kill_standbys().await?;
    tokio::time::sleep(measures.away).await;
    cluster.bring_back(&killed)?;
    run.over("both standbys killed", from, Instant::now()).await?;
    run.finish(&site).await
}
