//! Payments that are due, started by themselves: on the decision of whoever made the schedule, by the chain's clock.
//!
//! Any replica looks. A payment that is due is a row that one replica locks and others pass over; its run exists once by the constraints of
//! runs. So a window that was missed is caught up, and none is paid twice.

use super::{
    calendar::due_for,
    entitlement::Fraction,
    maturity::{self, Redemption},
    prepare,
    start::{self, Approval, standing},
    store::{
        due::{NotStarted, StoredDue},
        runs::RunState,
        schedules::ScheduleKind,
        treasuries::StoredTreasury,
    },
    terms::{Payout, SCHEDULED, period_of},
};
use crate::{
    app::{App, AppHandle},
    metric_definitions as metric,
    passes::ended,
};
use alloy::primitives::{Address, U256};
use dalp_contracts::bindings::{
    AssetToken::{supplyAtCall, totalSupplyCall},
    ServicingLifecycle::CouponPlan,
};
use dalp_engine::Failure;
use dalp_service::{Caller, Reason, Refusal, caller::ANY_WALLET, stop::Stop};
use std::time::Duration;

/// How often it looks for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it looks whether what is ahead is covered.
const WATCH_EVERY: Duration = Duration::from_secs(10);
/// Payments ahead that are read at once.
const PAGE: u32 = 500;
/// Calendars that are looked at at once.
const CALENDARS_AT_ONCE: u32 = 100;

/// Starts what is due, and watches what is ahead, until stopped. Neither waits for the other.
pub async fn run(app: AppHandle, stop: Stop) {
    tokio::join!(start_due(&app, stop.clone()), watch_ahead(&app, stop));
}

async fn start_due(app: &AppHandle, stop: Stop) {
    while !stop.is_requested() {
        if let Ok(app) = app.get()
            && let Err(refusal) = look(app).await
        {
            tracing::warn!(reason = %refusal.reason(), message = %refusal, "due payments cannot be looked for, will look again");
        }
        tokio::select! {
            () = stop.requested() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn watch_ahead(app: &AppHandle, stop: Stop) {
    while !stop.is_requested() {
        if let Ok(app) = app.get()
            && let Err(refusal) = watch(app).await
        {
            tracing::warn!(reason = %refusal.reason(), message = %refusal, "payments ahead cannot be looked at, will look again");
        }
        tokio::select! {
            () = stop.requested() => {}
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
    }
}

/// Starts at most one payment of each treasury: the next one has to see what the first reserves, and a treasury whose payments cannot be
/// started takes no more than its turn.
async fn look(app: &App) -> Result<(), Refusal> {
    confirm(app).await?;
    let head = app.chain.latest().await?;
    let mut looked = Vec::new();
    while let Some(locked) = app.store.lock_due(app.chain.chain_id(), head.timestamp_s, &looked).await? {
        looked.push(locked.due.treasury);
        let outcome = begin(app, &locked.due).await;
        let due = &locked.due;
        match &outcome {
            Ok(run) => {
                metric::scheduled_run();
                tracing::info!(treasury = %due.treasury, schedule = due.schedule, period = due.due.period, run, "a payment that was due is started");
            }
            Err(NotStarted::Opening(operation_id)) => tracing::info!(
                treasury = %due.treasury,
                schedule = due.schedule,
                %operation_id,
                "a redemption that is due is being opened"
            ),
            Err(NotStarted::NotOpened(failure) | NotStarted::Yet(failure) | NotStarted::Ever(failure)) => {
                tracing::warn!(
                    treasury = %due.treasury,
                    schedule = due.schedule,
                    period = due.due.period,
                    reason = %failure.reason,
                    message = %failure.message,
                    "a payment that is due cannot be started"
                )
            }
        }
        locked.settle(outcome).await?;
    }
    Ok(())
}

/// Lets the payments of calendars start once their dates are announced; of those that could not be announced, none.
async fn confirm(app: &App) -> Result<(), Refusal> {
    let chain_id = app.chain.chain_id();
    for calendar in app.store.unconfirmed_calendars(chain_id, CALENDARS_AT_ONCE).await? {
        match ended(&app.engine, &calendar.tenant, calendar.operation_id).await {
            Ok(None) => {}
            Ok(Some(outcome)) => app.store.settle_calendar(chain_id, &calendar, outcome.err().as_ref()).await?,
            Err(error) => tracing::warn!(
                treasury = %calendar.treasury,
                schedule = calendar.schedule,
                error = &error as &dyn std::error::Error,
                "the operation of a calendar cannot be read, will look again"
            ),
        }
    }
    Ok(())
}

/// Prepares and starts the run of a payment that is due; a redemption is opened first. Repeating it finds all of it.
async fn begin(app: &App, due: &StoredDue) -> Result<u32, NotStarted> {
    let refused = |refusal: Refusal| not_started(&refusal);
    // The right over the wallet may have gone since the decision.
    app.rights.require_wallet(&decider(due).map_err(refused)?, due.decision.sender).await.map_err(refused)?;
    let treasury = treasury_of(app, due).await.map_err(refused)?;
    if due.kind == ScheduleKind::Maturity {
        match maturity::redemption(app, due, &treasury).await? {
            Redemption::Begun(run) => return Ok(run),
            Redemption::Opening(operation_id) => return Err(NotStarted::Opening(operation_id)),
            Redemption::Open => {}
        }
    }
    pay(app, due, &treasury).await.map_err(refused)
}

async fn pay(app: &App, due: &StoredDue, treasury: &StoredTreasury) -> Result<u32, Refusal> {
    let payout = payout_of(app, due, treasury).await?;
    let run = prepare::prepare(app, &due.tenant, &due.decision.principal, treasury, &payout).await?;
    // Somebody was faster, by hand: what is paused or done is theirs.
    if matches!(run.state, RunState::Paying | RunState::Paused | RunState::Done) {
        return Ok(run.run);
    }
    let approval = Approval { principal: &due.decision.principal, sender: due.decision.sender, alone: true };
    match start::start(app, treasury, &run, approval).await {
        Ok(()) => Ok(run.run),
        // Holders pulled all of it, so it was reserved.
        Err(refusal) if refusal.reason() == Reason::PeriodAlreadyPaid => {
            app.store.note_reserved(app.chain.chain_id(), &run, None).await?;
            Ok(run.run)
        }
        Err(refusal) => Err(refusal),
    }
}

/// Who decided on a payment, with no more than what counted then.
fn decider(due: &StoredDue) -> Result<Caller, Refusal> {
    let roles = if due.decision.any_wallet { vec![ANY_WALLET.to_owned()] } else { vec![] };
    let tenant = due.tenant.parse().map_err(Refusal::internal)?;
    Ok(Caller { tenant, principal: due.decision.principal.parse().map_err(Refusal::internal)?, roles })
}

async fn treasury_of(app: &App, due: &StoredDue) -> Result<StoredTreasury, Refusal> {
    let found = app.store.treasury(&due.tenant, app.chain.chain_id(), due.treasury).await?;
    found.ok_or_else(|| Refusal::internal("a schedule without its treasury"))
}

/// What a payment pays; of a calendar the sum is known once the supply at the record date is.
async fn payout_of(app: &App, due: &StoredDue, treasury: &StoredTreasury) -> Result<Payout, Refusal> {
    let (year, ratio) = match (due.kind, due.due.year, due.annual_ratio) {
        (ScheduleKind::Maturity, ..) => return Ok(Payout::Redemption),
        (ScheduleKind::Calendar, Some(year), Some(ratio)) => (year, ratio),
        (ScheduleKind::Coupons | ScheduleKind::Calendar, ..) => return Ok(Payout::Coupon { period: due.due.period }),
    };
    let supply = supplyAtCall { date: U256::from(due.due.record_date) };
    let supply = app.chain.read(treasury.terms.asset, supply).await?;
    let total =
        due_for(supply, ratio, year).map_err(|error| Refusal::new(Reason::FailedPrecondition, error.to_string()))?;
    if total == 0 {
        return Err(Refusal::new(Reason::NothingDue, "the payment comes to less than a base unit of the currency"));
    }
    Ok(Payout::Dividend {
        currency: treasury.terms.currency,
        record_date: due.due.record_date,
        total,
        reference: format!("{SCHEDULED}{}-{}", due.schedule, due.due.period),
    })
}

/// Whether a payment that was refused is tried again. The record date has passed, so what nobody is due stays so.
fn not_started(refusal: &Refusal) -> NotStarted {
    let failure = Failure::new(refusal.reason().as_str(), refusal.to_string());
    match refusal.reason() {
        Reason::NothingDue => NotStarted::Ever(failure),
        _ => NotStarted::Yet(failure),
    }
}

/// Raises an alert for each payment ahead that its treasury could not make today, and takes it back when it could. One that cannot be
/// read hides none of the others.
async fn watch(app: &App) -> Result<(), Refusal> {
    let (chain_id, now_s) = (app.chain.chain_id(), app.chain.latest().await?.timestamp_s);
    let (mut short, mut after, mut cover) = (0, None, None::<(Address, Option<Cover>)>);
    loop {
        let page = app.store.payments_ahead(chain_id, now_s, after.as_ref(), PAGE).await?;
        for due in &page {
            // Those of a treasury follow each other.
            let known = match cover.take() {
                Some((of, known)) if of == due.treasury => known,
                _ => readable(due, Cover::read(app, due).await),
            };
            let short_by = known.as_ref().map(|known| (known.needed(due), known.free));
            cover = Some((due.treasury, known));
            let is_short = short_by.map_or(due.alerted, |(needed, free)| needed > free);
            short += usize::from(is_short);
            if let Some((needed, free)) = short_by
                && is_short != due.alerted
            {
                app.store.note_alert(chain_id, due, is_short).await?;
                tracing::warn!(
                    treasury = %due.treasury,
                    schedule = due.schedule,
                    period = due.due.period,
                    due_at = due.due.due_at,
                    %needed,
                    available = %free,
                    covered = !is_short,
                    "the cover of a payment ahead has changed"
                );
            }
        }
        match page.len() < PAGE as usize {
            true => break,
            false => after = page.into_iter().next_back(),
        }
    }
    metric::payments_short(short);
    Ok(())
}

fn readable(due: &StoredDue, cover: Result<Cover, Refusal>) -> Option<Cover> {
    let log = |refusal: &Refusal| {
        tracing::warn!(
            treasury = %due.treasury,
            reason = %refusal.reason(),
            message = %refusal,
            "it cannot be read whether payments ahead are covered"
        );
    };
    cover.inspect_err(log).ok()
}

/// What a treasury could pay today, and what its payments are counted of.
struct Cover {
    supply: U256,
    plan: Option<CouponPlan>,
    redemption: Fraction,
    free: U256,
}

// === impl Cover ===

impl Cover {
    async fn read(app: &App, due: &StoredDue) -> Result<Self, Refusal> {
        let treasury = treasury_of(app, due).await?;
        let standing = standing(app, &treasury).await?;
        let supply = app.chain.read_at(treasury.terms.asset, totalSupplyCall {}, standing.at.id()).await?;
        let redemption = treasury.units.redemption();
        Ok(Self { supply, plan: standing.plan, redemption, free: standing.balance.saturating_sub(standing.owed) })
    }

    /// What a payment would need for the supply of today.
    fn needed(&self, due: &StoredDue) -> U256 {
        let needed = match (due.kind, due.due.year, due.annual_ratio) {
            (ScheduleKind::Maturity, ..) => self.redemption.due(self.supply),
            (ScheduleKind::Calendar, Some(year), Some(ratio)) => due_for(self.supply, ratio, year),
            (ScheduleKind::Coupons | ScheduleKind::Calendar, ..) => {
                let period = self.plan.as_ref().and_then(|plan| period_of(plan, due.due.period));
                period.map_or(Ok(0), |period| period.fraction.due(self.supply))
            }
        };
        // More than can be reserved is more than anybody has.
        needed.map_or(U256::MAX, U256::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::treasury::store::due::{Decision, DueState, NewDue};
    use dalp_domain::{
        Rights,
        rights::{KeyRecord, Keys},
    };

    struct OneKey(&'static str);

    #[async_trait::async_trait]
    impl Keys for OneKey {
        async fn key(&self, _: &str, _: Address) -> Result<KeyRecord, Refusal> {
            Ok(KeyRecord { owner: self.0.into(), disabled: false })
        }
    }

    fn due(any_wallet: bool) -> StoredDue {
        let sender = Address::repeat_byte(1);
        StoredDue {
            tenant: "acme".into(),
            treasury: Address::repeat_byte(2),
            schedule: 1,
            kind: ScheduleKind::Coupons,
            due: NewDue { period: 0, record_date: 90, due_at: 100, year: None },
            annual_ratio: None,
            decision: Decision { principal: "alice".into(), any_wallet, sender, alert_s: 0 },
            state: DueState::Waiting,
            run: None,
            failure: None,
            alerted: false,
            open_operation: None,
            openings_failed: 0,
            tries: 0,
        }
    }

    #[tokio::test]
    async fn the_right_of_whoever_decided_is_that_of_now() {
        let asked = async |owner, any_wallet| {
            let due = due(any_wallet);
            let rights = Rights::new(Box::new(OneKey(owner)));
            rights.require_wallet(&decider(&due).unwrap(), due.decision.sender).await
        };
        assert!(asked("alice", false).await.is_ok());
        assert_eq!(asked("bob", false).await.unwrap_err().reason(), Reason::WalletNotOwned);
        assert!(asked("bob", true).await.is_ok());
    }

    #[test]
    fn what_nobody_is_due_is_not_tried_again() {
        let refused = |reason| not_started(&Refusal::new(reason, "no"));
        assert!(matches!(refused(Reason::NothingDue), NotStarted::Ever(_)));
        assert!(matches!(refused(Reason::TreasuryUnderfunded), NotStarted::Yet(_)));
        assert!(matches!(refused(Reason::ChainUnavailable), NotStarted::Yet(_)));
    }
}
