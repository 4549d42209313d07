//! There are two replicas of everything, and one of them is killed: of each service, one after the other.

use std::time::Instant;

use dalp_devstack::configuration::replica_name;
use dalp_devstack::stack::{Build, Options, SERVICES};

use super::{Measures, Outcome, Run, Site};

/// Each is away for so much of the time that other things are, and longer where the throughput takes longer.
const SHARE: u32 = 4;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let options = Options { replicas: vec![Build::default(), Build::default()], ..Options::default() };
    let mut site = Site::open(&options, "local").await?;
    let mut run = Run::begin(&site, "replicas", measures).await?;
    for service in SERVICES {
        // The second one's turn comes when it has the connections and the lanes that the first one had.
        for replica in [1, 2].map(|number| replica_name(service, number)) {
            run.steady().await;
            let from = Instant::now();
            site.kill(&replica)?;
            let back = run.throughput_back(from, measures.away / SHARE).await?;
            run.over_with(&format!("{replica} killed"), from, back).await?;
            site.restart(&replica)?;
            site.ready(&replica).await?;
        }
    }
    run.finish(&site).await
}
