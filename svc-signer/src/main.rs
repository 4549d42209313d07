//! The isolated signer: the only component with key access.
#![forbid(unsafe_code)]

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use alloy::primitives::B256;
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dalp_service::{
    config::{self, ProcessEnvironment, SecretRef},
    stop::Stop,
    telemetry,
};
use zeroize::Zeroizing;

use svc_signer::{
    NAME,
    config::{ENVIRONMENT_PREFIX, SignerConfig},
    memory,
    providers::{KeyName, pkcs11},
    store::{Store, evidence::Wanted},
};

#[derive(Parser)]
#[command(name = NAME, version, about = "The isolated signer: the only component with key access")]
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
    /// Initialises a fresh token of a PKCS#11 module (development and tests).
    InitToken {
        /// The module.
        #[arg(long)]
        module: String,
        /// Label of the new token.
        #[arg(long)]
        label: String,
        /// File with the security officer's PIN.
        #[arg(long)]
        so_pin_file: PathBuf,
        /// File with the user PIN.
        #[arg(long)]
        pin_file: PathBuf,
    },
    /// Forgets the refused and unclear logins of the configured PKCS#11 partition, so that its PIN is tried again. For when the cause is
    /// mended and the PIN stays; a changed PIN is tried by itself.
    ClearLatch,
    /// Makes a wallet's key in the configured PKCS#11 partition as its crypto officer, and prints its label and address. For partitions where the
    /// signer logs in as a crypto user, which makes none: CreateKey then finds it. A repeat answers with the same key.
    KeyCeremony {
        /// Tenant that the key is to belong to.
        #[arg(long)]
        tenant: String,
        /// Name of the wallet.
        #[arg(long)]
        wallet: String,
        /// The crypto officer's PIN by reference: file:/absolute/path, env:NAME or aws-secret:<name or ARN>.
        #[arg(long)]
        officer_pin: SecretRef,
    },
    /// Makes a further attempt at a request that a custodian's policy stopped, under a new external id. For when the policy was changed.
    RetryStopped {
        /// The request.
        request_id: uuid::Uuid,
    },
    /// Prints our half of the evidence for a transaction as JSON: what was asked and by whom, the rule and the attestor's word, each attempt at the
    /// custodian with the ids under which it is found there, each decision, and the same of what it replaced. Who approved stands with the custodian.
    ExportEvidence {
        /// The id of the request for its signature, as GetTransaction tells it; or the hash, for which every request is looked at.
        #[arg(value_parser = wanted)]
        transaction: Wanted,
    },
    /// Holds one PKCS#11 partition; started by the signer, with a socket as standard input.
    #[command(hide = true, name = "pkcs11-worker")]
    Pkcs11Worker,
}

fn main() -> anyhow::Result<ExitCode> {
    memory::forbid_dumps().context("core dumps cannot be forbidden")?;
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Pkcs11Worker) => Ok(pkcs11::worker::run()),
        Some(Command::InitToken { module, label, so_pin_file, pin_file }) => {
            let read = |path: PathBuf| {
                let secret = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
                secret.map(Zeroizing::new)
            };
            let (so_pin, pin) = (read(so_pin_file)?, read(pin_file)?);
            pkcs11::initialise_token(&module, &label, so_pin.trim_end(), pin.trim_end()).map_err(anyhow::Error::msg)?;
            Ok(ExitCode::SUCCESS)
        }
        command => {
            let config: SignerConfig =
                config::load(arguments.config.as_deref(), &ProcessEnvironment, ENVIRONMENT_PREFIX)?;
            match command {
                Some(Command::CheckConfig) => Ok(ExitCode::SUCCESS),
                Some(Command::ClearLatch) => clear_latch(&config),
                Some(Command::KeyCeremony { tenant, wallet, officer_pin }) => {
                    key_ceremony(&config, KeyName { tenant, wallet }, officer_pin)
                }
                Some(Command::RetryStopped { request_id }) => retry_stopped(&config, request_id),
                Some(Command::ExportEvidence { transaction }) => export_evidence(&config, transaction),
                _ => serve(config),
            }
        }
    }
}

#[tokio::main]
async fn clear_latch(config: &SignerConfig) -> anyhow::Result<ExitCode> {
    let partition = config.pkcs11.as_ref().context("there is no [pkcs11] section")?.partition();
    let forgotten = Store::as_it_stands(config)?.clear_latch(&partition).await?;
    writeln!(std::io::stdout(), "{partition}: {forgotten} PINs may be tried again")?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn key_ceremony(config: &SignerConfig, name: KeyName, officer_pin: SecretRef) -> anyhow::Result<ExitCode> {
    let progress = |said: &str| {
        // Nobody reads it any more: the ceremony goes on.
        let _ = writeln!(std::io::stderr(), "{said}");
    };
    let key = svc_signer::keys::ceremony(config, &name, officer_pin, progress).await?;
    let mut out = std::io::stdout();
    writeln!(out, "label    {}\nCKA_ID   {}\naddress  {}", key.label, hex::encode(key.id), key.address)?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn retry_stopped(config: &SignerConfig, request_id: uuid::Uuid) -> anyhow::Result<ExitCode> {
    let retried = Store::as_it_stands(config)?.retry_stopped(request_id).await?;
    anyhow::ensure!(retried, "{request_id} is not a request that a custodian's policy stopped");
    writeln!(std::io::stdout(), "{request_id}: another attempt is made")?;
    Ok(ExitCode::SUCCESS)
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let hash = text.parse::<B256>().map(|hash| Wanted::Transaction(hash.0));
    hash.or_else(|_| text.parse().map(Wanted::Request))
        .map_err(|_| "is neither a transaction hash nor a UUID".to_owned())
}

#[tokio::main]
async fn export_evidence(config: &SignerConfig, transaction: Wanted) -> anyhow::Result<ExitCode> {
    let requests = Store::as_it_stands(config)?.evidence(transaction).await?;
    anyhow::ensure!(!requests.is_empty(), "the signer was never asked for it");
    let exported = serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "requests": requests });
    writeln!(std::io::stdout(), "{exported:#}")?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn serve(config: SignerConfig) -> anyhow::Result<ExitCode> {
    let _telemetry = telemetry::init(NAME, &config.telemetry)?;
    let running = svc_signer::start(config, Stop::on_signals()).await?;
    running.join().await?;
    Ok(ExitCode::SUCCESS)
}
