//! The engine's database, the signer's, and both are lost under load and restored to a moment seconds before, as `docs/runbooks/disaster-recovery.md` says; callers compare
//! what they asked for with platform and chain before they ask again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dalp_devstack::client::{Gateway, keyed};
use dalp_devstack::stack::{ATTESTOR, Databases, Options, SERVICES};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{CancelOperationRequest, ListOperationsRequest, OperationState};
use dalp_proto::operator::ResumeLaneRequest;
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_testing::TestPostgres;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::lanes::{ANSWERED_WITHIN, compare_lanes, lanes};
use super::{Measures, Outcome, Run, Site};
use crate::waiting::repeated;

const RUNBOOK: &str = include_str!("../../../docs/runbooks/disaster-recovery.md");
const SIGNER: &str = "svc-signer";
/// How long what is known may take to come to rest after a restore, and how often it is looked at.
const RESTS_WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is lost and restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Engine,
    Signer,
    Both,
}

/// A server for each database, so that each can be restored alone.
struct Servers {
    engine: TestPostgres,
    signer: TestPostgres,
}

/// What comparing says that a caller has to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    /// The chain has them, and the platform does not know them.
    found: Vec<u64>,
    /// The chain has them, and the platform would carry them out: to be cancelled.
    again: Vec<(u64, Uuid)>,
    /// Nobody has them: to be asked for again.
    forgotten: Vec<u64>,
}

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let mut servers = Servers { engine: TestPostgres::start_archiving(), signer: TestPostgres::start_archiving() };
    let (engine, signer) =
        (servers.engine.create_database("dalp").await, servers.signer.create_database("signer").await);
    let options = Options { databases: Some(Databases { engine, signer }), ..Options::default() };
    let mut site = Site::open(&options, "local").await?;
    let mut run = Run::begin(&site, "restored", measures).await?;
    for lost in [Lost::Engine, Lost::Signer, Lost::Both] {
        lose(lost, &mut servers, &mut site, &mut run).await?;
    }
    run.finish(&site).await
}

async fn lose(lost: Lost, servers: &mut Servers, site: &mut Site, run: &mut Run) -> anyhow::Result<()> {
    tokio::task::block_in_place(|| servers.back_up(lost));
    run.work().await?;
    let point = format!("before_{}", lost.name().replace(' ', "_"));
    servers.mark(lost, &point).await;
    run.work().await?; // all of this is accepted, signed and sent after the point
    run.pause().await?;
    let from = Instant::now();
    let stopped: Vec<&str> = SERVICES.into_iter().filter(|name| lost.stops(name)).collect();
    for name in stopped.iter().rev() {
        site.stop(name)?;
    }
    servers.restore(lost, &point).await;
    if lost.is_signers() {
        pause_lanes(site).await?;
    }
    let until = Instant::now(); // that all starts and is compared is a part of the recovery
    for name in &stopped {
        site.restart(name)?;
    }
    site.stack.wait_until_serving().await?;
    let gateway = site.stack.client()?.gateway();
    let known = at_rest(&gateway, site, lost).await?;
    let moved: HashSet<u64> = run.moved(site).await?.into_iter().collect();
    let compared = Compared::of(&run.accepted(), &known, &moved);
    run.remark(format!("{}: {}", lost.name(), compared.say()));
    for number in &compared.found {
        run.found(*number);
    }
    for (number, id) in &compared.again {
        run.found(*number);
        cancel(&gateway, *id).await?;
    }
    if lost.is_signers() {
        resume_lanes(&gateway, lost).await?;
    }
    for number in &compared.forgotten {
        run.repeat(*number).await;
    }
    run.resume();
    run.over(lost.name(), from, until).await
}

// === impl Lost ===

impl Lost {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "the engine's database restored",
            Self::Signer => "the signer's database restored",
            Self::Both => "both databases restored",
        }
    }

    fn is_engines(self) -> bool {
        self != Self::Signer
    }

    fn is_signers(self) -> bool {
        self != Self::Engine
    }

    /// Whether the runbook has a service stopped. The attestor has no database.
    fn stops(self, service: &str) -> bool {
        service != ATTESTOR && (self.is_signers() || service != SIGNER)
    }
}

// === impl Servers ===

impl Servers {
    fn back_up(&self, lost: Lost) {
        if lost.is_engines() {
            self.engine.back_up();
        }
        if lost.is_signers() {
            self.signer.back_up();
        }
    }

    /// The engine's first, so that the signer knows at least as much.
    async fn mark(&self, lost: Lost, point: &str) {
        if lost.is_engines() {
            self.engine.mark(point).await;
        }
        if lost.is_signers() {
            self.signer.mark(point).await;
        }
    }

    async fn restore(&mut self, lost: Lost, point: &str) {
        if lost.is_signers() {
            self.signer.restore(point).await;
        }
        if lost.is_engines() {
            self.engine.restore(point).await;
        }
    }
}

// === impl Compared ===

impl Compared {
    /// Of what was accepted, by number and operation; what the platform knows; and the numbers that the chain has moved.
    fn of(accepted: &[(u64, Uuid)], known: &HashMap<Uuid, OperationState>, moved: &HashSet<u64>) -> Self {
        let mut compared = Self::default();
        for (number, id) in accepted {
            match (known.get(id), moved.contains(number)) {
                (None, true) => compared.found.push(*number),
                (None, false) => compared.forgotten.push(*number),
                (Some(OperationState::Running), true) => compared.again.push((*number, *id)),
                (Some(_), _) => {}
            }
        }
        compared
    }

    fn say(&self) -> String {
        format!(
            "{} unknown and on chain, {} known as waiting and on chain (cancelled), {} unknown and not on chain (asked for again)",
            self.found.len(),
            self.again.len(),
            self.forgotten.len()
        )
    }
}

/// The runbook's own statement, carried out before anything starts.
async fn pause_lanes(site: &Site) -> anyhow::Result<()> {
    let (_, block) = RUNBOOK.split_once("<!-- all lanes paused -->\n```sql\n").context("the runbook's statement")?;
    let (statement, _) = block.split_once("```").context("the statement's end")?;
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&site.pool).await?;
    Ok(())
}

/// Has every lane compared, and waits until nothing has a nonce that no block has, and what runs waits for one. Returns all operations that the platform knows.
async fn at_rest(gateway: &Gateway, site: &Site, lost: Lost) -> anyhow::Result<HashMap<Uuid, OperationState>> {
    compare_lanes(gateway, lost.name()).await?;
    let begun = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let (lanes, known) = (lanes(gateway).await?, operations(gateway).await?);
        let running = known.values().filter(|state| **state == OperationState::Running).count();
        let queued: u64 = lanes.iter().map(|lane| lane.queued).sum();
        let moves = lanes.iter().filter(|lane| lane.in_flight + lane.confirming > 0 || lane.resync_pending).count();
        let waits = usize::try_from(queued)?;
        if moves == 0 && running == waits && (lost.is_signers() || waits == 0) && site.chain.waiting().await? == 0 {
            return Ok(known);
        }
        ensure!(
            begun.elapsed() < RESTS_WITHIN,
            "{}: no rest after {RESTS_WITHIN:?}: {running} run, {waits} wait for a nonce, {moves} lanes move",
            lost.name()
        );
    }
}

async fn resume_lanes(gateway: &Gateway, lost: Lost) -> anyhow::Result<()> {
    for lane in lanes(gateway).await?.into_iter().filter(|lane| lane.pause.is_some()) {
        let key = format!("resume {} {}", lane.sender, lost.name());
        let request =
            ResumeLaneRequest { chain_id: lane.chain_id, sender: lane.sender, reason: lost.name().to_owned() };
        repeated(ANSWERED_WITHIN, || async {
            OperatorServiceClient::new(gateway.clone()).resume_lane(keyed(request.clone(), &key)).await
        })
        .await?;
    }
    Ok(())
}

async fn cancel(gateway: &Gateway, id: Uuid) -> anyhow::Result<()> {
    let request = CancelOperationRequest { operation_id: id.to_string(), reason: "the chain has it".to_owned() };
    let key = format!("cancel {id}");
    repeated(ANSWERED_WITHIN, || async {
        OperationServiceClient::new(gateway.clone()).cancel_operation(keyed(request.clone(), &key)).await
    })
    .await?;
    Ok(())
}

/// Every operation that the platform knows, as a caller sees them.
async fn operations(gateway: &Gateway) -> anyhow::Result<HashMap<Uuid, OperationState>> {
    let (mut known, mut page_token) = (HashMap::new(), String::new());
    loop {
        let page = repeated(ANSWERED_WITHIN, || async {
            let request = ListOperationsRequest {
                page_size: 500,
                page_token: page_token.clone(),
                ..ListOperationsRequest::default()
            };
            Ok(OperationServiceClient::new(gateway.clone()).list_operations(request).await?.into_inner())
        })
        .await?;
        for operation in page.operations {
            known.insert(operation.operation_id.parse()?, operation.state());
        }
        if page.next_page_token.is_empty() {
            return Ok(known);
        }
        page_token = page.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_has_to_do_follows_from_platform_and_chain() {
        let ids: Vec<Uuid> = (0..6).map(|_| Uuid::new_v4()).collect();
        let accepted: Vec<(u64, Uuid)> = (1..).zip(ids.clone()).collect();
        let known = HashMap::from([
            (ids[0], OperationState::Completed),
            (ids[1], OperationState::Running),
            (ids[2], OperationState::Running),
            (ids[5], OperationState::Failed),
        ]);
        let compared = Compared::of(&accepted, &known, &HashSet::from([1, 3, 4]));
        let wanted = Compared { found: vec![4], again: vec![(3, ids[2])], forgotten: vec![5] };
        assert_eq!(compared, wanted, "what the platform knows and the chain does not have is the platform's");
    }

    #[test]
    fn the_signer_runs_on_while_only_the_engines_database_is_restored() {
        assert!(!Lost::Engine.stops(SIGNER) && Lost::Engine.stops("svc-gateway"));
        assert!(Lost::Signer.stops(SIGNER) && Lost::Both.stops(SIGNER) && !Lost::Both.stops(ATTESTOR));
    }
}
