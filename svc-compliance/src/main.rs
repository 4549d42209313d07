//! Systems, identities, assets, compliance and holders; in its other role, the compliance attestor.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
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
    #[arg(long)]
    config: Option<PathBuf>,
    /// What this process is. One process is never both.
    #[arg(long, value_enum, default_value_t = Role::Serve)]
    role: Role,
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
    let Arguments { config, role } = Arguments::parse();
    let stop = Stop::on_signals();
    match role {
        Role::Serve => {
            let config: ComplianceConfig = config::load(config.as_deref(), &ProcessEnvironment, ENVIRONMENT_PREFIX)?;
            let _telemetry = telemetry::init(NAME, &config.telemetry)?;
            let running = svc_compliance::start(config, stop).await.context("svc-compliance does not start")?;
            running.stopped().await;
        }
        Role::Attest => {
            let prefix = attest::config::ENVIRONMENT_PREFIX;
            let config: AttestorConfig = config::load(config.as_deref(), &ProcessEnvironment, prefix)?;
            let _telemetry = telemetry::init(attest::NAME, &config.telemetry)?;
            let running = attest::start(config, stop).await.context("the attestor does not start")?;
            running.stopped().await;
        }
    }
    Ok(())
}
