//! A signer as a process of its own, as its peers meet it.

#[allow(dead_code, unreachable_pub)]
#[path = "../../../deploy/devstack/src/pki.rs"]
pub mod pki;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use dalp_proto::signer::{
    CreateKeyRequest, Key, SignOutcome, key_service_client::KeyServiceClient,
    signer_service_client::SignerServiceClient,
};
use dalp_service::{
    Caller, client,
    config::{PeerConfig, TlsConfig},
    tls::ClientTls,
};
use dalp_testing::TestPostgres;
use pki::DevPki;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Status, transport::Channel};

use crate::support::{RULES, TestToken, program, until};

/// The only child process, whichever thread started it.
pub fn child_of(parent: u32) -> u32 {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children: Vec<u32> = threads
        .flat_map(|thread| {
            let listed = std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
            listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

/// What a signer is told besides.
#[derive(Default)]
pub struct Parts {
    /// Keys of `[pkcs11]`.
    pub partition: String,
    /// Keys of `[telemetry]`.
    pub telemetry: String,
    /// Keys of `[signer]`.
    pub signer: String,
    /// Further sections.
    pub sections: String,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// A signer as a process of its own, with an HSM.
pub struct Process {
    pub dir: tempfile::TempDir,
    pub pki: DevPki,
    pub token: TestToken,
    pub child: Option<Child>,
    pub postgres: Arc<TestPostgres>,
    pub environment: Vec<(&'static str, String)>,
}

impl Process {
    pub async fn start() -> Self {
        Self::start_with(TestToken::new(), Parts::default()).await
    }

    pub async fn start_with(token: TestToken, parts: Parts) -> Self {
        let Parts { partition, telemetry, signer, sections, environment } = parts;
        let dir = tempfile::tempdir().unwrap();
        let services = ["svc-signer", "svc-compliance", "svc-feeds", "svc-gateway"];
        let pki = DevPki::create(&dir.path().join("pki"), &services).unwrap();
        let postgres = Arc::new(TestPostgres::start());
        let secret = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("file:{}", path.display())
        };
        let files = pki.files("svc-signer");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\naddress_file = \"{address}\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             metrics_address_file = \"{metrics}\"\n[server.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\ntrust_anchors = \"{anchors}\"\ncrl = \"{crl}\"\nreload_ms = 50\n\
             [telemetry]\nlog_format = \"text\"\n{telemetry}\n[database]\nurl = \"{url}\"\n\
             [signer]\nenvironment = \"development\"\nprovider = \"pkcs11\"\nattestation = \"off\"\ndigest_key = \"{digest_key}\"\nretry_ms = 50\n{signer}\n\
             {section}\n{sections}\n{RULES}",
            address = dir.path().join("address").display(),
            certificate = files.certificate.display(),
            key = files.key.display(),
            anchors = files.trust_anchors.display(),
            crl = files.crl.display(),
            url = secret("url", &postgres.url()),
            digest_key = secret("digest-key", &"k".repeat(40)),
            metrics = dir.path().join("metrics-address").display(),
            section = token.section_with(&partition),
        );
        std::fs::write(dir.path().join("signer.toml"), text).unwrap();
        let mut process = Self { dir, pki, token, child: None, postgres, environment };
        process.restart().await;
        process
    }

    pub fn address_file(&self) -> PathBuf {
        self.dir.path().join("address")
    }

    pub async fn restart(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.address_file()); // absent at the first start
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        // Whoever starts it may allow core dumps as large as they come; the process forbids its own.
        let child = Command::new("sh")
            .args(["-c", "ulimit -c \"$(ulimit -Hc)\"; exec \"$0\" \"$@\""])
            .arg(program())
            .current_dir(self.dir.path())
            .arg("--config")
            .arg(self.dir.path().join("signer.toml"))
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        until(async || self.address_file().exists(), |written| *written).await;
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Everything that it tells Prometheus.
    pub async fn metrics(&self) -> String {
        let path = self.dir.path().join("metrics-address");
        until(async || path.exists(), |written| *written).await;
        let address = std::fs::read_to_string(path).unwrap();
        let mut stream = tokio::net::TcpStream::connect(address.trim()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: signer\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    pub fn channel(&self, name: &str) -> Channel {
        let files = self.pki.files(name);
        let tls = TlsConfig {
            certificate: files.certificate,
            key: files.key,
            trust_anchors: files.trust_anchors,
            crl: Some(files.crl),
            reload_ms: 3_600_000,
        };
        let address = std::fs::read_to_string(self.address_file()).unwrap();
        let spiffe_id = pki::spiffe_id("svc-signer").parse().unwrap();
        client::connect(&PeerConfig { address: address.parse().unwrap(), spiffe_id }, &ClientTls::load(&tls).unwrap())
    }

    pub fn signer(&self, name: &str) -> SignerServiceClient<Channel> {
        SignerServiceClient::new(self.channel(name))
    }

    pub async fn key(&self, wallet: &str) -> String {
        self.key_at(wallet, "").await
    }

    pub async fn key_at(&self, wallet: &str, provider: &str) -> String {
        self.made_at(wallet, provider).await.address
    }

    pub async fn made_at(&self, wallet: &str, provider: &str) -> Key {
        let caller = Caller { tenant: "bank".parse().unwrap(), principal: "ops".parse().unwrap(), roles: vec![] };
        let made = until(
            async || {
                let mut request = Request::new(CreateKeyRequest {
                    wallet: wallet.to_owned(),
                    provider: provider.to_owned(),
                    owner: String::new(),
                });
                caller.apply(request.metadata_mut());
                request.metadata_mut().insert("idempotency-key", wallet.parse().unwrap());
                KeyServiceClient::new(self.channel("svc-gateway")).create_key(request).await
            },
            |made| made.as_ref().err().is_none_or(|status| status.code() != Code::Unavailable),
        );
        made.await.unwrap().into_inner().key.unwrap()
    }

    pub async fn sign(&self, request: &dalp_proto::signer::SignRequest) -> Result<SignOutcome, Status> {
        let answer = self.signer("svc-compliance").sign(request.clone()).await?;
        Ok(answer.into_inner().outcome.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A secret as it may be met: as it is, and in each way that programs write bytes down.
pub fn disguises(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let listed: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut disguises = vec![
        secret.to_owned(),
        secret.chars().rev().collect(),
        hex::encode(bytes),
        hex::encode_upper(bytes),
        listed.join(", "),
        listed.join(","),
        bytes.escape_ascii().to_string(),
    ];
    // Base64 looks otherwise at each of three places in a longer text: what does not depend on its neighbours is looked for.
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            // From the first group of three that is the secret's own to the last.
            let own = &bytes[(3 - before) % 3..];
            disguises.push(engine.encode(&own[..own.len() / 3 * 3]));
        }
    }
    disguises
}
