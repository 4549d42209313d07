//! A private SoftHSM token, bare or behind the manners of a Luna partition.

use std::{path::PathBuf, process::Command};

use dalp_quorum_module::device::Device;
use tempfile::TempDir;

use super::program;

pub const PIN: &str = "4711-test";

/// Label of the token that tests use.
pub const LABEL: &str = "dalp-test";

/// A SoftHSM token of its own, bare or behind the manners of a Luna partition.
pub struct TestToken {
    pub dir: TempDir,
    pub module: PathBuf,
    /// The appliance, where it is one.
    device: Option<Device>,
}

impl TestToken {
    /// A Luna partition that needs no activation yet.
    pub fn luna() -> Self {
        let token = Self::new();
        let device = Device::open(&token.dir.path().join("device")).unwrap();
        Self { module: quorum_module(), device: Some(device), ..token }
    }

    pub fn device(&self) -> &Device {
        self.device.as_ref().unwrap()
    }

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
        let token = Self { dir, module: softhsm(), device: None };
        token.initialise(LABEL);
        token
    }

    /// Makes a token of this label beside the others.
    pub fn initialise(&self, label: &str) {
        let made = Command::new(program())
            .args(["init-token", "--label", label, "--module"])
            .arg(softhsm())
            .arg("--so-pin-file")
            .arg(self.dir.path().join("so-pin"))
            .arg("--pin-file")
            .arg(self.pin_file())
            .env("SOFTHSM2_CONF", self.conf())
            .status()
            .unwrap();
        assert!(made.success(), "init-token");
    }

    pub fn conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    pub fn pin_file(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    /// A secret beside the token, as a reference to it.
    pub fn secret(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("file:{}", path.display())
    }

    /// The `[pkcs11]` section of a signer that uses it.
    pub fn section(&self) -> String {
        self.section_with("")
    }

    /// As [`TestToken::section`]; keys in `extra` replace those that are there by default.
    pub fn section_with(&self, extra: &str) -> String {
        let mut environment = vec![("SOFTHSM2_CONF", self.conf())];
        if self.device.is_some() {
            environment.push((dalp_quorum_module::device::FOLDER_VARIABLE, self.dir.path().join("device")));
            environment.push((dalp_quorum_module::device::WRAPPED_VARIABLE, softhsm()));
        }
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| format!("{name} = \"{}\"", value.display())).collect();
        let defaults = [
            ("module", format!("\"{}\"", self.module.display())),
            ("token_label", format!("\"{LABEL}\"")),
            ("pin", format!("\"file:{}\"", self.pin_file().display())),
            ("call_deadline_ms", "1500".to_owned()),
            ("login_deadline_ms", "5000".to_owned()),
            ("environment", format!("{{ {} }}", environment.join(", "))),
        ];
        let given = |key: &str| extra.lines().any(|line| line.split_once(" = ").is_some_and(|(name, _)| name == key));
        let kept = defaults.iter().filter(|(key, _)| !given(key)).map(|(key, value)| format!("{key} = {value}\n"));
        format!("[pkcs11]\n{}{extra}\n", kept.collect::<String>())
    }
}

/// The module with a Luna partition's manners. Cargo builds it with the tests, beside their programs.
fn quorum_module() -> PathBuf {
    let folder = program().parent().unwrap().to_owned();
    let name = "libdalp_quorum_module.so";
    [folder.join("deps").join(name), folder.join(name)]
        .into_iter()
        .find(|path| path.is_file())
        .expect("cargo builds the module with the tests")
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
