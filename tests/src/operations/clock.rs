//! The clock of one service after the other is an hour ahead, then an hour behind, while all others are right.

use std::path::PathBuf;
use std::time::Instant;

use dalp_devstack::stack::{Options, SERVICES};

use super::{CannotHere, Measures, Outcome, Run, Site};

const SHIFTS: [&str; 2] = ["+3600", "-3600"];
/// A clock is wrong for so much of the time that other things are away.
const SHARE: u32 = 6;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let options = Options { clock_library: Some(library()?), ..Options::default() };
    let site = Site::open(&options, "local").await?;
    let mut run = Run::begin(&site, "clock", measures).await?;
    for name in SERVICES {
        for shift in SHIFTS {
            let from = Instant::now();
            std::fs::write(site.stack.clock(name), shift)?;
            tokio::time::sleep(measures.away / SHARE).await;
            std::fs::write(site.stack.clock(name), "+0")?;
            run.over(&format!("{name} {shift} s"), from, Instant::now()).await?;
        }
    }
    run.finish(&site).await
}

/// Where libfaketime stands.
fn library() -> anyhow::Result<PathBuf> {
    let multiarch = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut places =
        multiarch.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = places.find(|path| path.is_file());
    found.ok_or_else(|| CannotHere("libfaketime is not installed (Debian: faketime)".to_owned()).into())
}
