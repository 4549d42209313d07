//! The holder service: answers from the indexed log.

use super::{block_of, page_at, page_size, page_token, read_address};
use crate::{app::AppHandle, store::holdings::Holding};
use alloy::primitives::Address;
use dalp_proto::holder::{self as proto, holder_service_server::HolderService};
use dalp_service::{Caller, Refusal};
use tonic::{Request, Response, Status};

/// Serves `dalp.holder.v1.HolderService`.
pub(super) struct HolderEdge {
    app: AppHandle,
}

impl HolderEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

fn holder(address: Address, holding: Holding) -> proto::Holder {
    proto::Holder {
        holder: address.to_checksum(None),
        balance: holding.balance.to_string(),
        frozen: holding.frozen.to_string(),
        address_frozen: holding.address_frozen,
    }
}

#[tonic::async_trait]
impl HolderService for HolderEdge {
    async fn list_holders(
        &self,
        request: Request<proto::ListHoldersRequest>,
    ) -> Result<Response<proto::ListHoldersResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let (app, message) = (self.app.get()?, request.get_ref());
        let asset = read_address("asset", &message.asset)?;
        let limit = page_size(message.page_size)?;
        app.require_asset(caller.tenant.as_str(), asset).await?;
        let (block, after) = page_at(app, message.block_number, &message.page_token).await?;
        let mut found = app
            .store
            .holders(caller.tenant.as_str(), app.chain.chain_id(), asset, block, after, limit + 1)
            .await
            .map_err(Refusal::from)?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next_page_token =
            found.last().filter(|_| more).map(|(last, _)| page_token(block, *last)).unwrap_or_default();
        let holders = found.into_iter().map(|(address, holding)| holder(address, holding)).collect();
        Ok(Response::new(proto::ListHoldersResponse { holders, block_number: block, next_page_token }))
    }

    async fn get_balance(
        &self,
        request: Request<proto::GetBalanceRequest>,
    ) -> Result<Response<proto::GetBalanceResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let (app, message) = (self.app.get()?, request.get_ref());
        let asset = read_address("asset", &message.asset)?;
        let address = read_address("holder", &message.holder)?;
        app.require_asset(caller.tenant.as_str(), asset).await?;
        let block = block_of(app, message.block_number).await?;
        let holding = app
            .store
            .holding(caller.tenant.as_str(), app.chain.chain_id(), asset, address, block)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(proto::GetBalanceResponse { holder: Some(holder(address, holding)), block_number: block }))
    }
}
