//! Every service is killed, one after the other, and started again at once.

use std::time::Instant;

use dalp_devstack::stack::{Options, SERVICES};

use super::{Measures, Outcome, Run, Site};

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let mut site = Site::open(&Options::default(), "local").await?;
    let mut run = Run::begin(&site, "killed", measures).await?;
    for name in SERVICES {
        let from = Instant::now();
        site.kill(name)?;
        let killed = Instant::now(); // that it starts is a part of its recovery
        site.restart(name)?;
        run.over(name, from, killed).await?;
    }
    run.finish(&site).await
}
