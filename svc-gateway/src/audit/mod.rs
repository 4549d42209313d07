//! The audit log: leaves are written by whoever does something, in the commit of what is done; here they are sealed, signed, read and proven.
//!
//! - [`store`]: the tables of the sealed log. [`reading`]: what is read of them.
//! - `held`: a tenant whose leaves cannot be sealed, for as long as that lasts.
//! - [`sealer`]: gives leaves their places, makes roots and has them signed, in the background.
//! - [`signing`]: the signer, as the sealer asks it.
//! - [`refusals`]: calls on their way into the log, bounded. `calls`: writes as they pass, until their end is heard.
//! - [`service`]: what callers ask.

pub(crate) mod calls;
mod held;
pub mod reading;
pub mod refusals;
pub mod sealer;
pub mod service;
pub mod signing;
pub mod store;

pub use store::Log;
