//! `svc-gateway --config gateway.toml` serves; `svc-gateway api-key new` makes a key for a principal.
#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dalp_service::{config, stop::Stop, telemetry};
use svc_gateway::{ENV_PREFIX, GatewayConfig, NAME, api_key::ApiKey, rest::openapi};

/// The public edge of the platform.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; see config.example.toml. Variables DALP_GATEWAY__SECTION__KEY override it.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the configuration, lists every problem and ends.
    CheckConfig,
    /// API keys of principals.
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Prints the OpenAPI document of the HTTP/JSON interface, as it is committed in docs/openapi.json.
    Openapi,
}

#[derive(Subcommand)]
enum ApiKeyCommand {
    /// Prints a new key, to be handed to its owner, and the lines of the configuration that let it in.
    New,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::ApiKey(ApiKeyCommand::New)) => new_api_key(),
        Some(Command::Openapi) => {
            print_openapi();
            Ok(())
        }
        Some(Command::CheckConfig) => load(arguments.config.as_deref()).map(drop),
        None => serve(arguments.config.as_deref()).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(path: Option<&Path>) -> anyhow::Result<GatewayConfig> {
    Ok(config::load(path, &config::ProcessEnvironment, ENV_PREFIX)?)
}

async fn serve(path: Option<&Path>) -> anyhow::Result<()> {
    let config = load(path)?;
    let _telemetry = telemetry::init(NAME, &config.telemetry)?;
    let stop = Stop::on_signals();
    svc_gateway::start(config, &stop).await?.stopped().await
}

#[allow(clippy::print_stdout, reason = "a command-line tool answers on its standard output")]
fn print_openapi() {
    print!("{}", openapi::text(&openapi::document()));
}

#[allow(clippy::print_stdout, reason = "a command-line tool answers on its standard output")]
fn new_api_key() -> anyhow::Result<()> {
    let key = ApiKey::generate().context("cannot draw random bytes")?;
    println!("# hand this to its owner; it is shown once and stored nowhere\n{}\n", key.expose());
    println!("# into a [[principals]] section of the gateway's configuration");
    println!("prefix = \"{}\"\napi_key_sha256 = \"{}\"", key.prefix(), key.digest());
    Ok(())
}
