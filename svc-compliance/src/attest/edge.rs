//! `dalp.attestation.v1.AttestationService`.

use super::{chains::Chains, judge::Outcome};
use dalp_attestation::wire::{self, SUBJECTS_MAX};
use dalp_proto::attestation::{
    AttestRequest, AttestResponse, Attestation, Verdict, attestation_service_server::AttestationService,
};
use dalp_service::{Reason, Refusal};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(super) struct AttestationEdge {
    chains: Arc<Chains>,
}

impl AttestationEdge {
    pub(super) fn new(chains: Arc<Chains>) -> Self {
        Self { chains }
    }
}

#[tonic::async_trait]
impl AttestationService for AttestationEdge {
    async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
        let asked = request.into_inner().subjects;
        if !(1..=SUBJECTS_MAX).contains(&asked.len()) {
            let description = format!("must hold 1 to {SUBJECTS_MAX}");
            let refusal = Refusal::new(Reason::InvalidField, format!("subjects: {description}"));
            return Err(refusal.field("subjects", description).into());
        }
        let read: Vec<_> = asked.iter().map(wire::subject).collect();
        let subjects: Vec<_> = read.iter().flatten().cloned().collect();
        let mut outcomes = self.chains.judge(&subjects).await.into_iter().zip(&subjects);
        let attestations = asked.iter().zip(&read).map(|(asked, read)| match read {
            // One that cannot be read does not take the others with it.
            Err(error) => undecided(&asked.request_id, Reason::InvalidField.as_str(), &error.to_string()),
            Ok(_) => match outcomes.next() {
                Some((Outcome::Judged { attestation, veto, presumed_keys }, (subject, _))) => {
                    let why = veto.as_ref().map_or(("", ""), |veto| (veto.reason.as_str(), veto.detail.as_str()));
                    wire::attested(subject.request_id, &attestation, why, &presumed_keys)
                }
                Some((Outcome::Undecided { why, .. }, _)) => {
                    undecided(&asked.request_id, Reason::ChainUnavailable.as_str(), &why)
                }
                Some((Outcome::Away(why), _)) => undecided(&asked.request_id, wire::AWAY, &why),
                None => undecided(&asked.request_id, Reason::Internal.as_str(), "not judged"),
            },
        });
        Ok(Response::new(AttestResponse { attestations: attestations.collect() }))
    }
}

fn undecided(request_id: &str, reason: &str, detail: &str) -> Attestation {
    Attestation {
        request_id: request_id.to_owned(),
        verdict: Verdict::Undecided.into(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        ..Attestation::default()
    }
}
