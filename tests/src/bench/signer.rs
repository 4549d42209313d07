//! How fast signatures leave svc-signer: the Sign RPC over mutual TLS with its stored outcome, beside the bare provider.

use std::fmt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use dalp_chain::testing::{ANVIL_CHAIN_ID, Anvil};
use dalp_devstack::pki::{self, DevPki};
use dalp_devstack::report::Figure;
use dalp_devstack::stack::{binary, pkcs11_module};
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::sign_request::Payload;
use dalp_proto::signer::signer_service_client::SignerServiceClient;
use dalp_proto::signer::{CreateKeyRequest, EvmTransaction, SignOutcome, SignRequest, SignStatus};
use dalp_service::config::{PeerConfig, TlsConfig};
use dalp_service::tls::ClientTls;
use dalp_service::{Caller, client};
use dalp_testing::TestPostgres;
use futures::{StreamExt as _, stream};
use svc_signer::config::pkcs11::Pkcs11Config;
use svc_signer::providers::local::LocalProvider;
use svc_signer::providers::pkcs11::{Attempt, Ended, PinLatch, Pkcs11Provider};
use svc_signer::providers::{KeyHandle, KeyName, Provider, ProviderError, Signing};
use tonic::Request;
use tonic::transport::Channel;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::cpu::family_cpu_s;
use super::platform::rate;

/// Runs of each figure; the bare provider and the RPC take turns, so that both see the same machine.
const RUNS: usize = 3;
/// Signatures of one run.
pub(super) const SIGNATURES: usize = 3_000;
/// Requests under way at once, as many as a busy domain service has.
pub(super) const IN_FLIGHT: usize = 64;
/// Part of the bare provider's rate that the RPC must reach with an HSM.
const GOAL: f64 = 0.8;
const START_WITHIN: Duration = Duration::from_secs(60);
pub(super) const TENANT: &str = "bench";
const TARGET: &str = "0x2222222222222222222222222222222222222222";
const PIN: &str = "4711-bench";
const TOKEN: &str = "dalp-bench";

/// A signer as a process of its own, with both providers.
pub(super) struct SignerRoom {
    folder: tempfile::TempDir,
    process: Child,
    channel: Channel,
    keys: KeyServiceClient<Channel>,
    postgres: TestPostgres,
    /// Judges what is signed, if anybody does.
    _attestor: Option<Attestor>,
}

/// What came of a run.
pub(super) struct Signed {
    /// Signatures per second.
    pub(super) rate: f64,
    pub(super) took: Latencies,
}

/// How long each answer took.
#[derive(Default)]
pub(super) struct Latencies(pub(super) Vec<Duration>);

/// The attestor as a process of its own, over a development chain of its own.
struct Attestor {
    process: Child,
    _chain: Anvil,
}

/// Remembers nothing: the bench's PIN is right.
struct NoLatch;

/// `sign_rpc.*` and `provider_raw.*`.
pub(super) async fn rates() -> anyhow::Result<Vec<Figure>> {
    let mut room = SignerRoom::start().await?;
    let mut figures = Vec::new();
    for (name, provider) in [("local", "local"), ("softhsm", "pkcs11")] {
        let raw: Arc<dyn Provider> = match provider {
            "local" => Arc::new(LocalProvider::new(&Zeroizing::new([7; 32]))),
            _ => Arc::new(room.partition()?),
        };
        let key = room.create_key(provider, &format!("bench-{provider}")).await?;
        let (mut bare, mut rpc, mut cpu_us, mut database_us) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut took = Latencies::default();
        for run in 0..RUNS {
            bare.push(one_by_one(raw.as_ref()).await?);
            let before = (family_cpu_s(room.process.id()), family_cpu_s(room.postgres.pid()));
            let signed = room.sign_all(&key, run, SIGNATURES, IN_FLIGHT).await?;
            rpc.push(signed.rate);
            took.0.extend(signed.took.0);
            cpu_us.push((family_cpu_s(room.process.id()) - before.0) / signatures() * 1e6);
            database_us.push((family_cpu_s(room.postgres.pid()) - before.1) / signatures() * 1e6);
        }
        let statements = room.statements_per_signature(&key).await?;
        let bare = Figure::of(
            &format!("provider_raw.{name}"),
            "1/s",
            bare,
            None,
            "one signature after the other through one session, without RPC and store",
        );
        let goal = bare.value.filter(|_| provider == "pkcs11").map(|raw| raw * GOAL);
        let note = format!(
            "{IN_FLIGHT} in flight over mutual TLS, each stored; {took}; CPU per signature: {:.0} us signer and partition, {:.0} us PostgreSQL; \
             {statements:.2} SQL statements per signature; goal: {:.0} % of provider_raw",
            median(cpu_us),
            median(database_us),
            GOAL * 100.0,
        );
        figures.push(Figure::of(&format!("sign_rpc.{name}"), "1/s", rpc, goal, &note));
        figures.push(bare);
    }
    figures.push(attested().await?);
    figures.extend(super::custody::rates().await?);
    Ok(figures)
}

/// The same RPC where each payload needs the attestor's word.
async fn attested() -> anyhow::Result<Figure> {
    let mut room = SignerRoom::start_with(true, "").await?;
    let key = room.create_key("local", "bench-attested").await?;
    let (mut rpc, mut took) = (Vec::new(), Latencies::default());
    for run in 0..RUNS {
        let signed = room.sign_all(&key, run, SIGNATURES, IN_FLIGHT).await?;
        rpc.push(signed.rate);
        took.0.extend(signed.took.0);
    }
    let note = format!(
        "as sign_rpc.local ({took}), and each payload judged by an attestor process over mutual TLS: a listed contract, simulated at the latest block of an anvil; {:.2} SQL statements per signature",
        room.statements_per_signature(&key).await?
    );
    Ok(Figure::of("sign_rpc.local.attested", "1/s", rpc, None, &note))
}

async fn one_by_one(provider: &dyn Provider) -> anyhow::Result<f64> {
    let name = KeyName { tenant: TENANT.to_owned(), wallet: "raw".to_owned() };
    let key = provider.create(&name).await?;
    let handle = KeyHandle { name: &name, material: &key.material };
    let Signing::AtOnce(signer) = provider.signing() else { bail!("a custodian has no rate of its own") };
    let begun = Instant::now();
    for number in 0..SIGNATURES as u64 {
        let digest = alloy::primitives::keccak256(number.to_be_bytes());
        signer.sign(handle, digest).await?;
    }
    Ok(rate(SIGNATURES, begun.elapsed()))
}

// === impl SignerRoom ===

impl SignerRoom {
    pub(super) async fn start() -> anyhow::Result<Self> {
        Self::start_with(false, "").await
    }

    /// With further sections of the signer's configuration.
    pub(super) async fn start_with(attested: bool, sections: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dalp-signer-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let pki = DevPki::create(&path("pki"), &["svc-signer", "svc-attestor", "svc-compliance", "svc-gateway"])?;
        let postgres = TestPostgres::start_durable();
        std::fs::create_dir(path("tokens"))?;
        let softhsm = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            path("tokens").display()
        );
        for (name, text) in [
            ("softhsm2.conf", softhsm),
            ("url", postgres.url()),
            ("pin", PIN.to_owned()),
            ("digest-key", "k".repeat(40)),
            ("kek", "07".repeat(32)),
        ] {
            std::fs::write(path(name), text)?;
        }
        let made = Command::new(binary("svc-signer")?)
            .args(["init-token", "--label", TOKEN, "--module"])
            .arg(pkcs11_module()?)
            .arg("--so-pin-file")
            .arg(path("pin"))
            .arg("--pin-file")
            .arg(path("pin"))
            .env("SOFTHSM2_CONF", path("softhsm2.conf"))
            .status()?;
        ensure!(made.success(), "the token cannot be initialised");
        let attestor = if attested { Some(Attestor::start(&path, &pki).await?) } else { None };
        std::fs::write(path("signer.toml"), configuration(&path, &pki, attested)? + sections)?;
        let process = Command::new(binary("svc-signer")?)
            .arg("--config")
            .arg(path("signer.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("log"))?)
            .spawn()?;
        listens(&path, "address", "log").await?;
        let channel = |name: &str| -> anyhow::Result<Channel> {
            let files = pki.files(name);
            let tls = TlsConfig {
                certificate: files.certificate,
                key: files.key,
                trust_anchors: files.trust_anchors,
                crl: Some(files.crl),
                reload_ms: 3_600_000,
            };
            let address = std::fs::read_to_string(path("address"))?.parse()?;
            let peer = PeerConfig { address, spiffe_id: pki::spiffe_id("svc-signer").parse()? };
            Ok(client::connect(&peer, &ClientTls::load(&tls)?))
        };
        let keys = KeyServiceClient::new(channel("svc-gateway")?);
        let channel = channel("svc-compliance")?;
        Ok(Self { folder, process, channel, keys, postgres, _attestor: attestor })
    }

    /// As svc-compliance reaches it.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn postgres(&self) -> &TestPostgres {
        &self.postgres
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn partition(&self) -> anyhow::Result<Pkcs11Provider> {
        let config: Pkcs11Config = toml::from_str(&format!(
            "module = \"{}\"\ntoken_label = \"{TOKEN}\"\npin = \"file:{}\"\nsessions = 1\nenvironment = {{ SOFTHSM2_CONF = \"{}\" }}\n",
            pkcs11_module()?.display(),
            self.folder.path().join("pin").display(),
            self.folder.path().join("softhsm2.conf").display(),
        ))?;
        Ok(Pkcs11Provider::new(config, binary("svc-signer")?, Zeroizing::new(vec![7; 40]), Arc::new(NoLatch)))
    }

    /// Creates a key, as soon as the signer is up with its database and its HSM.
    pub(super) async fn create_key(&mut self, provider: &str, wallet: &str) -> anyhow::Result<String> {
        let caller = Caller { tenant: TENANT.parse()?, principal: "bench".parse()?, roles: vec![] };
        let begun = Instant::now();
        loop {
            let mut request = Request::new(CreateKeyRequest {
                wallet: wallet.to_owned(),
                provider: provider.to_owned(),
                owner: String::new(),
            });
            caller.apply(request.metadata_mut());
            request.metadata_mut().insert("idempotency-key", wallet.parse()?);
            match self.keys.create_key(request).await {
                Ok(answer) => return Ok(answer.into_inner().key.context("the answer carries no key")?.address),
                Err(status) if status.code() == tonic::Code::Unavailable && begun.elapsed() < START_WITHIN => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Signs that many transactions of one lane, and asks for some again: the stored outcome answers.
    pub(super) async fn sign_all(
        &self,
        key: &str,
        run: usize,
        signatures: usize,
        in_flight: usize,
    ) -> anyhow::Result<Signed> {
        let requests: Vec<_> = (0..signatures).map(|number| order(key, (run * signatures + number) as u64)).collect();
        let begun = Instant::now();
        let outcomes: Vec<(Duration, SignOutcome)> = stream::iter(&requests)
            .map(|request| async move {
                let asked = Instant::now();
                let outcome = self.sign(request).await?;
                anyhow::Ok((asked.elapsed(), outcome))
            })
            .buffered(in_flight)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<anyhow::Result<_>>()?;
        let rate = rate(signatures, begun.elapsed());
        for at in (0..signatures).step_by(signatures / 10) {
            ensure!(self.sign(&requests[at]).await? == outcomes[at].1, "a repeat got another outcome");
        }
        Ok(Signed { rate, took: Latencies(outcomes.into_iter().map(|(took, _)| took).collect()) })
    }

    async fn sign(&self, request: &SignRequest) -> anyhow::Result<SignOutcome> {
        let answer = SignerServiceClient::new(self.channel.clone()).sign(request.clone()).await?;
        let outcome = answer.into_inner().outcome.context("the answer carries no outcome")?;
        match outcome.status() {
            SignStatus::Approved => Ok(outcome),
            _ => bail!("not signed: {outcome:?}"),
        }
    }

    /// SQL statements of one more run, by the database's own count.
    async fn statements_per_signature(&self, key: &str) -> anyhow::Result<f64> {
        let before = self.postgres.statements().await;
        self.sign_all(key, RUNS, SIGNATURES, IN_FLIGHT).await?;
        #[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
        Ok((self.postgres.statements().await - before) as f64 / signatures())
    }
}

// === impl Latencies ===

impl Latencies {
    /// In milliseconds, what this part of all stayed below.
    fn quantile_ms(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
        // an index of a list
        let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms", self.quantile_ms(0.5), self.quantile_ms(0.99))
    }
}

// === impl Attestor ===

impl Attestor {
    async fn start(path: &impl Fn(&str) -> PathBuf, pki: &DevPki) -> anyhow::Result<Self> {
        let chain = Anvil::start(&["--block-time".to_owned(), "1".to_owned()]);
        let files = pki.files("svc-attestor");
        let text = format!(
            r#"[server]
listen = "127.0.0.1:0"
address_file = "{address}"
[server.tls]
certificate = "{certificate}"
key = "{key}"
trust_anchors = "{anchors}"
[telemetry]
log_filter = "warn"
[chains.bench]
second_look_blocks = 0
[chains.bench.rules]
contracts = ["{TARGET}", "0x1111111111111111111111111111111111111111"]
functions = [{{ contract = "{TARGET}", selectors = ["0xa9059cbb"] }}]
[chains.bench.chain]
chain_id = {chain_id}
finality = {{ depth = 0 }}
[[chains.bench.chain.upstreams]]
name = "anvil"
url = "{url}"
"#,
            address = path("attestor-address").display(),
            certificate = files.certificate.display(),
            key = files.key.display(),
            anchors = files.trust_anchors.display(),
            chain_id = ANVIL_CHAIN_ID,
            url = chain.url,
        );
        std::fs::write(path("attestor.toml"), text)?;
        let process = Command::new(binary("svc-compliance")?)
            .args(["--role", "attest", "--config"])
            .arg(path("attestor.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("attestor-log"))?)
            .spawn()?;
        listens(path, "attestor-address", "attestor-log").await?;
        Ok(Self { process, _chain: chain })
    }
}

impl Drop for Attestor {
    fn drop(&mut self) {
        let _ = self.process.kill(); // already ended is fine
        let _ = self.process.wait();
    }
}

/// Waits until a process has said where it listens.
async fn listens(path: &impl Fn(&str) -> PathBuf, address: &str, log: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !path(address).exists() {
        ensure!(begun.elapsed() < START_WITHIN, "does not listen: {}", std::fs::read_to_string(path(log))?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

impl Drop for SignerRoom {
    fn drop(&mut self) {
        let _ = self.process.kill(); // already ended is fine
        let _ = self.process.wait();
    }
}

#[async_trait]
impl PinLatch for NoLatch {
    async fn bars(&self, _: &str, _: [u8; 32]) -> Result<Option<Attempt>, ProviderError> {
        Ok(None)
    }

    async fn begin(&self, _: &str, _: [u8; 32], _: Duration) -> Result<Attempt, ProviderError> {
        Ok(Attempt::Go { unclear: false })
    }

    async fn asking(&self, _: &str, _: [u8; 32]) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn end(&self, _: &str, _: [u8; 32], _: Ended) -> Result<(), ProviderError> {
        Ok(())
    }
}

fn configuration(path: &impl Fn(&str) -> PathBuf, pki: &DevPki, attested: bool) -> anyhow::Result<String> {
    let files = pki.files("svc-signer");
    let (attestation, attestor) = match attested {
        false => ("off", String::new()),
        true => (
            "required",
            format!(
                "[attestor]\npeer = {{ address = \"{}\", spiffe_id = \"{}\" }}\n[attestor.client_tls]\ncertificate = \"{}\"\nkey = \"{}\"\ntrust_anchors = \"{}\"\n",
                std::fs::read_to_string(path("attestor-address"))?.trim(),
                pki::spiffe_id("svc-attestor"),
                files.certificate.display(),
                files.key.display(),
                files.trust_anchors.display(),
            ),
        ),
    };
    Ok(format!(
        r#"[server]
listen = "127.0.0.1:0"
address_file = "{address}"
[server.tls]
certificate = "{certificate}"
key = "{key}"
trust_anchors = "{anchors}"
crl = "{crl}"
[telemetry]
log_filter = "warn"
[database]
url = "file:{url}"
[signer]
environment = "development"
provider = "pkcs11"
allow_mixed = true
attestation = "{attestation}"
digest_key = "file:{digest_key}"
{attestor}[local]
key_encryption_key = "file:{kek}"
[pkcs11]
module = "{module}"
token_label = "{TOKEN}"
pin = "file:{pin}"
environment = {{ SOFTHSM2_CONF = "{softhsm}" }}
[[grants]]
peer = "{peer}"
kinds = ["evm_transaction"]
[[policy.rules]]
name = "bench"
action = "allow"
"#,
        address = path("address").display(),
        certificate = files.certificate.display(),
        key = files.key.display(),
        anchors = files.trust_anchors.display(),
        crl = files.crl.display(),
        url = path("url").display(),
        digest_key = path("digest-key").display(),
        kek = path("kek").display(),
        module = pkcs11_module()?.display(),
        pin = path("pin").display(),
        softhsm = path("softhsm2.conf").display(),
        peer = pki::spiffe_id("svc-compliance"),
    ))
}

/// A transfer of a token, as the platform has it signed.
pub(super) fn order(key: &str, nonce: u64) -> SignRequest {
    SignRequest {
        request_id: Uuid::new_v4().to_string(),
        tenant: TENANT.to_owned(),
        signer: key.to_owned(),
        payload: Some(Payload::EvmTransaction(EvmTransaction {
            chain_id: 31337,
            nonce,
            target: TARGET.to_owned(),
            value_wei: "0".to_owned(),
            data: format!("0xa9059cbb{}", "11".repeat(64)),
            gas_limit: 90_000,
            max_fee_per_gas_wei: "100000000000".to_owned(),
            max_priority_fee_per_gas_wei: "1000000000".to_owned(),
            gas_price_wei: String::new(),
            by_provider: false,
        })),
        replaces_request_id: String::new(),
    }
}

pub(super) fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
fn signatures() -> f64 {
    SIGNATURES as f64
}
