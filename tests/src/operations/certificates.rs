//! Certificates are exchanged while calls are under way; then all of them end, and then the revocation list does, and new ones come late.

use std::time::{Duration, Instant};

use dalp_devstack::stack::{Options, SERVICES};
use time::OffsetDateTime;

use super::{Measures, Outcome, Run, Site};

/// How long the last certificates hold before they end: every service takes them up before.
const HOLD: Duration = Duration::from_secs(10);
/// So much of the time that other things are away nothing valid is there.
const SHARE: u32 = 4;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let mut site = Site::open(&Options::default(), "local").await?;
    let mut run = Run::begin(&site, "certificates", measures).await?;
    let pki = site.stack.pki();

    let from = Instant::now();
    for name in SERVICES {
        pki.issue(name)?;
    }
    run.over("exchanged in flight", from, Instant::now()).await?;

    let end = OffsetDateTime::now_utc() + HOLD;
    for name in SERVICES {
        pki.issue_until(name, end)?;
    }
    tokio::time::sleep(HOLD).await;
    let from = Instant::now();
    tokio::time::sleep(measures.away / SHARE).await;
    for name in SERVICES {
        pki.issue(name)?;
    }
    run.over("all expired", from, Instant::now()).await?;

    pki.publish_crl(OffsetDateTime::now_utc() + HOLD)?;
    tokio::time::sleep(HOLD).await;
    let from = Instant::now();
    tokio::time::sleep(measures.away / SHARE).await;
    pki.publish_crl(OffsetDateTime::now_utc() + time::Duration::days(30))?;
    run.over("revocation list expired", from, Instant::now()).await?;
    run.finish(&site).await
}
