//! Following the chain for an index: one replica at a time, by a lease that every commit of the index checks.

mod cursor;

pub use cursor::{drop_blocks, put_blocks};

use crate::store::Tables;
use dalp_chain::{
    Filter, Upstreams,
    follower::{Follower, FollowerSink},
};
use dalp_service::stop::Stop;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a replica that fell silent keeps the others waiting.
const LEASE: Duration = Duration::from_secs(15);
/// How often the lease is renewed, or asked for.
const RENEW: Duration = Duration::from_secs(5);

/// Indexes until stopped, whenever the lease can be had.
pub async fn run<S: FollowerSink>(
    tables: Tables,
    upstreams: Upstreams,
    filter: Filter,
    start_block: u64,
    owner: String,
    sink: impl Fn() -> S + Send,
    stop: Stop,
) {
    let chain_id = upstreams.config().chain_id;
    let lease = Lease { tables, chain_id, owner };
    while !stop.is_requested() {
        if lease.hold().await == Some(true) {
            let (lost, notice) = tokio::sync::oneshot::channel();
            // A task of its own, because a turn of the follower may take longer than the lease; ended with this one, or a
            // replica that no longer indexes would keep the others from it.
            let mut renewal = JoinSet::new();
            renewal.spawn(lease.clone().renew(lost));
            let ends = async {
                tokio::select! {
                    () = stop.requested() => {}
                    _ = notice => {}
                }
            };
            Follower::new(upstreams.clone(), filter.clone(), start_block, sink()).run(ends).await;
        }
        tokio::select! {
            () = stop.requested() => {}
            () = tokio::time::sleep(RENEW) => {}
        }
    }
    lease.release().await;
}

/// The right to index a chain. What makes it safe is that every commit checks it.
#[derive(Clone)]
struct Lease {
    tables: Tables,
    chain_id: u64,
    owner: String,
}

// === impl Lease ===

impl Lease {
    /// Takes or renews it; `None` when the database did not answer.
    async fn hold(&self) -> Option<bool> {
        self.tables
            .lease_indexer(self.chain_id, &self.owner, LEASE)
            .await
            .inspect_err(|error| {
                tracing::warn!(chain_id = self.chain_id, %error, "the indexer cannot ask for its lease");
            })
            .ok()
    }

    /// Renews it until it is lost, which is said by dropping `lost`. It is not taken again here: whoever had it in between has
    /// changed the tables under the follower.
    async fn renew(self, lost: tokio::sync::oneshot::Sender<()>) {
        loop {
            tokio::time::sleep(RENEW).await;
            let renewed = self.tables.renew_indexer(self.chain_id, &self.owner, LEASE).await;
            if let Err(error) = &renewed {
                tracing::warn!(chain_id = self.chain_id, %error, "the indexer lease could not be renewed");
            }
            if matches!(renewed, Ok(false)) {
                drop(lost);
                return;
            }
        }
    }

    async fn release(&self) {
        if let Err(error) = self.tables.release_indexer(self.chain_id, &self.owner).await {
            tracing::warn!(chain_id = self.chain_id, %error, "the indexer lease is left to run out");
        }
    }
}
