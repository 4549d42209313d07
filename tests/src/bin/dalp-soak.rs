//! `make soak`: two hours at half the highest rate, to see whether memory and latency stay flat.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a command-line tool talks on standard output

use std::path::PathBuf;

use clap::Parser;
use dalp_devstack::report::Report;
use dalp_tests::bench::{Soak, Soaked, soak};

/// Soaks the platform on this machine and writes a JSON report. What grows is reported, not refused.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Where the report goes.
    #[arg(long, default_value = "target/soak/report.json")]
    report: PathBuf,
    #[command(flatten)]
    scope: Soak,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::begin("soak");
    let Soaked { figures, broken } = soak(&arguments.scope, &|line| println!("{line}")).await?;
    report.figures = figures;
    for figure in &report.figures {
        let value = figure.value.unwrap_or_default();
        let goal = figure.goal.map(|goal| format!(" (goal {goal})")).unwrap_or_default();
        println!("{:<44} {value:.2} {}{goal} {}", figure.name, figure.unit, figure.note);
    }
    report.write(&arguments.report)?;
    println!("report: {}", arguments.report.display());
    broken.map_or(Ok(()), |broken| Err(anyhow::anyhow!(broken)))
}
