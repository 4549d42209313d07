//! Half of what the platform can do, for hours: whether its memory and its latencies stay where they are.

use std::time::Duration;

use anyhow::ensure;
use dalp_devstack::report::Figure;
use tokio::time::Instant;

use super::cpu;
use super::open_loop::{Step, burst, step};
use super::platform::count;
use super::room::Room;

/// Transfers by which it is found what the platform can do.
const SOUNDING: usize = 3_000;
/// What the last quarter may have more than the first one.
const FLAT: f64 = 1.2;
/// Fewer windows than this have no quarters.
const FEWEST_WINDOWS: usize = 4;

/// How long, and how hard.
#[derive(Debug, Clone, clap::Args)]
pub struct Soak {
    /// How long the load lasts.
    #[arg(long, default_value_t = 120)]
    pub minutes: u32,
    /// After so many seconds everything under way is waited for, and memory is read.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..))]
    pub window_s: u32,
    /// Transfers a second; by default half of what a burst shows to be the most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Lanes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub lanes: u32,
}

/// The name of a latency, and which of a window's it is.
type Latency = (&'static str, fn(&Step) -> f64);

/// What a window came to.
struct Window {
    step: Step,
    /// Of each process, in MiB.
    resident: Vec<(String, f64)>,
}

/// What came of a soak.
#[derive(Debug)]
pub struct Soaked {
    /// Of all windows that came to their end.
    pub figures: Vec<Figure>,
    /// What broke it off: a request that was lost, a process that was gone.
    pub broken: Option<String>,
}

/// Soaks the platform on a null chain; `tell` hears of each window. At the end of a window everything that was accepted is waited for, and memory is read.
///
/// # Errors
/// When the stack does not come up, or not even one window comes to its end.
pub async fn soak(scope: &Soak, tell: &dyn Fn(String)) -> anyhow::Result<Soaked> {
    let lanes = usize::try_from(scope.lanes)?;
    let room = Room::prepare(lanes, "local").await?;
    room.chain.take_over().await?;
    let most = burst(&room, lanes, SOUNDING, "sounding").await?;
    let rate = scope.rate.map_or_else(|| half(most), |rate| rate as usize);
    tell(format!("a burst of {SOUNDING} made {most:.0} tx/s; {rate} tx/s on {lanes} lanes from now on"));
    let lasts = Duration::from_secs(scope.window_s.into());
    let ends = Instant::now() + Duration::from_secs(60) * scope.minutes;
    let (mut windows, mut broken): (Vec<Window>, _) = (Vec::new(), None);
    while Instant::now() < ends || windows.len() < FEWEST_WINDOWS {
        let label = format!("soak{}", windows.len());
        let ended = step(&room, lanes, rate, lasts, &label).await.and_then(|step| Ok((step, resident(&room)?)));
        let (step, resident) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                broken = Some(format!("window {}: {error:#}", windows.len() + 1));
                break;
            }
        };
        let each: Vec<String> = resident.iter().map(|(name, mib)| format!("{name} {mib:.0}")).collect();
        tell(format!("{} | MiB: {}", step.say(), each.join(", ")));
        windows.push(Window { step, resident });
    }
    if let (Some(broken), true) = (&broken, windows.is_empty()) {
        anyhow::bail!("{broken}");
    }
    let refused: usize = windows.iter().flat_map(|window| window.step.refused.values()).sum();
    let done: usize = windows.iter().map(|window| window.step.final_ms.count()).sum();
    let note = format!(
        "{} windows of {} s at {rate} tx/s on {lanes} lanes; {most:.0} tx/s in a burst before",
        windows.len(),
        scope.window_s
    );
    let mut figures = vec![
        Figure::of("soak.transfers", "1", vec![count(done)], None, &note),
        Figure::of("soak.refused", "1", vec![count(refused)], Some(0.0), "requests that were not accepted"),
    ];
    let latencies: [Latency; 4] = [
        ("soak.accept_ms.p50", |step| step.accept_ms.at(50)),
        ("soak.accept_ms.p99", |step| step.accept_ms.at(99)),
        ("soak.first_broadcast_ms.p99", |step| step.first_broadcast_ms.at(99)),
        ("soak.final_ms.p99", |step| step.final_ms.at(99)),
    ];
    for (name, of) in latencies {
        figures.extend(course(name, "ms", windows.iter().map(|window| of(&window.step)).collect()));
    }
    let names: Vec<String> = windows[0].resident.iter().map(|(name, _)| name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        let course_of = windows.iter().map(|window| window.resident[at].1).collect();
        figures.extend(course(&format!("soak.rss_mib.{name}"), "MiB", course_of));
    }
    Ok(Soaked { figures, broken })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // far below 2^32, and no rate is negative
fn half(rate: f64) -> usize {
    ((rate / 2.0) as usize).max(1)
}

fn resident(room: &Room) -> anyhow::Result<Vec<(String, f64)>> {
    let services = room.stack.services().map(|service| {
        let mib = service.pid().and_then(cpu::resident_mib);
        (service.name().to_owned(), mib)
    });
    let all: Vec<(String, Option<f64>)> = services.collect();
    let gone: Vec<&str> = all.iter().filter(|(_, mib)| mib.is_none()).map(|(name, _)| name.as_str()).collect();
    ensure!(gone.is_empty(), "gone: {}", gone.join(", "));
    Ok(all.into_iter().filter_map(|(name, mib)| Some((name, mib?))).collect())
}

/// The values of all windows, and by how much the last quarter has more than the first.
fn course(name: &str, unit: &str, values: Vec<f64>) -> [Figure; 2] {
    let quarter = (values.len() / 4).max(1);
    let (first, last) = (median(&values[..quarter]), median(&values[values.len() - quarter..]));
    let note = format!("a value a window; median of the first quarter {first:.1}, of the last {last:.1}");
    let drift = Figure::of(&format!("{name}.drift"), "1", vec![last / first.max(f64::MIN_POSITIVE)], Some(FLAT), &note);
    [Figure::of(name, unit, values, None, "a value a window"), drift]
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_seen_to_grow() {
        let [all, drift] = course("a", "ms", vec![1.0, 9.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!((all.value, all.min, all.max), (Some(2.0), Some(1.0), Some(9.0)));
        assert_eq!(drift.value, Some(2.0 / 9.0), "quarters of two, of which the greater one counts");
        let [_, flat] = course("a", "ms", (0..8).map(|_| 3.0).collect());
        assert_eq!(flat.value, Some(1.0));
        let [_, short] = course("a", "ms", vec![1.0, 3.0]);
        assert_eq!(short.value, Some(3.0));
    }
}
