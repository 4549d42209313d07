//! `dalp`: every RPC that the gateway offers as a command, for people and scripts.
//!
//! Nothing about an RPC is written down here: commands, options and their help come from the contracts that the binary carries
//! ([`catalogue`]), so a new RPC is a new command with the next build.
//!
//! In reading order: [`catalogue`], [`command`] (what can be typed), [`request`] (what was typed, as a message), [`secret`] (what must not be typed in a command), [`channel`] and [`codec`] (the
//! wire), [`call`] (one RPC), [`follow`] (an operation until it is final), [`render`] (answers as tables), [`failure`] (what went wrong, and the exit code).
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line tool prints

mod call;
mod catalogue;
mod channel;
mod codec;
mod command;
mod failure;
mod follow;
mod render;
mod request;
mod secret;

use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let areas = catalogue::areas();
    let matches = command::command(&areas).get_matches();
    if let Some(("completion", given)) = matches.subcommand() {
        command::print_completion(&areas, given);
        return ExitCode::SUCCESS;
    }
    match run(&areas, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn run(areas: &[catalogue::Area], matches: &clap::ArgMatches) -> Result<(), Failure> {
    let (rpc, given) = command::chosen(areas, matches);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Broken(format!("no runtime: {error}")))?;
    let done = runtime.block_on(call::call(rpc, given));
    // A thread that still reads the standard input would hold up the end.
    runtime.shutdown_background();
    done
}
