//! A private PostgreSQL and a private SoftHSM token for tests.
#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use svc_signer::{
    config::SignerConfig,
    edge::{key::KeyEdge, signer::SignerEdge},
    providers::{Provider, ProviderKind, Providers, local::LocalProvider, pkcs11::Pkcs11Provider},
    signing::Signer,
    store::Store,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub const PEER: &str = "spiffe://dalp.dev/svc-compliance";
pub const PIN: &str = "4711-test";

/// A PostgreSQL cluster of its own, gone when dropped.
pub struct TestPostgres {
    server: Child,
    dir: TempDir,
}

impl TestPostgres {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("dalp-pg").tempdir_in("/tmp").unwrap();
        let data = dir.path().join("data");
        if is_root() {
            assert!(Command::new("chown").args(["postgres", dir.path().to_str().unwrap()]).status().unwrap().success());
        }
        let initdb = ordinary_user("initdb")
            .args(["-D", data.to_str().unwrap(), "-U", "signer", "-A", "trust", "--no-sync"])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(initdb.success(), "initdb");
        let server = ordinary_user("postgres")
            .args([
                "-D",
                data.to_str().unwrap(),
                "-k",
                dir.path().to_str().unwrap(),
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = dir.path().join(".s.PGSQL.5432");
        let started = Instant::now();
        while !(socket.exists() && std::os::unix::net::UnixStream::connect(&socket).is_ok()) {
            assert!(started.elapsed() < Duration::from_secs(60), "PostgreSQL did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { server, dir }
    }

    pub fn url(&self) -> String {
        format!("postgres://signer@localhost/postgres?host={}", self.dir.path().display())
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

fn is_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

/// PostgreSQL refuses to run as root.
fn ordinary_user(program: &str) -> Command {
    let program = which(program);
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn which(program: &str) -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .chain(versions)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed"))
}

/// A SoftHSM token of its own.
pub struct TestToken {
    pub dir: TempDir,
    pub module: PathBuf,
}

impl TestToken {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens = dir.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let conf =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        std::fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
        for (name, pin) in [("so-pin", "so-4711"), ("pin", PIN)] {
            std::fs::write(dir.path().join(name), format!("{pin}\n")).unwrap();
        }
        let token = Self { dir, module: softhsm() };
        let made = Command::new(program())
            .args(["init-token", "--label", "dalp-test", "--module", token.module.to_str().unwrap()])
            .arg("--so-pin-file")
            .arg(token.dir.path().join("so-pin"))
            .arg("--pin-file")
            .arg(token.pin_file())
            .env("SOFTHSM2_CONF", token.conf())
            .status()
            .unwrap();
        assert!(made.success(), "init-token");
        token
    }

    pub fn conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    pub fn pin_file(&self) -> PathBuf {
        self.dir.path().join("pin")
    }
}

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_svc-signer"))
}

fn softhsm() -> PathBuf {
    let named = std::env::var_os("DALP_PKCS11_MODULE").map(PathBuf::from);
    let multiarch = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("softhsm/libsofthsm2.so"));
    named
        .into_iter()
        .chain([PathBuf::from("/usr/lib/softhsm/libsofthsm2.so")])
        .chain(multiarch)
        .find(|path| path.is_file())
        .expect("SoftHSM is not installed: apt-get install softhsm2, or set DALP_PKCS11_MODULE")
}

/// A signer without its listener: the edge is called as the listener would, with a verified peer.
pub struct Bench {
    pub signer: Arc<Signer>,
    pub edge: SignerEdge,
    pub keys: KeyEdge,
    pub store: Store,
    pub hsm: Option<Arc<Pkcs11Provider>>,
    pub config: SignerConfig,
    pub postgres: Arc<TestPostgres>,
    pub token: Option<Arc<TestToken>>,
}

pub struct Setting {
    pub provider: ProviderKind,
    pub allow_mixed: bool,
    pub extra: String,
}

impl Bench {
    pub async fn new(provider: ProviderKind) -> Self {
        let token = (provider == ProviderKind::Pkcs11).then(|| Arc::new(TestToken::new()));
        let setting = Setting { provider, allow_mixed: false, extra: RULES.to_owned() };
        Self::over(setting, Arc::new(TestPostgres::start()), token).await
    }

    /// A further replica, or one with other settings, over the same database and token.
    pub async fn over(setting: Setting, postgres: Arc<TestPostgres>, token: Option<Arc<TestToken>>) -> Self {
        let dir = postgres.dir.path();
        let secret = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            format!("file:{}", path.display())
        };
        let pkcs11 = token.as_ref().map_or(String::new(), |token| {
            format!(
                "[pkcs11]\nmodule = \"{}\"\ntoken_label = \"dalp-test\"\npin = \"file:{}\"\ncall_deadline_ms = 1500\nlogin_deadline_ms = 5000\n\
                 environment = {{ SOFTHSM2_CONF = \"{}\" }}\n",
                token.module.display(),
                token.pin_file().display(),
                token.conf().display()
            )
        });
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ntls = {{ certificate = \"c\", key = \"k\", trust_anchors = \"t\" }}\n\
             [database]\nurl = \"{}\"\n[signer]\nenvironment = \"development\"\nprovider = \"{}\"\nallow_mixed = {}\nattestation = \"off\"\n\
             digest_key = \"{}\"\nretry_ms = 200\n[local]\nkey_encryption_key = \"{}\"\n{pkcs11}\n{}",
            secret("url", &postgres.url()),
            setting.provider,
            setting.allow_mixed,
            secret("digest-key", &"k".repeat(40)),
            secret("kek", &"07".repeat(32)),
            setting.extra,
        );
        let config: SignerConfig = toml::from_str(&text).unwrap();
        let store = Store::new(&config).unwrap();
        store.migrate().await.unwrap();
        let local = LocalProvider::new(&config.local.as_ref().unwrap().key_encryption_key().unwrap());
        let hsm = config.pkcs11.clone().map(|pkcs11| {
            Arc::new(Pkcs11Provider::new(pkcs11, program(), Zeroizing::new(vec![7; 40]), Arc::new(store.clone())))
        });
        let mut configured: Vec<Arc<dyn Provider>> = vec![Arc::new(local)];
        configured.extend(hsm.clone().map(|hsm| hsm as Arc<dyn Provider>));
        let providers = Providers::new(setting.provider, setting.allow_mixed, configured);
        let signer = Arc::new(Signer::new(&config, store.clone(), providers));
        Self {
            edge: SignerEdge::new(Arc::clone(&signer)),
            keys: KeyEdge::new(Arc::clone(&signer)),
            signer,
            store,
            hsm,
            config,
            postgres,
            token,
        }
    }
}

/// What most tests allow.
pub const RULES: &str = r#"
[[grants]]
peer = "spiffe://dalp.dev/svc-compliance"
kinds = ["evm_transaction", "eip712", "claim"]
[[grants]]
peer = "spiffe://dalp.dev/svc-feeds"
kinds = ["eip712"]
[[policy.rules]]
name = "small"
action = "allow"
max_value_wei = "1000"
[[policy.rules]]
name = "hourly"
action = "allow"
destinations = ["0x1111111111111111111111111111111111111111"]
rolling = { limit_wei = "100", window_s = 3600 }
"#;

pub fn exists(path: &Path) -> bool {
    path.exists()
}
