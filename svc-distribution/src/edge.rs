//! Every gRPC service of this process. Payouts are not built yet: their calls are checked as far as they can be (is the
//! caller vouched for by the gateway?) and answered `UNIMPLEMENTED / NOT_IMPLEMENTED`.

use crate::{airdrop::edge::AirdropEdge, app::AppHandle, offering::edge::OfferingEdge};
use dalp_proto::{
    distribution::{
        DistributeRequest, DistributeResponse,
        airdrop_service_server::AirdropServiceServer,
        offering_service_server::OfferingServiceServer,
        treasury_service_server::{TreasuryService, TreasuryServiceServer},
    },
    operator::probe_service_server::{ProbeService, ProbeServiceServer},
};
use dalp_service::{Caller, Reason, Refusal, server::Routes};
use tonic::{Request, Response, Status};

/// What will be built behind the calls that are not.
const AREA: &str = "Coupons, dividends and redemption";

#[derive(Clone, Copy, Debug)]
struct NotBuilt;

pub(crate) fn routes(app: &AppHandle) -> Routes {
    Routes::new(AirdropServiceServer::new(AirdropEdge::new(app.clone())))
        .add_service(OfferingServiceServer::new(OfferingEdge::new(app.clone())))
        .add_service(TreasuryServiceServer::new(NotBuilt))
        .add_service(probe(app.clone()))
}

/// What the gateway asks of our nodes.
fn probe(app: AppHandle) -> ProbeServiceServer<impl ProbeService> {
    dalp_engine::probe::server(move || Ok(app.get()?.engine.clone()))
}

/// A caller that is not vouched for hears that first, as it will when the call is built.
fn not_built<T>(request: &Request<T>, method: &str) -> Status {
    match Caller::from_request(request) {
        Err(refusal) => refusal.into(),
        Ok(_) => Refusal::new(Reason::NotImplemented, format!("{method} is part of the contract but not built yet"))
            .meta("method", method)
            .meta("area", AREA)
            .into(),
    }
}

#[tonic::async_trait]
impl TreasuryService for NotBuilt {
    async fn distribute(&self, request: Request<DistributeRequest>) -> Result<Response<DistributeResponse>, Status> {
        Err(not_built(&request, "dalp.distribution.v1.TreasuryService/Distribute"))
    }
}

#[cfg(test)]
mod tests {
    use dalp_service::PeerIdentity;

    use super::*;

    fn request(peer: &str) -> Request<()> {
        let mut request = Request::new(());
        let caller = Caller { tenant: "acme".parse().unwrap(), principal: "ops".parse().unwrap(), roles: Vec::new() };
        caller.apply(request.metadata_mut());
        request.extensions_mut().insert(PeerIdentity::trusted(format!("spiffe://dalp.dev/{peer}").parse().unwrap()));
        request
    }

    #[test]
    fn a_call_says_honestly_that_it_is_not_built() {
        let status = not_built(&request("svc-gateway"), "A/B");
        let details = Refusal::details(&status).unwrap();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        assert_eq!(details.reason, "NOT_IMPLEMENTED");
        assert_eq!((details.metadata["method"].as_str(), details.metadata["area"].as_str()), ("A/B", AREA));
    }

    #[test]
    fn another_service_is_not_believed() {
        let status = not_built(&request("svc-signer"), "A/B");
        assert_eq!(Refusal::details(&status).unwrap().reason, "CALLER_NOT_TRUSTED");
    }
}
