//! The signer is away for a while.

use std::time::Instant;

use dalp_devstack::stack::Options;

use super::{Measures, Outcome, Run, Site};

const SIGNER: &str = "svc-signer";

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let mut site = Site::open(&Options::default(), "local").await?;
    let mut run = Run::begin(&site, "signer_away", measures).await?;
    let from = Instant::now();
    site.kill(SIGNER)?;
    tokio::time::sleep(measures.away).await;
    let until = Instant::now();
    site.restart(SIGNER)?;
    run.over("no signer", from, until).await?;
    run.finish(&site).await
}
