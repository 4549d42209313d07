//! Wallet verification: what a person who signs in by browser shows besides, for each write that the tenant's policy names.
//!
//! In reading order:
//! - [`header`]: what is shown, as it stands in the metadata; it ends at the gateway.
//! - [`policy`]: which writes need it.
//! - [`lockout`]: for how long nothing is taken after wrong ones.
//! - [`pin`], [`totp`], [`recovery`]: what is kept of the factors, and how something shown is compared with it.
//! - [`store`]: the tables. Every race is decided there, by one conditional statement each, so replicas need not know of each other.
//! - [`verifier`]: from what was shown to a verdict, and which repeats need nothing.
//! - [`stream`]: the same for a call whose message is a stream.
//!
//! Three rules hold everywhere: a try is counted, and the count committed, before it is looked at; what is right is used up in the commit that says so; and no code leaves
//! this module, neither in an error nor in a log.

pub mod config;
pub mod header;
pub mod lockout;
pub mod pin;
pub mod policy;
pub mod recovery;
pub mod store;
pub(crate) mod stream;
pub mod totp;
pub mod verifier;

pub use config::VerificationConfig;
pub use header::{Code, Factor};
pub use policy::Policy;
pub use verifier::Verifier;
