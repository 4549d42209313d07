//! What holds a lane, from what is stored and what a node says. Pure.

use super::{LaneFront, LaneView, WaitingTransaction};
use crate::{
    custody::{HoldCause, ProviderHold, is_accepted, keeps_nothing},
    flow::Priority,
    model::TransactionId,
};
use alloy::primitives::U256;
use std::time::Duration;
use time::OffsetDateTime;

/// With a node for this long, and still the chain's next nonce: something is wrong with the price or the node's pool.
const NOT_MINED_AFTER: Duration = Duration::from_secs(30);

/// The account of a lane as the nodes see it, and what a transaction would cost now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Nonce after the latest block.
    pub latest_nonce: u64,
    /// Nonce after the node's pool.
    pub pending_nonce: u64,
    /// Native balance.
    pub balance_wei: U256,
    /// Price per gas that a new transaction would be signed with; absent when there is none under the cap.
    pub price_wei: Option<u128>,
    /// Least price of the moment, when it is above the cap.
    pub price_above_cap_wei: Option<u128>,
    /// The configured cap.
    pub fee_cap_wei: u128,
    /// Latest block.
    pub head_number: u64,
    /// Its time, in seconds since 1970.
    pub head_timestamp_s: u64,
    /// Most transactions of a lane in flight.
    pub lane_window: u32,
}

/// What kind of thing holds a lane. In the order in which they are told: each hides those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldKind {
    /// An operator has paused it.
    Paused,
    /// There is work, and nobody works on it.
    NoWorker,
    /// No node gives a definite answer.
    Chain,
    /// It was never compared with the chain.
    NeverCompared,
    /// The chain has used nonces that it would still give.
    BehindChain,
    /// The signer does not answer, or contradicts this database.
    Signer,
    /// Its key waits for an approval.
    Approval,
    /// A nonce below the next one is used by nobody.
    Gap,
    /// The sender cannot pay.
    InsufficientFunds,
    /// A higher price is needed than the cap allows.
    FeeCap,
    /// Sent long ago and in no block yet.
    NotMined,
    /// As many in flight as there may be.
    Window,
    /// Its provider broadcasts by itself, and has not brought it into a block: only there it can be hastened.
    ByProvider,
}

/// Something that holds a lane, or a transaction of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What kind of thing.
    pub kind: HoldKind,
    /// For people.
    pub message: String,
    /// The transaction concerned.
    pub transaction_id: Option<TransactionId>,
    /// The nonce concerned.
    pub nonce: Option<u64>,
    /// What is needed.
    pub needed_wei: Option<U256>,
    /// What there is.
    pub available_wei: Option<U256>,
    /// Where it waits for somebody at the provider of its key.
    pub provider_hold: Option<ProviderHold>,
}

/// Everything that holds a lane, worst first. `account` is absent when no node could be asked.
pub fn holds(lane: &LaneView, front: &LaneFront, account: Option<&AccountView>, now: OffsetDateTime) -> Vec<Hold> {
    let mut found = of_the_lane(lane, front);
    found.extend(front.in_flight.iter().chain(&front.queue).filter_map(|one| of_a_transaction(lane, one, account)));
    match account {
        Some(account) => found.extend(of_the_chain(lane, front, account, now)),
        None if lane.queued + lane.in_flight > 0 => {
            found.push(Hold::new(HoldKind::Chain, "no node could be asked how the account stands"));
        }
        None => {}
    }
    found.sort_by_key(|hold| (hold.kind, hold.nonce));
    found
}

fn of_the_lane(lane: &LaneView, front: &LaneFront) -> Vec<Hold> {
    let mut found = Vec::new();
    if let Some(pause) = &lane.pause {
        found.push(Hold::new(HoldKind::Paused, format!("paused by {} at {}: {}", pause.by, pause.at, pause.reason)));
    }
    let work = lane.queued + lane.in_flight > 0;
    if work && !lane.leases.iter().any(|lease| lease.live) {
        found.push(Hold::new(HoldKind::NoWorker, "no replica of the service works on the lane"));
    }
    if lane.next_nonce.is_none() && work && !lane.by_provider {
        found.push(Hold::new(HoldKind::NeverCompared, "the lane was never compared with the chain"));
    }
    if let Some(hole) = front.holes.first().filter(|hole| front.in_flight.iter().any(|one| one.nonce > Some(**hole))) {
        let message = format!("nonce {hole} was given back, and transactions with higher nonces wait behind it");
        found.push(Hold { nonce: Some(*hole), ..Hold::new(HoldKind::Gap, message) });
    }
    found
}

/// What the last answer about a transaction tells. A sub-status is set together with the last counted action.
fn of_a_transaction(lane: &LaneView, one: &WaitingTransaction, account: Option<&AccountView>) -> Option<Hold> {
    let last_error = one.last.as_ref().map(|action| action.last_error.as_str()).unwrap_or_default();
    let last_action = one.last.as_ref().map(|action| action.action.as_str()).unwrap_or_default();
    let (kind, message) = match one.sub_status.as_str() {
        "provider_hold" | "provider_policy" => {
            (HoldKind::Approval, format!("the custody provider waits for an approval: {last_error}"))
        }
        "blocked" => (HoldKind::Approval, format!("the custody provider has blocked the request: {last_error}")),
        "watermark" | "known_to_signer" => {
            (HoldKind::Signer, format!("the signer contradicts this database: {last_error}"))
        }
        "insufficient_funds" => (HoldKind::InsufficientFunds, "the sender cannot pay for gas and value".to_owned()),
        "fee_cap" => (HoldKind::FeeCap, last_error.to_owned()),
        "retrying_upstream" => (HoldKind::Chain, format!("no node gives a definite answer: {last_error}")),
        "waiting_for_nonce" => (HoldKind::Gap, "the node waits for lower nonces".to_owned()),
        "provider_failed" => (
            HoldKind::ByProvider,
            format!("the provider says that it failed, and the chain may still take it: {last_error}"),
        ),
        "" if last_action == "sign" && !last_error.is_empty() && !one.sent => {
            (HoldKind::Signer, format!("the signer does not answer: {last_error}"))
        }
        _ => return None,
    };
    let mut hold = Hold { transaction_id: Some(one.transaction_id), nonce: one.nonce, ..Hold::new(kind, message) };
    if kind == HoldKind::Approval {
        hold.provider_hold = one.provider_hold.clone();
        if let Some(at) = &hold.provider_hold {
            hold.message += behind(lane, at.cause);
            hold.message += &nonce(lane, at);
        }
    } else if kind == HoldKind::InsufficientFunds {
        hold.needed_wei = one.needed_wei();
        hold.available_wei = account.map(|account| account.balance_wei);
    } else if kind == HoldKind::FeeCap {
        hold.available_wei = account.map(|account| U256::from(account.fee_cap_wei));
    }
    Some(hold)
}

/// What becomes of requests behind something that waits at its provider.
fn behind(lane: &LaneView, cause: HoldCause) -> &'static str {
    if lane.by_provider {
        "; nothing waits behind it"
    } else if is_accepted(lane.policy.behind_approval, true, Priority::Normal, false, [cause]) {
        "; what is ordered behind it waits"
    } else {
        "; what is ordered behind it is refused, as the lane is set"
    }
}

/// What becomes of the nonce of something that waits at its provider.
fn nonce(lane: &LaneView, hold: &ProviderHold) -> String {
    match lane.policy.hold_nonce_for.filter(|_| !hold.by_provider && hold.cause == HoldCause::Approval) {
        None => String::new(),
        Some(after) if keeps_nothing(hold.provider) => {
            format!("; after {} s with others behind it, its nonce is given to them", after.as_secs())
        }
        Some(_) => "; its nonce stays, for the custodian may still release the signature".to_owned(),
    }
}

fn of_the_chain(lane: &LaneView, front: &LaneFront, account: &AccountView, now: OffsetDateTime) -> Vec<Hold> {
    let mut found = Vec::new();
    if lane.by_provider {
        // Its nonces and prices are the provider's.
        let oldest = front.in_flight.iter().filter(|one| one.sent && one.nonce.is_none());
        let oldest = oldest.filter_map(|one| Some((one, one.attempt_at?))).min_by_key(|(_, since)| *since);
        if let Some((one, since)) = oldest.filter(|(_, since)| now - *since >= NOT_MINED_AFTER) {
            let message = format!(
                "sent by the provider, handed over {} s ago, and in no block yet",
                (now - since).whole_seconds()
            );
            let transaction_id = Some(one.transaction_id);
            found.push(Hold { transaction_id, ..Hold::new(HoldKind::ByProvider, message) });
        }
        return found;
    }
    if let Some(next) = lane.next_nonce.filter(|next| *next < account.latest_nonce) {
        let message = format!("the chain uses nonce {} next, this lane would give {next}", account.latest_nonce);
        found.push(Hold { nonce: Some(next), ..Hold::new(HoldKind::BehindChain, message) });
    }
    let lowest = front.in_flight.first();
    if let Some(nonce) = lowest.and_then(|one| one.nonce).filter(|nonce| *nonce > account.latest_nonce) {
        let message = format!("the chain waits for nonce {}, the lowest in flight is {nonce}", account.latest_nonce);
        found.push(Hold { nonce: Some(account.latest_nonce), ..Hold::new(HoldKind::Gap, message) });
    }
    if let Some(needed_wei) = account.price_above_cap_wei.filter(|_| lane.queued > 0) {
        let message = format!("{needed_wei} wei per gas is needed, the cap is {}", account.fee_cap_wei);
        found.push(Hold {
            needed_wei: Some(U256::from(needed_wei)),
            available_wei: Some(U256::from(account.fee_cap_wei)),
            ..Hold::new(HoldKind::FeeCap, message)
        });
    }
    let due_next = lowest.filter(|one| one.sent && one.nonce == Some(account.latest_nonce));
    if let Some((one, since)) = due_next.and_then(|one| Some((one, one.attempt_at?)))
        && now - since >= NOT_MINED_AFTER
    {
        let message = format!("with a node for {} s and in no block yet", (now - since).whole_seconds());
        let (transaction_id, nonce) = (Some(one.transaction_id), one.nonce);
        found.push(Hold { transaction_id, nonce, ..Hold::new(HoldKind::NotMined, message) });
    }
    if lane.queued > 0 && account.lane_window > 0 && lane.in_flight >= u64::from(account.lane_window) {
        let message = format!("{} are in flight, and no more may be", lane.in_flight);
        found.push(Hold::new(HoldKind::Window, message));
    }
    found
}

// === impl WaitingTransaction ===

impl WaitingTransaction {
    /// What the sender must have for its attempt.
    fn needed_wei(&self) -> Option<U256> {
        let gas = U256::from(self.gas_limit?).saturating_mul(U256::from(self.fees?.max_price_wei()));
        Some(gas.saturating_add(self.value_wei))
    }
}

// === impl Hold ===

impl Hold {
    fn new(kind: HoldKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            message,
            transaction_id: None,
            nonce: None,
            needed_wei: None,
            available_wei: None,
            provider_hold: None,
        }
    }
}

// === impl HoldKind ===

impl HoldKind {
    /// What to do about it, for people.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Paused => "ResumeLane, once its reason no longer holds",
            Self::NoWorker => "start a replica of the service, or see its log for why it does not work on the lane",
            Self::Chain => "see Doctor for the nodes; work goes on by itself once one answers",
            Self::NeverCompared => "see Doctor for nodes and signer; the comparison is repeated until it succeeds",
            Self::BehindChain => "nothing, the lane is compared before it binds; ResyncLane does it at once",
            Self::Signer => "see Doctor for the signer and the key; compare signer and chain after a restore",
            Self::Approval => "decide at the custody provider, or CancelTransaction",
            Self::Gap => "nothing, the gap is filled by a self-transfer; ResyncLane looks again at once",
            Self::InsufficientFunds => "send native currency to the sender, or CancelTransaction",
            Self::FeeCap => "wait for cheaper blocks, or raise chain.fees.max_fee_cap_wei of the service",
            Self::NotMined => "BumpTransaction, or CancelTransaction",
            Self::ByProvider => {
                "speed it up or replace it in the custody provider's console; its further hashes are followed"
            }
            Self::Window => "nothing, as blocks take transactions others follow",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        custody::{BehindApproval, KeyProvider},
        model::{ActionView, LaneId},
        operator::{LanePolicy, LeaseView, PauseView},
        states::TransactionState,
    };
    use alloy::primitives::Address;
    use dalp_chain::Fees;
    use uuid::Uuid;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn lane(queued: u64, in_flight: u64) -> LaneView {
        let lease = LeaseView { service: "svc-test".into(), holder: Some("a".into()), expires_at: None, live: true };
        LaneView {
            lane: LaneId { chain_id: 1, sender: Address::ZERO },
            next_nonce: Some(5),
            queued,
            in_flight,
            confirming: 0,
            oldest_at: None,
            needs_approval: false,
            by_provider: false,
            provider_hold: None,
            pause: None,
            policy: LanePolicy::default(),
            policy_set: None,
            resync_pending: false,
            leases: vec![lease],
        }
    }

    fn account() -> AccountView {
        AccountView {
            latest_nonce: 4,
            pending_nonce: 5,
            balance_wei: U256::from(1_000),
            price_wei: Some(10),
            price_above_cap_wei: None,
            fee_cap_wei: 100,
            head_number: 1,
            head_timestamp_s: 0,
            lane_window: 10,
        }
    }

    fn sent(nonce: u64, sub_status: &str, action: &str, error: &str) -> WaitingTransaction {
        let (action, last_error) = (action.to_owned(), error.to_owned());
        WaitingTransaction {
            transaction_id: TransactionId(Uuid::from_u128(u128::from(nonce))),
            state: TransactionState::Broadcasting,
            sub_status: sub_status.to_owned(),
            nonce: Some(nonce),
            created_at: NOW,
            last: Some(ActionView { action, tries: 1, last_error, at: NOW }),
            value_wei: U256::from(7),
            gas_limit: Some(100),
            fees: Some(Fees::Legacy { gas_price_wei: 20 }),
            attempt_at: Some(NOW),
            sent: true,
            provider_hold: None,
        }
    }

    fn sent_by(sub_status: &str) -> WaitingTransaction {
        sent(4, sub_status, "approval", "two of three have approved")
    }

    fn kinds(found: &[Hold]) -> Vec<HoldKind> {
        found.iter().map(|hold| hold.kind).collect()
    }

    #[test]
    fn a_lane_that_works_is_held_by_nothing() {
        let front = LaneFront { in_flight: vec![sent(4, "accepted_by_node", "sign", "")], ..LaneFront::default() };
        assert_eq!(holds(&lane(1, 1), &front, Some(&account()), NOW), []);
        assert_eq!(holds(&lane(0, 0), &LaneFront::default(), None, NOW), [], "nothing to do, nothing to ask");
    }

    #[test]
    fn a_lane_of_a_provider_has_no_nonces_to_wait_for() {
        let by_provider = LaneView { by_provider: true, next_nonce: None, ..lane(1, 2) };
        let handed = |sub_status: &str, sent| WaitingTransaction {
            nonce: None,
            gas_limit: None,
            fees: None,
            sent,
            ..sent_by(sub_status)
        };
        let front = LaneFront {
            in_flight: vec![handed("provider_policy", false), handed("sent_by_provider", true)],
            ..LaneFront::default()
        };
        let found = holds(&by_provider, &front, Some(&account()), NOW);
        assert_eq!(kinds(&found), [HoldKind::Approval], "a hold holds itself up, and no other: {found:?}");
        let later = NOW + Duration::from_secs(31);
        let found = holds(&by_provider, &front, Some(&account()), later);
        assert_eq!(kinds(&found), [HoldKind::Approval, HoldKind::ByProvider]);
        assert!(found[1].kind.remedy().contains("console"), "{found:?}");
    }

    #[test]
    fn the_worst_is_told_first() {
        let pause = PauseView { by: "ops".into(), reason: "audit".into(), at: NOW };
        let paused = LaneView { pause: Some(pause), leases: Vec::new(), next_nonce: Some(3), ..lane(1, 0) };
        let found = holds(&paused, &LaneFront::default(), Some(&account()), NOW);
        assert_eq!(kinds(&found), [HoldKind::Paused, HoldKind::NoWorker, HoldKind::BehindChain]);
        assert!(found[0].message.contains("ops") && found[0].message.contains("audit"), "{found:?}");
    }

    #[test]
    fn who_cannot_pay_is_told_what_is_needed_and_what_there_is() {
        let front =
            LaneFront { in_flight: vec![sent(4, "insufficient_funds", "send", "cannot pay")], ..LaneFront::default() };
        let found = holds(&lane(0, 1), &front, Some(&account()), NOW);
        assert_eq!(kinds(&found), [HoldKind::InsufficientFunds]);
        assert_eq!(found[0].needed_wei, Some(U256::from(100 * 20 + 7)));
        assert_eq!(found[0].available_wei, Some(U256::from(1_000)));
        assert_eq!(found[0].transaction_id, Some(front.in_flight[0].transaction_id));
    }

    #[test]
    fn a_price_above_the_cap_holds_what_waits() {
        let dear = AccountView { price_wei: None, price_above_cap_wei: Some(150), ..account() };
        let found = holds(&lane(2, 0), &LaneFront::default(), Some(&dear), NOW);
        assert_eq!(kinds(&found), [HoldKind::FeeCap]);
        assert_eq!((found[0].needed_wei, found[0].available_wei), (Some(U256::from(150)), Some(U256::from(100))));
        assert_eq!(holds(&lane(0, 0), &LaneFront::default(), Some(&dear), NOW), [], "it holds nobody");
    }

    #[test]
    fn a_gap_is_seen_here_and_on_chain() {
        let waits = |nonce| LaneFront { in_flight: vec![sent(nonce, "", "", "")], ..LaneFront::default() };
        let given_back = LaneFront { holes: vec![4], ..waits(5) };
        assert_eq!(kinds(&holds(&lane(0, 1), &given_back, None, NOW)), [HoldKind::Chain, HoldKind::Gap]);
        let on_chain = AccountView { latest_nonce: 2, ..account() };
        let found = holds(&lane(0, 1), &waits(4), Some(&on_chain), NOW);
        assert_eq!((kinds(&found), found[0].nonce), (vec![HoldKind::Gap], Some(2)));
        let at_the_top = LaneFront { holes: vec![4], ..LaneFront::default() };
        assert_eq!(holds(&lane(0, 0), &at_the_top, None, NOW), [], "nothing waits behind it");
    }

    #[test]
    fn what_is_not_mined_is_told_after_a_while() {
        let front = LaneFront { in_flight: vec![sent(4, "accepted_by_node", "", "")], ..LaneFront::default() };
        let after = |seconds| kinds(&holds(&lane(0, 1), &front, Some(&account()), NOW + Duration::from_secs(seconds)));
        assert_eq!((after(29), after(30)), (vec![], vec![HoldKind::NotMined]));
    }

    #[test]
    fn signer_approval_and_window_have_their_words() {
        let with = |sub_status, action, error| {
            let one = WaitingTransaction { sent: false, ..sent(4, sub_status, action, error) };
            kinds(&holds(
                &lane(0, 1),
                &LaneFront { in_flight: vec![one], ..LaneFront::default() },
                Some(&account()),
                NOW,
            ))
        };
        assert_eq!(with("provider_hold", "approval", "2 of 3"), [HoldKind::Approval]);
        let waits = ProviderHold {
            provider: Some(KeyProvider::Dfns),
            cause: HoldCause::Approval,
            since: NOW,
            transaction_id: TransactionId(Uuid::from_u128(4)),
            by_provider: false,
        };
        let one = WaitingTransaction {
            sent: false,
            provider_hold: Some(waits.clone()),
            ..sent(4, "provider_hold", "approval", "2 of 3")
        };
        let front = LaneFront { in_flight: vec![one], ..LaneFront::default() };
        let told = holds(&lane(0, 1), &front, Some(&account()), NOW);
        assert_eq!(told[0].provider_hold, Some(waits), "whom to ask, and since when it waits");
        assert!(told[0].message.ends_with("; what is ordered behind it waits"), "{}", told[0].message);
        let hold_nonce_for = Some(Duration::from_secs(90));
        let policy = LanePolicy { behind_approval: BehindApproval::Refuse, hold_nonce_for };
        let mut set = LaneView { policy, ..lane(0, 1) };
        let told = |lane: &LaneView, front: &LaneFront| holds(lane, front, Some(&account()), NOW)[0].message.clone();
        let at_dfns = told(&set, &front);
        assert!(at_dfns.contains("is refused, as the lane is set") && at_dfns.contains("its nonce stays"), "{at_dfns}");
        let mut in_an_hsm = front.clone();
        for one in &mut in_an_hsm.in_flight {
            one.provider_hold =
                one.provider_hold.clone().map(|hold| ProviderHold { provider: Some(KeyProvider::Pkcs11), ..hold });
        }
        let told_of_it = told(&set, &in_an_hsm);
        assert!(told_of_it.ends_with("; after 90 s with others behind it, its nonce is given to them"), "{told_of_it}");
        set.policy.hold_nonce_for = None;
        assert!(!told(&set, &in_an_hsm).contains("nonce"));
        assert_eq!(with("known_to_signer", "sign", "reused"), [HoldKind::Signer]);
        assert_eq!(with("", "sign", "connection refused"), [HoldKind::Signer]);
        assert_eq!(with("", "sign", ""), []);
        let full = AccountView { latest_nonce: 5, lane_window: 3, ..account() };
        assert_eq!(kinds(&holds(&lane(1, 3), &LaneFront::default(), Some(&full), NOW)), [HoldKind::Window]);
    }
}
