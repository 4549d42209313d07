//! Being a service: configuration, TLS, peers, authorisation, errors, health, telemetry, graceful stop.
//!
//! A service is a screenful on top of this crate:
//!
//! ```no_run
//! # use dalp_service::{config, server::{PeerPolicy, Routes, Server}, stop::Stop, telemetry};
//! # #[derive(serde::Deserialize)]
//! # #[serde(deny_unknown_fields)]
//! # struct Config { server: config::ServerConfig, telemetry: config::TelemetryConfig }
//! # impl config::Validate for Config {
//! #     fn validate(&self, problems: &mut config::Problems) {
//! #         problems.section("server", |problems| self.server.validate(problems));
//! #         problems.section("telemetry", |problems| self.telemetry.validate(problems));
//! #     }
//! # }
//! # async fn run(routes: Routes) -> Result<(), Box<dyn std::error::Error>> {
//! let config: Config = config::load(None, &config::ProcessEnvironment, "DALP_SIGNER")?;
//! let _telemetry = telemetry::init("svc-signer", &config.telemetry)?;
//! let policy = PeerPolicy::deny_all().allow("/dalp.signer.v1.Signer/", ["svc-compliance"]);
//! let stop = Stop::on_signals();
//! let server = Server::new("svc-signer", &config.server, policy).bind().await?;
//! server.health().set("database", true).await;
//! server.serve(routes, &stop).await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may panic

pub mod caller;
pub mod client;
pub mod config;
pub mod deadline;
pub mod errors;
pub mod fields;
pub mod metric_definitions;
pub mod peer;
pub mod server;
pub mod stop;
pub mod telemetry;
pub mod tls;
mod windows;

pub use caller::{Caller, PrincipalId, TenantId};
pub use errors::{Reason, Refusal};
pub use peer::{PeerIdentity, SpiffeId};
