//! Messages as commands: each field checked, all that are wrong named.

use crate::{
    commands::{
        Approve, Cancel, CreateSettlement, Deliver, Execute, Reclaim, Reveal, Revoke, Secret, StartReclaim, VoteCancel,
        WithdrawVote,
    },
    pairs::agreement::{OpenPair, SideAsked},
    terms::{HashKind, HashLock, Leg, MAX_LEGS, Terms},
};
use alloy::primitives::{Address, B256};
use dalp_proto::settlement as proto;
use dalp_service::{
    Refusal,
    fields::{self, Violations},
};

/// The first second of the year 10000.
const MAX_TIME_S: u64 = 253_402_300_800;
/// The longest name.
const MAX_NAME: usize = 64;
/// An amount of a local leg has fewer bits: own assets count so far.
const AMOUNT_BITS: usize = 128;

/// Terms as they are asked for; `chain_id` is the platform's own.
pub(super) fn terms(bad: &mut Violations, wire: Option<&proto::SettlementTerms>, chain_id: u64) -> Terms {
    let Some(wire) = wire else {
        bad.push("terms", "is missing");
        return Terms { name: String::new(), cutoff: 0, auto_execute: false, hash_lock: None, legs: Vec::new() };
    };
    let name = bad.check(fields::bounded_string("terms.name", &wire.name, 1, MAX_NAME)).unwrap_or_default();
    if wire.cutoff == 0 || wire.cutoff >= MAX_TIME_S {
        bad.push("terms.cutoff", "must be unix seconds before the year 10000");
    }
    if wire.legs.is_empty() || wire.legs.len() > MAX_LEGS {
        bad.push("terms.legs", format!("must hold 1 to {MAX_LEGS}"));
    }
    let legs: Vec<Leg> =
        wire.legs.iter().take(MAX_LEGS).enumerate().map(|one| leg(bad, "terms.legs", one, chain_id)).collect();
    if !legs.is_empty() && !legs.iter().any(Leg::is_local) {
        bad.push("terms.legs", "must hold a leg on this chain: there is nothing to settle here");
    }
    let external = legs.iter().any(|leg| !leg.is_local());
    if external && wire.auto_execute {
        bad.push("terms.auto_execute", "must be false: with a leg on another chain only the secret settles");
    }
    Terms {
        name,
        cutoff: wire.cutoff,
        auto_execute: wire.auto_execute,
        hash_lock: hash_lock(bad, wire.hash_lock.as_ref(), external),
        legs,
    }
}

fn leg(bad: &mut Violations, at: &str, (place, wire): (usize, &proto::SettlementLeg), chain_id: u64) -> Leg {
    let path = |field: &str| format!("{at}[{place}].{field}");
    // The platform's own chain is meant by its number, too.
    let on = if wire.chain_id == chain_id { 0 } else { wire.chain_id };
    let asset = bad.check(fields::nonzero_address(&path("asset"), &wire.asset)).unwrap_or_default();
    let from = bad.check(fields::nonzero_address(&path("from"), &wire.from));
    let to = bad.check(fields::nonzero_address(&path("to"), &wire.to));
    let amount = bad.check(fields::nonzero_amount(&path("amount"), &wire.amount)).unwrap_or_default();
    if from.is_some() && from == to {
        bad.push(path("to"), "must be another account than from");
    }
    if on == 0 && amount.bit_len() > AMOUNT_BITS {
        bad.push(path("amount"), "must be below 2^128");
    }
    Leg { asset, from: from.unwrap_or_default(), to: to.unwrap_or_default(), amount, chain_id: on }
}

fn hash_lock(bad: &mut Violations, wire: Option<&proto::HashLock>, external: bool) -> Option<HashLock> {
    match (wire, external) {
        (None, true) => bad.push("terms.hash_lock", "is missing: a leg is on another chain"),
        (Some(_), false) => bad.push("terms.hash_lock", "must be absent: every leg is on this chain"),
        _ => {}
    }
    let wire = wire?;
    let kind = bad.check(fields::enum_value("terms.hash_lock.kind", wire.kind));
    let hash = bad.check(fields::bytes32("terms.hash_lock.hash", &wire.hash)).unwrap_or_default();
    if hash.is_zero() && !wire.hash.is_empty() {
        bad.push("terms.hash_lock.hash", "must not be zero");
    }
    let kind = match kind {
        Some(proto::HashKind::Sha256) => HashKind::Sha256,
        _ => HashKind::Keccak256,
    };
    Some(HashLock { kind, hash })
}

/// A creation; `chain_id` is the platform's own.
pub(super) fn creation(request: &proto::CreateSettlementRequest, chain_id: u64) -> Result<CreateSettlement, Refusal> {
    let mut bad = Violations::new();
    let sender = bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default();
    let terms = terms(&mut bad, request.terms.as_ref(), chain_id);
    bad.finish()?;
    Ok(CreateSettlement { sender, terms })
}

/// An exchange across two chains.
pub(super) fn pair(request: &proto::OpenPairRequest) -> Result<OpenPair, Refusal> {
    let mut bad = Violations::new();
    let sender = bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default();
    let name = bad.check(fields::bounded_string("name", &request.name, 1, MAX_NAME)).unwrap_or_default();
    if !(2..=MAX_LEGS).contains(&request.legs.len()) {
        bad.push("legs", format!("must hold 2 to {MAX_LEGS}"));
    }
    // No chain has the id 0, so each leg keeps the one that it names.
    let legs: Vec<Leg> =
        request.legs.iter().take(MAX_LEGS).enumerate().map(|one| leg(&mut bad, "legs", one, 0)).collect();
    let reveal = side(&mut bad, "reveal", request.reveal.as_ref());
    let carry = side(&mut bad, "carry", request.carry.as_ref());
    for (place, _) in legs.iter().enumerate().filter(|(_, leg)| leg.amount.bit_len() > AMOUNT_BITS && leg.chain_id != 0)
    {
        bad.push(format!("legs[{place}].amount"), "must be below 2^128");
    }
    let hash_kind = match bad.check(fields::enum_value("hash_kind", request.hash_kind)) {
        Some(proto::HashKind::Sha256) => HashKind::Sha256,
        _ => HashKind::Keccak256,
    };
    let hash = match request.hash.as_str() {
        "" => None,
        text => bad.check(fields::bytes32("hash", text)),
    };
    if hash.is_some_and(|hash| hash.is_zero()) {
        bad.push("hash", "must not be zero");
    }
    bad.finish()?;
    Ok(OpenPair { sender, name, legs, sides: [reveal, carry], hash_kind, hash })
}

fn side(bad: &mut Violations, at: &str, wire: Option<&proto::PairSide>) -> SideAsked {
    let Some(wire) = wire else {
        bad.push(at, "is missing");
        return SideAsked { chain_id: 0, cutoff: 0, opened_by_counterparty: false };
    };
    if wire.chain_id == 0 {
        bad.push(format!("{at}.chain_id"), "must be the EIP-155 id of a chain");
    }
    if wire.cutoff == 0 || wire.cutoff >= MAX_TIME_S {
        bad.push(format!("{at}.cutoff"), "must be unix seconds before the year 10000");
    }
    SideAsked { chain_id: wire.chain_id, cutoff: wire.cutoff, opened_by_counterparty: wire.opened_by_counterparty }
}

/// Sender and settlement of a command.
fn handle(bad: &mut Violations, sender: &str, settlement_id: &str) -> (Address, B256) {
    let sender = bad.check(fields::nonzero_address("sender", sender)).unwrap_or_default();
    let settlement_id = bad.check(fields::bytes32("settlement_id", settlement_id)).unwrap_or_default();
    (sender, settlement_id)
}

/// Commands that need no more than sender and settlement.
macro_rules! handles {
    ($($request:ident => $command:ident),+) => {$(
        impl TryFrom<&proto::$request> for $command {
            type Error = Refusal;

            fn try_from(request: &proto::$request) -> Result<Self, Refusal> {
                let mut bad = Violations::new();
                let (sender, settlement_id) = handle(&mut bad, &request.sender, &request.settlement_id);
                bad.finish()?;
                Ok(Self { sender, settlement_id })
            }
        }
    )+};
}

handles!(
    RevokeRequest => Revoke,
    ExecuteRequest => Execute,
    CancelRequest => Cancel,
    VoteCancelRequest => VoteCancel,
    WithdrawVoteRequest => WithdrawVote,
    StartReclaimRequest => StartReclaim
);

impl TryFrom<&proto::ApproveRequest> for Approve {
    type Error = Refusal;

    fn try_from(request: &proto::ApproveRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, settlement_id) = handle(&mut bad, &request.sender, &request.settlement_id);
        bad.finish()?;
        Ok(Self { sender, settlement_id, keep_allowances: request.keep_allowances })
    }
}

impl TryFrom<&proto::RevealRequest> for Reveal {
    type Error = Refusal;

    fn try_from(request: &proto::RevealRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, settlement_id) = handle(&mut bad, &request.sender, &request.settlement_id);
        let secret = bad.check(fields::bytes32("secret", &request.secret)).unwrap_or_default();
        bad.finish()?;
        Ok(Self { sender, settlement_id, secret: Secret(secret) })
    }
}

impl TryFrom<&proto::DeliverRequest> for Deliver {
    type Error = Refusal;

    fn try_from(request: &proto::DeliverRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, settlement_id) = handle(&mut bad, &request.sender, &request.settlement_id);
        bad.finish()?;
        Ok(Self { sender, settlement_id, leg: request.leg })
    }
}

impl TryFrom<&proto::ReclaimRequest> for Reclaim {
    type Error = Refusal;

    fn try_from(request: &proto::ReclaimRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, settlement_id) = handle(&mut bad, &request.sender, &request.settlement_id);
        let party = match request.party.as_str() {
            "" => sender,
            text => bad.check(fields::nonzero_address("party", text)).unwrap_or_default(),
        };
        bad.finish()?;
        Ok(Self { sender, settlement_id, party })
    }
}

/// Places of legs that the chain cannot take, each with why, as a refusal; `None`: none.
pub(super) fn unusable(legs: impl IntoIterator<Item = (usize, &'static str, &'static str)>) -> Option<Refusal> {
    let mut bad = Violations::new();
    for (place, field, why) in legs {
        bad.push(format!("terms.legs[{place}].{field}"), why);
    }
    bad.finish().err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::U256;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
    const OTHER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    const EURO: &str = "0x00000000000000000000000000000000000000c1";
    const HERE: u64 = 31_337;

    fn wire() -> proto::SettlementTerms {
        let leg = |from: &str, to: &str, amount: &str| proto::SettlementLeg {
            asset: EURO.into(),
            from: from.into(),
            to: to.into(),
            amount: amount.into(),
            chain_id: 0,
        };
        proto::SettlementTerms {
            name: "Trade".into(),
            cutoff: 2_000_000_000,
            legs: vec![leg(WALLET, OTHER, "10"), leg(OTHER, WALLET, "900")],
            ..Default::default()
        }
    }

    fn read(terms: proto::SettlementTerms) -> Result<Terms, Refusal> {
        let request = proto::CreateSettlementRequest { sender: WALLET.into(), terms: Some(terms) };
        creation(&request, HERE).map(|command| command.terms)
    }

    fn paths(refusal: &Refusal) -> String {
        refusal.violations().iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn with(change: impl FnOnce(&mut proto::SettlementTerms)) -> String {
        let mut terms = wire();
        change(&mut terms);
        paths(&read(terms).unwrap_err())
    }

    fn lock() -> proto::HashLock {
        proto::HashLock { kind: proto::HashKind::Sha256.into(), hash: B256::repeat_byte(7).to_string() }
    }

    #[test]
    fn sound_terms_are_read() {
        let terms = read(wire()).unwrap();
        assert_eq!((terms.name.as_str(), terms.legs.len(), terms.hash_lock), ("Trade", 2, None));
        assert!(terms.legs.iter().all(Leg::is_local));
        let mut crossed = wire();
        crossed.legs[1].chain_id = 4_242;
        crossed.hash_lock = Some(lock());
        let terms = read(crossed).unwrap();
        assert_eq!(terms.hash_lock, Some(HashLock { kind: HashKind::Sha256, hash: B256::repeat_byte(7) }));
        assert_eq!(terms.legs[1].chain_id, 4_242);
        let mut named = wire();
        named.legs[0].chain_id = HERE;
        named.legs[0].amount = u128::MAX.to_string();
        assert!(read(named).unwrap().legs[0].is_local(), "the own chain by its number");
    }

    #[test]
    fn terms_that_make_no_sense_are_refused_by_path() {
        assert_eq!(with(|terms| terms.name = " ".into()), "terms.name");
        assert_eq!(with(|terms| terms.name = "x".repeat(65)), "terms.name");
        assert_eq!(with(|terms| terms.cutoff = 0), "terms.cutoff");
        assert_eq!(with(|terms| terms.cutoff = MAX_TIME_S), "terms.cutoff");
        assert_eq!(with(|terms| terms.legs.clear()), "terms.legs");
        assert_eq!(with(|terms| terms.legs = vec![terms.legs[0].clone(); 21]), "terms.legs");
        assert_eq!(with(|terms| terms.legs[1].amount = "0".into()), "terms.legs[1].amount");
        assert_eq!(with(|terms| terms.legs[1].amount = (U256::ONE << 128_usize).to_string()), "terms.legs[1].amount");
        assert_eq!(with(|terms| terms.legs[0].to = WALLET.to_lowercase()), "terms.legs[0].to");
        assert_eq!(with(|terms| terms.legs[0].asset = format!("{:#x}", Address::ZERO)), "terms.legs[0].asset");
        assert_eq!(with(|terms| terms.legs[0].from = WALLET.replace("d8dA", "d8da")), "terms.legs[0].from");
        let nothing = creation(&proto::CreateSettlementRequest::default(), HERE).unwrap_err();
        assert_eq!(paths(&nothing), "sender terms");
    }

    #[test]
    fn a_hash_lock_stands_for_legs_on_another_chain() {
        assert_eq!(with(|terms| terms.hash_lock = Some(lock())), "terms.hash_lock");
        assert_eq!(with(|terms| terms.legs[0].chain_id = 4_242), "terms.hash_lock");
        let crossed = |change: fn(&mut proto::SettlementTerms)| {
            with(|terms| {
                terms.legs[0].chain_id = 4_242;
                terms.hash_lock = Some(lock());
                change(terms);
            })
        };
        assert_eq!(crossed(|terms| terms.legs[1].chain_id = 4_242), "terms.legs", "nothing moves here");
        assert_eq!(crossed(|terms| terms.auto_execute = true), "terms.auto_execute");
        let zero = |terms: &mut proto::SettlementTerms| {
            terms.hash_lock = Some(proto::HashLock { hash: B256::ZERO.to_string(), ..lock() });
        };
        assert_eq!(crossed(zero), "terms.hash_lock.hash");
        assert_eq!(
            crossed(|terms| terms.hash_lock = Some(Default::default())),
            "terms.hash_lock.kind terms.hash_lock.hash"
        );
    }

    #[test]
    fn what_is_reclaimed_is_the_sender_s_unless_another_is_named() {
        let request = proto::ReclaimRequest {
            sender: WALLET.into(),
            settlement_id: B256::repeat_byte(1).to_string(),
            party: String::new(),
        };
        let command = Reclaim::try_from(&request).unwrap();
        assert_eq!(command.party, command.sender);
        let other = Reclaim::try_from(&proto::ReclaimRequest { party: OTHER.into(), ..request.clone() }).unwrap();
        assert_eq!(other.party, OTHER.parse::<Address>().unwrap());
        let bad = Reclaim::try_from(&proto::ReclaimRequest { party: "0x12".into(), ..request }).unwrap_err();
        assert_eq!(paths(&bad), "party");
        let secret = Reveal::try_from(&proto::RevealRequest::default()).unwrap_err();
        assert_eq!(paths(&secret), "sender settlement_id secret");
    }
}
