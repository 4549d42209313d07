//! Systems, identities, assets, compliance and holders; in its other role, the compliance attestor.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use dalp_service::{
    config::{self, ProcessEnvironment},
    stop::Stop,
    telemetry,
};
use std::path::PathBuf;
use svc_compliance::{
    NAME,
    attest::{self, config::AttestorConfig},
    config::{ComplianceConfig, ENVIRONMENT_PREFIX},
};

#[derive(Parser)]
#[command(name = NAME, version, about = "Systems, identities, assets, compliance and holders; or the compliance attestor")]
struct Arguments {
    /// Configuration file; see config.example.toml, for the role `attest` attestor.example.toml.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// What this process is. One process is never both.
    #[arg(long, global = true, value_enum, default_value_t = Role::Serve)]
    role: Role,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the configuration, lists every problem and ends.
    CheckConfig,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// The domain service.
    Serve,
    /// The attestor, which svc-signer asks before it signs.
    Attest,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { config, role, command } = Arguments::parse();
    let only_check = matches!(command, Some(Command::CheckConfig));
    match role {
        Role::Serve => {
            let config: ComplianceConfig = config::load(config.as_deref(), &ProcessEnvironment, ENVIRONMENT_PREFIX)?;
            if only_check {
                return Ok(());
            }
            let _telemetry = telemetry::init(NAME, &config.telemetry)?;
            let running =
                svc_compliance::start(config, Stop::on_signals()).await.context("svc-compliance does not start")?;
            running.stopped().await;
        }
        Role::Attest => {
            let prefix = attest::config::ENVIRONMENT_PREFIX;
            let config: AttestorConfig = config::load(config.as_deref(), &ProcessEnvironment, prefix)?;
            if only_check {
                return Ok(());
            }
            let _telemetry = telemetry::init(attest::NAME, &config.telemetry)?;
            let running = attest::start(config, Stop::on_signals()).await.context("the attestor does not start")?;
            running.stopped().await;
        }
    }
    Ok(())
}
