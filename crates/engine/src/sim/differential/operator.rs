//! What an operator asks, on both.

use super::{Reads, Twins, both};
use crate::{
    custody::BehindApproval,
    model::TenantId,
    operator::LanePolicy,
    store::{LaneLook, Recovery},
};
use std::time::Duration;

impl Twins {
    pub(super) async fn operator(&mut self) {
        let reads = Reads { pool: self.store.pool.clone() };
        let tenant = TenantId::new(if self.rng.per_mille(100) { "other" } else { "bank" });
        let lane = self.rng.pick(&self.lanes.clone());
        let (who, why) = ("tester", "by the test");
        let queued = self.any(|twins| &twins.queued).map(|one| one.id);
        macro_rules! asked {
            ($name:ident($what:expr $(, $more:expr)?)) => {{
                let backup = self.tables.clone();
                let model = self.tables.$name(&tenant, $what, $($more,)? why);
                if model.is_err() {
                    self.tables = backup;
                }
                let real = reads.$name(&tenant, $what, $($more,)? who, why).await;
                self.done.push(stringify!($name).into());
                self.same(stringify!($name), &model.ok(), &real.ok());
            }};
        }
        match (self.rng.below(10), queued) {
            (0, _) => asked!(pause_lane(lane)),
            (1..=2, _) => asked!(resume_lane(lane)),
            (3, _) => asked!(ask_resync(lane)),
            (4, _) => {
                let nothing = |done: &()| *done;
                let looks = both!(self, look_at_lanes("one", &[lane]), super::look).unwrap_or_default();
                let asked = looks.first().and_then(|look: &LaneLook| look.resync_asked);
                if let Some(asked) = asked {
                    both!(self, resynced(lane, asked), nothing);
                }
            }
            (5, Some(id)) => {
                asked!(bump_transaction(id));
                if self.rng.per_mille(300) {
                    both!(self, drop_bump(id, "too dear"), |done: &()| *done);
                }
            }
            (6, Some(id)) => asked!(cancel_transaction(id)),
            (7, _) => {
                // Seldom: behind a lane that refuses little more comes about.
                let refuses = self.rng.per_mille(150);
                let policy = LanePolicy {
                    behind_approval: if refuses { BehindApproval::Refuse } else { BehindApproval::Queue },
                    hold_nonce_for: self.rng.pick(&[None, Some(Duration::from_secs(60))]),
                };
                asked!(set_lane_policy(lane, policy));
            }
            (_, Some(id)) => {
                let recovery = self.rng.pick(&[Recovery::Retry, Recovery::Close]);
                let backup = self.tables.clone();
                let model = self.tables.recover(&tenant, id, recovery, why);
                if model.is_err() {
                    self.tables = backup;
                }
                let real = reads.recover(&tenant, id.0, recovery, who, why).await;
                self.done.push(format!("recover {recovery:?}"));
                self.same("recover", &model.ok(), &real.ok());
            }
            _ => {}
        }
    }
}
