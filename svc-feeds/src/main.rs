//! Issuer-signed scalar feeds.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dalp_service::{
    config::{self, ProcessEnvironment},
    stop::Stop,
    telemetry,
};
use std::path::PathBuf;
use svc_feeds::{NAME, config::ENVIRONMENT_PREFIX, config::FeedsConfig};

#[derive(Parser)]
#[command(name = NAME, version, about = "Issuer-signed scalar feeds")]
struct Arguments {
    /// Configuration file; see config.example.toml.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the configuration, lists every problem and ends.
    CheckConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config: FeedsConfig = config::load(arguments.config.as_deref(), &ProcessEnvironment, ENVIRONMENT_PREFIX)?;
    if let Some(Command::CheckConfig) = arguments.command {
        return Ok(());
    }
    let _telemetry = telemetry::init(NAME, &config.telemetry)?;
    let stop = Stop::on_signals();
    let running = svc_feeds::start(config, stop).await.context("svc-feeds does not start")?;
    running.stopped().await;
    Ok(())
}
