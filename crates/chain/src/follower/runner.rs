//! Fetches what the state asks for, and hands batches to the sink.

use super::{Batch, Change, Decision, FollowerSink, FollowerState, HistoryLost};
use crate::{
    config::Finality,
    error::ChainError,
    metric_definitions as metric,
    node_error::NodeErrorKind,
    types::{BlockHeader, BlockRef},
    upstreams::{Upstreams, decode},
};
use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Filter, Log},
};
use futures::FutureExt;
use serde_json::json;
use std::{collections::BTreeMap, future::Future, time::Duration};

/// Blocks per turn near the head, each checked by hash.
const NEAR_BLOCKS: u64 = 100;
/// Blocks per turn far below the head, where only the ends of the range are checked.
const FAR_BLOCKS: u64 = 5_000;
const LEAST_HISTORY: u64 = 256;
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Follows one chain for one sink.
pub struct Follower<S: FollowerSink> {
    upstreams: Upstreams,
    filter: Filter,
    start_block: u64,
    sink: S,
    state: Option<FollowerState>,
    far_blocks: u64,
}

/// What one turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing new.
    Idle,
    /// Blocks were applied up to this one.
    Advanced(BlockRef),
    /// Blocks were retracted down to this one.
    Rewound(Option<BlockRef>),
    /// The chain changed while being read, or a range was too large: turn again.
    Again,
}

/// Why a turn failed. Each is retried; [`HistoryLost`] will not heal by itself.
#[derive(Debug, thiserror::Error)]
pub enum FollowerError<E: std::error::Error + 'static> {
    /// Reading the chain failed.
    #[error("reading the chain failed")]
    Chain(#[from] ChainError),
    /// The sink could not commit.
    #[error("committing to the sink failed")]
    Sink(#[source] E),
    /// The fork is below everything remembered.
    #[error("rewinding failed")]
    History(#[from] HistoryLost),
}

// === impl Follower ===

impl<S: FollowerSink> Follower<S> {
    /// Follows from where the sink stands, or from `start_block`. The filter's block range is ignored. Filter by topic
    /// rather than by address where contracts appear while following: their first events stand in their first block.
    pub fn new(upstreams: Upstreams, filter: Filter, start_block: u64, sink: S) -> Self {
        Self { upstreams, filter, start_block, sink, state: None, far_blocks: FAR_BLOCKS }
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Runs until `stop` is ready; finishes the turn it is in. Failures are logged, counted and retried with backoff.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> S {
        let mut stop = std::pin::pin!(stop.fuse());
        let chain_id = self.upstreams.config().chain_id;
        let mut failures = 0u32;
        loop {
            if (&mut stop).now_or_never().is_some() {
                return self.sink;
            }
            let pause = match self.turn().await {
                Ok(Turn::Idle) => {
                    failures = 0;
                    self.upstreams.config().poll_interval()
                }
                Ok(_) => {
                    failures = 0;
                    continue;
                }
                Err(error) => {
                    let cause = match &error {
                        FollowerError::Chain(_) => "chain",
                        FollowerError::Sink(_) => "sink",
                        FollowerError::History(_) => "history",
                    };
                    metric::follower_failed(chain_id, cause);
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(chain_id, cause, failures, %error, source, "follower turn failed, it will be repeated");
                    let pause = Duration::from_millis(100).saturating_mul(1 << failures.min(10)).min(LONGEST_BACKOFF);
                    failures = failures.saturating_add(1);
                    pause.mul_f64(1.0 - rand::random::<f64>() / 2.0)
                }
            };
            tokio::select! {
                () = &mut stop => return self.sink,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Turns until nothing is new. For tests, and for catching up before serving.
    pub async fn sync(&mut self) -> Result<Option<BlockRef>, FollowerError<S::Error>> {
        while self.turn().await? != Turn::Idle {}
        Ok(self.state.as_ref().and_then(FollowerState::tip))
    }

    /// One step: at most one commit.
    pub async fn turn(&mut self) -> Result<Turn, FollowerError<S::Error>> {
        let result = self.step().await;
        if matches!(result, Err(FollowerError::Sink(_))) {
            // A commit whose answer was lost may have happened, so only the sink knows where it stands.
            self.state = None;
        }
        result
    }

    async fn step(&mut self) -> Result<Turn, FollowerError<S::Error>> {
        let near = self.near_blocks();
        if self.state.is_none() {
            let applied = self.sink.applied().await.map_err(FollowerError::Sink)?;
            self.state = Some(FollowerState::resume(self.start_block, (near * 2) as usize, applied));
        }
        let Some(state) = &self.state else { return Ok(Turn::Again) };
        let Some(head) = self.upstreams.block(BlockNumberOrTag::Latest).await? else { return Ok(Turn::Idle) };
        if let Some(tip) = state.tip() {
            metric::follower_at(self.upstreams.config().chain_id, tip.number, head.number);
        }
        let mut shown: Vec<BlockHeader> = Vec::new();
        loop {
            let needed: Vec<u64> = match state.decide(&head, &shown)? {
                Decision::Idle => return Ok(Turn::Idle),
                Decision::Rewind { to } => return self.rewind(to).await,
                Decision::Need(numbers) => numbers,
                Decision::Advance { from, to } => {
                    let far = to - from >= near * 2;
                    let to =
                        if far { (from + self.far_blocks - 1).min(to - near) } else { to.min(from + NEAR_BLOCKS - 1) };
                    if shown.iter().any(|header| header.number == from) {
                        return if far {
                            self.advance_far(from, to, &shown).await
                        } else {
                            self.advance_near(from, to, shown).await
                        };
                    }
                    if far { vec![from, to] } else { (from..=to).collect() }
                }
            };
            let before = shown.len();
            shown.extend(self.upstreams.blocks(needed).await?);
            if shown.len() == before {
                return Ok(Turn::Idle); // the node that answered now lags behind the one that named the head
            }
        }
    }

    /// Below this distance from the head every block is checked by hash.
    fn near_blocks(&self) -> u64 {
        match self.upstreams.config().finality {
            Finality::Depth(depth) => (depth * 2).max(LEAST_HISTORY),
            Finality::FinalizedTag => LEAST_HISTORY,
        }
    }

    async fn rewind(&mut self, to: Option<BlockRef>) -> Result<Turn, FollowerError<S::Error>> {
        let Some(state) = &mut self.state else { return Ok(Turn::Again) };
        let retracted = state.above(to);
        let chain_id = self.upstreams.config().chain_id;
        tracing::warn!(
            chain_id,
            blocks = retracted.len(),
            to = to.map(|block| block.number),
            "the chain has forked, blocks are retracted"
        );
        let changes = retracted.iter().map(|block| Change::Retracted { block: *block }).collect();
        self.sink.commit(Batch { changes, cursor: to }).await.map_err(FollowerError::Sink)?;
        state.rewound(to);
        metric::follower_retracted(chain_id, retracted.len() as u64);
        Ok(Turn::Rewound(to))
    }

    /// Near the head: headers must link, and logs are asked for by block hash, so that a node with another block (or without
    /// it) refuses instead of leaving a hole.
    async fn advance_near(
        &mut self,
        from: u64,
        to: u64,
        shown: Vec<BlockHeader>,
    ) -> Result<Turn, FollowerError<S::Error>> {
        const METHOD: &str = "eth_getLogs";
        let Some(state) = &self.state else { return Ok(Turn::Again) };
        let by_number: BTreeMap<u64, BlockHeader> = shown.into_iter().map(|header| (header.number, header)).collect();
        let mut headers: Vec<BlockHeader> =
            by_number.into_values().filter(|header| (from..=to).contains(&header.number)).collect();
        headers.truncate(state.linked(&headers));
        if headers.is_empty() {
            return Ok(Turn::Again);
        }
        let calls =
            headers.iter().map(|header| (METHOD, json!([self.filter.clone().at_block_hash(header.hash)]))).collect();
        let answers = self.upstreams.batch(calls).await.map_err(ChainError::from)?;
        let mut changes = Vec::with_capacity(headers.len());
        for (header, answer) in headers.iter().zip(answers) {
            let mut logs: Vec<Log> = decode(METHOD, answer)?;
            if logs.iter().any(|log| log.block_hash != Some(header.hash) || log.removed) {
                return Ok(Turn::Again);
            }
            logs.sort_by_key(|log| log.log_index);
            changes.push(Change::Applied { block: header.block_ref(), logs });
        }
        self.apply(changes).await
    }

    /// Far below the head no reorg is expected: one request for the logs, and only blocks with logs and the end of the range
    /// are handed on.
    async fn advance_far(
        &mut self,
        from: u64,
        to: u64,
        shown: &[BlockHeader],
    ) -> Result<Turn, FollowerError<S::Error>> {
        let Some(end) = shown.iter().find(|header| header.number == to) else { return Ok(Turn::Idle) };
        let logs = match self.upstreams.logs(&self.filter.clone().from_block(from).to_block(to)).await {
            Err(ChainError::Node(error)) if error.kind == NodeErrorKind::RangeTooLarge && self.far_blocks > 1 => {
                self.far_blocks /= 2;
                return Ok(Turn::Again);
            }
            other => other?,
        };
        let mut blocks: BTreeMap<u64, (BlockRef, Vec<Log>)> = BTreeMap::from([(to, (end.block_ref(), Vec::new()))]);
        for log in logs {
            let (Some(number), Some(hash)) = (log.block_number, log.block_hash) else { return Ok(Turn::Again) };
            let (block, logs) = blocks.entry(number).or_insert_with(|| (BlockRef { number, hash }, Vec::new()));
            if block.hash != hash || log.removed || !(from..=to).contains(&number) {
                return Ok(Turn::Again);
            }
            logs.push(log);
        }
        let changes = blocks.into_values().map(|(block, mut logs)| {
            logs.sort_by_key(|log| log.log_index);
            Change::Applied { block, logs }
        });
        self.far_blocks = (self.far_blocks * 2).min(FAR_BLOCKS);
        self.apply(changes.collect()).await
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Result<Turn, FollowerError<S::Error>> {
        let blocks: Vec<BlockRef> = changes
            .iter()
            .map(|change| match change {
                Change::Applied { block, .. } | Change::Retracted { block } => *block,
            })
            .collect();
        let (Some(state), Some(last)) = (&mut self.state, blocks.last().copied()) else { return Ok(Turn::Again) };
        self.sink.commit(Batch { changes, cursor: Some(last) }).await.map_err(FollowerError::Sink)?;
        blocks.into_iter().for_each(|block| state.committed(block));
        metric::follower_at(self.upstreams.config().chain_id, last.number, last.number);
        Ok(Turn::Advanced(last))
    }
}
