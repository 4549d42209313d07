//! `make bench`: measures the platform beside the chain's ceiling, its floor and alloy, in one run.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a command-line tool talks on standard output

use std::path::PathBuf;

use clap::Parser;
use dalp_devstack::report::Report;
use dalp_tests::bench;

/// Measures the platform on this machine and writes a JSON report. Figures that miss their goal are reported, not hidden.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Where the report goes.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    /// Only figures whose name begins so, for instance `throughput.anvil.local.lanes10`.
    #[arg(long, default_value = "")]
    only: String,
    /// Transfers of one throughput run.
    #[arg(long, default_value_t = 2_000)]
    transfers: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::begin("bench");
    report.figures = bench::run(&arguments.only, arguments.transfers).await?;
    for figure in &report.figures {
        let value =
            figure.value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.1} {}", figure.unit));
        let goal = figure.goal.map(|goal| format!(" (goal {goal})")).unwrap_or_default();
        println!("{:<40} {value}{goal} {}", figure.name, figure.note);
    }
    report.write(&arguments.report)?;
    println!("report: {}", arguments.report.display());
    Ok(())
}
