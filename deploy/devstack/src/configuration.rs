//! The configuration of every service, written from one set of settings.

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dalp_quorum_module::device::{FOLDER_VARIABLE, WRAPPED_VARIABLE};

use crate::route::Replica;

/// Label of the development token.
pub const TOKEN_LABEL: &str = "dalp-dev";
/// The only tenant of the stack.
pub const TENANT: &str = "example-bank";
/// Trust domain of the development certificates.
pub const TRUST_DOMAIN: &str = "dalp.dev";

/// The file from which the client of a Luna appliance gets its configuration.
const LUNA_TEMPLATE: &str = "Chrystoki.template";

/// A simulated Luna appliance before the token.
#[derive(Debug, Clone)]
pub struct Luna {
    /// The module with its manners.
    pub module: PathBuf,
    /// The folder that stands for it.
    pub device: PathBuf,
}

/// Where a service listens.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// The service.
    pub service: String,
    /// Where callers reach it: its only replica, or what leads to all of them.
    pub address: String,
    /// Its replicas, of which there is one at least.
    pub replicas: Vec<Replica>,
}

/// Everything the configurations are made of.
#[derive(Clone)]
pub struct Settings {
    /// The stack's folder.
    pub folder: PathBuf,
    /// Where each service listens.
    pub listeners: Vec<Listeners>,
    /// Database of the domain services.
    pub database_url: String,
    /// The signer's own database.
    pub signer_database_url: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// JSON-RPC address.
    pub chain_url: String,
    /// JSON-RPC address of the second chain, if there is one.
    pub second_chain_url: Option<String>,
    /// JSON-RPC address of another node of the first chain.
    pub other_node: Option<String>,
    /// Blocks that must stand on a block before it is final.
    pub finality_depth: u64,
    /// Appended to svc-settlement's own section.
    pub settlement: String,
    /// SoftHSM's library.
    pub pkcs11_module: PathBuf,
    /// The operator's API key.
    pub api_key: String,
    /// Its SHA-256, which is all the gateway gets.
    pub api_key_sha256: String,
    /// Key-encryption key of the local provider, hex.
    pub key_encryption_key: String,
    /// Seals factors of persons and secrets of webhooks, hex.
    pub sealing_key: String,
    /// Key of the signer's keyed digests.
    pub digest_key: String,
    /// PIN of the token's user.
    pub pin: String,
    /// PIN of the token's security officer.
    pub security_officer_pin: String,
    /// Tracing filter of all services.
    pub log_filter: String,
    /// Appended to the gateway's configuration.
    pub gateway: String,
    /// Appended to svc-distribution's configuration.
    pub distribution: String,
    /// Appended to the attestor's configuration.
    pub attestor: String,
    /// The provider that makes keys where a request names none.
    pub provider: String,
    /// Appended to svc-signer's configuration: sections of custodians.
    pub signer: String,
    /// The appliance that the token is a partition of; absent: it is a plain one.
    pub luna: Option<Luna>,
}

// === impl Settings ===

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settings").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Settings {
    /// The address at which callers reach a service.
    #[must_use]
    pub fn address(&self, service: &str) -> String {
        self.listener(service).map(|listeners| listeners.address.clone()).unwrap_or_default()
    }

    /// Metrics address of a service, of its first replica.
    #[must_use]
    pub fn metrics_address(&self, service: &str) -> String {
        self.replica(service, 1).map(|replica| replica.metrics.clone()).unwrap_or_default()
    }

    /// Where a replica of a service listens; they are counted from one.
    #[must_use]
    pub fn replica(&self, service: &str, number: usize) -> Option<&Replica> {
        self.listener(service)?.replicas.get(number.checked_sub(1)?)
    }

    fn listener(&self, service: &str) -> Option<&Listeners> {
        self.listeners.iter().find(|listeners| listeners.service == service)
    }

    /// What a replica is given in its environment, as a pod of Kubernetes is: everything else is the same for all. Nothing for the first, of which the configuration speaks.
    #[must_use]
    pub fn environment(&self, service: &str, number: usize) -> Vec<(String, String)> {
        let Some(replica) = self.replica(service, number).filter(|_| number > 1) else { return Vec::new() };
        let short = service.trim_start_matches("svc-");
        let prefix = short.to_uppercase();
        let address_file = self.folder.join(format!("{}.address", replica_name(service, number)));
        let mut given = vec![
            ("SERVER__LISTEN".to_owned(), replica.address.clone()),
            ("SERVER__METRICS_LISTEN".to_owned(), replica.metrics.clone()),
            ("SERVER__ADDRESS_FILE".to_owned(), address_file.display().to_string()),
        ];
        match service {
            "svc-gateway" => {
                given.push(("STATUS__ADDRESS_FILE".to_owned(), self.status_address_file(number).display().to_string()));
            }
            // Neither of them holds leases.
            "svc-attestor" | "svc-signer" => {}
            _ => given.push((format!("{prefix}__INSTANCE"), format!("{short}-{number}"))),
        }
        given.into_iter().map(|(key, value)| (format!("DALP_{prefix}__{key}"), value)).collect()
    }

    /// Path of a secret file.
    #[must_use]
    pub fn secret(&self, name: &str) -> PathBuf {
        self.folder.join("secrets").join(name)
    }

    /// Where a replica of the gateway writes the address of its status page.
    #[must_use]
    pub fn status_address_file(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{}.status", replica_name("svc-gateway", number)))
    }

    /// Path of SoftHSM's own configuration.
    #[must_use]
    pub fn softhsm_configuration(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    fn pki(&self, file: &str) -> String {
        self.folder.join("pki").join(file).display().to_string()
    }

    fn spiffe(service: &str) -> String {
        format!("spiffe://{TRUST_DOMAIN}/{service}")
    }

    fn tls(&self, section: &str, service: &str) -> String {
        format!(
            "[{section}]\ncertificate = \"{}\"\nkey = \"{}\"\ntrust_anchors = \"{}\"\ncrl = \"{}\"\nreload_ms = 500\n\n",
            self.pki(&format!("{service}.pem")),
            self.pki(&format!("{service}.key")),
            self.pki("ca.pem"),
            self.pki("crl.pem"),
        )
    }

    fn head(&self, service: &str) -> String {
        format!(
            "[server]\nlisten = \"{}\"\naddress_file = \"{}\"\nmetrics_listen = \"{}\"\n\n{}[telemetry]\nlog_format = \"text\"\nlog_filter = \"{}\"\n\n",
            self.replica(service, 1).map(|replica| replica.address.clone()).unwrap_or_default(),
            self.folder.join(format!("{service}.address")).display(),
            self.metrics_address(service),
            self.tls("server.tls", service),
            self.log_filter,
        )
    }

    fn database(&self, secret: &str) -> String {
        // The server has 200 for all of them.
        let replicas = self.listeners.iter().map(|listeners| listeners.replicas.len()).max().unwrap_or(1);
        let connections = if replicas > 1 { 10 } else { 16 };
        format!("[database]\nurl = \"file:{}\"\nmax_connections = {connections}\n\n", self.secret(secret).display())
    }
}

/// What a replica of a service is called: the first one as the service.
#[must_use]
pub fn replica_name(service: &str, number: usize) -> String {
    if number > 1 { format!("{service}-{number}") } else { service.to_owned() }
}

/// Writes secrets and configurations into the stack's folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(settings: &Settings) -> anyhow::Result<()> {
    let tokens = settings.folder.join("tokens");
    std::fs::create_dir_all(&tokens)?;
    std::fs::create_dir_all(settings.folder.join("secrets"))?;
    std::fs::write(
        settings.softhsm_configuration(),
        format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display()),
    )?;
    for (name, secret) in [
        ("database-url", &settings.database_url),
        ("signer-database-url", &settings.signer_database_url),
        ("kek", &settings.key_encryption_key),
        ("digest-key", &settings.digest_key),
        ("pin", &settings.pin),
        ("so-pin", &settings.security_officer_pin),
        ("api-key", &settings.api_key),
        ("sealing-key", &settings.sealing_key),
    ] {
        write_secret(&settings.secret(name), secret)?;
    }
    if let Some(luna) = &settings.luna {
        std::fs::write(
            settings.folder.join(LUNA_TEMPLATE),
            format!(
                "Chrystoki2 = {{\n   LibUNIX64 = {};\n}}\nLunaSA Client = {{\n   ClientCertFile = {{client_certificate}};\n   \
                 ClientPrivKeyFile = {{client_key}};\n   ServerCAFile = {{server_ca}};\n}}\n",
                luna.module.display()
            ),
        )?;
    }
    for (service, text) in [
        ("svc-attestor", attestor(settings)),
        ("svc-signer", signer(settings)),
        ("svc-compliance", compliance(settings)),
        ("svc-gateway", gateway(settings)),
        ("svc-feeds", feeds(settings)),
        ("svc-settlement", settlement(settings)),
        ("svc-distribution", distribution(settings)),
    ] {
        std::fs::write(settings.folder.join(format!("{service}.toml")), text)?;
    }
    Ok(())
}

fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(secret.as_bytes())?;
    Ok(())
}

fn signer(settings: &Settings) -> String {
    let mut text = settings.head("svc-signer");
    text += &settings.database("signer-database-url");
    let _ = write!(
        text,
        r#"[signer]
environment = "development"
provider = "{provider}"
allow_mixed = true     # the stack shows providers side by side
digest_key = "file:{digest_key}"
attestation = "required"

[attestor]
timeout_ms = 10000
peer = {{ address = "{attestor}", spiffe_id = "{attestor_identity}" }}
{client_tls}
[local]
key_encryption_key = "file:{kek}"

{pkcs11}
[[policy.rules]]
name = "development-allows"
action = "allow"
"#,
        provider = settings.provider,
        attestor = settings.address("svc-attestor"),
        attestor_identity = Settings::spiffe("svc-attestor"),
        client_tls = settings.tls("attestor.client_tls", "svc-signer"),
        digest_key = settings.secret("digest-key").display(),
        kek = settings.secret("kek").display(),
        pkcs11 = pkcs11(settings),
    );
    for service in ["svc-compliance", "svc-feeds", "svc-settlement", "svc-distribution"] {
        let _ = write!(
            text,
            "\n[[grants]]\npeer = \"{}\"\nkinds = [\"evm_transaction\", \"eip712\", \"claim\"{}]\n",
            Settings::spiffe(service),
            if service == "svc-settlement" { ", \"settlement_reveal\"" } else { "" },
        );
    }
    let _ = write!(text, "\n[[grants]]\npeer = \"{}\"\nkinds = [\"audit_root\"]\n", Settings::spiffe("svc-gateway"));
    text + "\n" + &settings.signer
}

/// The token: a plain one, or a partition whose crypto user the signer is.
fn pkcs11(settings: &Settings) -> String {
    let module = settings.pkcs11_module.display();
    let head = format!("token_label = \"{TOKEN_LABEL}\"\npin = \"file:{}\"\n", settings.secret("pin").display());
    let softhsm = format!("SOFTHSM2_CONF = \"{}\"", settings.softhsm_configuration().display());
    let Some(luna) = &settings.luna else {
        return format!("[pkcs11]\nmodule = \"{module}\"\n{head}environment = {{ {softhsm} }}\n");
    };
    format!(
        r#"[pkcs11]
module = "{luna_module}"
{head}crypto_user = true
quorum_retry_s = 14400
environment = {{ {FOLDER_VARIABLE} = "{device}", {WRAPPED_VARIABLE} = "{module}", {softhsm} }}

[pkcs11.ntls]
directory = "{folder}/luna"
template = "{folder}/{LUNA_TEMPLATE}"
client_certificate = "file:{certificate}"
client_key = "file:{key}"
server_ca = "file:{authority}"
"#,
        luna_module = luna.module.display(),
        device = luna.device.display(),
        folder = settings.folder.display(),
        certificate = settings.pki("svc-signer.pem"),
        key = settings.pki("svc-signer.key"),
        authority = settings.pki("ca.pem"),
    )
}

/// The attestor looks at the one node that each chain has, so a refusal needs no second look; and whose latest block is as old as the last transaction.
fn attestor(settings: &Settings) -> String {
    let mut text = settings.head("svc-attestor");
    let first = Some(("first", settings.chain_id, &settings.chain_url));
    let second = settings.second_chain_url.as_ref().map(|url| ("second", crate::stack::SECOND_CHAIN_ID, url));
    for (name, id, url) in first.into_iter().chain(second) {
        let _ = write!(
            text,
            r#"[chains.{name}]
second_look_blocks = 0
head_age_max_s = 0

[chains.{name}.rules]
foreign_tokens = "known_parties"

[chains.{name}.chain]
chain_id = {id}
finality = {{ depth = {depth} }}
block_time_hint_ms = 200
request_timeout_ms = 4000

[[chains.{name}.chain.upstreams]]
name = "anvil"
url = "{url}"

"#,
            depth = settings.finality_depth,
        );
        if name == "first" {
            text += &other_node(settings, "chains.first.chain.upstreams");
        }
    }
    text + &settings.attestor
}

fn chain(settings: &Settings) -> String {
    let first = format!(
        "\n[chain]\nchain_id = {}\nfinality = {{ depth = {} }}\nblock_time_hint_ms = 200\n\n[[chain.upstreams]]\nname = \"anvil\"\nurl = \"{}\"\n",
        settings.chain_id, settings.finality_depth, settings.chain_url,
    );
    first + &other_node(settings, "chain.upstreams")
}

/// Another node of the first chain, among its upstreams.
fn other_node(settings: &Settings, upstreams: &str) -> String {
    settings
        .other_node
        .as_ref()
        .map_or_else(String::new, |url| format!("\n[[{upstreams}]]\nname = \"other\"\nurl = \"{url}\"\n\n"))
}

fn compliance(settings: &Settings) -> String {
    domain(settings, "svc-compliance", "[compliance]\ninstance = \"compliance-1\"\n") + &further(settings)
}

fn feeds(settings: &Settings) -> String {
    domain(settings, "svc-feeds", "[feeds]\ninstance = \"feeds-1\"\nwatch_ms = 1000\n")
}

fn settlement(settings: &Settings) -> String {
    let section = "[settlement]\ninstance = \"settlement-1\"\n".to_owned() + &settings.settlement;
    domain(settings, "svc-settlement", &section) + &further(settings)
}

fn distribution(settings: &Settings) -> String {
    domain(settings, "svc-distribution", "[distribution]\ninstance = \"distribution-1\"\n") + &settings.distribution
}

/// A domain service: database, signer and chain, beside a section of its own.
fn domain(settings: &Settings, service: &str, section: &str) -> String {
    let mut text = settings.head(service);
    text += &settings.tls("client_tls", service);
    text += &settings.database("database-url");
    text += section;
    let _ = write!(
        text,
        r#"
[signer]
address = "{}"
spiffe_id = "{}"
"#,
        settings.address("svc-signer"),
        Settings::spiffe("svc-signer"),
    );
    text + &chain(settings)
}

/// The second chain, of services that work on it.
fn further(settings: &Settings) -> String {
    let Some(url) = &settings.second_chain_url else { return String::new() };
    format!(
        r#"
[[further_chains]]
chain_id = {}
finality = {{ depth = {} }}
block_time_hint_ms = 200
request_timeout_ms = 2000

[[further_chains.upstreams]]
name = "anvil-2"
url = "{url}"
"#,
        crate::stack::SECOND_CHAIN_ID,
        settings.finality_depth,
    )
}

fn gateway(settings: &Settings) -> String {
    let mut text = settings.head("svc-gateway");
    text += &settings.tls("client_tls", "svc-gateway");
    text += &settings.database("database-url");
    for service in ["svc-signer", "svc-compliance", "svc-feeds", "svc-settlement", "svc-distribution"] {
        let _ = write!(
            text,
            "[[upstreams]]\nname = \"{service}\"\naddress = \"{}\"\nspiffe_id = \"{}\"\n\n",
            settings.address(service),
            Settings::spiffe(service),
        );
    }
    let _ = write!(
        text,
        r#"[limits]
read = {{ per_second = 20000, burst = 20000 }}
write = {{ per_second = 5000, burst = 5000 }}
stream = {{ per_second = 1000, burst = 1000 }}
admin = {{ per_second = 1000, burst = 1000 }}

[access]
read_within_ms = 10000

[audit]
seal_every_ms = 200
root_every_ms = 1000

[[sealing.keys]]
id = "devstack"
key = "file:{sealing_key}"

[status]
listen = "127.0.0.1:0"
address_file = "{status}"

[webhooks]
allow_networks = ["127.0.0.0/8", "::1/128"]
allow_http = true

[[tenants]]
id = "{TENANT}"

[[roles]]
name = "operator"
permissions = ["*"]

[[principals]]
id = "operator"
tenant = "{TENANT}"
roles = ["operator"]
prefix = "operator"
api_key_sha256 = "{}"
scope = "read-write"
"#,
        settings.api_key_sha256,
        sealing_key = settings.secret("sealing-key").display(),
        status = settings.status_address_file(1).display(),
    );
    text + &settings.gateway
}
