//! Maker and checker at the gateway: who is whose person, who may decide about a held operation, and the policies that hold.
//!
//! What a decision does is the engine's (`dalp_engine::checker`); here stands what only the keeper of principals knows. All of it is read in
//! the commit that decides.

use std::{collections::BTreeSet, sync::Arc};

use alloy::primitives::{Address, B256};
use dalp_domain::refusals::not_accepted;
use dalp_engine::{
    OperationId, OperationView, Reader, ServiceName, TenantId, audit_leaf,
    checker::{self, Asked, Change, Changing, CheckError, Decision, Next, POLICY_CHANGE, Policy},
    metric_definitions as engine,
};
use dalp_proto::{
    Methods,
    checker::{
        self as wire, ListPoliciesRequest, ListPoliciesResponse, RemovePolicyRequest, RemovePolicyResponse,
        SetPolicyRequest, SetPolicyResponse, checker_service_server::CheckerService,
    },
    timestamp,
};
use dalp_service::{
    Caller, Reason, Refusal,
    caller::{self, set_idempotency},
    errors::RefusalResult,
    fields,
    stop::Stop,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use tonic::{Request, Response, Status};

use crate::{
    NAME,
    access::{
        Directory,
        checkers::{Somebody, hands_of, people, waiting},
    },
    permissions::Granted,
    requests::{invalid, store_refusal},
};

/// What a decider must hold.
const APPROVE: &str = "operation:approve";
/// Seconds to decide when a policy does not say.
const TIME_LIMIT_S: u32 = 72 * 3_600;
const TIME_LIMITS_S: std::ops::RangeInclusive<u32> = 60..=30 * 24 * 3_600;
const MAX_CHECKERS: u32 = 10;
const MAX_KINDS: usize = 200;
const MAX_KIND_CHARACTERS: usize = 100;
/// Kinds that say what they move. A threshold over another one would hold nothing; a kind that is missing here is refused, and not missed.
const TELL_AMOUNTS: [&str; 24] = [
    "airdrop.create",
    "asset.batch_transfer",
    "asset.burn",
    "asset.create",
    "asset.forced_transfer",
    "asset.freeze_partial",
    "asset.mint",
    "asset.transfer",
    "asset.unfreeze_partial",
    "offering.buy",
    "settlement.approve",
    "settlement.cancel",
    "settlement.create",
    "settlement.deliver",
    "settlement.execute",
    "settlement.reclaim",
    "settlement.reveal",
    "settlement.revoke",
    "settlement.start_reclaim",
    "settlement.vote_cancel",
    "settlement.withdraw_vote",
    "treasury.fund",
    "treasury.open",
    "treasury.sweep",
];
/// Between two looks for changes of policies that nobody decided in time.
const EXPIRE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Decides about held operations, and keeps policies.
#[derive(Clone, Debug)]
pub struct Checkers {
    directory: Arc<Directory>,
    reader: Reader,
    methods: Arc<Methods>,
}

/// What somebody says about a held operation.
#[derive(Clone, Debug)]
pub struct Saying {
    /// Which.
    pub id: OperationId,
    /// Or refuses.
    pub approved: bool,
    /// Why.
    pub reason: String,
    /// Of what was seen.
    pub payload_hash: B256,
    /// Through whose hands the credential went that it comes with.
    pub hands: BTreeSet<String>,
}

/// A change of policies, as an operation stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyChange {
    Set(Policy),
    Remove { policy_id: String },
}

/// The order of such an operation.
#[derive(Serialize, Deserialize)]
struct ChangeOrder {
    command: PolicyChange,
}

// === impl Checkers ===

impl Checkers {
    /// Over the principals of `directory` and the operations of `reader`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, reader: Reader) -> Self {
        Self { directory, reader, methods: Arc::new(Methods::load()) }
    }

    /// Carries a decision of the caller out. A refusal stands in the audit like a decision.
    pub async fn decide(&self, caller: &Caller, saying: &Saying) -> RefusalResult<OperationView> {
        let tenant = TenantId::new(caller.tenant.as_str());
        match self.try_decide(caller, &tenant, saying).await {
            Ok(()) => {
                // A hint that fails is made up for by the slow poll.
                let _ = checker::tell(&self.directory.store().pool).await;
                let found = self.reader.get_operation(&tenant, saying.id).await.map_err(store_refusal)?;
                found.ok_or_else(|| absent(saying.id))
            }
            Err(refusal) => {
                self.note_refusal(caller, saying, &refusal).await?;
                Err(refusal)
            }
        }
    }

    async fn try_decide(&self, caller: &Caller, tenant: &TenantId, saying: &Saying) -> RefusalResult<()> {
        let mut commit = self.directory.store().begin("begin decision").await?;
        let asked =
            checker::asked(&mut commit, tenant, saying.id).await.map_err(|error| not_counted(saying.id, error))?;
        let principal = caller.principal.as_str();
        let mut ids: Vec<&str> = vec![principal, &asked.principal];
        ids.extend(asked.question.owners.iter().map(String::as_str));
        let known = people(&mut commit, tenant.as_str(), &ids).await?;
        let checker = known.get(principal).filter(|one| !one.disabled && !one.owner_disabled);
        let checker = checker.ok_or_else(|| {
            Refusal::new(Reason::PermissionDenied, "the principal, or the person who answers for it, was disabled")
        })?;
        if !self.granted(checker).allows(APPROVE) {
            let refusal = Refusal::new(Reason::PermissionDenied, format!("this call needs the permission {APPROVE}"));
            return Err(refusal.meta("permission", APPROVE).meta("principal", principal));
        }
        let person = checker.person().ok_or_else(|| {
            let text = "nobody answers for this principal, so nobody knows whether it is the maker's";
            Refusal::new(Reason::CheckerNotAPerson, text).meta("principal", principal)
        })?;
        if saying.approved && !asked.unowned_makers {
            let mut hands = asked.question.owners.iter().chain([&asked.principal]);
            if let Some(unowned) = hands.find(|id| known.get(*id).and_then(Somebody::person).is_none()) {
                let text = "nobody answers for the maker, or for the owner of the wallet, so nobody knows whether it is the checker";
                return Err(Refusal::new(Reason::MakerNotAPerson, text).meta("principal", unowned));
            }
        }
        let mut makers = BTreeSet::from([asked.principal.clone()]);
        makers.extend(asked.question.owners.iter().cloned());
        let behind = makers.iter().filter_map(|id| known.get(id)?.person()).map(str::to_owned).collect::<Vec<_>>();
        makers.extend(behind);
        // Whoever made what the maker showed may have shown it. Where that was not noted, it may have been any credential of his.
        let mut makers_hands = match &asked.question.hands {
            Some(hands) => hands.clone(),
            None => hands_of(&mut commit, tenant.as_str(), &asked.principal).await?.into_iter().collect(),
        };
        makers_hands.retain(|hand| !makers.contains(hand));
        if saying.approved {
            self.require_maker(known.get(&asked.principal), &asked)?;
        }
        let decision = Decision {
            principal: principal.to_owned(),
            person: person.to_owned(),
            hands: saying.hands.iter().filter(|hand| *hand != principal && *hand != person).cloned().collect(),
            makers,
            makers_hands,
            approved: saying.approved,
            reason: saying.reason.clone(),
            payload_hash: saying.payload_hash,
        };
        let decided = checker::decide(&mut commit, tenant, saying.id, &decision).await;
        let decided = decided.map_err(|error| not_counted(saying.id, error))?;
        if decided.next == Next::Begins && decided.kind == POLICY_CHANGE {
            let ChangeOrder { command } = serde_json::from_value(decided.order).map_err(Refusal::internal)?;
            carry_out(&mut commit, tenant, saying.id, &command, &asked.principal).await?;
        }
        commit.commit().await.map_err(dalp_domain::store::during("commit decision"))?;
        Ok(())
    }

    fn granted(&self, somebody: &Somebody) -> Arc<Granted> {
        self.directory.granting().granted(&somebody.grants)
    }

    /// What the maker needed when he asked he must still have when it begins.
    fn require_maker(&self, maker: Option<&Somebody>, asked: &Asked) -> RefusalResult<()> {
        let lost = |what: &str, of: &str| {
            Refusal::new(Reason::MakerRightLost, format!("the maker {what}"))
                .meta("principal", &asked.principal)
                .meta("permission", of)
        };
        let maker = maker.filter(|maker| !maker.disabled).ok_or_else(|| lost("was disabled", ""))?;
        let granted = self.granted(maker);
        // An RPC that a later release no longer has is nobody's to call.
        let method = self.methods.get(&format!("/{}", asked.method));
        let permission =
            method.map(|method| method.permission.as_str()).ok_or_else(|| lost("asked by no known RPC", ""))?;
        let on = |asset: Address| {
            let name = format!("{asset:#x}");
            granted.assets_with(permission).any(|own| own == name)
        };
        let amounts = &asked.question.amounts;
        let on_assets = amounts.iter().next().is_some() && amounts.iter().all(|(asset, _)| on(asset));
        if !granted.allows(permission) && !on_assets {
            return Err(lost("no longer holds the permission", permission));
        }
        match asked.question.roles.iter().find(|role| !granted.allows(role)) {
            Some(role) => Err(lost("may no longer use the wallet", role)),
            None => Ok(()),
        }
    }

    async fn note_refusal(&self, caller: &Caller, saying: &Saying, refusal: &Refusal) -> RefusalResult<()> {
        if matches!(refusal.reason(), Reason::DatabaseUnavailable | Reason::Internal) {
            return Ok(());
        }
        let body = json!({
            "reason": refusal.reason().as_str(), "message": refusal.message(), "approved": saying.approved,
            "payload_hash": hex::encode(saying.payload_hash),
        });
        let mut commit = self.directory.store().begin("begin refusal").await?;
        let (tenant, actor) = (caller.tenant.as_str(), caller.principal.as_str());
        audit_leaf(&mut commit, tenant, "operation.decision_refused", actor, &saying.id.to_string(), body)
            .await
            .map_err(dalp_domain::store::during("write audit leaf"))?;
        commit.commit().await.map_err(dalp_domain::store::during("commit refusal"))?;
        Ok(())
    }

    /// Accepts a change of policies, and carries it out unless a policy holds it. The operation, the key, and whether it is a repeat.
    async fn change<T>(
        &self,
        method: &'static str,
        request: &Request<T>,
        command: PolicyChange,
    ) -> RefusalResult<(OperationView, String, bool)> {
        let caller = Caller::from_metadata(request.metadata())?;
        let key = caller::idempotency_key(request.metadata().as_ref())?
            .ok_or_else(|| Refusal::new(Reason::IdempotencyKeyMissing, "the call needs an idempotency key"))?;
        let (tenant, principal) = (TenantId::new(caller.tenant.as_str()), caller.principal.as_str());
        let mut operation_id = OperationId::generate();
        let mut commit = self.directory.store().begin("begin change of policies").await?;
        let order = serde_json::to_value(ChangeOrder { command: command.clone() }).map_err(Refusal::internal)?;
        let hands = caller::hands(request.metadata());
        let change =
            Change { operation_id, tenant: &tenant, service: NAME, principal, method, key: &key, order, hands };
        let changing = checker::accept_change(&mut commit, change).await.map_err(not_accepted)?;
        match changing {
            Changing::Repeat(earlier) => operation_id = earlier,
            Changing::Held | Changing::Free => {
                // What cannot be is refused now, and nothing of it stays.
                require_possible(&mut commit, &tenant, &command).await?;
                if changing == Changing::Free {
                    carry_out(&mut commit, &tenant, operation_id, &command, principal).await?;
                }
                commit.commit().await.map_err(dalp_domain::store::during("commit change of policies"))?;
                let _ = checker::tell(&self.directory.store().pool).await;
            }
        }
        let found = self.reader.get_operation(&tenant, operation_id).await.map_err(store_refusal)?;
        let operation = found.ok_or_else(|| absent(operation_id))?;
        Ok((operation, key, matches!(changing, Changing::Repeat(_))))
    }
}

async fn require_possible(commit: &mut PgConnection, tenant: &TenantId, command: &PolicyChange) -> RefusalResult<()> {
    match command {
        PolicyChange::Set(policy) => match checker::unknown_kind(commit, policy).await.map_err(store_refusal)? {
            Some(kind) => Err(invalid_field("policy.kinds", &format!("no service has operations of the kind {kind}"))),
            None => Ok(()),
        },
        PolicyChange::Remove { policy_id } => {
            let known = checker::policies(commit, tenant).await.map_err(store_refusal)?;
            match known.iter().any(|one| one.policy.policy_id == *policy_id) {
                true => Ok(()),
                false => Err(Refusal::new(Reason::NotFound, "the tenant has no such policy").meta("policy", policy_id)),
            }
        }
    }
}

async fn carry_out(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: OperationId,
    command: &PolicyChange,
    by: &str,
) -> RefusalResult<()> {
    let result = match command {
        PolicyChange::Set(policy) => {
            checker::put_policy(commit, tenant, policy, by).await.map_err(store_refusal)?;
            json!({"set": policy.policy_id})
        }
        PolicyChange::Remove { policy_id } => {
            let removed = checker::remove_policy(commit, tenant, policy_id, by).await.map_err(store_refusal)?;
            json!({"removed": policy_id, "was_there": removed})
        }
    };
    checker::complete_change(commit, tenant, id, &result).await.map_err(store_refusal)
}

/// Ends changes of policies that nobody decided in time and tells how many wait, as an engine does for its own operations; until the end.
pub async fn expire(directory: Arc<Directory>, stop: Stop) {
    let service = ServiceName::new(NAME);
    loop {
        tokio::select! {
            () = tokio::time::sleep(EXPIRE_EVERY) => {}
            () = stop.requested() => return,
        }
        let pool = &directory.store().pool;
        match checker::expire(pool, &service).await {
            Ok(expired) => metrics::counter!(engine::CHECKS_EXPIRED).increment(expired),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "changes of policies are not looked through");
            }
        }
        match waiting(pool).await {
            Ok((held, oldest_s)) => {
                metrics::gauge!(engine::OPERATIONS_AWAITING_CHECKER).set(held as f64);
                metrics::gauge!(engine::OLDEST_AWAITING_CHECKER_SECONDS).set(oldest_s);
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "changes of policies are not counted");
            }
        }
    }
}

#[tonic::async_trait]
impl CheckerService for Checkers {
    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<SetPolicyResponse>, Status> {
        let policy = read_policy(request.get_ref().policy.as_ref())?;
        let method = "dalp.checker.v1.CheckerService/SetPolicy";
        let (operation, key, replayed) = self.change(method, &request, PolicyChange::Set(policy)).await?;
        let mut response = Response::new(SetPolicyResponse { operation: Some(operation.into()) });
        set_idempotency(&mut response, &key, replayed);
        Ok(response)
    }

    async fn remove_policy(
        &self,
        request: Request<RemovePolicyRequest>,
    ) -> Result<Response<RemovePolicyResponse>, Status> {
        let policy_id = policy_id("policy_id", &request.get_ref().policy_id)?;
        let method = "dalp.checker.v1.CheckerService/RemovePolicy";
        let (operation, key, replayed) = self.change(method, &request, PolicyChange::Remove { policy_id }).await?;
        let mut response = Response::new(RemovePolicyResponse { operation: Some(operation.into()) });
        set_idempotency(&mut response, &key, replayed);
        Ok(response)
    }

    async fn list_policies(
        &self,
        request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let tenant = crate::requests::tenant(&request)?;
        let mut commit = self.directory.store().begin("begin read of policies").await.map_err(Refusal::from)?;
        let policies = checker::policies(&mut commit, &tenant).await.map_err(store_refusal)?;
        Ok(Response::new(ListPoliciesResponse { policies: policies.into_iter().map(told).collect() }))
    }
}

fn told(stored: checker::StoredPolicy) -> wire::Policy {
    let checker::StoredPolicy { policy, created_at, created_by } = stored;
    wire::Policy {
        policy_id: policy.policy_id,
        kinds: policy.kinds,
        except_kinds: policy.except_kinds,
        asset: policy.asset.map(|asset| asset.to_checksum(None)).unwrap_or_default(),
        threshold: policy.threshold.map(|units| units.to_string()).unwrap_or_default(),
        checkers: policy.checkers,
        time_limit_s: policy.time_limit_s,
        unowned_makers: policy.unowned_makers,
        created_at: Some(timestamp(created_at)),
        created_by,
    }
}

fn read_policy(asked: Option<&wire::Policy>) -> RefusalResult<Policy> {
    let asked = asked.ok_or_else(|| invalid_field("policy", "is missing"))?;
    let kinds = |path: &str, kinds: &[String]| {
        let fits = |kind: &String| (1..=MAX_KIND_CHARACTERS).contains(&kind.len());
        match kinds.len() <= MAX_KINDS && kinds.iter().all(fits) {
            true => Ok(kinds.to_vec()),
            false => Err(invalid_field(path, "expected at most 200 names of at most 100 characters")),
        }
    };
    let held = kinds("policy.kinds", &asked.kinds)?;
    let asset = match asked.asset.as_str() {
        "" => None,
        text => Some(fields::address("policy.asset", text).map_err(invalid)?),
    };
    let decimal = |text: &str| text.len() <= 78 && text.bytes().all(|byte| byte.is_ascii_digit());
    let threshold = match asked.threshold.as_str() {
        "" => None,
        text => Some(text.parse().ok().filter(|_| decimal(text)).ok_or_else(|| {
            invalid_field("policy.threshold", "expected base units as a decimal number of at most 256 bits")
        })?),
    };
    if threshold.is_some()
        && let Some(kind) = held.iter().find(|kind| !TELL_AMOUNTS.contains(&kind.as_str()))
    {
        let why = format!("{kind} does not tell what it moves and reaches no threshold: hold it without one");
        return Err(invalid_field("policy.threshold", &why));
    }
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let (checkers, time_limit_s) = (or(asked.checkers, 1), or(asked.time_limit_s, TIME_LIMIT_S));
    fields::in_range("policy.checkers", checkers, 1, MAX_CHECKERS).map_err(invalid)?;
    fields::in_range("policy.time_limit_s", time_limit_s, *TIME_LIMITS_S.start(), *TIME_LIMITS_S.end())
        .map_err(invalid)?;
    Ok(Policy {
        policy_id: policy_id("policy.policy_id", &asked.policy_id)?,
        kinds: held,
        except_kinds: kinds("policy.except_kinds", &asked.except_kinds)?,
        asset,
        threshold,
        checkers,
        time_limit_s,
        unowned_makers: asked.unowned_makers,
    })
}

fn policy_id(path: &str, text: &str) -> RefusalResult<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let valid = (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || byte == b'-');
    match valid {
        true => Ok(text.to_owned()),
        false => Err(invalid_field(path, "expected [a-z0-9][a-z0-9-]{0,62}")),
    }
}

fn invalid_field(path: &str, why: &str) -> Refusal {
    invalid(fields::violation(path, why))
}

fn absent(id: OperationId) -> Refusal {
    Refusal::new(Reason::NotFound, "there is no such held operation").meta("operation_id", id)
}

fn not_counted(id: OperationId, error: CheckError) -> Refusal {
    let (reason, text) = match error {
        CheckError::NotFound => return absent(id),
        CheckError::Store(error) => return store_refusal(error),
        CheckError::NotHeld(state) => {
            let text = format!("the operation is {state} and waits for nobody");
            return Refusal::new(Reason::CheckDecided, text).meta("operation_id", id).meta("state", state);
        }
        CheckError::Expired => (Reason::ApprovalExpired, "nobody decided in time"),
        CheckError::Maker => (
            Reason::MakerIsChecker,
            "who asked for an operation, or owns the wallet that it sends from, does not approve it",
        ),
        CheckError::MakersHand(hand) => {
            let text = "who asked for the operation made the credential that is shown, or this decider made that one's";
            return Refusal::new(Reason::MakerIsChecker, text).meta("operation_id", id).meta("made_by", hand);
        }
        CheckError::CheckersHand(hand) => {
            let text = "who has approved already made the credential that is shown, or this decider made that one's: another person is needed";
            return Refusal::new(Reason::CheckDecided, text).meta("operation_id", id).meta("made_by", hand);
        }
        CheckError::OtherPayload => (
            Reason::CheckPayloadDiffers,
            "payload_hash is not that of the operation: read it again, and decide about what stands there",
        ),
        CheckError::Decided => (Reason::CheckDecided, "this person has decided about the operation otherwise"),
    };
    Refusal::new(reason, text).meta("operation_id", id)
}

#[cfg(test)]
mod tests;
