//! Configuration: one TOML file, environment overrides, every problem listed before the process exits.
//!
//! `DALP_SIGNER__SERVER__LISTEN=0.0.0.0:7000` overrides `server.listen`. Unknown keys are refused wherever they come from.

mod environment;
mod load;
mod secret;
mod sections;

pub use environment::{Environment, MapEnvironment, ProcessEnvironment};
pub use load::{ConfigProblems, Problem, Problems, Validate, load};
pub use secrecy::{ExposeSecret, SecretString};
pub use secret::{SecretError, SecretRef};
pub use sections::{
    DatabaseConfig, HistoryConfig, LogFormat, PeerConfig, ServerConfig, TelemetryConfig, TlsConfig, authority,
};
