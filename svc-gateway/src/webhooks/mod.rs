//! Webhooks: events of a tenant, brought to a receiver of its own.
//!
//! - [`rows`]: webhooks and their secrets in the tables. [`queue`]: deliveries, from the outbox to their end.
//! - [`event`]: what is sent. [`signature`]: what proves it. [`schedule`]: what becomes of a try, and when the next one is.
//! - [`address`]: where may be called. [`sender`]: who calls.
//! - [`courier`]: makes deliveries of events and brings them, in the background; every replica does.
//!
//! What callers ask is answered beside tenants and keys, in `admin/webhooks.rs`.

pub mod address;
pub mod courier;
pub mod event;
pub mod queue;
pub mod rows;
pub mod schedule;
pub mod sender;
pub mod signature;

use std::sync::Arc;

use dalp_engine::Reader;

use crate::sealing::SealingKeys;

/// What webhooks are written with.
#[derive(Clone, Debug)]
pub struct Office {
    /// Seals their secrets.
    pub keys: Arc<SealingKeys>,
    /// Where they may point.
    pub reach: Arc<address::Reach>,
    /// The events, to begin at their end.
    pub reader: Reader,
}
