//! The gateway as a stranger with curl has it.

use std::path::PathBuf;
use std::process::{Command, Output};

use dalp_devstack::stack::Stack;

/// What a stranger is told: address, authority, key.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub url: String,
    /// Whom its certificate is of.
    pub authority: PathBuf,
    /// The key of a principal.
    pub api_key: String,
    /// Where the stack keeps its files.
    pub folder: PathBuf,
}

/// What a program said that ended well.
///
/// # Panics
/// When it did not.
#[must_use]
pub fn succeeded(output: Output) -> String {
    let (said, erred) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{said}\n{erred}", output.status);
    said.into_owned()
}

// === impl Gateway ===

impl Gateway {
    /// That of a running stack.
    ///
    /// # Panics
    /// When its address has no port.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        let address = stack.settings().address("svc-gateway");
        let port = address.rsplit(':').next().expect("a port").to_owned();
        Self {
            url: format!("https://localhost:{port}"),
            authority: stack.folder().join("pki/ca.pem"),
            api_key: stack.settings().api_key.clone(),
            folder: stack.folder().to_owned(),
        }
    }

    /// The header that carries the key.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Authorization: Bearer {}", self.api_key)
    }

    /// curl with the authority and the key: the status, the head in small letters, the body.
    ///
    /// # Panics
    /// When curl is not there, or has no answer.
    #[must_use]
    pub fn curl(&self, arguments: &[&str], path: &str) -> (u16, String, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "90", "--dump-header", "-", "--cacert"])
            .arg(&self.authority);
        curl.args(["--resolve", &format!("localhost:{}:127.0.0.1", self.url.rsplit(':').next().expect("a port"))]);
        curl.args(["--header", &self.authorization()]).args(arguments).arg(format!("{}{path}", self.url));
        let said = succeeded(curl.output().expect("curl runs (make tools)"));
        let (head, body) = said.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }
}
