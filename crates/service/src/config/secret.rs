//! Secrets by reference: a configuration file never holds one.

use std::{fmt, path::PathBuf, str::FromStr};

use dalp_aws::{SecretId, secrets::SecretFault};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de};

use super::{Environment, ProcessEnvironment};

/// Where a secret is kept: `file:/path`, `env:NAME` or `aws-secret:<name or ARN>[?version-stage=...|?version-id=...][#field]`. A literal is refused, and never echoed in the refusal.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// The content of a file, without trailing line ends.
    File(PathBuf),
    /// The value of an environment variable.
    Env(String),
    /// A secret of AWS Secrets Manager.
    Aws(SecretId),
}

/// Why a secret could not be had. Names the reference, never the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text is not a reference.
    #[error(
        "a secret is given by reference: file:/absolute/path, env:NAME or aws-secret:<name or ARN>[?version-stage=STAGE or ?version-id=ID][#field] (a literal secret is refused)"
    )]
    NotAReference,
    /// The file cannot be read.
    #[error("cannot read the secret file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// AWS Secrets Manager did not give it.
    #[error("cannot read the secret {reference}: {why}")]
    Aws {
        /// The reference.
        reference: String,
        /// Why.
        why: SecretFault,
    },
    /// The secret is there and blank.
    #[error("the secret at {0} is blank")]
    Blank(String),
}

impl SecretRef {
    /// Whether it is kept by a cloud's secret manager.
    #[must_use]
    pub const fn is_of_secret_manager(&self) -> bool {
        matches!(self, Self::Aws(_))
    }

    /// Reads the secret from its file, from the process environment, or from AWS as the process environment says. The latter blocks, with a deadline.
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        self.resolve_in(&ProcessEnvironment)
    }

    /// Reads the secret, taking variables from `environment`.
    pub fn resolve_in(&self, environment: &dyn Environment) -> Result<SecretString, SecretError> {
        let text = match self {
            Self::File(path) => {
                let content = std::fs::read_to_string(path)
                    .map_err(|source| SecretError::Unreadable { path: path.clone(), source })?;
                secrecy::zeroize::Zeroizing::new(content)
            }
            Self::Aws(secret) => {
                let text = secret
                    .resolve(&|name| environment.var(name))
                    .map_err(|why| SecretError::Aws { reference: self.to_string(), why })?;
                return self.checked(text.expose_secret());
            }
            Self::Env(name) => {
                secrecy::zeroize::Zeroizing::new(environment.var(name).ok_or_else(|| SecretError::Unset(name.clone()))?)
            }
        };
        self.checked(&text)
    }

    fn checked(&self, text: &str) -> Result<SecretString, SecretError> {
        let trimmed = text.trim_end_matches(['\n', '\r']);
        if trimmed.trim().is_empty() {
            return Err(SecretError::Blank(self.to_string()));
        }
        Ok(SecretString::from(trimmed.to_owned()))
    }
}

impl FromStr for SecretRef {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match text.split_once(':') {
            Some(("file", path)) if !path.trim().is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(("aws-secret", secret)) => secret.parse().map(Self::Aws).map_err(|_| SecretError::NotAReference),
            Some(("env", name)) if is_name(name) => Ok(Self::Env(name.to_owned())),
            _ => Err(SecretError::NotAReference),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Env(name) => write!(formatter, "env:{name}"),
            Self::Aws(secret) => write!(formatter, "aws-secret:{secret}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretRef({self})")
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReferenceVisitor)
    }
}

/// Takes every scalar, so that serde's own message, which would quote a literal secret, is never made.
struct ReferenceVisitor;

impl de::Visitor<'_> for ReferenceVisitor {
    type Value = SecretRef;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a secret reference: file:/absolute/path, env:NAME or aws-secret:<name or ARN>")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretRef, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::custom(SecretError::NotAReference))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Err(E::custom(SecretError::NotAReference))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Err(E::custom(SecretError::NotAReference))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Err(E::custom(SecretError::NotAReference))
    }
}
