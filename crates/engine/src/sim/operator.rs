//! The operator of a schedule: pauses, compares, outbids and cancels while there are faults; then resumes every lane, and retries or
//! closes every dead letter.

use super::{
    TENANT,
    fleet::Fleet,
    world::{World, locked},
};
use crate::{
    custody::BehindApproval,
    model::{LaneId, TenantId, TransactionId},
    operator::{DeadLetterAnswer, LanePolicy},
    states::TransactionState,
    store::Recovery,
};
use std::{sync::Arc, time::Duration};

const WHY: &str = "simulated";

/// Acts now and then on whatever there is.
pub(super) async fn operate(world: Arc<World>, fleet: Arc<Fleet>, replicas: usize) {
    let tenant = TenantId::new(TENANT);
    let choices = if world.policies { 9 } else { 6 };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        if !world.fault("operator acts", |plan| plan.operate) {
            continue;
        }
        let lanes: Vec<LaneId> = locked(&world.tables).lanes.keys().copied().collect();
        let transactions: Vec<TransactionId> = locked(&world.tables).transactions.keys().copied().collect();
        if lanes.is_empty() || transactions.is_empty() {
            continue;
        }
        let (choice, replica, lane, id) = world.draw(|rng, _| {
            (rng.below(choices), rng.below(replicas as u64) as usize, rng.pick(&lanes), rng.pick(&transactions))
        });
        let (memory, tenant) = (fleet.memory(replica), &tenant);
        let acting = async {
            match choice {
                0 => memory.commit("pause", |tables, _| tables.pause_lane(tenant, lane, WHY)).await.map(drop),
                1..=2 => memory.commit("resume", |tables, _| tables.resume_lane(tenant, lane, WHY)).await.map(drop),
                3 => memory.commit("ask resync", |tables, _| tables.ask_resync(tenant, lane, WHY)).await.map(drop),
                6.. => {
                    let times = [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(3))];
                    let (behind_approval, hold_nonce_for) =
                        world.draw(|rng, _| (rng.pick(BehindApproval::ALL), rng.pick(&times)));
                    let policy = LanePolicy { behind_approval, hold_nonce_for };
                    let set =
                        memory.commit("set policy", |tables, _| tables.set_lane_policy(tenant, lane, policy, WHY));
                    set.await.map(drop)
                }
                4 => memory.commit("ask bump", |tables, _| tables.bump_transaction(tenant, id, WHY)).await.map(drop),
                _ => {
                    memory.commit("ask cancel", |tables, _| tables.cancel_transaction(tenant, id, WHY)).await.map(drop)
                }
            }
        };
        // Who gets no answer gives up: what was taken shows in the tables.
        let _ = tokio::time::timeout(Duration::from_secs(5), acting).await;
    }
}

/// Resumes what is paused, and retries or closes what is parked as soon as nothing of it can be included any more.
pub(super) fn tidy_up(world: &World) {
    let tenant = TenantId::new(TENANT);
    let mut tables = locked(&world.tables);
    let paused: Vec<LaneId> = tables.lanes.iter().filter(|(_, row)| row.paused).map(|(lane, _)| *lane).collect();
    for lane in paused {
        if tables.resume_lane(&tenant, lane, WHY).is_ok() {
            world.saw("resumed");
        }
    }
    let dead: Vec<TransactionId> = tables
        .transactions
        .iter()
        .filter(|(_, row)| row.state == TransactionState::DeadLetter)
        .map(|(id, _)| *id)
        .collect();
    for id in dead {
        let recovery = world.draw(|rng, _| rng.pick(&[Recovery::Retry, Recovery::Close]));
        let mut answer = tables.recover(&tenant, id, recovery, WHY);
        if matches!(answer, Ok(DeadLetterAnswer::OperationEnded)) {
            answer = tables.recover(&tenant, id, Recovery::Close, WHY);
        }
        match answer {
            Ok(DeadLetterAnswer::Done) => world.saw(if recovery == Recovery::Retry { "retried" } else { "closed" }),
            Ok(_) => {}
            Err(error) => world.violated(format!("a dead letter cannot be recovered: {error}")),
        }
    }
}
