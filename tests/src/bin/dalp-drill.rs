//! `make drill`: kills a service at every stage of what it does, takes away what everything depends on, and counts on the chain what came of it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a command-line tool talks on standard output

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use dalp_devstack::report::{Figure, Report, StepRow};
use dalp_tests::drill::{Ground, coupon, push};
use dalp_tests::operations::{DRILLS, Ended, Measures, drill};
use dalp_tests::wallets::wallets;

/// Figures that a good platform keeps at zero.
const CORRECTNESS: [&str; 6] = [".refused", ".lost", ".duplicated", ".gapped", ".difference", ".deviating"];

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
    /// Only drills whose name begins so: `distribution` (a push and a coupon, killed at each of their stages), `operations.killed` and the others of its kind.
    #[arg(long, default_value = "")]
    only: String,
    /// Recipients of the push, who are the holders of the coupon.
    #[arg(long, default_value_t = 10_000)]
    recipients: usize,
    /// Requests a second in the drills of operations.
    #[arg(long, default_value_t = 12.0)]
    rate: f64,
    /// How long is away what they take away, in seconds.
    #[arg(long, default_value_t = 60)]
    away_s: u64,
    /// The folder with the programs (`svc-...`) of an earlier version, which `operations.upgraded` upgrades from.
    #[arg(long)]
    old_binaries: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| name.starts_with(&arguments.only);
    let operations: Vec<&str> = DRILLS.into_iter().filter(|name| wanted(&format!("operations.{name}"))).collect();
    anyhow::ensure!(wanted("distribution") || !operations.is_empty(), "there is no drill {}", arguments.only);
    let mut report = Report::begin("drill");
    let mut broken = Vec::new();
    if wanted("distribution")
        && let Err(error) = distribution(&arguments, &mut report).await
    {
        broken.push(undone(&mut report, "distribution", &error));
    }
    let measures = Measures {
        rate: arguments.rate,
        away: Duration::from_secs(arguments.away_s),
        old_programs: arguments.old_binaries.clone(),
        tell: |what| println!("  {what}"),
    };
    for name in operations {
        println!("operations.{name}");
        match drill(name, &measures).await {
            Ok(Ended::Done(outcome)) => tell(&mut report, outcome.steps(), outcome.figures()),
            Ok(Ended::Skipped(row)) => {
                println!("{:<80} skipped: {}", row.name, row.why);
                report.skipped.push(row);
            }
            Err(error) => broken.push(undone(&mut report, &format!("operations.{name}"), &error)),
        }
        report.write(&arguments.report)?;
    }
    report.write(&arguments.report)?;
    println!("report: {}", arguments.report.display());
    anyhow::ensure!(!report.figures.is_empty() || !broken.is_empty(), "nothing was drilled: all of it was skipped");
    let damage = report.figures.iter().filter(|figure| CORRECTNESS.iter().any(|end| figure.name.ends_with(end)));
    let damage = damage
        .filter(|figure| figure.value != Some(0.0))
        .map(|figure| format!("{} is not 0: {}", figure.name, figure.note));
    broken.extend(damage);
    anyhow::ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}

/// Keeps for the report that a drill did not come to its end, and says so.
fn undone(report: &mut Report, name: &str, error: &anyhow::Error) -> String {
    report.steps.push(StepRow {
        name: name.to_owned(),
        expected: "comes to its end".to_owned(),
        got: format!("{error:#}"),
        ok: false,
        tx_hash: None,
        gas_used: None,
        elapsed_ms: 0,
    });
    format!("{name}: {error:#}")
}

/// A push and a coupon, killed at each of their stages.
async fn distribution(arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let mut ground = Ground::start(SETTINGS).await?;
    let recipients = wallets("drill", arguments.recipients);
    ground.verify(&recipients).await?;
    println!("{} wallets are verified", recipients.len());
    let pushed = push(&mut ground, "push", &recipients).await?;
    tell(report, pushed.steps(), pushed.figures());
    report.write(&arguments.report)?;
    let holders: Vec<_> = recipients.into_iter().zip(1..).collect();
    let paid = coupon(&mut ground, "coupon", &holders).await?;
    tell(report, paid.steps(), paid.figures());
    report.write(&arguments.report)
}

/// Prints what came of a drill, and keeps it for the report.
fn tell(report: &mut Report, steps: impl Iterator<Item = StepRow>, figures: Vec<Figure>) {
    for step in steps {
        println!("{:<80} {}", step.name, step.got);
        report.steps.push(step);
    }
    for figure in &figures {
        println!("{:<40} {} {}", figure.name, figure.value.unwrap_or_default(), figure.unit);
    }
    report.figures.extend(figures);
}
