//! The configurations of `deploy/kubernetes`, as a process would read them there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dalp_service::config::{self, MapEnvironment, Validate};
use serde::de::DeserializeOwned;

/// What stands outside the repository in an installation, made up in a folder.
pub struct Installation {
    folder: tempfile::TempDir,
    kubernetes: PathBuf,
    overlay: &'static str,
}

// === impl Installation ===

impl Installation {
    /// An installation by this overlay.
    pub fn new(kubernetes: PathBuf, overlay: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in ["tls/tls.crt", "tls/tls.key", "trust/ca.pem", "trust/crl.pem"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap(); // a configuration is checked for whether its files can be read
        }
        let secrets = folder.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        for (name, text) in [
            ("database-url", "postgres://dalp@database/dalp".to_owned()),
            ("digest-key", "d".repeat(32)),
            ("kek", "0".repeat(64)),
            ("sealing-key", "5".repeat(64)),
            ("hsm-pin", "pin".to_owned()),
        ] {
            fs::write(secrets.join(name), text).unwrap();
        }
        fs::write(folder.path().join("libCryptoki2_64.so"), "").unwrap();
        Self { folder, kubernetes, overlay }
    }

    /// What is wrong with the configuration of a service, if anything is.
    pub fn problems<T: DeserializeOwned + Validate>(&self, service: &str, prefix: &str) -> Option<String> {
        let file = match service {
            "svc-signer" => self.kubernetes.join("overlays").join(self.overlay).join("svc-signer.toml"),
            _ => self.kubernetes.join("base/config").join(format!("{service}.toml")),
        };
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let text = self.here(&text);
        let path = self.folder.path().join(format!("{service}.toml"));
        fs::write(&path, text).unwrap();
        config::load::<T>(Some(&path), &self.environment(prefix), prefix).err().map(|problems| problems.to_string())
    }

    /// With the paths of a pod turned into those of the folder.
    fn here(&self, text: &str) -> String {
        let here = format!("{}/", self.folder.path().display());
        text.replace("/etc/dalp/", &here).replace("/usr/safenet/lunaclient/lib/", &here)
    }

    /// Variables that pods of the overlay get, and those of the Secret `chain-upstreams` as the README shows it.
    fn environment(&self, prefix: &str) -> MapEnvironment {
        let settings = self.kubernetes.join("overlays").join(self.overlay).join("settings.env");
        let mut variables = variables(&settings);
        for (_, value) in &mut variables {
            *value = self.here(value);
        }
        let section = prefix.trim_start_matches("DALP_").to_owned();
        if ["COMPLIANCE", "FEEDS", "SETTLEMENT", "DISTRIBUTION"].contains(&section.as_str()) {
            variables.push((format!("{prefix}__{section}__INSTANCE"), format!("svc-{}-5f7c9", section.to_lowercase())));
            let upstreams =
                "[{ name = \"a\", url = \"https://node-a/key\" }, { name = \"b\", url = \"https://node-b/key\" }]";
            variables.push((format!("{prefix}__CHAIN__UPSTREAMS"), upstreams.to_owned()));
        }
        if section == "GATEWAY" {
            // As components/webhooks switches them on.
            variables.push((format!("{prefix}__WEBHOOKS__TIMEOUT_MS"), "15000".to_owned()));
        }
        MapEnvironment::new(variables)
    }
}

fn variables(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
