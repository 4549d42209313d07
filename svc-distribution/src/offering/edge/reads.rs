//! Reads of sales, buyers and allow-lists.

use super::{address, answers, offering_of, quote::listed};
use crate::{app::App, offering::readers};
use dalp_domain::pages::{bad_page_token, page_size};
use dalp_proto::distribution as proto;
use dalp_service::{Reason, Refusal};

/// A sale with its state at the latest block and what the index knows of it.
pub(super) async fn offering(
    app: &App,
    tenant: &str,
    request: &proto::GetOfferingRequest,
) -> Result<proto::GetOfferingResponse, Refusal> {
    let stored = offering_of(app, tenant, address("offering", &request.offering)?).await?;
    let chain_id = app.chain.chain_id();
    let mut answer =
        proto::GetOfferingResponse { offering: Some(answers::offering(&stored)), status: None, progress: None };
    let Some(sale) = readers::on_chain(&app.chain, &stored.terms, stored.offering).await? else { return Ok(answer) };
    // Read first: what is indexed meanwhile is told as not indexed yet.
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let turns = app.store.turns(chain_id, stored.offering).await?;
    let sums = app.store.sums(chain_id, stored.offering).await?;
    answer.status = Some(answers::status(&stored.terms, &sale, turns, indexed_block));
    answer.progress = Some(answers::progress(&stored, &sale, &sums));
    Ok(answer)
}

/// A page of sales.
pub(super) async fn offerings(
    app: &App,
    tenant: &str,
    request: &proto::ListOfferingsRequest,
) -> Result<proto::ListOfferingsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let asset = match request.asset.as_str() {
        "" => None,
        text => Some(address("asset", text)?),
    };
    let below = match request.page_token.as_str() {
        "" => i64::MAX,
        token => token.parse::<i64>().ok().filter(|below| *below > 0).ok_or_else(bad_page_token)?,
    };
    let mut page = app.store.offerings(tenant, app.chain.chain_id(), asset, below, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| last.number.to_string()).unwrap_or_default();
    Ok(proto::ListOfferingsResponse { offerings: page.iter().map(answers::offering).collect(), next_page_token })
}

/// A page of buyers.
pub(super) async fn buyers(
    app: &App,
    tenant: &str,
    request: &proto::ListBuyersRequest,
) -> Result<proto::ListBuyersResponse, Refusal> {
    let (limit, chain_id) = (page_size(request.page_size)?, app.chain.chain_id());
    let behind = match request.page_token.as_str() {
        "" => None,
        token => Some(token.parse().map_err(|_| bad_page_token())?),
    };
    let stored = offering_of(app, tenant, address("offering", &request.offering)?).await?;
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let mut page = app.store.buyers(chain_id, stored.offering, behind, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| answers::text(last.buyer)).unwrap_or_default();
    Ok(proto::ListBuyersResponse {
        buyers: page.into_iter().map(answers::buyer).collect(),
        next_page_token,
        indexed_block,
    })
}

/// The place of an account on an allow-list.
pub(super) async fn proof(
    app: &App,
    tenant: &str,
    request: &proto::GetAllowListProofRequest,
) -> Result<proto::GetAllowListProofResponse, Refusal> {
    let stored = offering_of(app, tenant, address("offering", &request.offering)?).await?;
    let account = address("account", &request.account)?;
    let (tree, place) = listed(app, &stored, account).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the account is not on the sale's allow-list")
            .meta("account", answers::text(account))
    })?;
    Ok(proto::GetAllowListProofResponse {
        root: tree.root().to_string(),
        proof: tree.proof(place).iter().map(ToString::to_string).collect(),
    })
}
