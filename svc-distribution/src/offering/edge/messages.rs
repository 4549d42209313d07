//! Messages to commands.

use crate::offering::{
    price::Price,
    terms::{
        Buy, ClaimTokens, CreateOffering, Currency, Handle, Lockup, MAX_ALLOW_LIST, MAX_CURRENCIES, Presale, Refund,
        SetPaused, Terms, WithdrawProceeds, allow_list_tree,
    },
};
use alloy::primitives::{Address, B256, U256};
use dalp_proto::distribution as proto;
use dalp_service::{
    Refusal,
    fields::{self, Violations},
};
use std::collections::HashSet;

/// Bits of a hard cap; the contract's own bound.
const CAP_BITS: usize = 120;
/// Times are before the year 10000, and durations below as many seconds.
const MAX_TIME_S: u64 = 253_402_300_800;

/// What a creation asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) command: CreateOffering,
    pub(super) allow_list: Vec<Address>,
}

impl TryFrom<&proto::CreateOfferingRequest> for Asked {
    type Error = Refusal;

    fn try_from(request: &proto::CreateOfferingRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let asked = asked(&mut bad, &request.sender, request.terms.as_ref(), &request.allow_list, None);
        bad.finish()?;
        Ok(asked)
    }
}

impl TryFrom<&proto::ConfigureOfferingRequest> for Asked {
    type Error = Refusal;

    fn try_from(request: &proto::ConfigureOfferingRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let replaces = bad.check(fields::nonzero_address("offering", &request.offering));
        let asked = asked(&mut bad, &request.sender, request.terms.as_ref(), &request.allow_list, replaces);
        bad.finish()?;
        Ok(asked)
    }
}

fn asked(
    bad: &mut Violations,
    sender: &str,
    terms: Option<&proto::OfferingTerms>,
    allow_list: &[String],
    replaces: Option<Address>,
) -> Asked {
    let sender = bad.check(fields::nonzero_address("sender", sender)).unwrap_or_default();
    let allow_list = listed(bad, allow_list);
    let wire = terms.cloned().unwrap_or_default();
    let asset = bad.check(fields::nonzero_address("terms.asset", &wire.asset)).unwrap_or_default();
    let or_sender = |bad: &mut Violations, path: &str, text: &str| match text {
        "" => sender,
        text => bad.check(fields::nonzero_address(path, text)).unwrap_or_default(),
    };
    let proceeds_to = or_sender(bad, "terms.proceeds_to", &wire.proceeds_to);
    let unsold_to = or_sender(bad, "terms.unsold_to", &wire.unsold_to);
    if wire.ends_at <= wire.starts_at {
        bad.push("terms.ends_at", "must be later than starts_at");
    }
    if wire.ends_at >= MAX_TIME_S {
        bad.push("terms.ends_at", "must be before the year 10000");
    }
    let terms = Terms {
        asset,
        minted: wire.minted,
        proceeds_to,
        unsold_to,
        starts_at: wire.starts_at,
        ends_at: wire.ends_at,
        presale: presale(bad, &wire, &allow_list),
        lockup: lockup(bad, &wire),
        currencies: currencies(bad, asset, &wire.currencies),
        terms_hash: terms_hash(bad, "terms.terms_hash", &wire.terms_hash),
        ..limits(bad, &wire)
    };
    Asked { command: CreateOffering { sender, terms, replaces }, allow_list }
}

/// The amounts of terms; everything else is empty.
fn limits(bad: &mut Violations, wire: &proto::OfferingTerms) -> Terms {
    let hard_cap = bad.check(fields::nonzero_amount("terms.hard_cap", &wire.hard_cap)).unwrap_or_default();
    if hard_cap.bit_len() > CAP_BITS {
        bad.push("terms.hard_cap", "must be below 2^120");
    }
    let or = |bad: &mut Violations, path: &str, text: &str, empty: U256| match text {
        "" => empty,
        text => bad.check(fields::nonzero_amount(path, text)).unwrap_or(empty),
    };
    let soft_cap = or(bad, "terms.soft_cap", &wire.soft_cap, U256::ZERO);
    let minimum = or(bad, "terms.minimum", &wire.minimum, U256::ONE);
    let maximum = or(bad, "terms.maximum", &wire.maximum, hard_cap);
    if !hard_cap.is_zero() {
        if soft_cap > hard_cap {
            bad.push("terms.soft_cap", "must be at most hard_cap");
        }
        if maximum > hard_cap {
            bad.push("terms.maximum", "must be at most hard_cap");
        }
        if minimum > maximum {
            bad.push("terms.minimum", "must be at most maximum");
        }
    }
    Terms {
        asset: Address::ZERO,
        minted: false,
        proceeds_to: Address::ZERO,
        unsold_to: Address::ZERO,
        starts_at: 0,
        ends_at: 0,
        hard_cap,
        soft_cap,
        minimum,
        maximum,
        terms_hash: B256::ZERO,
        presale: None,
        lockup: None,
        currencies: Vec::new(),
    }
}

fn presale(bad: &mut Violations, wire: &proto::OfferingTerms, allow_list: &[Address]) -> Option<Presale> {
    let Some(presale) = &wire.presale else {
        if !allow_list.is_empty() {
            bad.push("allow_list", "must be empty: only a presale has one");
        }
        return None;
    };
    if presale.ends_at <= wire.starts_at || presale.ends_at > wire.ends_at {
        bad.push("terms.presale.ends_at", "must be later than starts_at and at most ends_at");
    }
    let discount = bad.check(fields::in_range("terms.presale.discount_bps", presale.discount_bps, 0, 9_999));
    if allow_list.is_empty() {
        bad.push("allow_list", "must name who buys in the presale");
        return None;
    }
    Some(Presale {
        ends_at: presale.ends_at,
        discount_bps: u16::try_from(discount.unwrap_or_default()).unwrap_or_default(),
        allow_list: allow_list_tree(allow_list).root(),
    })
}

fn lockup(bad: &mut Violations, wire: &proto::OfferingTerms) -> Option<Lockup> {
    let lockup = wire.lockup.as_ref()?;
    if lockup.starts_at < wire.ends_at || lockup.starts_at >= MAX_TIME_S {
        bad.push("terms.lockup.starts_at", "must not be before ends_at, and before the year 10000");
    }
    bad.check(fields::in_range("terms.lockup.duration_s", lockup.duration_s, 1, MAX_TIME_S));
    if lockup.cliff_s > lockup.duration_s {
        bad.push("terms.lockup.cliff_s", "must be at most duration_s");
    }
    Some(Lockup { starts_at: lockup.starts_at, cliff_s: lockup.cliff_s, duration_s: lockup.duration_s })
}

fn currencies(bad: &mut Violations, asset: Address, wire: &[proto::OfferingCurrency]) -> Vec<Currency> {
    if wire.is_empty() || wire.len() > MAX_CURRENCIES {
        bad.push("terms.currencies", format!("must hold 1 to {MAX_CURRENCIES}"));
    }
    let mut currencies: Vec<Currency> = Vec::new();
    for (place, one) in wire.iter().take(MAX_CURRENCIES).enumerate() {
        let path = format!("terms.currencies[{place}]");
        let currency = bad.check(fields::nonzero_address(&format!("{path}.currency"), &one.currency));
        let price = one.price.parse::<Price>();
        if let Err(error) = price {
            bad.push(format!("{path}.price"), error.to_string());
        }
        let (Some(currency), Ok(price)) = (currency, price) else { continue };
        if currency == asset {
            bad.push(format!("{path}.currency"), "must not be the asset");
        }
        if currencies.iter().any(|before| before.currency == currency) {
            bad.push(format!("{path}.currency"), "stands here before");
        }
        currencies.push(Currency { currency, price });
    }
    currencies
}

fn listed(bad: &mut Violations, texts: &[String]) -> Vec<Address> {
    if texts.len() > MAX_ALLOW_LIST {
        bad.push("allow_list", format!("must hold at most {MAX_ALLOW_LIST}"));
    }
    let (mut accounts, mut seen) = (Vec::new(), HashSet::new());
    for (place, text) in texts.iter().take(MAX_ALLOW_LIST).enumerate() {
        let path = format!("allow_list[{place}]");
        let Some(account) = bad.check(fields::nonzero_address(&path, text)) else { continue };
        if !seen.insert(account) {
            bad.push(path, "stands here before");
        }
        accounts.push(account);
    }
    accounts
}

/// The hash of terms; empty: none.
pub(super) fn terms_hash(bad: &mut Violations, path: &str, text: &str) -> B256 {
    if text.is_empty() {
        return B256::ZERO;
    }
    let hash = bad.check(fields::bytes32(path, text));
    if hash == Some(B256::ZERO) {
        bad.push(path, "must not be zero: leave it empty where there are no terms");
    }
    hash.unwrap_or_default()
}

/// Commands that need no more than sender and sale.
macro_rules! handles {
    ($($request:ident),+) => {$(
        impl TryFrom<&proto::$request> for Handle {
            type Error = Refusal;

            fn try_from(request: &proto::$request) -> Result<Self, Refusal> {
                handle(&request.sender, &request.offering)
            }
        }
    )+};
}

handles!(ActivateOfferingRequest, FinalizeOfferingRequest, WithdrawUnsoldRequest);

fn handle(sender: &str, offering: &str) -> Result<Handle, Refusal> {
    let mut bad = Violations::new();
    let (sender, offering) = (
        bad.check(fields::nonzero_address("sender", sender)).unwrap_or_default(),
        bad.check(fields::nonzero_address("offering", offering)).unwrap_or_default(),
    );
    bad.finish()?;
    Ok(Handle { sender, offering })
}

impl TryFrom<&proto::PauseOfferingRequest> for SetPaused {
    type Error = Refusal;

    fn try_from(request: &proto::PauseOfferingRequest) -> Result<Self, Refusal> {
        let Handle { sender, offering } = handle(&request.sender, &request.offering)?;
        Ok(Self { sender, offering, paused: true })
    }
}

impl TryFrom<&proto::ResumeOfferingRequest> for SetPaused {
    type Error = Refusal;

    fn try_from(request: &proto::ResumeOfferingRequest) -> Result<Self, Refusal> {
        let Handle { sender, offering } = handle(&request.sender, &request.offering)?;
        Ok(Self { sender, offering, paused: false })
    }
}

impl TryFrom<&proto::BuyRequest> for Buy {
    type Error = Refusal;

    fn try_from(request: &proto::BuyRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let minimum_tokens = (!request.minimum_tokens.is_empty())
            .then(|| bad.check(fields::amount("minimum_tokens", &request.minimum_tokens)).unwrap_or_default());
        let command = Self {
            sender: bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default(),
            offering: bad.check(fields::nonzero_address("offering", &request.offering)).unwrap_or_default(),
            currency: bad.check(fields::nonzero_address("currency", &request.currency)).unwrap_or_default(),
            payment: bad.check(fields::nonzero_amount("payment_amount", &request.payment_amount)).unwrap_or_default(),
            minimum_tokens,
            terms_hash: terms_hash(&mut bad, "terms_hash", &request.terms_hash),
        };
        bad.finish()?;
        Ok(command)
    }
}

impl TryFrom<&proto::ClaimTokensRequest> for ClaimTokens {
    type Error = Refusal;

    fn try_from(request: &proto::ClaimTokensRequest) -> Result<Self, Refusal> {
        let Handle { sender, offering } = handle(&request.sender, &request.offering)?;
        let buyer = match request.buyer.as_str() {
            "" => sender,
            text => fields::nonzero_address("buyer", text)?,
        };
        Ok(Self { sender, offering, buyer })
    }
}

impl TryFrom<&proto::RefundRequest> for Refund {
    type Error = Refusal;

    fn try_from(request: &proto::RefundRequest) -> Result<Self, Refusal> {
        let Handle { sender, offering } = handle(&request.sender, &request.offering)?;
        let buyer = match request.buyer.as_str() {
            "" => sender,
            text => fields::nonzero_address("buyer", text)?,
        };
        let currency = match request.currency.as_str() {
            "" => None,
            text => Some(fields::nonzero_address("currency", text)?),
        };
        Ok(Self { sender, offering, buyer, currency })
    }
}

impl TryFrom<&proto::WithdrawProceedsRequest> for WithdrawProceeds {
    type Error = Refusal;

    fn try_from(request: &proto::WithdrawProceedsRequest) -> Result<Self, Refusal> {
        let Handle { sender, offering } = handle(&request.sender, &request.offering)?;
        Ok(Self { sender, offering, currency: fields::nonzero_address("currency", &request.currency)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
    const OTHER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    const EURO: &str = "0x00000000000000000000000000000000000000C1";

    fn terms() -> proto::OfferingTerms {
        proto::OfferingTerms {
            asset: OTHER.into(),
            starts_at: 100,
            ends_at: 200,
            hard_cap: "1000".into(),
            currencies: vec![proto::OfferingCurrency { currency: EURO.to_lowercase(), price: "99.75".into() }],
            ..Default::default()
        }
    }

    fn read(terms: proto::OfferingTerms, allow_list: &[&str]) -> Result<Asked, Refusal> {
        let allow_list = allow_list.iter().map(|account| (*account).to_owned()).collect();
        Asked::try_from(&proto::CreateOfferingRequest { sender: WALLET.into(), terms: Some(terms), allow_list })
    }

    fn refused(terms: proto::OfferingTerms, allow_list: &[&str]) -> String {
        let refusal = read(terms, allow_list).unwrap_err();
        refusal.violations().iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_left_out_has_a_meaning() {
        let Asked { command: CreateOffering { sender, terms, replaces }, .. } = read(terms(), &[]).unwrap();
        assert_eq!((terms.proceeds_to, terms.unsold_to, replaces), (sender, sender, None));
        let cap = U256::from(1_000);
        assert_eq!((terms.soft_cap, terms.minimum, terms.maximum), (U256::ZERO, U256::ONE, cap));
        assert_eq!((terms.terms_hash, terms.presale, terms.lockup), (B256::ZERO, None, None));
        assert_eq!(terms.currencies[0].price.to_string(), "99.75");
    }

    #[test]
    fn a_presale_has_an_allow_list_and_its_root_is_part_of_the_command() {
        let presale = proto::Presale { ends_at: 150, discount_bps: 500 };
        let presold = proto::OfferingTerms { presale: Some(presale), ..terms() };
        let one = read(presold.clone(), &[WALLET, OTHER]).unwrap();
        let other = read(presold.clone(), &[WALLET]).unwrap();
        assert_eq!(one.allow_list.len(), 2);
        assert_ne!(one.command, other.command, "another list is another payload");
        assert_eq!(refused(presold.clone(), &[]), "allow_list");
        assert_eq!(refused(terms(), &[WALLET]), "allow_list");
        assert_eq!(refused(presold.clone(), &[WALLET, OTHER, WALLET, "0x12"]), "allow_list[2] allow_list[3]");
        for (ends_at, discount_bps, path) in [(100, 0, "ends_at"), (201, 0, "ends_at"), (150, 10_000, "discount_bps")] {
            let presale = Some(proto::Presale { ends_at, discount_bps });
            assert_eq!(
                refused(proto::OfferingTerms { presale, ..terms() }, &[WALLET]),
                format!("terms.presale.{path}")
            );
        }
    }

    #[test]
    fn terms_that_make_no_sense_are_refused_by_path() {
        let with = |change: fn(&mut proto::OfferingTerms)| {
            let mut terms = terms();
            change(&mut terms);
            refused(terms, &[])
        };
        assert_eq!(with(|terms| terms.ends_at = 100), "terms.ends_at");
        assert_eq!(with(|terms| terms.ends_at = MAX_TIME_S), "terms.ends_at");
        assert_eq!(with(|terms| terms.hard_cap = "0".into()), "terms.hard_cap");
        assert_eq!(with(|terms| terms.hard_cap = (U256::ONE << 120_usize).to_string()), "terms.hard_cap");
        assert_eq!(with(|terms| terms.soft_cap = "1001".into()), "terms.soft_cap");
        assert_eq!(with(|terms| terms.maximum = "1001".into()), "terms.maximum");
        assert_eq!(with(|terms| (terms.minimum, terms.maximum) = ("5".into(), "4".into())), "terms.minimum");
        assert_eq!(with(|terms| terms.terms_hash = format!("{:#x}", B256::ZERO)), "terms.terms_hash");
        assert_eq!(with(|terms| terms.terms_hash = "0x12".into()), "terms.terms_hash");
        assert_eq!(with(|terms| terms.currencies.clear()), "terms.currencies");
        assert_eq!(with(|terms| terms.currencies[0].price = "0".into()), "terms.currencies[0].price");
        assert_eq!(with(|terms| terms.currencies[0].currency = OTHER.into()), "terms.currencies[0].currency");
        assert_eq!(with(|terms| terms.currencies.push(terms.currencies[0].clone())), "terms.currencies[1].currency");
        let locked = |starts_at, cliff_s, duration_s| {
            let lockup = Some(proto::Lockup { starts_at, cliff_s, duration_s });
            refused(proto::OfferingTerms { lockup, ..terms() }, &[])
        };
        assert_eq!(locked(199, 0, 10), "terms.lockup.starts_at");
        assert_eq!(locked(200, 0, 0), "terms.lockup.duration_s");
        assert_eq!(locked(200, 11, 10), "terms.lockup.cliff_s");
        let nothing = Asked::try_from(&proto::CreateOfferingRequest::default()).unwrap_err();
        assert_eq!(nothing.violations().len(), 5, "{nothing:?}");
    }

    #[test]
    fn a_purchase_says_what_it_pays_and_in_what() {
        let request = proto::BuyRequest {
            sender: WALLET.into(),
            offering: OTHER.into(),
            payment_amount: "500".into(),
            currency: WALLET.into(),
            ..Default::default()
        };
        let command = Buy::try_from(&request).unwrap();
        assert_eq!((command.minimum_tokens, command.terms_hash), (None, B256::ZERO));
        let refusal = Buy::try_from(&proto::BuyRequest { payment_amount: "0".into(), ..request }).unwrap_err();
        assert_eq!(refusal.violations()[0].0, "payment_amount");
        let nothing = Buy::try_from(&proto::BuyRequest::default()).unwrap_err();
        assert_eq!(nothing.violations().len(), 4);
    }
}
