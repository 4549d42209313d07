//! The clock of one service after the other is an hour ahead, then an hour behind, while all others are right.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dalp_devstack::stack::{Options, SERVICES};
use jiff::{SignedDuration, Timestamp};

use super::{CannotHere, Measures, Outcome, Run, Site};

const SHIFTS_S: [i64; 2] = [3_600, -3_600];
/// What is told in whole seconds, looked up once a second and read over a network is right so nearly.
const NEARLY: SignedDuration = SignedDuration::from_secs(5);
/// How long a clock may take to be read as it was set, and how often it is looked at.
const SET_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A clock is wrong for so much of the time that other things are away.
const SHARE: u32 = 6;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let options = Options { clock_library: Some(library()?), ..Options::default() };
    let site = Site::open(&options, "local").await?;
    let mut run = Run::begin(&site, "clock", measures).await?;
    for name in SERVICES {
        for shift_s in SHIFTS_S {
            set(&site, name, shift_s).await?;
            let from = Instant::now();
            tokio::time::sleep(measures.away / SHARE).await;
            set(&site, name, 0).await?;
            run.over(&format!("{name} {shift_s:+} s"), from, Instant::now()).await?;
        }
    }
    run.finish(&site).await
}

/// Sets a service's clock so far off, and waits until the service itself tells such a time.
async fn set(site: &Site, name: &str, shift_s: i64) -> anyhow::Result<()> {
    std::fs::write(site.stack.clock(name), format!("{shift_s:+}"))?;
    let begun = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let told = told(site, name).await.with_context(|| format!("the time that {name} tells"))?;
        let off = told.duration_since(Timestamp::now()) - SignedDuration::from_secs(shift_s);
        if off.abs() < NEARLY {
            return Ok(());
        }
        ensure!(begun.elapsed() < SET_WITHIN, "{name} tells {told}, though its clock was set {shift_s:+} s off");
    }
}

/// The time by which a service dates an answer (RFC 9110, section 6.6.1).
async fn told(site: &Site, name: &str) -> anyhow::Result<Timestamp> {
    let alive = format!("http://{}/livez", site.stack.settings().metrics_address(name));
    let answer = reqwest::get(alive).await?;
    let date = answer.headers().get(reqwest::header::DATE).context("it is not dated")?;
    Ok(jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.as_bytes())?)
}

/// Where libfaketime stands.
fn library() -> anyhow::Result<PathBuf> {
    let multiarch = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut places =
        multiarch.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = places.find(|path| path.is_file());
    found.ok_or_else(|| CannotHere("libfaketime is not installed (Debian: faketime)".to_owned()).into())
}
