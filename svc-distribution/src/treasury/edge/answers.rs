//! What is stored and read, as messages.

use crate::{
    airdrop::store::outcomes::PayingTransaction,
    offering::price::Price,
    treasury::{
        readers::OnChain,
        store::{
            due::{DueState, StoredDue},
            outcomes::{Counts, Outcome, StoredEntitlement},
            passes::StoredPass,
            runs::{RunState, StoredRun},
            schedules::ScheduleKind,
            treasuries::StoredTreasury,
        },
        terms::Payout,
    },
};
use alloy::primitives::{Address, I256, U256};
use dalp_proto::distribution as proto;

/// An address as the wire carries it.
pub(super) fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// A treasury.
pub(super) fn treasury(stored: &StoredTreasury) -> proto::Treasury {
    let terms = &stored.terms;
    let price = terms.maturity.map(|maturity| maturity.redemption_price.to_string());
    proto::Treasury {
        treasury: text(stored.treasury),
        operation_id: stored.operation_id.to_string(),
        created: stored.created_block.is_some(),
        sender: text(stored.sender),
        terms: Some(proto::TreasuryTerms {
            asset: text(terms.asset),
            currency: text(terms.currency),
            sweep_to: text(terms.sweep_to),
            maturity: terms.maturity.map_or(0, |maturity| maturity.at),
            redemption_price: price.unwrap_or_default(),
        }),
    }
}

/// A treasury with what its contract says.
pub(super) fn standing(stored: &StoredTreasury, on_chain: &OnChain) -> proto::GetTreasuryResponse {
    let units = &stored.units;
    let plan = on_chain.plan.as_ref().map(|plan| {
        let rate = Price::of_ratio(U256::from(plan.rate), units.currency_decimals, units.asset_decimals);
        proto::CouponPlan {
            starts_at: plan.start.to(),
            ends_at: plan.end.to(),
            interval_s: plan.interval,
            lead_s: plan.lead,
            rate: rate.to_string(),
        }
    });
    let attached = [("FUNDS", on_chain.funds), ("SUPPLY", on_chain.supply), ("RULE", on_chain.rule)];
    proto::GetTreasuryResponse {
        treasury: Some(treasury(stored)),
        plan,
        opened_periods: on_chain.opened,
        completed_periods: on_chain.completed,
        periods: on_chain.periods,
        matured: on_chain.matured,
        coverage: Some(coverage(stored.terms.currency, on_chain.balance, on_chain.owed)),
        attached: attached.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect(),
        block_number: on_chain.at.number,
        block_time: on_chain.at.timestamp_s,
    }
}

/// What a treasury has and owes.
pub(super) fn coverage(currency: Address, balance: U256, owed: U256) -> proto::Coverage {
    proto::Coverage { currency: text(currency), balance: balance.to_string(), owed: owed.to_string() }
}

fn state(state: RunState) -> proto::RunState {
    match state {
        RunState::Prepared => proto::RunState::Prepared,
        RunState::Paying => proto::RunState::Paying,
        RunState::Paused => proto::RunState::Paused,
        RunState::Stopped => proto::RunState::Stopped,
        RunState::Done => proto::RunState::Done,
        RunState::Discarded => proto::RunState::Discarded,
    }
}

/// A run with how far it is.
pub(super) fn run(stored: &StoredRun, counts: &Counts) -> proto::Run {
    let (kind, period, reference) = match &stored.payout {
        Payout::Coupon { period } => (proto::PayoutKind::Coupon, *period, String::new()),
        Payout::Dividend { reference, .. } => (proto::PayoutKind::Dividend, 0, reference.clone()),
        Payout::Redemption => (proto::PayoutKind::Redemption, 0, String::new()),
    };
    let failure = stored.failure.as_ref();
    let progress = proto::RunProgress {
        state: state(stored.state).into(),
        sent: counts.sent,
        paid: counts.paid,
        skipped: counts.skipped,
        open: counts.open,
        paid_amount: counts.paid_amount.to_string(),
        unpaid_amount: counts.unpaid_amount.to_string(),
        error_reason: failure.map(|failure| failure.reason.clone()).unwrap_or_default(),
        error_message: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
    };
    proto::Run {
        run: stored.run,
        treasury: text(stored.treasury),
        kind: kind.into(),
        period,
        reference,
        currency: text(stored.currency),
        record_date: stored.record_date,
        record_block: stored.record_block,
        record_block_hash: stored.record_hash.to_string(),
        supply: stored.supply.to_string(),
        numerator: stored.fraction.numerator.to_string(),
        denominator: stored.fraction.denominator.to_string(),
        total: stored.total.to_string(),
        rounding: stored.rounding.to_string(),
        holders: stored.holders,
        root: stored.root.to_string(),
        payout_id: stored.payout_id,
        progress: Some(progress),
        discard: stored.discard.as_ref().map(|discard| proto::RunDiscard {
            principal: discard.principal.clone(),
            reason: discard.reason.clone(),
            at: discard.at,
        }),
    }
}

/// That the sums of a run agree.
pub(super) fn reconciliation(stored: &StoredRun, counts: &Counts) -> proto::Reconciliation {
    // All are far below 2^127: the total is below 2^128, and rounding leaves less than a unit for each holder.
    let rounding = i128::try_from(stored.rounding).unwrap_or(i128::MAX).saturating_add(counts.split_rounding);
    let accounted = I256::from_raw(counts.paid_amount + counts.unpaid_amount).saturating_add(widened(rounding));
    let difference = I256::from_raw(U256::from(stored.total)).saturating_sub(accounted);
    proto::Reconciliation {
        total: stored.total.to_string(),
        paid: counts.paid_amount.to_string(),
        unpaid: counts.unpaid_amount.to_string(),
        rounding: rounding.to_string(),
        difference: difference.to_string(),
        deviating: counts.deviating,
    }
}

fn widened(value: i128) -> I256 {
    let size = I256::from_raw(U256::from(value.unsigned_abs()));
    if value < 0 { size.saturating_neg() } else { size }
}

/// The name of an outcome, for files.
pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Open => "OPEN",
        Outcome::Paid => "PAID",
        Outcome::Skipped => "SKIPPED",
    }
}

/// An entitlement.
pub(super) fn entitlement(stored: StoredEntitlement) -> proto::Entitlement {
    let outcome = match stored.outcome {
        Outcome::Open => proto::EntitlementOutcome::Open,
        Outcome::Paid => proto::EntitlementOutcome::Paid,
        Outcome::Skipped => proto::EntitlementOutcome::Skipped,
    };
    let (block_number, tx_hash) = stored.last.map(|(block, hash)| (block, hash.to_string())).unwrap_or_default();
    proto::Entitlement {
        place: stored.place,
        holder: text(stored.holder),
        units: stored.units.to_string(),
        amount: stored.amount.to_string(),
        outcome: outcome.into(),
        reason: stored.reason,
        paid_to: stored.paid_to.map(text).unwrap_or_default(),
        paid_amount: stored.paid_amount.to_string(),
        tx_hash,
        block_number,
    }
}

/// A payment of a schedule.
pub(super) fn due(stored: StoredDue) -> proto::DuePayment {
    let state = match stored.state {
        DueState::Waiting => proto::DueState::Waiting,
        DueState::Started => proto::DueState::Started,
        DueState::Stopped => proto::DueState::Stopped,
    };
    let (error_reason, error_message) =
        stored.failure.map(|failure| (failure.reason, failure.message)).unwrap_or_default();
    let year = stored.due.year;
    let kind = match stored.kind {
        ScheduleKind::Coupons => proto::PayoutKind::Coupon,
        ScheduleKind::Calendar => proto::PayoutKind::Dividend,
        ScheduleKind::Maturity => proto::PayoutKind::Redemption,
    };
    proto::DuePayment {
        schedule: stored.schedule,
        period: stored.due.period,
        record_date: stored.due.record_date,
        due_at: stored.due.due_at,
        days: year.map_or(0, |year| year.days),
        year: year.map_or(0, |year| year.year),
        state: state.into(),
        run: stored.run.unwrap_or_default(),
        short: stored.alerted && stored.state == DueState::Waiting,
        error_reason,
        error_message,
        kind: kind.into(),
        open_operation_id: stored.open_operation.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// An approval of a list.
pub(super) fn approval(stored: StoredPass) -> proto::RunApproval {
    proto::RunApproval {
        pass: stored.pass,
        principal: stored.principal,
        sender: text(stored.sender),
        root: stored.root.to_string(),
        at: stored.approved_at,
    }
}

/// A transaction that paid holders.
pub(super) fn transaction(one: PayingTransaction) -> proto::PayingTransaction {
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    proto::PayingTransaction {
        tx_hash: one.tx_hash.to_string(),
        block_number: one.block,
        paid: small(one.paid),
        skipped: small(one.skipped),
        amount: one.amount.to_string(),
    }
}
