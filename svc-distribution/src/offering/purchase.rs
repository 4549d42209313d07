//! What a payment would buy, and everything against it, in the order in which the contract would find it.

use super::{
    price::{Bought, bought},
    state::State,
    terms::{Rates, Terms},
};
use alloy::primitives::{Address, B256, U256};
use dalp_engine::Failure;
use dalp_service::Reason;

/// On the allow-list's refusal; the contract's own word.
const NOT_ON_ALLOW_LIST: &str = "NOT_ON_ALLOW_LIST";

/// A purchase that is thought of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purchase {
    /// Who buys.
    pub buyer: Address,
    /// Pays in it.
    pub currency: Address,
    /// The most that is paid.
    pub payment: U256,
    /// The least to buy.
    pub minimum_tokens: U256,
    /// The terms that the buyer acknowledges.
    pub terms_hash: B256,
}

/// What it would buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Base units of the currency for 1e18 of the asset.
    pub ratio: U256,
    /// Tokens and cost.
    pub bought: Bought,
}

/// What the chain says of sale and buyer at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The sale.
    pub offering: Address,
    /// The block's time.
    pub now_s: u64,
    /// Where the sale stands.
    pub state: State,
    /// Whether it was activated, where the state does not say.
    pub activated: bool,
    /// Base units sold.
    pub sold: U256,
    /// What the buyer's identity has bought over all wallets.
    pub bought: U256,
    /// Base units of the currency that the buyer has.
    pub balance: U256,
    /// Whether the buyer is on the allow-list.
    pub listed: bool,
    /// Who of the asset refuses the delivery, and why.
    pub veto: Option<(Address, String)>,
}

/// What a payment buys at a time; `None` when the sale does not take the currency.
#[must_use]
pub fn offer(terms: &Terms, rates: &Rates, currency: Address, payment: U256, now_s: u64) -> Option<Offer> {
    let ratio = terms.ratio_at(rates.of(currency)?, now_s);
    Some(Offer { ratio, bought: bought(ratio, payment) })
}

/// Everything against a purchase.
#[must_use]
pub fn refusals(terms: &Terms, standing: &Standing, purchase: &Purchase, offer: Option<&Offer>) -> Vec<Failure> {
    let mut against: Vec<Failure> = closed(terms, standing).into_iter().collect();
    if offer.is_none() {
        let failure = refused(Reason::CurrencyUnsupported, "the sale does not take the currency");
        against.push(failure.with("currency", purchase.currency));
    }
    if purchase.terms_hash != terms.terms_hash {
        let failure = refused(Reason::TermsNotAcknowledged, "the terms of the sale are not the ones acknowledged");
        against.push(failure.with("termsHash", terms.terms_hash));
    }
    if let Some(Offer { bought, .. }) = offer.filter(|offer| offer.bought.tokens < purchase.minimum_tokens) {
        let failure = refused(Reason::PriceMoved, "the payment buys less than is wanted");
        against.push(failure.with("minimumTokens", purchase.minimum_tokens).with("tokens", bought.tokens));
    }
    if terms.presale_at(standing.now_s).is_some() && !standing.listed {
        let failure = refused(Reason::BuyerNotEligible, "only listed buyers buy in the presale");
        against.push(failure.with("module", standing.offering).with("reason", NOT_ON_ALLOW_LIST));
    }
    if let Some(offer) = offer {
        against.extend(beyond_limits(terms, standing, offer.bought.tokens));
    }
    if let Some((module, reason)) = &standing.veto {
        let failure = refused(Reason::BuyerNotEligible, format!("the asset would refuse the delivery: {reason}"));
        against.push(failure.with("module", module).with("reason", reason));
    }
    if let Some(Offer { bought, .. }) = offer.filter(|offer| offer.bought.cost > standing.balance) {
        let failure = refused(Reason::InsufficientFunds, "the buyer has less of the currency than the tokens cost");
        let failure = failure.with("account", purchase.buyer).with("currency", purchase.currency);
        against.push(failure.with("needed", bought.cost).with("available", standing.balance));
    }
    against
}

/// Why nobody buys now.
fn closed(terms: &Terms, standing: &Standing) -> Option<Failure> {
    let state = standing.state;
    let inactive = |message| refused(Reason::SaleNotActive, message).with("status", state.name());
    match state {
        State::Presale | State::PublicSale => None,
        State::Setup if standing.activated && standing.now_s < terms.starts_at => {
            Some(refused(Reason::SaleNotStarted, "the sale has not started").with("start", terms.starts_at))
        }
        State::Setup => Some(inactive("the sale is not activated")),
        State::Paused => Some(inactive("the sale is paused")),
        _ if standing.sold >= terms.hard_cap => {
            Some(refused(Reason::HardCapExceeded, "the sale is sold out").with("left", 0).with("asked", 1))
        }
        _ => Some(refused(Reason::SaleEnded, "the sale is over").with("end", terms.ends_at)),
    }
}

fn beyond_limits(terms: &Terms, standing: &Standing, tokens: U256) -> Vec<Failure> {
    let mut against = Vec::new();
    let total = standing.bought.saturating_add(tokens);
    if tokens.is_zero() || total < terms.minimum {
        let failure = refused(Reason::PurchaseBelowMinimum, "the investor would hold less than the least of this sale");
        against.push(failure.with("minimum", terms.minimum).with("asked", total));
    }
    if total > terms.maximum {
        let failure = refused(Reason::AllocationExceeded, "the investor would hold more than the most of this sale");
        against.push(failure.with("maximum", terms.maximum).with("asked", total));
    }
    let left = terms.hard_cap.saturating_sub(standing.sold);
    // A sale that is sold out was told of before.
    if tokens > left && !left.is_zero() {
        let failure = refused(Reason::HardCapExceeded, "the sale has fewer tokens left than the payment buys");
        against.push(failure.with("left", left).with("asked", tokens));
    }
    against
}

fn refused(reason: Reason, message: impl Into<String>) -> Failure {
    Failure::new(reason.as_str(), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offering::{state::tests::terms, terms::Rate};

    const EURO: Address = Address::repeat_byte(0xc1);
    const BUYER: Address = Address::repeat_byte(0xb1);

    /// Two base units of the euro for one of the asset.
    fn rates() -> Rates {
        let ratio = U256::from(2) * U256::from(10).pow(U256::from(18));
        Rates { asset_decimals: 0, currencies: vec![Rate { currency: EURO, decimals: 0, ratio }] }
    }

    fn standing() -> Standing {
        Standing {
            offering: Address::repeat_byte(0x0f),
            now_s: 160,
            state: State::PublicSale,
            activated: true,
            sold: U256::from(100),
            bought: U256::ZERO,
            balance: U256::from(1_000),
            listed: false,
            veto: None,
        }
    }

    fn purchase(payment: u64) -> Purchase {
        Purchase {
            buyer: BUYER,
            currency: EURO,
            payment: U256::from(payment),
            minimum_tokens: U256::ZERO,
            terms_hash: terms().terms_hash,
        }
    }

    fn against(standing: &Standing, purchase: &Purchase) -> Vec<Failure> {
        let offer = offer(&terms(), &rates(), purchase.currency, purchase.payment, standing.now_s);
        refusals(&terms(), standing, purchase, offer.as_ref())
    }

    fn reasons(standing: &Standing, purchase: &Purchase) -> Vec<String> {
        against(standing, purchase).into_iter().map(|failure| failure.reason).collect()
    }

    #[test]
    fn nothing_is_against_a_purchase_within_the_terms() {
        assert!(against(&standing(), &purchase(200)).is_empty());
        let presale = Standing { now_s: 120, state: State::Presale, listed: true, ..standing() };
        assert!(against(&presale, &purchase(200)).is_empty());
        let cheaper = offer(&terms(), &rates(), EURO, U256::from(180), 120).unwrap();
        assert_eq!(cheaper.bought, Bought { tokens: U256::from(100), cost: U256::from(180) }, "a tenth off");
    }

    #[test]
    fn each_refusal_is_told_with_its_numbers() {
        let one = |standing: Standing, purchase: Purchase| {
            let mut found = against(&standing, &purchase);
            assert_eq!(found.len(), 1, "{found:?}");
            let failure = found.remove(0);
            let said: Vec<_> = failure.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{} {}", failure.reason, said.join(" "))
        };
        let (open, buys) = (standing(), purchase(200));
        let early = Standing { state: State::Setup, now_s: 90, listed: true, ..open.clone() };
        assert_eq!(one(early.clone(), buys), "SALE_NOT_STARTED start=100");
        assert_eq!(one(Standing { activated: false, ..early }, buys), "SALE_NOT_ACTIVE status=SETUP");
        let paused = Standing { state: State::Paused, ..open.clone() };
        assert_eq!(one(paused, buys), "SALE_NOT_ACTIVE status=PAUSED");
        let over = Standing { state: State::Ended, now_s: 200, ..open.clone() };
        assert_eq!(one(over.clone(), buys), "SALE_ENDED end=200");
        let sold_out = Standing { sold: U256::from(1_000), ..over };
        assert_eq!(one(sold_out, buys), "HARD_CAP_EXCEEDED asked=1 left=0");
        let short = Standing { sold: U256::from(950), ..open.clone() };
        assert_eq!(one(short, buys), "HARD_CAP_EXCEEDED asked=100 left=50");
        assert_eq!(one(open.clone(), purchase(19)), "PURCHASE_BELOW_MINIMUM asked=9 minimum=10");
        assert_eq!(one(open.clone(), purchase(0)), "PURCHASE_BELOW_MINIMUM asked=0 minimum=10");
        let holds = Standing { bought: U256::from(550), ..open.clone() };
        assert_eq!(one(holds, buys), "ALLOCATION_EXCEEDED asked=650 maximum=600");
        let moved = Purchase { minimum_tokens: U256::from(101), ..buys };
        assert_eq!(one(open.clone(), moved), "PRICE_MOVED minimumTokens=101 tokens=100");
        let silent = Purchase { terms_hash: B256::ZERO, ..buys };
        assert_eq!(one(open.clone(), silent), format!("TERMS_NOT_ACKNOWLEDGED termsHash={}", terms().terms_hash));
        let dollars = Purchase { currency: BUYER, ..buys };
        assert_eq!(one(open.clone(), dollars), format!("CURRENCY_UNSUPPORTED currency={BUYER}"));
        let poor = Standing { balance: U256::from(199), ..open.clone() };
        assert!(one(poor, buys).starts_with("INSUFFICIENT_FUNDS account="));
        let barred = Standing { veto: Some((EURO, "COUNTRY_BLOCKED".into())), ..open.clone() };
        assert_eq!(one(barred, buys), format!("BUYER_NOT_ELIGIBLE module={EURO} reason=COUNTRY_BLOCKED"));
        let unlisted = Standing { state: State::Presale, now_s: 120, ..open };
        let module = unlisted.offering;
        assert_eq!(one(unlisted, buys), format!("BUYER_NOT_ELIGIBLE module={module} reason=NOT_ON_ALLOW_LIST"));
    }

    #[test]
    fn all_reasons_are_told_in_the_order_of_the_contract() {
        let worst = Standing {
            state: State::Paused,
            now_s: 120,
            bought: U256::from(550),
            sold: U256::from(980),
            balance: U256::ZERO,
            veto: Some((EURO, "CLAIM_MISSING".into())),
            ..standing()
        };
        let asked = Purchase { minimum_tokens: U256::from(500), terms_hash: B256::ZERO, ..purchase(200) };
        assert_eq!(
            reasons(&worst, &asked),
            [
                "SALE_NOT_ACTIVE",
                "TERMS_NOT_ACKNOWLEDGED",
                "PRICE_MOVED",
                "BUYER_NOT_ELIGIBLE",
                "ALLOCATION_EXCEEDED",
                "HARD_CAP_EXCEEDED",
                "BUYER_NOT_ELIGIBLE",
                "INSUFFICIENT_FUNDS",
            ]
        );
    }
}
