//! What a payment would buy now, and everything against it.

use super::{Write, address, answers, messages::terms_hash, offering_of};
use crate::{
    airdrop::tree::Tree,
    app::{App, AppHandle},
    metric_definitions as metric,
    offering::{
        flows::{BuyFlow, BuyOrder},
        price::Price,
        purchase::{Offer, Purchase, Standing, offer, refusals},
        readers,
        state::Phase,
        store::offerings::StoredOffering,
        terms::{Buy, allow_list_tree},
    },
    readers::registry_of,
};
use alloy::primitives::{Address, B256, U256};
use dalp_domain::{Admitted, Head};
use dalp_engine::Failure;
use dalp_proto::distribution as proto;
use dalp_service::{
    Reason, Refusal,
    fields::{self, Violations},
};
use tonic::Request;

/// What is known of a purchase at a block.
struct Assessed {
    at: Head,
    offer: Option<Offer>,
    refusals: Vec<Failure>,
    allowance: U256,
}

/// Tells what a payment would buy.
pub(super) async fn quote(
    app: &App,
    tenant: &str,
    request: &proto::QuotePurchaseRequest,
) -> Result<proto::QuotePurchaseResponse, Refusal> {
    let mut bad = Violations::new();
    let purchase = Purchase {
        buyer: bad.check(fields::nonzero_address("buyer", &request.buyer)).unwrap_or_default(),
        currency: bad.check(fields::nonzero_address("currency", &request.currency)).unwrap_or_default(),
        payment: bad.check(fields::nonzero_amount("payment_amount", &request.payment_amount)).unwrap_or_default(),
        minimum_tokens: U256::ZERO,
        terms_hash: terms_hash(&mut bad, "terms_hash", &request.terms_hash),
    };
    bad.finish()?;
    let stored = offering_of(app, tenant, address("offering", &request.offering)?).await?;
    let Assessed { at, offer, refusals, allowance } = assess(app, &stored, &purchase).await?;
    let price = offer.as_ref().zip(stored.rates.of(purchase.currency));
    let price = price.map(|(offer, rate)| Price::of_ratio(offer.ratio, rate.decimals, stored.rates.asset_decimals));
    Ok(proto::QuotePurchaseResponse {
        tokens: offer.map_or(U256::ZERO, |offer| offer.bought.tokens).to_string(),
        cost: offer.map_or(U256::ZERO, |offer| offer.bought.cost).to_string(),
        price: price.map(|price| price.to_string()).unwrap_or_default(),
        may_buy: refusals.is_empty(),
        refusals: refusals.into_iter().map(answers::refusal).collect(),
        allowance: allowance.to_string(),
        block_number: at.number,
        block_time: at.timestamp_s,
    })
}

/// Accepts a purchase that nothing is against.
pub(super) async fn buy(app: &AppHandle, request: Request<proto::BuyRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.OfferingService/Buy", &request).await?;
    let command = Buy::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let stored = offering_of(app, &tenant, command.offering).await?;
        let purchase = Purchase {
            buyer: command.sender,
            currency: command.currency,
            payment: command.payment,
            minimum_tokens: command.minimum_tokens.unwrap_or_default(),
            terms_hash: command.terms_hash,
        };
        let Assessed { at, offer, refusals, allowance } = assess(app, &stored, &purchase).await?;
        if let Some(first) = refusals.into_iter().next() {
            return Err(refused(first));
        }
        let offer = offer.ok_or_else(|| Refusal::internal("a purchase that nothing is against, at no price"))?;
        let order = BuyOrder {
            chain_id: app.chain.chain_id(),
            approve: allowance < offer.bought.cost,
            minimum_tokens: command.minimum_tokens.unwrap_or(offer.bought.tokens),
            proof: proof_at(app, &stored, command.sender, at).await?,
            command: command.clone(),
        };
        Ok((order, None))
    };
    write.accept::<BuyFlow, _>(&command, order).await
}

/// What the chain says of a purchase, at one block.
async fn assess(app: &App, stored: &StoredOffering, purchase: &Purchase) -> Result<Assessed, Refusal> {
    let (chain, chain_id, terms) = (&app.chain, app.chain.chain_id(), &stored.terms);
    let sale = readers::on_chain(chain, terms, stored.offering).await?.ok_or_else(|| {
        Refusal::new(Reason::SaleNotActive, "the sale's contract does not stand yet").meta("status", "SETUP")
    })?;
    let (at, now_s) = (sale.at, sale.at.timestamp_s);
    let offer = offer(terms, &stored.rates, purchase.currency, purchase.payment, now_s);
    let registry = registry_of(chain, terms.asset).await?;
    let pair = (stored.offering, purchase.currency);
    let buyer = readers::of_buyer(chain, registry, pair, purchase.buyer, at.id()).await?;
    let tokens = offer.map_or(U256::ZERO, |offer| offer.bought.tokens).min(terms.hard_cap);
    // Judged for everything the buyer is still to receive, as the contract does; what passes the cap is refused anyway.
    let receives = buyer.outstanding.saturating_add(tokens).max(U256::ONE);
    let standing = Standing {
        offering: stored.offering,
        now_s,
        state: sale.state,
        activated: app.store.turns(chain_id, stored.offering).await?.phase != Phase::Setup,
        sold: sale.sold,
        bought: buyer.bought,
        balance: buyer.balance,
        listed: app.store.is_allow_listed(chain_id, stored.offering, purchase.buyer).await?,
        veto: readers::veto(chain, terms, stored.offering, (purchase.buyer, receives), at.id()).await?,
    };
    let refusals = refusals(terms, &standing, purchase, offer.as_ref());
    Ok(Assessed { at, offer, refusals, allowance: buyer.allowance })
}

/// The first reason against a purchase, as its refusal.
fn refused(failure: Failure) -> Refusal {
    metric::purchase_refused(&failure.reason);
    let reason = failure.reason.parse().unwrap_or(Reason::Internal);
    let refusal = Refusal::new(reason, failure.message);
    failure.metadata.into_iter().fold(refusal, |refusal, (key, value)| refusal.meta(key, value))
}

/// A buyer's place on the allow-list, while it is asked for.
async fn proof_at(app: &App, stored: &StoredOffering, buyer: Address, at: Head) -> Result<Vec<B256>, Refusal> {
    match stored.terms.presale_at(at.timestamp_s) {
        Some(_) => Ok(listed(app, stored, buyer).await?.map(|(tree, leaf)| tree.proof(leaf)).unwrap_or_default()),
        None => Ok(Vec::new()),
    }
}

/// The tree of an allow-list and the place of an account in it.
pub(super) async fn listed(
    app: &App,
    stored: &StoredOffering,
    account: Address,
) -> Result<Option<(Tree, usize)>, Refusal> {
    let list = app.store.allow_list(app.chain.chain_id(), stored.offering).await?;
    let place = list.iter().position(|listed| *listed == account);
    Ok(place.map(|place| (allow_list_tree(&list), place)))
}
