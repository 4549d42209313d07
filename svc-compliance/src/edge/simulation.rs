//! Evaluations of movements as the wire shows them.

use crate::{
    domain::{advice::Veto, compliance::Cure},
    readers::{
        claim_findings::{ClaimFinding, IssuerFinding},
        simulation::{Simulation, VerdictView},
    },
};
use dalp_proto::compliance as proto;

pub(super) fn to_wire(simulation: Simulation) -> proto::SimulateTransferResponse {
    proto::SimulateTransferResponse {
        allowed: simulation.allowed,
        verdicts: simulation.verdicts.into_iter().map(verdict).collect(),
        block_number: simulation.block_number,
    }
}

fn verdict(view: VerdictView) -> proto::Verdict {
    let passed = view.veto.is_none();
    let (reason, cure, advice) = parts(view.veto);
    proto::Verdict {
        check: view.check,
        module: view.module.to_checksum(None),
        passed,
        reason,
        cure: cure.into(),
        advice,
        advisory: view.advisory,
        figures: view.figures.into_iter().collect(),
        claims: view.claims.into_iter().map(finding).collect(),
    }
}

fn finding(found: ClaimFinding) -> proto::ClaimFinding {
    let passed = found.veto.is_none();
    let (reason, cure, advice) = parts(found.veto);
    proto::ClaimFinding {
        wallet: found.wallet.to_checksum(None),
        group: found.group,
        topic: found.topic,
        forbidden: found.forbidden,
        passed,
        reason,
        issuers: found.issuers.into_iter().map(issuer).collect(),
        cure: cure.into(),
        advice,
    }
}

fn issuer(found: IssuerFinding) -> proto::IssuerFinding {
    proto::IssuerFinding {
        issuer: found.issuer.to_checksum(None),
        live: found.reason.is_none(),
        reason: found.reason.unwrap_or_default(),
    }
}

fn parts(veto: Option<Veto>) -> (String, proto::Cure, String) {
    match veto {
        None => (String::new(), proto::Cure::Unspecified, String::new()),
        Some(Veto { reason, cure, advice }) => (reason, wire_cure(cure), advice),
    }
}

/// A cure as the wire names it.
pub(super) fn wire_cure(cure: Cure) -> proto::Cure {
    match cure {
        Cure::Holder => proto::Cure::Holder,
        Cure::Operator => proto::Cure::Operator,
        Cure::ComplianceOfficer => proto::Cure::ComplianceOfficer,
        Cure::ClaimIssuer => proto::Cure::ClaimIssuer,
        Cure::Nobody => proto::Cure::Nobody,
    }
}
