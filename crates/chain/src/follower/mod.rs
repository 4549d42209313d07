//! Blocks in order, to a sink that commits its cursor together with its effects.
//!
//! [`FollowerState`] decides, without clock or network, what to do with the headers it is shown. [`Follower`] fetches what
//! it asks for and hands batches to a [`FollowerSink`].

mod runner;
mod state;

pub use runner::{Follower, FollowerError, Turn};
pub use state::{Decision, FollowerState, HistoryLost};

use crate::types::BlockRef;
use alloy::rpc::types::Log;

/// What happened to one block.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The block is part of the chain. Its logs are in order.
    Applied {
        /// The block.
        block: BlockRef,
        /// Events of the block that the filter lets through.
        logs: Vec<Log>,
    },
    /// The block is no longer part of the chain: what its logs did must be undone. Newest first.
    Retracted {
        /// The block.
        block: BlockRef,
    },
}

/// Changes in order, to be committed together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Changes in order: retractions newest first, then applications oldest first.
    pub changes: Vec<Change>,
    /// Last block that is applied after this batch. `None`: none.
    pub cursor: Option<BlockRef>,
}

/// Where blocks go.
///
/// A log that the sink cannot decode is the sink's business: it sets it aside and returns `Ok`. `Err` is for "could not
/// commit", and the follower tries again from where the sink then stands.
#[async_trait::async_trait]
pub trait FollowerSink: Send {
    /// Why a commit failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Blocks applied so far, oldest first: as many of the newest as a reorg can be deep. Empty at the first start.
    async fn applied(&mut self) -> Result<Vec<BlockRef>, Self::Error>;

    /// Commits effects and cursor together. After an error the follower asks [`FollowerSink::applied`] again, so a commit
    /// that happened although its answer was lost is not repeated.
    async fn commit(&mut self, batch: Batch) -> Result<(), Self::Error>;
}
