//! The platform on the null chain: what it can do when the chain costs nothing.
//!
//! The whole stack is measured, through the gateway, as at anvil: a client pays for all of it, and its parts share the machine.

use dalp_devstack::report::Figure;

use super::open_loop::{LASTS, Step, Subject, burst, step};
use super::platform::count;
use super::room::Room;
use super::{chain, clients, cpu};

/// Requests a second that are offered, one after the other.
const RATES: [usize; 6] = [50, 100, 200, 400, 800, 1_600];
const LANES: [usize; 3] = [1, 10, 100];
/// Transfers before anything is measured.
const WARM_UP: usize = 300;
/// Rates whose time to accept is told.
const ACCEPT_RATES: [usize; 2] = [50, 400];
/// A key in an HSM is offered no more than its provider can sign in one session.
const HSM_RATES: [usize; 4] = [50, 100, 200, 400];

/// Figures with local keys; those of the libraries on the same chain beside them.
pub(super) async fn local(only: &str, transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let lanes_asked = |lanes: usize| !only.contains(".lanes") || only.ends_with(&format!(".lanes{lanes}"));
    let most = LANES.into_iter().filter(|lanes| lanes_asked(*lanes)).max().unwrap_or(10);
    let room = Room::prepare(most, "local").await?;
    let beside = ["ceiling.null", "library."].iter().any(|group| only.starts_with(group) || group.starts_with(only));
    let mut comparisons = Vec::new();
    for lanes in [1, 10].into_iter().filter(|lanes| beside && lanes_asked(*lanes)) {
        comparisons.push(room.comparison(lanes).await?);
    }
    room.chain.take_over().await?;
    let mut figures = Vec::new();
    for calls in &comparisons {
        figures.push(chain::ceiling_figure("null", calls.lanes(), calls.ceiling(transfers).await?));
        figures.push(chain::alloy_figure("null", calls.lanes(), calls.alloy(transfers).await?));
        figures.extend(clients::figures("null", calls).await?);
    }
    if only.starts_with("library.") || only.starts_with("ceiling.") {
        return Ok(figures);
    }
    for lanes in LANES.into_iter().filter(|lanes| lanes_asked(*lanes)) {
        let goal = (lanes == 10).then_some(1_000.0);
        figures.push(throughput(&room, &format!("throughput.null.local.lanes{lanes}"), lanes, transfers, goal).await?);
        if only.starts_with("throughput.") {
            continue; // the rates take most of the time
        }
        let steps = climb(&room, lanes, &RATES, "local").await?;
        figures.push(highest_rate(&format!("highest_rate.null.local.lanes{lanes}"), &steps));
        if lanes == 10 {
            figures.extend(latencies(&steps));
        }
    }
    Ok(figures)
}

/// Figures with one key in SoftHSM.
pub(super) async fn softhsm(transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let room = Room::prepare(1, "pkcs11").await?;
    room.chain.take_over().await?;
    let throughput = throughput(&room, "throughput.null.softhsm.lanes1", 1, transfers, Some(150.0)).await?;
    let steps = climb(&room, 1, &HSM_RATES, "softhsm").await?;
    Ok(vec![throughput, highest_rate("highest_rate.null.softhsm.lanes1", &steps)])
}

/// As much as can be done, and what each part uses for it.
pub(super) async fn throughput(
    subject: &dyn Subject,
    name: &str,
    lanes: usize,
    transfers: usize,
    goal: Option<f64>,
) -> anyhow::Result<Figure> {
    burst(subject, lanes, WARM_UP, &format!("warm-{name}")).await?;
    let before = cpu::by_part(&subject.processes());
    let rate = burst(subject, lanes, transfers, name).await?;
    let parts = cpu::per_thousand(&before, &cpu::by_part(&subject.processes()), count(transfers));
    let note = format!("{transfers} transfers, first request sent to last one final; CPU s per 1,000: {parts}");
    Ok(Figure::of(name, "tx/s", vec![rate], goal, &note))
}

/// Offers each rate.
pub(super) async fn climb(
    subject: &dyn Subject,
    lanes: usize,
    rates: &[usize],
    label: &str,
) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for rate in rates {
        steps.push(step(subject, lanes, *rate, LASTS, label).await?);
    }
    Ok(steps)
}

pub(super) fn highest_rate(name: &str, steps: &[Step]) -> Figure {
    let said: Vec<String> = steps.iter().map(Step::say).collect();
    let rule = "highest offered rate at which nothing is refused and all is final 2 s after the last request";
    match highest_bounded(steps) {
        Some(step) => {
            Figure::of(name, "tx/s", vec![count(step.offered)], None, &format!("{rule}; {}", said.join("; ")))
        }
        None => {
            Figure::missing(name, "tx/s", None, &format!("even the lowest rate leaves a backlog; {}", said.join("; ")))
        }
    }
}

/// The highest rate below which every one was bounded too.
fn highest_bounded(steps: &[Step]) -> Option<&Step> {
    steps.iter().take_while(|step| step.is_bounded()).last()
}

fn latencies(steps: &[Step]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let of = |rate: usize| steps.iter().find(|step| step.offered == rate);
    for step in ACCEPT_RATES.into_iter().filter_map(of) {
        for share in [50, 99] {
            let name = format!("accept_ms.p{share}.rate{}", step.offered);
            let note = format!("open loop on {} lanes, {} requests accepted", step.lanes, step.accept_ms.count());
            figures.push(Figure::of(&name, "ms", vec![step.accept_ms.at(share)], None, &note));
        }
    }
    let half = highest_bounded(steps).and_then(|highest| of(highest.offered / 2).or_else(|| of(highest.offered)));
    let Some(half) = half else { return figures };
    for share in [50, 99] {
        let goal = (share == 99).then_some(50.0);
        let note = format!(
            "request due to bytes at the node, at {} tx/s on {} lanes, half the highest rate",
            half.offered, half.lanes
        );
        let value = vec![half.first_broadcast_ms.at(share)];
        figures.push(Figure::of(&format!("first_broadcast_ms.p{share}"), "ms", value, goal, &note));
        let note = format!("request due to final, at {} tx/s; a block a second", half.offered);
        figures.push(Figure::of(&format!("final_ms.p{share}"), "ms", vec![half.final_ms.at(share)], None, &note));
    }
    figures
}
