//! Settlements that settle.

use alloy::primitives::{B256, U256, aliases::U40};
use alloy::sol_types::{SolCall as _, SolValue as _};
use dalp_contracts::bindings::Settlement;
use dalp_devstack::client::keyed;
use dalp_proto::settlement::{
    ApproveRequest, LegState, PreviewSettlementRequest, SettlementEventKind, SettlementState, SettlementTerms,
    WatchSettlementRequest, preview_settlement_request::Subject,
};
use dalp_tests::airdrops::key;
use dalp_tests::waiting::until;

use crate::support::{Accepted, CASH, World, operation, refused};

/// More than an approval has attempts, so that none may rely on being tried again.
const MANY_AT_ONCE: usize = 12;

pub(crate) async fn a_bond_is_delivered_against_a_foreign_currency(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let terms = world.delivery("DvP").await;
    let asked = PreviewSettlementRequest { subject: Some(Subject::Terms(terms.clone())) };
    let preview = world.service().preview_settlement(asked).await.expect("a preview").into_inner();
    assert!(preview.settles && preview.state() == SettlementState::Unspecified, "{preview:?}");
    assert_eq!(preview.missing_approvals, [alice.text.clone(), bob.text.clone()]);

    let id = world.create(&terms).await;
    let before = world.holdings().await;
    let watched = WatchSettlementRequest { settlement_id: id.clone() };
    let mut stream = world.service().watch_settlement(watched).await.expect("a stream").into_inner();
    assert_eq!(refused(world.execute(carol, &id).await).reason, "NOT_APPROVED");
    assert_eq!(refused(world.approve(carol, &id).await).reason, "NOT_A_LOCAL_SENDER");
    let kept = ApproveRequest { sender: alice.text.clone(), settlement_id: id.clone(), keep_allowances: true };
    let short = refused(operation!(world.service().approve(keyed(kept, &key()))));
    assert_eq!((short.reason.as_str(), short.metadata["needed"].as_str()), ("ALLOWANCE_INSUFFICIENT", "100"));

    // A repeat with its key is the same approval.
    let (request, repeated) =
        (ApproveRequest { sender: alice.text.clone(), settlement_id: id.clone(), ..Default::default() }, key());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let accepted: Accepted = operation!(world.service().approve(keyed(request.clone(), &repeated)));
        ids.push(accepted.as_ref().expect("accepted").as_ref().expect("an operation").operation_id.clone());
        assert_eq!(world.done(accepted).await["locked"], false);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(refused(world.approve(alice, &id).await).reason, "ALREADY_APPROVED");
    assert_eq!(world.holdings().await, before, "a hold leaves the bonds with their holder");
    let preview = world.preview(&id).await;
    assert_eq!((preview.settles, preview.missing_approvals.as_slice()), (true, &[bob.text.clone()][..]));
    assert!(preview.legs[0].own_asset && !preview.legs[1].own_asset);
    assert_eq!((preview.locks[0].locked, preview.locks[1].locked), (true, false));
    assert_eq!((preview.locks[1].needed.as_str(), preview.locks[1].available.as_str()), ("5000", &*CASH.to_string()));

    assert_eq!(world.done(world.approve(bob, &id).await).await["locked"], true);
    let contract = world.contract().await;
    let escrowed = world.holdings().await;
    assert_eq!(escrowed[&(world.coin.address, contract)], before[&(world.coin.address, contract)] + 5_000);
    assert_eq!(world.state(&id).await, SettlementState::Approved);
    // A turn that is over before the stream looks is not told of: this one is waited for.
    let mut states = Vec::new();
    while states.last() != Some(&SettlementState::Approved) {
        states.push(stream.message().await.expect("told").expect("it goes on").state());
    }
    let executed = world.done(world.execute(carol, &id).await).await;
    assert_eq!(executed["executed"], true, "whoever sends");
    assert_eq!(world.holdings().await, World::moved(before, &terms));

    let answer = world.indexed(&id).await;
    let status = answer.status.expect("it stands");
    assert_eq!((status.state(), status.armed), (SettlementState::Executed, false));
    assert!(status.legs.iter().all(|leg| leg.state() == LegState::Delivered), "{status:?}");
    let kinds: Vec<_> = answer.events.iter().map(|event| event.kind()).collect();
    let wanted = [
        SettlementEventKind::Created,
        SettlementEventKind::Approved,
        SettlementEventKind::Approved,
        SettlementEventKind::Locked,
        SettlementEventKind::Executed,
    ];
    assert_eq!(kinds, wanted);
    // The stream told of each turn, and ended with the last.
    while let Some(told) = stream.message().await.expect("told") {
        states.push(told.state());
    }
    states.dedup();
    assert_eq!(states.last(), Some(&SettlementState::Executed), "{states:?}");
    assert!(states.contains(&SettlementState::Approved), "{states:?}");
    assert_eq!(refused(world.execute(carol, &id).await).metadata["contract_error"], "WrongStatus");
    assert_eq!(refused(world.cancel(alice, &id).await).reason, "CANCEL_NOT_ALLOWED");
}

pub(crate) async fn two_currencies_are_exchanged_by_the_last_approval(world: &World) {
    let [alice, bob, ..] = world.parties();
    let legs = vec![World::leg(&world.euro, alice, bob, 9_000), World::leg(&world.dollar, bob, alice, 10_000)];
    let terms = SettlementTerms { auto_execute: true, ..world.terms("PvP", legs).await };
    let before = world.holdings().await;
    let id = world.approved(&terms, &[bob]).await;
    assert_eq!(world.holdings().await, before, "both are held where they are");
    let last = world.done(world.approve(alice, &id).await).await;
    assert_eq!((&last["locked"], &last["executed"]), (&true.into(), &true.into()));
    assert_eq!(world.holdings().await, World::moved(before, &terms));
    assert_eq!(world.state(&id).await, SettlementState::Executed);
    world.indexed(&id).await;
    assert!(world.listed(alice, SettlementState::Executed).await.contains(&id));
}

pub(crate) async fn five_parties_settle_seven_legs(world: &World) {
    let [a, b, c, d, e] = world.parties();
    let legs = vec![
        World::leg(&world.bond, a, b, 100),
        World::leg(&world.euro, b, c, 5_000),
        World::leg(&world.euro, c, a, 3_000),
        World::leg(&world.coin, d, e, 700),
        World::leg(&world.coin, e, d, 200),
        World::leg(&world.dollar, e, a, 90),
        World::leg(&world.bond, c, d, 40),
    ];
    let terms = world.terms("Round trip", legs).await;
    let before = world.holdings().await;
    let id = world.create(&terms).await;
    let preview = world.preview(&id).await;
    assert!(preview.settles && preview.missing_approvals.len() == 5, "{preview:?}");
    let locks: Vec<_> = preview.locks.iter().map(|lock| (lock.sender.as_str(), lock.needed.as_str())).collect();
    // Own assets are held in full; of the foreign one only what is left after what comes in.
    let wanted = [(a, "100"), (b, "5000"), (c, "3000"), (d, "500"), (e, "90"), (c, "40")];
    assert_eq!(locks, wanted.map(|(party, needed)| (party.text.as_str(), needed)));
    let (one, other) = tokio::join!(world.approve(a, &id), world.approve(b, &id));
    tokio::join!(world.done(one), world.done(other));
    for party in [c, d, e] {
        world.done(world.approve(party, &id).await).await;
    }
    world.done(world.execute(e, &id).await).await;
    assert_eq!(world.holdings().await, World::moved(before, &terms));
    let parties = world.get(&id).await.status.expect("it stands").parties;
    assert!(parties.len() == 5 && parties.iter().all(|party| party.sends && party.approved && !party.voted));
}

/// Own assets and foreign currencies alike: each approval gives an allowance that suffices for all that are under way.
pub(crate) async fn a_wallet_that_approves_many_at_once_has_allowances_for_all(world: &World) {
    let [alice, bob, ..] = world.parties();
    let mut wanted = world.holdings().await;
    let mut ids = Vec::new();
    for number in 0..MANY_AT_ONCE {
        let terms = world.delivery(&format!("One of many, {number}")).await;
        ids.push(world.create(&terms).await);
        wanted = World::moved(wanted, &terms);
    }
    for party in [alice, bob] {
        let approvals = futures::future::join_all(ids.iter().map(|id| world.approve(party, id))).await;
        futures::future::join_all(approvals.into_iter().map(|accepted| world.done(accepted))).await;
    }
    let executions = futures::future::join_all(ids.iter().map(|id| world.execute(alice, id))).await;
    futures::future::join_all(executions.into_iter().map(|accepted| world.done(accepted))).await;
    assert_eq!(world.holdings().await, wanted);
}

/// A counterparty that only uses the contract.
pub(crate) async fn a_settlement_from_outside_is_one_like_ours(world: &World) {
    let [alice, bob, ..] = world.parties();
    let (contract, cutoff) = (world.contract().await, world.now_s().await + 10_000);
    let leg =
        |asset, from, to, amount: u64| Settlement::Leg { asset, from, to, amount: U256::from(amount), chainId: 0 };
    let terms = Settlement::Terms {
        salt: B256::repeat_byte(7),
        name: "From outside".to_owned(),
        cutoff: U40::from(cutoff),
        autoExecute: true,
        hashKind: 0,
        hashlock: B256::ZERO,
        legs: vec![
            leg(world.bond.address, alice.address, bob.address, 3),
            leg(world.euro.address, bob.address, alice.address, 4),
        ],
    };
    let id = alloy::primitives::keccak256(terms.abi_encode()).to_string();
    world.send(Some(contract), Settlement::createCall { terms }.abi_encode().into()).await;
    let listed = async || world.listed(alice, SettlementState::Active).await;
    until("it is indexed", listed, |ids| ids.contains(&id)).await;
    let settlement = world.get(&id).await.settlement.expect("known");
    assert_eq!((settlement.operation_id.as_str(), settlement.creator), ("", world.outsider().await.to_checksum(None)));
    let before = world.holdings().await;
    world.done(world.approve(alice, &id).await).await;
    assert_eq!(world.done(world.approve(bob, &id).await).await["executed"], true);
    assert_eq!(world.holdings().await, World::moved(before, &settlement.terms.expect("terms")));
}
