//! Lanes and single transactions as the wire shows them.

use crate::{
    custody::{BehindApproval, HoldCause, KeyProvider, ProviderHold},
    doctor::{Finding, Verdict},
    model::LaneId,
    operator::{
        AccountView, AttemptPurpose, AttemptStanding, AttemptView, CancelOutcome, DeadLetter, DeadLetterKind, Hold,
        HoldKind, LanePolicy, LaneView, LeaseView, PauseView, PolicySetView, TransactionRecord, WaitingTransaction,
    },
};
use alloy::primitives::U256;
use dalp_chain::Fees;
use dalp_proto::{operation, operator, signer, timestamp, transaction};
use time::OffsetDateTime;

impl From<TransactionRecord> for transaction::TransactionRecord {
    fn from(record: TransactionRecord) -> Self {
        Self {
            error: record.error().cloned().map(Into::into),
            transaction: Some(record.view.into()),
            operation_id: record.operation_id.to_string(),
            kind: record.kind,
            principal: record.principal,
            service: record.service.to_string(),
            value_wei: record.value_wei.to_string(),
            cancel_requested: record.cancel_requested,
            bump_requested: record.bump_requested,
            attempts: record.attempts.into_iter().map(Into::into).collect(),
            created_at: Some(timestamp(record.created_at)),
            updated_at: Some(timestamp(record.updated_at)),
        }
    }
}

impl From<AttemptView> for transaction::Attempt {
    fn from(attempt: AttemptView) -> Self {
        let (max_fee_wei, priority_fee_wei, gas_price_wei) = match attempt.fees {
            Some(Fees::Eip1559 { max_fee_wei, priority_fee_wei }) => {
                (max_fee_wei.to_string(), priority_fee_wei.to_string(), String::new())
            }
            Some(Fees::Legacy { gas_price_wei }) => (String::new(), String::new(), gas_price_wei.to_string()),
            None => Default::default(),
        };
        Self {
            number: attempt.number,
            kind: transaction::AttemptKind::from(attempt.kind).into(),
            state: transaction::AttemptState::from(attempt.state).into(),
            nonce: attempt.nonce,
            gas_limit: attempt.gas_limit.unwrap_or_default(),
            provider_request_id: attempt.provider_id,
            earlier_tx_hashes: attempt.earlier_hashes.iter().map(ToString::to_string).collect(),
            max_fee_wei,
            priority_fee_wei,
            gas_price_wei,
            tx_hash: attempt.tx_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            held: attempt.held,
            hold: attempt.provider_hold.map(Into::into),
            block_number: attempt.block_number,
            tries: attempt.tries,
            request_id: attempt.request_id.to_string(),
            created_at: Some(timestamp(attempt.created_at)),
            due_at: attempt.due_at.map(timestamp),
        }
    }
}

impl From<ProviderHold> for transaction::ProviderHold {
    fn from(hold: ProviderHold) -> Self {
        Self {
            provider: hold.provider.map(signer::KeyProvider::from).unwrap_or_default().into(),
            cause: transaction::ProviderHoldCause::from(hold.cause).into(),
            since: Some(timestamp(hold.since)),
            transaction_id: hold.transaction_id.to_string(),
            by_provider: hold.by_provider,
        }
    }
}

impl From<KeyProvider> for signer::KeyProvider {
    fn from(provider: KeyProvider) -> Self {
        match provider {
            KeyProvider::Local => Self::Local,
            KeyProvider::Pkcs11 => Self::Pkcs11,
            KeyProvider::Dfns => Self::Dfns,
            KeyProvider::Fireblocks => Self::Fireblocks,
            KeyProvider::Kms => Self::Kms,
        }
    }
}

impl From<HoldCause> for transaction::ProviderHoldCause {
    fn from(cause: HoldCause) -> Self {
        match cause {
            HoldCause::Approval => Self::Approval,
            HoldCause::Blocked => Self::Blocked,
        }
    }
}

impl From<AttemptPurpose> for transaction::AttemptKind {
    fn from(kind: AttemptPurpose) -> Self {
        match kind {
            AttemptPurpose::Call => Self::Call,
            AttemptPurpose::Replacement => Self::Replacement,
            AttemptPurpose::Cancel => Self::Cancel,
            AttemptPurpose::Handover => Self::Handover,
        }
    }
}

impl From<AttemptStanding> for transaction::AttemptState {
    fn from(state: AttemptStanding) -> Self {
        match state {
            AttemptStanding::Signing => Self::Signing,
            AttemptStanding::Handed => Self::Handed,
            AttemptStanding::Parked => Self::Parked,
            AttemptStanding::Dropped => Self::Dropped,
            AttemptStanding::Signed => Self::Signed,
            AttemptStanding::Sent => Self::Sent,
            AttemptStanding::Mined => Self::Mined,
            AttemptStanding::Done => Self::Done,
            AttemptStanding::Superseded => Self::Superseded,
            AttemptStanding::Sealed => Self::Sealed,
            AttemptStanding::Refused => Self::Refused,
        }
    }
}

impl From<CancelOutcome> for transaction::CancelOutcome {
    fn from(outcome: CancelOutcome) -> Self {
        match outcome {
            CancelOutcome::Withdrawn => Self::Withdrawn,
            CancelOutcome::ReplacementRecorded => Self::ReplacementRecorded,
            CancelOutcome::WithdrawalRecorded => Self::WithdrawalRecorded,
        }
    }
}

impl From<LaneView> for operator::Lane {
    fn from(view: LaneView) -> Self {
        let LaneId { chain_id, sender } = view.lane;
        Self {
            chain_id,
            sender: sender.to_checksum(None),
            next_nonce: view.next_nonce,
            queued: view.queued,
            in_flight: view.in_flight,
            confirming: view.confirming,
            oldest_at: view.oldest_at.map(timestamp),
            needs_approval: view.needs_approval,
            by_provider: view.by_provider,
            provider_hold: view.provider_hold.map(Into::into),
            pause: view.pause.map(Into::into),
            policy: Some(policy(view.policy, view.policy_set)),
            resync_pending: view.resync_pending,
            leases: view.leases.into_iter().map(Into::into).collect(),
        }
    }
}

/// What is set of a lane, and who set it.
fn policy(
    LanePolicy { behind_approval, hold_nonce_for }: LanePolicy,
    set: Option<PolicySetView>,
) -> operator::LanePolicy {
    let (set_by, reason, set_at) =
        set.map(|PolicySetView { by, reason, at }| (by, reason, Some(timestamp(at)))).unwrap_or_default();
    operator::LanePolicy {
        behind_approval: operator::BehindApproval::from(behind_approval).into(),
        set_by,
        reason,
        set_at,
        hold_nonce_for_s: hold_nonce_for.and_then(|after| u32::try_from(after.as_secs()).ok()).unwrap_or_default(),
    }
}

impl From<BehindApproval> for operator::BehindApproval {
    fn from(setting: BehindApproval) -> Self {
        match setting {
            BehindApproval::Queue => Self::Queue,
            BehindApproval::Refuse => Self::Refuse,
        }
    }
}

/// Absent: none was named, or one that this release does not know.
impl TryFrom<operator::BehindApproval> for BehindApproval {
    type Error = ();

    fn try_from(setting: operator::BehindApproval) -> Result<Self, ()> {
        match setting {
            operator::BehindApproval::Queue => Ok(Self::Queue),
            operator::BehindApproval::Refuse => Ok(Self::Refuse),
            operator::BehindApproval::Unspecified => Err(()),
        }
    }
}

impl From<PauseView> for operator::Pause {
    fn from(PauseView { by, reason, at }: PauseView) -> Self {
        Self { by, reason, at: Some(timestamp(at)) }
    }
}

impl From<LeaseView> for operator::Lease {
    fn from(LeaseView { service, holder, expires_at, live }: LeaseView) -> Self {
        let (service, holder) = (service.to_string(), holder.unwrap_or_default());
        Self { service, holder, expires_at: expires_at.map(timestamp), live }
    }
}

impl From<WaitingTransaction> for operator::LaneTransaction {
    fn from(one: WaitingTransaction) -> Self {
        let (last_action, last_error) = one.last.map(|last| (last.action, last.last_error)).unwrap_or_default();
        Self {
            transaction_id: one.transaction_id.to_string(),
            state: operation::TransactionState::from(one.state).into(),
            sub_status: one.sub_status,
            nonce: one.nonce,
            created_at: Some(timestamp(one.created_at)),
            last_action,
            last_error,
        }
    }
}

impl From<Hold> for operator::Hold {
    fn from(hold: Hold) -> Self {
        let text = |wei: Option<U256>| wei.map(|wei| wei.to_string()).unwrap_or_default();
        Self {
            kind: operator::HoldKind::from(hold.kind).into(),
            message: hold.message,
            remedy: hold.kind.remedy().to_owned(),
            transaction_id: hold.transaction_id.map(|id| id.to_string()).unwrap_or_default(),
            nonce: hold.nonce,
            needed_wei: text(hold.needed_wei),
            available_wei: text(hold.available_wei),
            provider_hold: hold.provider_hold.map(Into::into),
        }
    }
}

impl From<HoldKind> for operator::HoldKind {
    fn from(kind: HoldKind) -> Self {
        match kind {
            HoldKind::Paused => Self::Paused,
            HoldKind::NoWorker => Self::NoWorker,
            HoldKind::Chain => Self::Chain,
            HoldKind::NeverCompared => Self::NeverCompared,
            HoldKind::BehindChain => Self::BehindChain,
            HoldKind::Signer => Self::Signer,
            HoldKind::Approval => Self::Approval,
            HoldKind::Gap => Self::Gap,
            HoldKind::InsufficientFunds => Self::InsufficientFunds,
            HoldKind::FeeCap => Self::FeeCap,
            HoldKind::NotMined => Self::NotMined,
            HoldKind::Window => Self::Window,
            HoldKind::ByProvider => Self::ByProvider,
        }
    }
}

impl From<AccountView> for operator::LookAtAccountResponse {
    fn from(account: AccountView) -> Self {
        let text = |wei: Option<u128>| wei.map(|wei| wei.to_string()).unwrap_or_default();
        let at = i64::try_from(account.head_timestamp_s).ok();
        let at = at.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let chain = operator::ChainView {
            latest_nonce: account.latest_nonce,
            pending_nonce: account.pending_nonce,
            balance_wei: account.balance_wei.to_string(),
            price_wei: text(account.price_wei),
            price_above_cap_wei: text(account.price_above_cap_wei),
            fee_cap_wei: account.fee_cap_wei.to_string(),
            head_number: account.head_number,
            head_at: at.map(timestamp),
        };
        Self { chain: Some(chain), lane_window: account.lane_window }
    }
}

impl From<DeadLetter> for operator::DeadLetter {
    fn from(letter: DeadLetter) -> Self {
        Self {
            kind: match letter.kind {
                DeadLetterKind::Transaction => operator::DeadLetterKind::Transaction,
                DeadLetterKind::Operation => operator::DeadLetterKind::Operation,
            }
            .into(),
            id: letter.id.to_string(),
            operation_id: letter.operation_id.to_string(),
            operation_kind: letter.flow,
            service: letter.service.to_string(),
            chain_id: letter.lane.map(|lane| lane.chain_id).unwrap_or_default(),
            sender: letter.lane.map(|lane| lane.sender.to_checksum(None)).unwrap_or_default(),
            sub_status: letter.sub_status,
            error: Some(letter.error.into()),
            parked_at: Some(timestamp(letter.parked_at)),
            decided: letter.decided,
            awaited: letter.awaited,
        }
    }
}

impl From<Finding> for operator::Finding {
    fn from(Finding { subject, verdict, detail, remedy }: Finding) -> Self {
        Self { service: String::new(), subject, verdict: operator::Verdict::from(verdict).into(), detail, remedy }
    }
}

impl From<Verdict> for operator::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Ok => Self::Ok,
            Verdict::Warning => Self::Warning,
            Verdict::Failing => Self::Failing,
        }
    }
}

/// A probe's answer that another build of ours may have given.
impl TryFrom<&operator::LookAtAccountResponse> for AccountView {
    type Error = String;

    fn try_from(answer: &operator::LookAtAccountResponse) -> Result<Self, String> {
        let chain = answer.chain.as_ref().ok_or("the answer holds no account")?;
        let wei = |name: &str, text: &str| text.parse::<u128>().map_err(|error| format!("{name}: {error}"));
        let optional = |name: &str, text: &str| if text.is_empty() { Ok(None) } else { wei(name, text).map(Some) };
        Ok(Self {
            latest_nonce: chain.latest_nonce,
            pending_nonce: chain.pending_nonce,
            balance_wei: chain.balance_wei.parse().map_err(|error| format!("balance_wei: {error}"))?,
            price_wei: optional("price_wei", &chain.price_wei)?,
            price_above_cap_wei: optional("price_above_cap_wei", &chain.price_above_cap_wei)?,
            fee_cap_wei: wei("fee_cap_wei", &chain.fee_cap_wei)?,
            head_number: chain.head_number,
            head_timestamp_s: chain.head_at.and_then(|at| u64::try_from(at.seconds).ok()).unwrap_or_default(),
            lane_window: answer.lane_window,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_survives_the_wire() {
        let account = AccountView {
            latest_nonce: 4,
            pending_nonce: 5,
            balance_wei: U256::MAX,
            price_wei: None,
            price_above_cap_wei: Some(u128::MAX),
            fee_cap_wei: 7,
            head_number: 8,
            head_timestamp_s: 9,
            lane_window: 10,
        };
        let wire = operator::LookAtAccountResponse::from(account.clone());
        assert_eq!(AccountView::try_from(&wire), Ok(account));
        assert!(AccountView::try_from(&operator::LookAtAccountResponse::default()).is_err());
    }

    #[test]
    fn attempts_have_their_names_on_the_wire() {
        for state in AttemptStanding::ALL {
            let wire = transaction::AttemptState::from(*state);
            assert_eq!(wire.as_str_name(), format!("ATTEMPT_STATE_{}", state.as_str()));
        }
        for kind in AttemptPurpose::ALL {
            let wire = transaction::AttemptKind::from(*kind);
            assert_eq!(wire.as_str_name(), format!("ATTEMPT_KIND_{}", kind.as_str()));
        }
        for cause in HoldCause::ALL {
            let wire = transaction::ProviderHoldCause::from(*cause);
            assert_eq!(wire.as_str_name(), format!("PROVIDER_HOLD_CAUSE_{}", cause.as_str()));
        }
        for setting in BehindApproval::ALL {
            let wire = operator::BehindApproval::from(*setting);
            assert_eq!(wire.as_str_name(), format!("BEHIND_APPROVAL_{}", setting.as_str()));
            assert_eq!(BehindApproval::try_from(wire), Ok(*setting));
        }
        for provider in KeyProvider::ALL {
            let wire = signer::KeyProvider::from(*provider);
            assert_eq!(wire.as_str_name(), format!("KEY_PROVIDER_{}", provider.as_str().to_uppercase()));
        }
    }
}
