//! The development stack as a command: `demo`, `up`, `down`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line tool talks on its standard streams

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dalp_devstack::{demo, trial, up};

/// Runs the whole platform on this machine: PostgreSQL, SoftHSM, a development chain and all six services over mutual TLS, in a temporary folder
/// on free ports, ended and removed at the end.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Issues a bond and transfers it, end to end, through the gateway; exits non-zero when a step differs from what was expected.
    Demo {
        /// Where the JSON report goes.
        #[arg(long, default_value = "target/demo/report.json")]
        report: PathBuf,
    },
    /// Starts the stack, prints commands to try, and keeps it running until Ctrl-C or `down`.
    Up {
        /// With a second chain, for settlements across chains.
        #[arg(long)]
        second_chain: bool,
        /// Who makes and holds the keys where a request names nobody. Custodians and the Luna partition are simulated, as strict as the real ones, with a
        /// console for their people.
        #[arg(long, value_enum, default_value_t = trial::Keys::Local)]
        keys: trial::Keys,
    },
    /// Ends a stack that `up` started.
    Down,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { report } => demo::run(&report),
        Command::Up { second_chain, keys } => up::run(second_chain, keys).map(|()| true),
        Command::Down => up::down().map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
