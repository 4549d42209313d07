//! The files that Luna's client reads before it does anything: its configuration, its certificate, its key, the appliances' certificates.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use secrecy::ExposeSecret as _;

use crate::config::pkcs11::NtlsConfig;

/// The name that the client looks for.
const CONFIGURATION: &str = "Chrystoki.conf";

/// Writes them, readable by this user alone. Written anew at each start of a worker, so that a renewed certificate is taken up with the next one.
pub(super) fn write(config: &NtlsConfig) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&config.directory)?;
    std::fs::set_permissions(&config.directory, Permissions::from_mode(0o700))?;
    let mut text = std::fs::read_to_string(&config.template)?;
    for (place, path, secret) in config.files() {
        let content = secret.resolve().map_err(io::Error::other)?;
        replace(&path, content.expose_secret().as_bytes())?;
        text = text.replace(place, &path.display().to_string());
    }
    replace(&config.directory.join(CONFIGURATION), text.as_bytes())
}

/// Takes them away again, as far as they are there.
pub(super) fn remove(config: &NtlsConfig) {
    for (_, path, _) in config.files() {
        let _ = std::fs::remove_file(path); // absent is as good
    }
    let _ = std::fs::remove_file(config.directory.join(CONFIGURATION));
}

/// In one step: a worker that is starting reads the old file or the new one, never half of it.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.write_all(b"\n")?;
    std::fs::rename(fresh, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on stops where it stands
mod tests {
    use super::*;

    #[test]
    fn the_client_finds_its_files_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            (
                "template",
                "Chrystoki2 = { LibUNIX64 = /lib.so; }\nLunaSA Client = { ClientCertFile = {client_certificate}; ClientPrivKeyFile = {client_key}; ServerCAFile = {server_ca}; }\n",
            ),
            ("certificate", "certificate\n"),
            ("key", "key\n"),
            ("ca", "ca\n"),
        ] {
            std::fs::write(at(name), text).unwrap();
        }
        let config: NtlsConfig = toml::from_str(&format!(
            "directory = \"{0}/run\"\ntemplate = \"{0}/template\"\nclient_certificate = \"file:{0}/certificate\"\nclient_key = \"file:{0}/key\"\nserver_ca = \"file:{0}/ca\"\n",
            folder.path().display()
        ))
        .unwrap();
        let run = at("run");
        for key in ["key", "renewed key"] {
            std::fs::write(at("key"), key).unwrap();
            write(&config).unwrap();
            let text = std::fs::read_to_string(run.join(CONFIGURATION)).unwrap();
            assert!(text.contains(&format!("ClientPrivKeyFile = {};", run.join("client.key").display())), "{text}");
            assert!(text.contains("LibUNIX64 = /lib.so;"), "the rest stays: {text}");
            assert_eq!(std::fs::read_to_string(run.join("client.key")).unwrap().trim_end(), key);
        }
        for name in [CONFIGURATION, "client.pem", "client.key", "server-ca.pem"] {
            assert_eq!(std::fs::metadata(run.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(std::fs::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
        remove(&config);
        assert_eq!(std::fs::read_dir(&run).unwrap().count(), 0);
    }
}
