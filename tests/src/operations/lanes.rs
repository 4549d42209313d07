//! The lanes of the stack, as an operator sees and asks for them.

use std::time::Duration;

use dalp_devstack::client::{Gateway, keyed};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{Lane, ListLanesRequest, ResyncLaneRequest};
use tonic::Status;

use crate::waiting::repeated;

/// How long an operator repeats a call that is not answered.
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// All of them.
pub(super) async fn lanes(gateway: &Gateway) -> Result<Vec<Lane>, Status> {
    repeated(ANSWERED_WITHIN, || async {
        let request = ListLanesRequest { page_size: 500, ..ListLanesRequest::default() };
        Ok(OperatorServiceClient::new(gateway.clone()).list_lanes(request).await?.into_inner().lanes)
    })
    .await
}

/// Has each compared with the chain, for this reason, which no other comparison of the drill gives.
pub(super) async fn compare_lanes(gateway: &Gateway, reason: &str) -> Result<(), Status> {
    for lane in lanes(gateway).await? {
        let key = format!("resync {} {reason}", lane.sender);
        let request = ResyncLaneRequest { chain_id: lane.chain_id, sender: lane.sender, reason: reason.to_owned() };
        repeated(ANSWERED_WITHIN, || async {
            OperatorServiceClient::new(gateway.clone()).resync_lane(keyed(request.clone(), &key)).await
        })
        .await?;
    }
    Ok(())
}
