//! `make drill`: kills a service at every stage of what it does, and counts on the chain what came of it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a command-line tool talks on standard output

use std::path::PathBuf;

use clap::Parser;
use dalp_devstack::report::Report;
use dalp_tests::drill::{Ground, Outcome, coupon, push};
use dalp_tests::wallets::wallets;

/// Figures that a good platform keeps at zero.
const CORRECTNESS: [&str; 4] = [".lost", ".duplicated", ".difference", ".deviating"];

/// Batches under way at once: with fewer than the service's own default, the recipients of all that may be under way are a small part of the
/// list, and its quarters are stages of their own.
const SETTINGS: &str = "\n[airdrop]\nbatches_at_once = 4\n\n[treasury]\nbatches_at_once = 4\n";

/// Drills the platform on this machine and writes a JSON report.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Where the report goes.
    #[arg(long, default_value = "target/drill/report.json")]
    report: PathBuf,
    /// Only drills whose name begins so; there is `distribution`: a push and a coupon, killed at each of their stages.
    #[arg(long, default_value = "")]
    only: String,
    /// Recipients of the push, who are the holders of the coupon.
    #[arg(long, default_value_t = 10_000)]
    recipients: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!("distribution".starts_with(&arguments.only), "there is no drill {}", arguments.only);
    let mut report = Report::begin("drill");
    let mut ground = Ground::start(SETTINGS).await?;
    let recipients = wallets("drill", arguments.recipients);
    ground.verify(&recipients).await?;
    println!("{} wallets are verified", recipients.len());
    let pushed = push(&mut ground, "push", &recipients).await?;
    tell(&mut report, &pushed);
    report.write(&arguments.report)?;
    let holders: Vec<_> = recipients.into_iter().zip(1..).collect();
    tell(&mut report, &coupon(&mut ground, "coupon", &holders).await?);
    report.write(&arguments.report)?;
    println!("report: {}", arguments.report.display());
    let damage = report.figures.iter().filter(|figure| CORRECTNESS.iter().any(|end| figure.name.ends_with(end)));
    let damage: Vec<String> = damage
        .filter(|figure| figure.value != Some(0.0))
        .map(|figure| format!("{} is not 0: {}", figure.name, figure.note))
        .collect();
    anyhow::ensure!(damage.is_empty(), "{}", damage.join("; "));
    Ok(())
}

/// Prints what came of a drill, and keeps it for the report.
fn tell(report: &mut Report, outcome: &Outcome) {
    let (steps, figures) = (outcome.steps(), outcome.figures());
    for step in steps {
        println!("{:<80} {}", step.name, step.got);
        report.steps.push(step);
    }
    for figure in &figures {
        println!("{:<40} {} {}", figure.name, figure.value.unwrap_or_default(), figure.unit);
    }
    report.figures.extend(figures);
}
