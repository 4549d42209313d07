//! `svc-distribution --config distribution.toml` serves.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use dalp_service::{config, stop::Stop, telemetry};
use svc_distribution::{Config, ENV_PREFIX, NAME};

/// Offerings, airdrops and treasury payouts.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; see config.example.toml. Variables DALP_DISTRIBUTION__SECTION__KEY override it.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse().config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(path: Option<PathBuf>) -> anyhow::Result<()> {
    let config: Config = config::load(path.as_deref(), &config::ProcessEnvironment, ENV_PREFIX)?;
    let _telemetry = telemetry::init(NAME, &config.telemetry)?;
    let stop = Stop::on_signals();
    svc_distribution::start(config, &stop).await?.stopped().await
}
