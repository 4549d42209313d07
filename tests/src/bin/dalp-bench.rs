//! `make bench`: measures the platform beside the chain's ceiling, its floor and alloy, in one run.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a command-line tool talks on standard output

use std::path::PathBuf;

use clap::Parser;
use dalp_devstack::report::Report;
use dalp_tests::bench;

/// Ends of the names of figures that a good platform keeps at zero, whatever the machine.
const CORRECTNESS: [&str; 4] = [".lost", ".duplicated", ".gapped", ".stuck"];

/// Measures the platform on this machine and writes a JSON report. Figures that miss their goal are reported, not hidden.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Where the report goes.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    #[command(flatten)]
    scope: bench::Scope,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::begin("bench");
    let bench::Measured { figures, mut broken } = bench::run(&arguments.scope).await;
    report.figures = figures;
    for figure in &report.figures {
        let value =
            figure.value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.1} {}", figure.unit));
        let goal = figure.goal.map(|goal| format!(" (goal {goal})")).unwrap_or_default();
        println!("{:<40} {value}{goal} {}", figure.name, figure.note);
    }
    report.write(&arguments.report)?;
    println!("report: {}", arguments.report.display());
    let damage = report.figures.iter().filter(|figure| CORRECTNESS.iter().any(|end| figure.name.ends_with(end)));
    broken.extend(damage.filter(|figure| figure.value != Some(0.0)).map(|figure| format!("{} is not 0", figure.name)));
    anyhow::ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}
