//! `dalp.audit.v1.AuditService`: the sealed log of the caller's tenant, its roots and proofs. Another tenant's log does not exist here.

use std::{collections::VecDeque, pin::Pin};

use dalp_audit::{Decision, Hash, Leaf};
use dalp_domain::StoreError;
use dalp_proto::audit::{
    AuditDecision, AuditFilter, AuditLeaf, AuditRoot, ExportEnd, ExportHeader, ExportLeavesRequest,
    ExportLeavesResponse, GetConsistencyProofRequest, GetConsistencyProofResponse, GetInclusionProofRequest,
    GetInclusionProofResponse, GetRootRequest, GetRootResponse, ListLeavesRequest, ListLeavesResponse,
    ListRootsRequest, ListRootsResponse, audit_service_server::AuditService, export_leaves_response::Line,
};
use dalp_service::{Reason, Refusal, errors::RefusalResult, fields, stop::Stop};
use futures::{Stream, stream};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::{
    Log,
    reading::{Entry, Filter, SignedRoot},
};
use crate::requests::{foreign_page_token, invalid, page_size, tenant};

/// Leaves read from the database at once for an export.
const READ_AT_ONCE: u64 = 1_024;
const MAX_CHARACTERS: usize = 300;

/// Serves a tenant's log.
#[derive(Clone, Debug)]
pub struct Audits {
    log: Log,
    stop: Stop,
}

// === impl Audits ===

impl Audits {
    /// Reads `log`; streams end when `stop` is requested.
    #[must_use]
    pub fn new(log: Log, stop: Stop) -> Self {
        Self { log, stop }
    }

    /// The size that was asked for, or that of the latest signed root.
    async fn size_or_latest(&self, tenant: &str, asked: u64) -> RefusalResult<u64> {
        if asked > 0 {
            return fields::in_range("size", asked, 1, i64::MAX.unsigned_abs()).map_err(invalid);
        }
        Ok(self.log.latest_root(tenant, u64::MAX).await?.ok_or_else(no_root)?.root.size)
    }
}

/// Lines of an export.
type Exported = Pin<Box<dyn Stream<Item = Result<ExportLeavesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AuditService for Audits {
    type ExportLeavesStream = Exported;

    async fn list_leaves(&self, request: Request<ListLeavesRequest>) -> Result<Response<ListLeavesResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let (size, filter) = (page_size(request.page_size)?, read_filter(request.filter)?);
        let from = from_token(&request.page_token, request.newest_first)?;
        let page =
            self.log.list(tenant.as_str(), &filter, request.newest_first, from, size).await.map_err(Refusal::from)?;
        Ok(Response::new(ListLeavesResponse {
            leaves: page.entries.into_iter().map(leaf).collect(),
            next_page_token: page.next.map(|next| token(next, request.newest_first)).unwrap_or_default(),
        }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let tenant = tenant(&request)?;
        let asked = request.into_inner();
        let position = fields::in_range("position", asked.position, 0, i64::MAX.unsigned_abs() - 1).map_err(invalid)?;
        let size = self.size_or_latest(tenant.as_str(), asked.size).await?;
        let proof = self.log.inclusion(tenant.as_str(), position, size).await.map_err(Refusal::from)?;
        let proof = proof.ok_or_else(|| absent(position, size))?;
        let found = self.log.entries(tenant.as_str(), position, position + 1).await.map_err(Refusal::from)?;
        let root = self.log.root(tenant.as_str(), size).await.map_err(Refusal::from)?;
        Ok(Response::new(GetInclusionProofResponse {
            leaf: found.into_iter().next().map(leaf),
            size,
            root_hash: hex(&proof.root),
            proof: proof.hashes.iter().map(hex).collect(),
            root: root.map(wire_root),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let tenant = tenant(&request)?;
        let asked = request.into_inner();
        let second = self.size_or_latest(tenant.as_str(), asked.second_size).await?;
        let first = fields::in_range("first_size", asked.first_size, 1, second).map_err(invalid)?;
        let proof = self.log.consistency(tenant.as_str(), first, second).await.map_err(Refusal::from)?;
        let (first_root, proof) =
            proof.ok_or_else(|| Refusal::new(Reason::NotFound, "the log is not that long").meta("size", second))?;
        Ok(Response::new(GetConsistencyProofResponse {
            first_root_hash: hex(&first_root),
            second_size: second,
            second_root_hash: hex(&proof.root),
            proof: proof.hashes.iter().map(hex).collect(),
        }))
    }

    async fn get_root(&self, request: Request<GetRootRequest>) -> Result<Response<GetRootResponse>, Status> {
        let tenant = tenant(&request)?;
        let size = self.size_or_latest(tenant.as_str(), request.get_ref().size).await?;
        let found = self.log.root(tenant.as_str(), size).await.map_err(Refusal::from)?.ok_or_else(no_root)?;
        let point = found.root.public_key(&found.signature).unwrap_or_default();
        let public_key = format!("0x{}", ::hex::encode(point));
        Ok(Response::new(GetRootResponse { root: Some(wire_root(found)), public_key }))
    }

    async fn list_roots(&self, request: Request<ListRootsRequest>) -> Result<Response<ListRootsResponse>, Status> {
        let tenant = tenant(&request)?;
        let size = page_size(request.get_ref().page_size)?;
        let below = from_token(&request.get_ref().page_token, true)?.unwrap_or(u64::MAX);
        let mut roots = self.log.roots(tenant.as_str(), below, size + 1).await.map_err(Refusal::from)?;
        let more = roots.len() > size as usize;
        roots.truncate(size as usize);
        let next = roots.last().filter(|_| more).map(|root| token(root.root.size, true));
        Ok(Response::new(ListRootsResponse {
            roots: roots.into_iter().map(wire_root).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn export_leaves(
        &self,
        request: Request<ExportLeavesRequest>,
    ) -> Result<Response<Self::ExportLeavesStream>, Status> {
        let tenant = tenant(&request)?;
        let asked = request.into_inner();
        let at_most = if asked.size == 0 { u64::MAX } else { asked.size };
        let root = self.log.latest_root(tenant.as_str(), at_most).await.map_err(Refusal::from)?.ok_or_else(no_root)?;
        let end = root.root.size;
        let first = fields::in_range("first_position", asked.first_position, 0, end - 1).map_err(invalid)?;
        let edge = self.log.edge_at(tenant.as_str(), first).await.map_err(Refusal::from)?.ok_or_else(no_root)?;
        let header =
            ExportHeader { tenant: tenant.to_string(), first_position: first, edge: edge.iter().map(hex).collect() };
        let state = Export {
            log: self.log.clone(),
            stop: self.stop.clone(),
            tenant: tenant.to_string(),
            next: first,
            end,
            read: VecDeque::from([Line::Header(header)]),
        };
        Ok(Response::new(Box::pin(exported(state))))
    }
}

struct Export {
    log: Log,
    stop: Stop,
    tenant: String,
    next: u64,
    end: u64,
    read: VecDeque<Line>,
}

// === impl Export ===

impl Export {
    /// Reads the next leaves, with the signed roots between them.
    async fn read(&mut self) -> Result<(), StoreError> {
        let until = self.end.min(self.next.saturating_add(READ_AT_ONCE));
        let entries = self.log.entries(&self.tenant, self.next, until).await?;
        let mut roots = VecDeque::from(self.log.roots_between(&self.tenant, self.next, until).await?);
        for entry in entries {
            let size = entry.position + 1;
            self.read.push_back(Line::Leaf(leaf(entry)));
            while roots.front().is_some_and(|root| root.root.size <= size) {
                self.read.extend(roots.pop_front().map(|root| Line::Root(wire_root(root))));
            }
        }
        self.next = until;
        if until == self.end {
            self.read.push_back(Line::End(ExportEnd { size: self.end }));
        }
        Ok(())
    }
}

fn exported(state: Export) -> impl Stream<Item = Result<ExportLeavesResponse, Status>> + Send {
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            if let Some(line) = state.read.pop_front() {
                return Some((Ok(ExportLeavesResponse { line: Some(line) }), Some(state)));
            }
            if state.next == state.end {
                return None;
            }
            if state.stop.is_requested() {
                let stopping = Refusal::new(Reason::Stopping, "this replica is stopping; export again");
                return Some((Err(stopping.into()), None));
            }
            if let Err(error) = state.read().await {
                return Some((Err(Refusal::from(error).into()), None));
            }
        }
    })
}

fn no_root() -> Refusal {
    Refusal::new(
        Reason::NotFound,
        "the log has no such signed root; the first one is there seconds after the first leaf",
    )
}

fn absent(position: u64, size: u64) -> Refusal {
    Refusal::new(Reason::NotFound, "there is no such leaf below this size, or the log is not that long")
        .meta("position", position)
        .meta("size", size)
}

fn hex(hash: &Hash) -> String {
    format!("0x{}", ::hex::encode(hash))
}

fn time_of(microseconds: i64) -> Option<prost_types::Timestamp> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1_000);
    at.ok().map(dalp_proto::timestamp)
}

fn leaf(entry: Entry) -> AuditLeaf {
    let Entry { position, hash, leaf } = entry;
    let leaf_hash = hex(&hash);
    let Some(Leaf { sequence, recorded_at_us, tenant, actor, action, subject, decision, reason, payload_hash, body }) =
        leaf
    else {
        return AuditLeaf { position, leaf_hash, missing: true, ..AuditLeaf::default() };
    };
    let decision = match decision {
        Decision::Allowed => AuditDecision::Allowed,
        Decision::Refused => AuditDecision::Refused,
    };
    AuditLeaf {
        position,
        leaf_hash,
        missing: false,
        sequence,
        recorded_at: time_of(recorded_at_us),
        tenant,
        actor,
        action,
        subject,
        decision: decision.into(),
        reason,
        payload_hash: payload_hash.as_ref().map(hex).unwrap_or_default(),
        body_json: body,
    }
}

fn wire_root(signed: SignedRoot) -> AuditRoot {
    let SignedRoot { root, signer, signature } = signed;
    AuditRoot {
        tenant: root.tenant,
        size: root.size,
        root_hash: hex(&root.root),
        sealed_at: time_of(root.sealed_at_us.cast_signed()),
        signer: dalp_audit::root::AuditKey(signer.into()).to_string(),
        signature: format!("0x{}", ::hex::encode(signature)),
    }
}

fn read_filter(filter: Option<AuditFilter>) -> RefusalResult<Filter> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    let text = |name: &str, text: &str| match text {
        "" => Ok(None),
        text => fields::bounded_string(&format!("filter.{name}"), text, 1, MAX_CHARACTERS).map(Some).map_err(invalid),
    };
    let decision = match filter.decision {
        0 => None,
        value => match fields::enum_value("filter.decision", value).map_err(invalid)? {
            AuditDecision::Refused => Some(Decision::Refused),
            _ => Some(Decision::Allowed),
        },
    };
    let at = |name: &str, at: Option<prost_types::Timestamp>| {
        let Some(at) = at else { return Ok(None) };
        let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
        let read = OffsetDateTime::from_unix_timestamp_nanos(nanos);
        read.map(Some).map_err(|_| invalid(fields::violation(&format!("filter.{name}"), "is not a time")))
    };
    Ok(Filter {
        actor: text("actor", &filter.actor)?,
        action: text("action", &filter.action)?,
        subject: text("subject", &filter.subject)?,
        decision,
        reason: text("reason", &filter.reason)?,
        from: at("from", filter.from)?,
        until: at("until", filter.until)?,
    })
}

fn token(place: u64, downwards: bool) -> String {
    format!("{}{place:x}", if downwards { 'd' } else { 'u' })
}

/// Reads what [`token`] wrote, and nothing else.
fn from_token(text: &str, downwards: bool) -> RefusalResult<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text.get(1..).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let place = place.filter(|&place| place <= i64::MAX.unsigned_abs() && token(place, downwards) == text);
    place.map(Some).ok_or_else(foreign_page_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_filter_is_read_or_refused_by_field() {
        let refused = |filter| read_filter(Some(filter)).unwrap_err().violations()[0].0.clone();
        let long = "x".repeat(MAX_CHARACTERS + 1);
        assert_eq!(refused(AuditFilter { actor: long, ..AuditFilter::default() }), "filter.actor");
        assert_eq!(refused(AuditFilter { decision: 9, ..AuditFilter::default() }), "filter.decision");
        let never = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        assert_eq!(refused(AuditFilter { until: never, ..AuditFilter::default() }), "filter.until");
        let filter = AuditFilter { decision: 2, action: "call.refused".into(), ..AuditFilter::default() };
        let read = read_filter(Some(filter)).unwrap();
        assert_eq!(read.decision, Some(Decision::Refused));
        assert_eq!((read.action.as_deref(), read.actor), (Some("call.refused"), None));
    }

    #[test]
    fn a_token_is_of_its_own_list() {
        for text in ["x", "u", "d", "u0x1", "u01", "uFF", "u-1", "u8000000000000000", "\u{e9}1"] {
            assert_eq!(from_token(text, false).unwrap_err().reason(), Reason::PageTokenInvalid, "{text}");
        }
        assert!(from_token("d1", false).is_err());
        assert_eq!(from_token("d1f", true).unwrap(), Some(31));
    }

    proptest! {
        #[test]
        fn a_token_comes_back_as_it_was(place in 0..=i64::MAX.unsigned_abs(), downwards in any::<bool>()) {
            prop_assert_eq!(from_token(&token(place, downwards), downwards).unwrap(), Some(place));
        }

        #[test]
        fn no_token_panics(text in "\\PC{0,30}") {
            let _answered = from_token(&text, false);
        }
    }
}
