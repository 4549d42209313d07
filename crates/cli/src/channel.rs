//! The connection to the gateway, and who calls.

use crate::failure::Failure;
use clap::ArgMatches;
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tonic::{
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A connection on which nothing comes is asked whether it lives: streams may be silent for long.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// An open connection and the caller's credential.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) channel: Channel,
    credential: Option<MetadataValue<Ascii>>,
}

// === impl Gateway ===

impl Gateway {
    /// Connects as the options say.
    pub(crate) async fn connect(given: &ArgMatches) -> Result<Self, Failure> {
        let address = given.get_one::<String>("gateway").expect("has a default");
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .map_err(|error| Failure::Usage(format!("--gateway {address}: {error}")))?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .tls_config(tls(given)?)
            .map_err(|error| Failure::Usage(format!("certificates: {}", chain(&error))))?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Failure::Unreachable { gateway: address.clone(), why: chain(&error) })?;
        Ok(Self { channel, credential: credential(given)? })
    }

    /// Adds the credential to the metadata of a call.
    pub(crate) fn sign_in(&self, metadata: &mut MetadataMap) {
        if let Some(credential) = &self.credential {
            metadata.insert("authorization", credential.clone());
        }
    }
}

fn tls(given: &ArgMatches) -> Result<ClientTlsConfig, Failure> {
    let mut tls = ClientTlsConfig::new();
    match given.get_one::<PathBuf>("ca") {
        Some(path) => tls = tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => {
            return Err(Failure::Usage(
                "--ca (or DALP_CA): name the authorities that the gateway's certificate must lead to".into(),
            ));
        }
    }
    if let (Some(cert), Some(key)) = (given.get_one::<PathBuf>("cert"), given.get_one::<PathBuf>("cert-key")) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(match given.get_one::<String>("server-name") {
        Some(name) => tls.domain_name(name),
        None => tls,
    })
}

/// The API key of the file, or of the variable; none where the certificate says who calls.
fn credential(given: &ArgMatches) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let key = match given.get_one::<PathBuf>("api-key-file") {
        Some(path) => Some(SecretString::from(String::from_utf8_lossy(&read(path)?).trim().to_owned())),
        None => std::env::var("DALP_API_KEY").ok().filter(|key| !key.is_empty()).map(SecretString::from),
    };
    let Some(key) = key else { return Ok(None) };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", key.expose_secret())
        .parse()
        .map_err(|_| Failure::Usage("the API key is not one line of plain characters".into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// An error with its causes: what matters stands in the last one.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}
