//! What is well, what is not, and what to do: the gateway's own part, and what each service finds. Nothing is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dalp_engine::{
    Operator, TenantId,
    doctor::{self, Finding},
    operator::{LaneFilter, LaneView, holds},
};
use dalp_proto::{
    operator::{self as wire, ExamineRequest, probe_service_client::ProbeServiceClient},
    signer::{GetKeyRequest, key_service_client::KeyServiceClient},
};
use dalp_service::{
    Caller, Reason, Refusal,
    config::TlsConfig,
    tls::{Material, Validity},
};
use futures::{StreamExt as _, future::join_all, stream};
use time::OffsetDateTime;
use tonic::{Code, Request, Status};

use crate::{NAME, sealing::missing::SealedRows, upstreams::Upstream};

/// What has not answered by then does not serve. Longer than a service waits for what it stands on.
const PATIENCE: Duration = Duration::from_secs(8);
/// A lane whose oldest transaction waits for longer stands still.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// The service that holds the keys.
const SIGNER: &str = "svc-signer";
/// Lanes that are looked at. With more, the rest is said not to be.
const LANES: u32 = 500;
const KEYS_AT_ONCE: usize = 16;

/// Examines everything on behalf of a caller.
#[derive(Clone, Debug)]
pub(crate) struct Doctor {
    operator: Operator,
    upstreams: Arc<[Upstream]>,
    /// The gateway's own certificates: what each is for, and where it stands.
    certificates: Arc<[(&'static str, TlsConfig)]>,
    sealed: SealedRows,
}

// === impl Doctor ===

impl Doctor {
    pub(crate) fn new(
        operator: Operator,
        upstreams: Arc<[Upstream]>,
        certificates: Arc<[(&'static str, TlsConfig)]>,
        sealed: SealedRows,
    ) -> Self {
        Self { operator, upstreams, certificates, sealed }
    }

    /// Every finding, with the service that made it, worst first.
    pub(crate) async fn examine(&self, tenant: &TenantId, caller: &Caller) -> Vec<wire::Finding> {
        let services = join_all(self.upstreams.iter().map(examine_service));
        let (own, lanes, services) = tokio::join!(self.examine_own(), self.examine_lanes(tenant, caller), services);
        let mut findings: Vec<wire::Finding> =
            own.into_iter().chain(lanes).map(|finding| said_by(NAME, finding.into())).collect();
        findings.extend(services.into_iter().flatten());
        findings.sort_by(|one, other| {
            other
                .verdict
                .cmp(&one.verdict)
                .then_with(|| (&one.service, &one.subject).cmp(&(&other.service, &other.subject)))
        });
        findings
    }

    async fn examine_own(&self) -> Vec<Finding> {
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        let report = self.operator.examine_database(PATIENCE).await;
        let mut findings = doctor::database(report.as_ref().map_err(Clone::clone));
        for (subject, config) in self.certificates.iter() {
            findings.push(match Material::load(config) {
                Ok(material) => certificate(subject, material.validity(), now_s),
                Err(error) => Finding::failing(*subject, error.to_string(), "put usable certificate files in place"),
            });
        }
        // The database's silence is a finding already.
        if let Ok(sealed) = tokio::time::timeout(PATIENCE, self.sealed.examine()).await {
            findings.extend(sealed);
        }
        findings
    }

    /// The tenant's lanes: which stand still, and whether the signer has the key of each.
    async fn examine_lanes(&self, tenant: &TenantId, caller: &Caller) -> Vec<Finding> {
        let page = match self.operator.list_lanes(tenant, &LaneFilter::default(), None, LANES).await {
            Ok(page) => page,
            Err(_) => return Vec::new(), // the database is a finding of its own
        };
        let mut findings = Vec::new();
        let now = OffsetDateTime::now_utc();
        let mut still = 0;
        for view in page.lanes.iter().filter(|view| stands_still(view, now)) {
            still += 1;
            findings.push(self.examine_lane(tenant, view, now).await);
        }
        if still == 0 {
            let more = if page.next.is_some() { ", and more that were not looked at" } else { "" };
            findings.push(Finding::ok("lanes", format!("{} looked at{more}, none stands still", page.lanes.len())));
        }
        findings.extend(self.examine_keys(&page.lanes, caller).await);
        findings
    }

    async fn examine_lane(&self, tenant: &TenantId, view: &LaneView, now: OffsetDateTime) -> Finding {
        let front = self.operator.look_at_lane(tenant, view.lane).await.ok().flatten();
        let (view, front) = front.unwrap_or_else(|| (view.clone(), Default::default()));
        // Without the node's view: what nodes say is a finding of the service.
        let held = holds(&view, &front, None, now);
        let held = held.iter().find(|hold| hold.kind != dalp_engine::operator::HoldKind::Chain);
        let waits = view.oldest_at.map_or(0, |at| (now - at).whole_seconds());
        let why = held.map_or_else(|| "nothing here says why".to_owned(), |hold| hold.message.clone());
        let detail = format!("{} wait, {} in flight, the oldest for {waits} s: {why}", view.queued, view.in_flight);
        let remedy = held.map_or("ExplainLane tells more", |hold| hold.kind.remedy());
        Finding::warning(format!("lane {}", view.lane), detail, remedy)
    }

    /// Whether the signer has the keys that lanes send with, and would use them.
    async fn examine_keys(&self, lanes: &[LaneView], caller: &Caller) -> Vec<Finding> {
        let Some(signer) = self.upstreams.iter().find(|upstream| upstream.name() == SIGNER) else {
            return vec![Finding::warning("keys", "no upstream is called svc-signer", "configure it as an upstream")];
        };
        let mut senders: Vec<_> = lanes.iter().map(|view| view.lane.sender).collect();
        senders.sort();
        senders.dedup();
        let asked: Vec<_> =
            senders.into_iter().map(|sender| ask_for_key(signer, sender.to_checksum(None), caller)).collect();
        let answers: Vec<Result<String, Finding>> = stream::iter(asked).buffered(KEYS_AT_ONCE).collect().await;
        let count = answers.len();
        let (mut providers, mut findings) = (BTreeSet::new(), BTreeMap::new());
        for answer in answers {
            match answer {
                Ok(provider) => drop(providers.insert(provider)),
                // By its subject: one silence is enough to tell of a signer that is away.
                Err(finding) => drop(findings.insert(finding.subject.clone(), finding)),
            }
        }
        if findings.is_empty() {
            return vec![Finding::ok("keys", format!("{count} are there and enabled, with {providers:?}"))];
        }
        findings.into_values().collect()
    }
}

async fn ask_for_key(signer: &Upstream, address: String, caller: &Caller) -> Result<String, Finding> {
    let mut request = Request::new(GetKeyRequest { address: address.clone(), tenant: String::new() });
    caller.apply(request.metadata_mut());
    let mut keys = KeyServiceClient::new(signer.channel());
    let answer = match tokio::time::timeout(PATIENCE, keys.get_key(request)).await {
        Ok(answer) => answer.map_err(|status| {
            let refusal = Refusal::from_status(&status);
            match refusal {
                Some(refusal) if refusal.reason() == Reason::KeyNotFound => {
                    let detail = "the signer has no such key, so nothing of its lane can be signed";
                    Finding::failing(format!("key {address}"), detail, "see whether the right signer is configured")
                }
                _ => keys_unknown(status.message()),
            }
        })?,
        Err(_) => return Err(keys_unknown("no answer in time")),
    };
    match answer.into_inner().key {
        Some(key) if key.disabled => {
            let detail = "disabled for ever: its lane signs nothing more";
            Err(Finding::failing(format!("key {address}"), detail, "move its work to another key"))
        }
        Some(key) => Ok(key.provider),
        None => Err(keys_unknown("the answer holds no key")),
    }
}

fn keys_unknown(why: &str) -> Finding {
    Finding::failing("keys", format!("the signer does not tell of them: {why}"), "see to the signer first")
}

/// Connection, certificate and health of a service, and what it finds itself.
async fn examine_service(upstream: &Upstream) -> Vec<wire::Finding> {
    let name = upstream.name();
    let certificate_seen = match upstream.certificate().await {
        Ok(validity) => certificate("certificate", Some(validity), OffsetDateTime::now_utc().unix_timestamp()),
        Err(error) => {
            let remedy = "start it, or see its address, spiffe_id and certificate in both configurations";
            return vec![said_by(name, Finding::failing("connection", error.to_string(), remedy).into())];
        }
    };
    let mut probe = ProbeServiceClient::new(upstream.channel());
    let examined = async {
        let answer = tokio::time::timeout(PATIENCE, probe.examine(ExamineRequest {})).await;
        (answer, OffsetDateTime::now_utc())
    };
    let (serves, (examined, answered_at)) = tokio::join!(upstream.is_serving(), examined);
    let mut findings: Vec<wire::Finding> = vec![certificate_seen.into()];
    findings.push(match serves {
        true => Finding::ok("health", "serves").into(),
        false => {
            let remedy = "see its other findings, its log, and its health for each dependency";
            Finding::failing("health", "says that it does not serve", remedy).into()
        }
    });
    match examined {
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            findings.extend(answer.findings);
            // It looked at its clock last of all, so only the way of the answer lies between the two.
            if let Some(now) = answer.now.and_then(read_time) {
                findings.push(doctor::clock("clock", now, answered_at).into());
            }
        }
        Ok(Err(status)) if has_no_probe(&status) => {}
        Ok(Err(status)) => {
            findings.push(Finding::failing("examination", status.message(), "see its log").into());
        }
        Err(_) => findings.push(Finding::failing("examination", "no answer in time", "see its log").into()),
    }
    findings.into_iter().map(|finding| said_by(name, finding)).collect()
}

/// Whether a service has no engine, so nothing to examine: it does not know the call, or lets nobody make it.
fn has_no_probe(status: &Status) -> bool {
    let refused = Refusal::from_status(status).is_some_and(|refusal| refusal.reason() == Reason::PeerNotAllowed);
    refused || status.code() == Code::Unimplemented
}

fn read_time(at: prost_types::Timestamp) -> Option<OffsetDateTime> {
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

fn said_by(service: &str, finding: wire::Finding) -> wire::Finding {
    wire::Finding { service: service.to_owned(), ..finding }
}

/// With work whose oldest part waits for longer than usual, or paused with work.
fn stands_still(view: &LaneView, now: OffsetDateTime) -> bool {
    let waits = view.oldest_at.is_some_and(|at| now - at > STUCK_AFTER);
    waits || (view.pause.is_some() && view.queued > 0)
}

/// A certificate, by how much of its life is left: short-lived ones are renewed often.
fn certificate(subject: &str, validity: Option<Validity>, now_s: i64) -> Finding {
    let remedy = "issue its successor and put it in place; it is read without a restart";
    let Some(Validity { begins_s, ends_s }) = validity else {
        return Finding::failing(subject, "its validity cannot be read", remedy);
    };
    let (left_s, life_s) = (ends_s - now_s, ends_s - begins_s);
    let detail = format!("holds for {} days and {} hours more", left_s / 86_400, left_s % 86_400 / 3_600);
    if left_s <= 0 {
        Finding::failing(subject, "has expired", remedy)
    } else if left_s < life_s / 10 {
        Finding::warning(subject, detail, remedy)
    } else {
        Finding::ok(subject, detail)
    }
}

/// The worst of all; nothing examined is nothing known.
pub(crate) fn worst(findings: &[wire::Finding]) -> wire::Verdict {
    findings
        .iter()
        .map(wire::Finding::verdict)
        .max_by_key(|verdict| i32::from(*verdict))
        .unwrap_or(wire::Verdict::Failing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_engine::doctor::Verdict;

    #[test]
    fn a_certificate_is_judged_by_what_is_left_of_its_life() {
        let validity = Some(Validity { begins_s: 0, ends_s: 1_000 });
        let verdict = |now_s| certificate("c", validity, now_s).verdict;
        assert_eq!((verdict(0), verdict(900)), (Verdict::Ok, Verdict::Ok));
        assert_eq!((verdict(901), verdict(999)), (Verdict::Warning, Verdict::Warning));
        assert_eq!((verdict(1_000), certificate("c", None, 0).verdict), (Verdict::Failing, Verdict::Failing));
    }

    #[test]
    fn the_worst_counts() {
        let of = |verdict: wire::Verdict| wire::Finding { verdict: verdict.into(), ..wire::Finding::default() };
        let (ok, warning, failing) = (wire::Verdict::Ok, wire::Verdict::Warning, wire::Verdict::Failing);
        assert_eq!(worst(&[of(ok), of(warning), of(ok)]), warning);
        assert_eq!(worst(&[of(failing), of(warning)]), failing);
        assert_eq!(worst(&[of(ok)]), ok);
        assert_eq!(worst(&[]), failing);
    }
}
