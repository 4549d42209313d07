//! The holder service: answers from the indexed log.

use super::{bad_page_token, page_size, read_address};
use crate::{
    app::{App, AppHandle},
    store::holdings::Holding,
};
use alloy::primitives::Address;
use dalp_proto::holder::{self as proto, holder_service_server::HolderService};
use dalp_service::{Caller, Reason, Refusal};
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

/// The block a question is about; 0 is the newest indexed one.
async fn block_of(app: &App, asked: u64) -> Result<u64, Refusal> {
    let head = app.store.indexed_head(app.chain.chain_id()).await?;
    match (asked, head) {
        (0, Some(head)) => Ok(head),
        (asked, Some(head)) if asked <= head => Ok(asked),
        (_, head) => Err(Refusal::new(Reason::BlockNotIndexed, "the block is not indexed yet")
            .meta("indexed_block", head.unwrap_or_default())),
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
        // The token carries the block, so that all pages of a list hold for the same one.
        let (block, after) = match message.page_token.split_once('-') {
            None if message.page_token.is_empty() => (block_of(app, message.block_number).await?, None),
            None => return Err(bad_page_token().into()),
            Some((block, after)) => {
                let block = block.parse().map_err(|_| bad_page_token())?;
                (block_of(app, block).await?, Some(after.parse::<Address>().map_err(|_| bad_page_token())?))
            }
        };
        let mut found = app
            .store
            .holders(caller.tenant.as_str(), app.chain.chain_id(), asset, block, after, limit + 1)
            .await
            .map_err(Refusal::from)?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next_page_token =
            found.last().filter(|_| more).map(|(last, _)| format!("{block}-{last:#x}")).unwrap_or_default();
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
