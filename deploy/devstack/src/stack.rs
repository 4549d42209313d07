//! The whole platform on one machine, in one temporary folder.

use std::path::{Path, PathBuf};

use alloy::primitives::hex;
use anyhow::{Context, bail};
use dalp_chain::testing::Anvil;
use dalp_testing::TestPostgres;
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;

use crate::client::{self, Client};
use crate::configuration::{self, Luna, Settings, replica_name};
use crate::pki::{DevPki, LeafFiles};
use crate::ports;
use crate::process::{Program, Service};
use crate::route::{Replica, Route};

/// Services in the order they start: whoever is called stands first.
pub const SERVICES: [&str; 7] =
    [ATTESTOR, "svc-signer", "svc-compliance", "svc-feeds", "svc-settlement", "svc-distribution", "svc-gateway"];

/// The compliance attestor: the program of svc-compliance in its other role.
pub const ATTESTOR: &str = "svc-attestor";

/// EIP-155 id of the second development chain.
pub const SECOND_CHAIN_ID: u64 = 31_338;

/// How the stack is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Arguments of the development chain beside the port.
    pub chain_arguments: Vec<String>,
    /// A tracing filter for all services.
    pub log_filter: String,
    /// Appended to the gateway's configuration: further tenants, roles and principals.
    pub gateway: String,
    /// Appended to svc-distribution's configuration: how airdrops are pushed.
    pub distribution: String,
    /// Appended to the attestor's configuration: rules of tenants, on the chains `first` and `second`.
    pub attestor: String,
    /// The provider that makes keys where a request names none: `local`, `pkcs11`, or that of a section in `signer`.
    pub provider: String,
    /// Appended to svc-signer's configuration: sections of custodians.
    pub signer: String,
    /// The folder of a simulated Luna appliance (`dalp_quorum_module::device`) that the token is a partition of: the signer is its crypto user and reaches it
    /// with a client's files. Absent: a plain token.
    pub luna: Option<PathBuf>,
    /// JSON-RPC address of a chain that stands already, of the development chain's id. Absent: the stack starts a development chain.
    pub chain_url: Option<String>,
    /// JSON-RPC address of another node of the same chain, which every service asks besides.
    pub other_node: Option<String>,
    /// The folder below which the database server keeps everything. Absent: that of temporary files.
    pub database_folder: Option<PathBuf>,
    /// Databases that stand already. Absent: the stack starts a server with both.
    pub databases: Option<Databases>,
    /// The library through which each service reads its clock (libfaketime); what it reads stands in [`Stack::clock`].
    pub clock_library: Option<PathBuf>,
    /// Whether there is a second development chain, for settlements across chains.
    pub second_chain: bool,
    /// Blocks that must stand on a block before it is final, on every chain.
    pub finality_depth: u64,
    /// Appended to svc-settlement's own section: how it looks after exchanges across chains.
    pub settlement: String,
    /// Replicas of each service, in the order of their numbers. With more than one, callers reach a service at an address that leads to all of them.
    pub replicas: Vec<Build>,
}

/// One replica of every service.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// The folder with its programs. Absent: those of this build.
    pub programs: Option<PathBuf>,
    /// Whether it is not started with the stack.
    pub comes_later: bool,
}

/// Addresses of empty databases.
#[derive(Debug, Clone)]
pub struct Databases {
    /// The engine's, with the services' own schemas.
    pub engine: String,
    /// The signer's.
    pub signer: String,
}

/// A running stack. Dropped: ended and removed.
pub struct Stack {
    services: Vec<Replicated>,
    /// What leads to replicas, where there are several.
    _routes: Vec<Route>,
    settings: Settings,
    pki: DevPki,
    /// Its own development chain, if it was given none.
    anvil: Option<Anvil>,
    second_anvil: Option<Anvil>,
    /// Its own database server, if it was given no databases.
    postgres: Option<TestPostgres>,
    folder: tempfile::TempDir,
}

/// A replica of a service.
struct Replicated {
    /// The service.
    service: &'static str,
    /// Where it listens.
    at: Replica,
    process: Service,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            chain_arguments: ["--block-time", "1", "--gas-limit", "300000000"].map(str::to_owned).to_vec(),
            log_filter: "info".to_owned(),
            gateway: String::new(),
            distribution: String::new(),
            attestor: String::new(),
            provider: "local".to_owned(),
            signer: String::new(),
            luna: None,
            chain_url: None,
            other_node: None,
            database_folder: None,
            databases: None,
            clock_library: None,
            second_chain: false,
            finality_depth: 0,
            settlement: String::new(),
            replicas: vec![Build::default()],
        }
    }
}

// === impl Stack ===

impl Stack {
    /// Starts everything and waits until every service listens and the gateway says that it serves.
    ///
    /// # Errors
    /// When a part is missing or does not start; the error says which and what to do.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let stack = Self::launch(options).await?;
        stack.wait_until_serving().await?;
        Ok(stack)
    }

    /// Starts everything and waits until every service listens. Whether they serve may depend on people.
    ///
    /// # Errors
    /// When a part is missing or does not start; the error says which and what to do.
    pub async fn launch(options: &Options) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dalp-").tempdir().context("cannot make a temporary folder")?;
        let (postgres, databases) = databases(options).await;
        let (anvil, chain_url) = match &options.chain_url {
            Some(url) => (None, url.clone()),
            None => {
                let anvil = Anvil::start(&options.chain_arguments);
                let url = anvil.url.clone();
                (Some(anvil), url)
            }
        };
        let second_anvil = options.second_chain.then(|| {
            let id = SECOND_CHAIN_ID.to_string();
            let named = ["--chain-id".to_owned(), id];
            Anvil::start(options.chain_arguments.iter().chain(&named))
        });
        let pki = DevPki::create(&folder.path().join("pki"), &SERVICES)?;
        let settings = {
            let second = second_anvil.as_ref().map(|anvil| anvil.url.clone());
            settings(folder.path(), databases, (chain_url, second), options)?
        };
        configuration::write(&settings)?;
        init_token(&settings)?;
        let mut routes = Vec::new();
        for listeners in settings.listeners.iter().filter(|listeners| listeners.replicas.len() > 1) {
            routes.push(Route::open(&listeners.address, listeners.replicas.clone()).await?);
        }
        let mut stack =
            Self { services: Vec::new(), _routes: routes, settings, pki, anvil, second_anvil, postgres, folder };
        for service in SERVICES {
            for (number, build) in (1..).zip(&options.replicas) {
                let mut replica = stack.replica(service, number, build, options)?;
                if !build.comes_later {
                    replica.process.restart()?;
                }
                stack.services.push(replica);
            }
        }
        Ok(stack)
    }

    /// A replica that has not been started.
    fn replica(
        &self,
        service: &'static str,
        number: usize,
        build: &Build,
        options: &Options,
    ) -> anyhow::Result<Replicated> {
        let name = replica_name(service, number);
        let at = self.settings.replica(service, number).context("a replica that the settings know")?.clone();
        let (program, arguments): (_, &[&str]) = match service {
            ATTESTOR => ("svc-compliance", &["--role", "attest"]),
            service => (service, &[]),
        };
        let mut environment = self.clocks(&name, options.clock_library.as_deref())?;
        environment.extend(self.settings.environment(service, number));
        let program = Program {
            binary: match &build.programs {
                Some(folder) => folder.join(program),
                None => binary(program)?,
            },
            config: self.folder.path().join(format!("{service}.toml")),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment,
            further_files: match service {
                "svc-gateway" => vec![self.settings.status_address_file(number)],
                _ => Vec::new(),
            },
            name,
        };
        Ok(Replicated { service, at, process: Service::new(program, self.folder.path()) })
    }

    /// The folder with configuration, certificates and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the services were configured with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its own database server.
    ///
    /// # Errors
    /// When it has none, since it was given databases.
    pub fn database(&self) -> anyhow::Result<&TestPostgres> {
        self.postgres.as_ref().context("the stack was given its databases")
    }

    /// The same, to start it again.
    pub fn database_mut(&mut self) -> Option<&mut TestPostgres> {
        self.postgres.as_mut()
    }

    /// The file that says how far a service's clock is off (`+3600`), in a stack whose services have clocks of their own.
    #[must_use]
    pub fn clock(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("{service}.clock"))
    }

    /// What makes a service read its clock through the library. Pauses and timeouts stay true: a machine whose clock is set has them so, too.
    fn clocks(&self, service: &str, library: Option<&Path>) -> anyhow::Result<Vec<(String, String)>> {
        let Some(library) = library else { return Ok(Vec::new()) };
        let file = self.clock(service);
        std::fs::write(&file, "+0")?;
        Ok([
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec())
    }

    /// The development authority, to issue and revoke certificates.
    pub fn pki(&mut self) -> &mut DevPki {
        &mut self.pki
    }

    /// JSON-RPC address of the chain.
    #[must_use]
    pub fn chain_url(&self) -> &str {
        &self.settings.chain_url
    }

    /// JSON-RPC address of the second chain, if there is one.
    #[must_use]
    pub fn second_chain_url(&self) -> Option<&str> {
        self.settings.second_chain_url.as_deref()
    }

    /// Process ids of the development chains that the stack started, the first one's first.
    #[must_use]
    pub fn chain_pids(&self) -> Vec<u32> {
        self.anvil.iter().chain(&self.second_anvil).map(Anvil::pid).collect()
    }

    /// Every service, each of their replicas, to stop or start it.
    pub fn services_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        self.services.iter_mut().map(|replica| &mut replica.process)
    }

    /// One service, to kill and restart it. With replicas the first of them; the others have names of their own ([`replica_name`]).
    pub fn service(&mut self, name: &str) -> Option<&mut Service> {
        self.services.iter_mut().map(|replica| &mut replica.process).find(|service| service.name() == name)
    }

    /// All services, each of their replicas.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().map(|replica| &replica.process)
    }

    /// Whether a service, or a replica by its name, says that it is ready to be called.
    pub async fn is_ready(&self, name: &str) -> bool {
        match self.services.iter().find(|replica| replica.process.name() == name) {
            Some(replica) => replica.at.is_ready().await,
            None => false,
        }
    }

    /// A channel to the gateway as an ordinary TLS client opens it: the server is verified, the client shows no certificate.
    ///
    /// # Errors
    /// When the development authority's certificate cannot be read.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        self.channel_to("svc-gateway", None)
    }

    /// A channel to any service, with the certificate of `identity` or none.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn channel_to(&self, service: &str, identity: Option<&LeafFiles>) -> anyhow::Result<Channel> {
        client::channel(&self.settings.address(service), &self.folder.path().join("pki/ca.pem"), identity)
    }

    /// Where the operators' status page is; its listener takes a free port.
    ///
    /// # Errors
    /// When the gateway has not said so.
    pub fn status_page(&self) -> anyhow::Result<String> {
        let file = self.settings.status_address_file(1);
        let address = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(format!("https://{address}/"))
    }

    /// A client with the operator's API key.
    ///
    /// # Errors
    /// As [`Stack::channel`].
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(self.channel()?, &self.settings.api_key)
    }

    /// The same, of one replica of the gateway alone, by its name.
    ///
    /// # Errors
    /// As [`Stack::channel`], or when there is none of this name.
    pub fn client_of(&self, name: &str) -> anyhow::Result<Client> {
        let replica = self.services.iter().find(|replica| replica.process.name() == name);
        Client::new(self.channel_at(replica.context("a replica of the gateway")?, None)?, &self.settings.api_key)
    }

    fn channel_at(&self, replica: &Replicated, identity: Option<&LeafFiles>) -> anyhow::Result<Channel> {
        client::channel(&replica.at.address, &self.folder.path().join("pki/ca.pem"), identity)
    }

    /// Waits until the gateway and every service behind it say that they serve with all they depend on; of replicas, those that run.
    ///
    /// # Errors
    /// When they do not in time; the error names the log files.
    pub async fn wait_until_serving(&self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(180);
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
        let behind = || SERVICES.into_iter().filter(|name| !matches!(*name, "svc-gateway" | ATTESTOR));
        let running = || self.services.iter().filter(|replica| replica.process.pid().is_some());
        // What the gateway says of a service may be of before its restart, so each is asked itself first.
        let gateway = self.pki.files("svc-gateway");
        let mut asked = Vec::new();
        for replica in running().filter(|replica| behind().any(|name| name == replica.service)) {
            asked.push((self.channel_at(replica, Some(&gateway))?, "", replica.process.name()));
        }
        for replica in running().filter(|replica| replica.service == "svc-gateway") {
            let channel = self.channel_at(replica, None)?;
            asked.push((channel.clone(), "", replica.process.name()));
            asked.extend(behind().map(|name| (channel.clone(), name, name)));
        }
        for (channel, dependency, name) in asked {
            loop {
                looks.tick().await;
                let said = client::health(channel.clone(), dependency).await;
                if matches!(said, Ok(true)) {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    let folder = self.folder.path().display();
                    bail!("{name} does not serve ({said:?}); see the logs in {folder}");
                }
            }
        }
        Ok(())
    }
}

/// The databases, and the server that is started for them where none are given.
async fn databases(options: &Options) -> (Option<TestPostgres>, Databases) {
    if let Some(databases) = &options.databases {
        return (None, databases.clone());
    }
    let postgres = match &options.database_folder {
        Some(folder) => TestPostgres::start_durable_in(folder),
        None => TestPostgres::start_durable(),
    };
    let databases =
        Databases { engine: postgres.create_database("dalp").await, signer: postgres.create_database("signer").await };
    (Some(postgres), databases)
}

fn settings(
    folder: &Path,
    databases: Databases,
    (chain_url, second_chain_url): (String, Option<String>),
    options: &Options,
) -> anyhow::Result<Settings> {
    let listeners = ports::listeners(&SERVICES, options.replicas.len())?;
    let secret: [u8; 24] = rand::random();
    let api_key = format!("dalp_operator_{}", hex::encode(secret));
    Ok(Settings {
        folder: folder.to_owned(),
        listeners,
        database_url: databases.engine,
        signer_database_url: databases.signer,
        chain_id: dalp_chain::testing::ANVIL_CHAIN_ID,
        chain_url,
        second_chain_url,
        other_node: options.other_node.clone(),
        finality_depth: options.finality_depth,
        settlement: options.settlement.clone(),
        pkcs11_module: pkcs11_module()?,
        api_key_sha256: hex::encode(Sha256::digest(api_key.as_bytes())),
        api_key,
        key_encryption_key: hex::encode(rand::random::<[u8; 32]>()),
        sealing_key: hex::encode(rand::random::<[u8; 32]>()),
        digest_key: hex::encode(rand::random::<[u8; 32]>()),
        pin: format!("{:08}", rand::random::<u32>() % 100_000_000),
        security_officer_pin: format!("{:08}", rand::random::<u32>() % 100_000_000),
        log_filter: options.log_filter.clone(),
        gateway: options.gateway.clone(),
        distribution: options.distribution.clone(),
        attestor: options.attestor.clone(),
        provider: options.provider.clone(),
        signer: options.signer.clone(),
        luna: match &options.luna {
            Some(device) => Some(Luna { module: quorum_module()?, device: device.clone() }),
            None => None,
        },
    })
}

/// Where the programs of this build stand: beside this one, or one folder up when this one is a test.
///
/// # Errors
/// When there is no such program, with the command that builds it.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let folders = own.ancestors().skip(1).take(3);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built beside {}: run `cargo build --workspace --bins`", own.display()))
}

/// Where SoftHSM's library stands.
///
/// # Errors
/// When it is not installed, with what to install.
pub fn pkcs11_module() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("DALP_PKCS11_MODULE") {
        return Ok(path.into());
    }
    let multiarch = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from("/usr/lib"))
        .chain(multiarch)
        .map(|folder| folder.join("softhsm/libsofthsm2.so"))
        .find(|path| path.is_file())
        .context("SoftHSM is not installed: run `make setup`, or set DALP_PKCS11_MODULE to its library")
}

/// Where the module with the manners of a Luna partition stands. Cargo builds it with this program, beside the others.
///
/// # Errors
/// When it is not there, with the command that builds it.
pub fn quorum_module() -> anyhow::Result<PathBuf> {
    const NAME: &str = "libdalp_quorum_module.so";
    let signer = binary("svc-signer")?;
    let folder = signer.parent().unwrap_or(Path::new("."));
    let places = [folder.join("deps").join(NAME), folder.join(NAME)];
    places.into_iter().find(|path| path.is_file()).with_context(|| {
        format!("{NAME} is not built beside {}: run `cargo build -p dalp-quorum-module`", signer.display())
    })
}

fn init_token(settings: &Settings) -> anyhow::Result<()> {
    let output = std::process::Command::new(binary("svc-signer")?)
        .arg("init-token")
        .arg("--module")
        .arg(&settings.pkcs11_module)
        .args(["--label", configuration::TOKEN_LABEL])
        .arg("--so-pin-file")
        .arg(settings.secret("so-pin"))
        .arg("--pin-file")
        .arg(settings.secret("pin"))
        .env("SOFTHSM2_CONF", settings.softhsm_configuration())
        .output()
        .context("cannot run svc-signer init-token")?;
    if !output.status.success() {
        bail!("cannot initialise the token: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
