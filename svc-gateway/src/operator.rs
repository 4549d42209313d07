//! The Operator service: lanes of the caller's tenant from the engine's records, and what only a node can tell from the service
//! that works on the lane.

use std::{sync::Arc, time::Duration};

use dalp_engine::{
    LaneId, Operator, TenantId,
    custody::BehindApproval,
    operator::{AccountView, ControlError, DeadLetterAnswer, LaneFilter, LanePolicy, LaneView, holds},
};
use dalp_proto::operator::{
    ChainView, CloseDeadLetterRequest, CloseDeadLetterResponse, DoctorRequest, DoctorResponse, ExplainLaneRequest,
    ExplainLaneResponse, ListDeadLettersRequest, ListDeadLettersResponse, ListLanesRequest, ListLanesResponse,
    LookAtAccountRequest, PauseLaneRequest, PauseLaneResponse, ResumeLaneRequest, ResumeLaneResponse,
    ResyncLaneRequest, ResyncLaneResponse, RetryDeadLetterRequest, RetryDeadLetterResponse, SetLanePolicyRequest,
    SetLanePolicyResponse, operator_service_server::OperatorService, probe_service_client::ProbeServiceClient,
};
use dalp_service::{Reason, Refusal, config::TlsConfig, errors::RefusalResult, fields};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    doctor::{Doctor, worst},
    requests::{caller, foreign_page_token, invalid, lane, page_size, reason, store_refusal, tenant},
    sealing::missing::SealedRows,
    upstreams::Upstream,
};

/// A service that has not told of its nodes by then is answered without.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads and controls lanes.
#[derive(Clone, Debug)]
pub struct Lanes {
    operator: Operator,
    upstreams: Arc<[Upstream]>,
    doctor: Doctor,
}

// === impl Lanes ===

impl Lanes {
    /// Answers from `operator`, and asks `upstreams` of their nodes. `certificates` are the gateway's own, and `sealed` is what its keys sealed, for the doctor.
    #[must_use]
    pub(crate) fn new(
        operator: Operator,
        upstreams: &[Upstream],
        certificates: [(&'static str, TlsConfig); 2],
        sealed: SealedRows,
    ) -> Self {
        let upstreams: Arc<[Upstream]> = upstreams.into();
        let doctor = Doctor::new(operator.clone(), Arc::clone(&upstreams), Arc::new(certificates), sealed);
        Self { operator, upstreams, doctor }
    }

    /// What the nodes of a service that works on the lane say of its account, or why none could be asked.
    async fn look_at_account(&self, lane: &LaneView) -> Result<(ChainView, AccountView), String> {
        let mut why = "no service works on the lane".to_owned();
        for lease in &lane.leases {
            let Some(upstream) = self.upstreams.iter().find(|one| one.name() == lease.service.as_str()) else {
                why = format!("{} is no upstream of the gateway", lease.service);
                continue;
            };
            let LaneId { chain_id, sender } = lane.lane;
            let request = LookAtAccountRequest { chain_id, sender: sender.to_checksum(None) };
            let mut probe = ProbeServiceClient::new(upstream.channel());
            let answer = match tokio::time::timeout(PROBE_TIMEOUT, probe.look_at_account(request)).await {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => {
                    why = format!("{}: {}", lease.service, status.message());
                    continue;
                }
                Err(_) => {
                    why = format!("{} did not answer in time", lease.service);
                    continue;
                }
            };
            match AccountView::try_from(&answer) {
                Ok(account) => return Ok((answer.chain.unwrap_or_default(), account)),
                Err(error) => why = format!("{}: {error}", lease.service),
            }
        }
        Err(why)
    }
}

#[tonic::async_trait]
impl OperatorService for Lanes {
    async fn list_lanes(&self, request: Request<ListLanesRequest>) -> Result<Response<ListLanesResponse>, Status> {
        let tenant = tenant(&request)?;
        let List { filter, after, page_size } = List::try_from(request.into_inner())?;
        let page = self.operator.list_lanes(&tenant, &filter, after, page_size).await.map_err(store_refusal)?;
        Ok(Response::new(ListLanesResponse {
            lanes: page.lanes.into_iter().map(Into::into).collect(),
            next_page_token: page.next.map(page_token).unwrap_or_default(),
        }))
    }

    async fn explain_lane(
        &self,
        request: Request<ExplainLaneRequest>,
    ) -> Result<Response<ExplainLaneResponse>, Status> {
        let tenant = tenant(&request)?;
        let lane = lane(request.get_ref().chain_id, &request.get_ref().sender)?;
        let found = self.operator.look_at_lane(&tenant, lane).await.map_err(store_refusal)?;
        let (view, front) = found.ok_or_else(|| absent(lane))?;
        let (chain, account, chain_error) = match self.look_at_account(&view).await {
            Ok((chain, account)) => (Some(chain), Some(account), String::new()),
            Err(error) => (None, None, error),
        };
        let holds = holds(&view, &front, account.as_ref(), OffsetDateTime::now_utc());
        Ok(Response::new(ExplainLaneResponse {
            lane: Some(view.into()),
            chain,
            chain_error,
            holds: holds.into_iter().map(Into::into).collect(),
            front: front.in_flight.into_iter().chain(front.queue).map(Into::into).collect(),
        }))
    }

    async fn pause_lane(&self, request: Request<PauseLaneRequest>) -> Result<Response<PauseLaneResponse>, Status> {
        let PauseLaneRequest { chain_id, sender, reason } = request.get_ref();
        let Action { tenant, actor, lane, reason } = Action::read(&request, *chain_id, sender, reason)?;
        let paused = self.operator.pause_lane(&tenant, lane, &actor, &reason).await;
        Ok(Response::new(PauseLaneResponse { lane: Some(paused.map_err(|error| refusal(error, lane))?.into()) }))
    }

    async fn resume_lane(&self, request: Request<ResumeLaneRequest>) -> Result<Response<ResumeLaneResponse>, Status> {
        let ResumeLaneRequest { chain_id, sender, reason } = request.get_ref();
        let Action { tenant, actor, lane, reason } = Action::read(&request, *chain_id, sender, reason)?;
        let resumed = self.operator.resume_lane(&tenant, lane, &actor, &reason).await;
        Ok(Response::new(ResumeLaneResponse { lane: Some(resumed.map_err(|error| refusal(error, lane))?.into()) }))
    }

    async fn resync_lane(&self, request: Request<ResyncLaneRequest>) -> Result<Response<ResyncLaneResponse>, Status> {
        let ResyncLaneRequest { chain_id, sender, reason } = request.get_ref();
        let Action { tenant, actor, lane, reason } = Action::read(&request, *chain_id, sender, reason)?;
        let recorded = self.operator.resync_lane(&tenant, lane, &actor, &reason).await;
        Ok(Response::new(ResyncLaneResponse { lane: Some(recorded.map_err(|error| refusal(error, lane))?.into()) }))
    }

    async fn set_lane_policy(
        &self,
        request: Request<SetLanePolicyRequest>,
    ) -> Result<Response<SetLanePolicyResponse>, Status> {
        let SetLanePolicyRequest { chain_id, sender, reason, .. } = request.get_ref();
        let Action { tenant, actor, lane, reason } = Action::read(&request, *chain_id, sender, reason)?;
        let policy = policy(request.get_ref())?;
        let set = self.operator.set_lane_policy(&tenant, lane, policy, &actor, &reason).await;
        Ok(Response::new(SetLanePolicyResponse { lane: Some(set.map_err(|error| refusal(error, lane))?.into()) }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let tenant = tenant(&request)?;
        let ListDeadLettersRequest { page_size: asked, page_token } = request.into_inner();
        let after = match page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| foreign_page_token())?),
        };
        let page = self.operator.list_dead_letters(&tenant, after, page_size(asked)?).await.map_err(store_refusal)?;
        Ok(Response::new(ListDeadLettersResponse {
            dead_letters: page.letters.into_iter().map(Into::into).collect(),
            next_page_token: page.next.map(|cursor| cursor.to_string()).unwrap_or_default(),
        }))
    }

    async fn retry_dead_letter(
        &self,
        request: Request<RetryDeadLetterRequest>,
    ) -> Result<Response<RetryDeadLetterResponse>, Status> {
        let (tenant, caller) = caller(&request)?;
        let RetryDeadLetterRequest { id, reason: why } = request.get_ref();
        let (id, reason) = (dead_letter_id(id)?, reason(why)?);
        let answer = self.operator.retry_dead_letter(&tenant, id, caller.principal.as_str(), &reason).await;
        done(answer.map_err(store_refusal)?, id)?;
        Ok(Response::new(RetryDeadLetterResponse {}))
    }

    async fn close_dead_letter(
        &self,
        request: Request<CloseDeadLetterRequest>,
    ) -> Result<Response<CloseDeadLetterResponse>, Status> {
        let (tenant, caller) = caller(&request)?;
        let CloseDeadLetterRequest { id, reason: why } = request.get_ref();
        let (id, reason) = (dead_letter_id(id)?, reason(why)?);
        let answer = self.operator.close_dead_letter(&tenant, id, caller.principal.as_str(), &reason).await;
        done(answer.map_err(store_refusal)?, id)?;
        Ok(Response::new(CloseDeadLetterResponse {}))
    }

    async fn doctor(&self, request: Request<DoctorRequest>) -> Result<Response<DoctorResponse>, Status> {
        let (tenant, caller) = caller(&request)?;
        let at = OffsetDateTime::now_utc();
        let findings = self.doctor.examine(&tenant, &caller).await;
        let verdict = worst(&findings).into();
        Ok(Response::new(DoctorResponse { verdict, findings, at: Some(dalp_proto::timestamp(at)) }))
    }
}

/// Who asks what of which lane, and why.
struct Action {
    tenant: TenantId,
    actor: String,
    lane: LaneId,
    reason: String,
}

// === impl Action ===

impl Action {
    fn read<T>(request: &Request<T>, chain_id: u64, sender: &str, why: &str) -> RefusalResult<Self> {
        let (tenant, caller) = caller(request)?;
        let (lane, reason) = (lane(chain_id, sender)?, reason(why)?);
        Ok(Self { tenant, actor: caller.principal.as_str().to_owned(), lane, reason })
    }
}

/// The policy that a request sets.
fn policy(request: &SetLanePolicyRequest) -> RefusalResult<LanePolicy> {
    let behind_approval = BehindApproval::try_from(request.behind_approval())
        .map_err(|()| invalid(fields::violation("behind_approval", "expected QUEUE or REFUSE")))?;
    let hold_nonce_for = match request.hold_nonce_for_s {
        0 => None,
        seconds if LanePolicy::HOLD_NONCE_FOR_S.contains(&seconds) => Some(Duration::from_secs(seconds.into())),
        _ => return Err(invalid(fields::violation("hold_nonce_for_s", "expected 0, or 60 to 86400"))),
    };
    Ok(LanePolicy { behind_approval, hold_nonce_for })
}

/// What a list asks for.
#[derive(Debug)]
struct List {
    filter: LaneFilter,
    after: Option<LaneId>,
    page_size: u32,
}

impl TryFrom<ListLanesRequest> for List {
    type Error = Refusal;

    fn try_from(request: ListLanesRequest) -> Result<Self, Refusal> {
        let page_size = page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(lane_of_token(token).ok_or_else(foreign_page_token)?),
        };
        let chain_id = match request.chain_id {
            0 => None,
            id => Some(fields::in_range("chain_id", id, 1, i64::MAX as u64).map_err(invalid)?),
        };
        Ok(Self { filter: LaneFilter { chain_id, sender: None, busy_only: request.busy_only }, after, page_size })
    }
}

fn page_token(last: LaneId) -> String {
    last.to_string()
}

fn lane_of_token(token: &str) -> Option<LaneId> {
    let (chain_id, sender) = token.split_once('/')?;
    lane(chain_id.parse().ok()?, sender).ok()
}

fn absent(lane: LaneId) -> Refusal {
    Refusal::new(Reason::NotFound, "the tenant has no such lane").meta("lane", lane)
}

fn dead_letter_id(text: &str) -> RefusalResult<Uuid> {
    Uuid::parse_str(text).map_err(|_| invalid(fields::violation("id", "not an id: expected a UUID")))
}

fn done(answer: DeadLetterAnswer, id: Uuid) -> RefusalResult<()> {
    let (reason, message) = match answer {
        DeadLetterAnswer::Done => return Ok(()),
        DeadLetterAnswer::NotFound => (Reason::NotFound, "there is no such dead letter"),
        DeadLetterAnswer::Undecided => {
            (Reason::DeadLetterUndecided, "one of its attempts may still be included: its nonce is being used up")
        }
        DeadLetterAnswer::OperationEnded => {
            (Reason::DeadLetterNotAwaited, "its operation has ended by itself; it can only be closed")
        }
    };
    Err(Refusal::new(reason, message).meta("id", id))
}

fn refusal(error: ControlError, lane: LaneId) -> Refusal {
    match error {
        ControlError::NotFound | ControlError::NotPossible | ControlError::ByProvider { .. } => absent(lane),
        ControlError::Store(error) => store_refusal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_becomes_of_those_behind_an_approval() {
        let asked = |behind_approval: i32| policy(&SetLanePolicyRequest { behind_approval, ..Default::default() });
        assert_eq!(asked(1).unwrap().behind_approval, BehindApproval::Queue);
        assert_eq!(asked(2).unwrap().behind_approval, BehindApproval::Refuse);
        let held = |hold_nonce_for_s| {
            policy(&SetLanePolicyRequest { behind_approval: 1, hold_nonce_for_s, ..Default::default() })
        };
        assert_eq!(held(0).unwrap().hold_nonce_for, None);
        assert_eq!(held(60).unwrap().hold_nonce_for, Some(Duration::from_secs(60)));
        for outside in [1, 59, 86_401, u32::MAX] {
            assert_eq!(held(outside).unwrap_err().reason(), Reason::InvalidField, "{outside}");
        }
        for unknown in [0, 3] {
            assert_eq!(asked(unknown).unwrap_err().reason(), Reason::InvalidField, "{unknown}");
        }
    }

    #[test]
    fn a_page_goes_on_behind_its_last_lane() {
        let last = lane(31_337, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed").unwrap();
        let request = ListLanesRequest { page_token: page_token(last), ..ListLanesRequest::default() };
        assert_eq!(List::try_from(request).unwrap().after, Some(last));
        for token in ["x", "1/0x12", "/", "0/0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"] {
            let request = ListLanesRequest { page_token: token.to_owned(), ..ListLanesRequest::default() };
            assert_eq!(List::try_from(request).unwrap_err().reason(), Reason::PageTokenInvalid, "{token}");
        }
    }
}
