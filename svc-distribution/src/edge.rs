//! Every gRPC service of this process.

use crate::{airdrop::edge::AirdropEdge, app::AppHandle, offering::edge::OfferingEdge, treasury::edge::TreasuryEdge};
use dalp_proto::{
    distribution::{
        airdrop_service_server::AirdropServiceServer, offering_service_server::OfferingServiceServer,
        treasury_service_server::TreasuryServiceServer,
    },
    operator::probe_service_server::{ProbeService, ProbeServiceServer},
};
use dalp_service::server::Routes;

pub(crate) fn routes(app: &AppHandle) -> Routes {
    Routes::new(AirdropServiceServer::new(AirdropEdge::new(app.clone())))
        .add_service(OfferingServiceServer::new(OfferingEdge::new(app.clone())))
        .add_service(TreasuryServiceServer::new(TreasuryEdge::new(app.clone())))
        .add_service(probe(app.clone()))
}

/// What the gateway asks of our nodes.
fn probe(app: AppHandle) -> ProbeServiceServer<impl ProbeService> {
    dalp_engine::probe::server(move || Ok(app.get()?.engine.clone()))
}
