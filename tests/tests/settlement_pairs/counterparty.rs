//! Counterparties that only use the contract.

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::SolCall as _;
use dalp_contracts::bindings::Settlement::{createCall, revealCall};
use dalp_proto::settlement::{AttentionKind, PairState};
use dalp_tests::waiting::until;

use crate::support::{COINS, FIRST, SECOND, World, contract_of, cutoff_of, id_of};

const SECRET: B256 = B256::repeat_byte(0x5e);

/// Theirs is the secret, and they show it when hardly anybody expects it any more: after the cutoff, in the last blocks before anything goes back.
pub(crate) async fn a_counterparty_shows_its_secret_at_the_last_block(world: &World) {
    let before = world.holdings().await;
    let mut order = world.order("At the last block").await;
    order.hash = keccak256(SECRET).to_string();
    let pair = world.try_open(order.clone()).await.expect("opened");
    assert!(!pair.secret_ours);
    let again = world.try_open(order).await.expect_err("refused");
    assert_eq!(dalp_service::Refusal::details(&again).expect("ours").reason, "ALREADY_EXISTS");
    // Who follows locks only when the other's lock is there for good.
    let early = world.approve(world.bob(), &id_of(&pair.reveal)).await.expect_err("refused");
    assert_eq!(dalp_service::Refusal::details(&early).expect("ours").reason, "FAILED_PRECONDITION");
    world.alice_locks(&pair).await;
    let lock = async || world.approve(world.bob(), &id_of(&pair.reveal)).await;
    let accepted = until("the other lock is final", lock, Result::is_ok).await;
    world.done(accepted).await;

    let (contract, id) = (contract_of(&pair.reveal), id_of(&pair.reveal).parse().expect("an identifier"));
    let terms = world.terms(SECOND, contract, id).await;
    world.both_pass_to(cutoff_of(&pair.reveal)).await;
    let call = revealCall { terms, secret: SECRET };
    world.send(SECOND, Some(contract), call.abi_encode().into()).await;
    world.exchanged(&pair, before).await;
    let sent: Vec<_> = world.evidence(&pair).await.actions.into_iter().map(|one| one.action).collect();
    assert!(sent.contains(&"carry".to_owned()) && !sent.contains(&"reveal".to_owned()), "{sent:?}");
}

pub(crate) async fn a_mirror_of_the_counterparty_is_found_and_compared(world: &World) {
    let before = world.holdings().await;
    let mut order = world.order("Mirrored").await;
    order.reveal.as_mut().expect("a side").opened_by_counterparty = true;
    let pair = world.try_open(order).await.expect("opened");
    assert_eq!(id_of(&pair.reveal), "");
    // What we opened here tells what is to be opened there.
    let carry: B256 = id_of(&pair.carry).parse().expect("an identifier");
    let ours = world.terms(FIRST, contract_of(&pair.carry), carry).await;
    let contract: Address = contract_of(&pair.reveal);
    let mut theirs = ours.clone();
    theirs.name = "Theirs".to_owned();
    theirs.cutoff = alloy::primitives::aliases::U40::saturating_from(cutoff_of(&pair.reveal));
    for leg in &mut theirs.legs {
        leg.chainId = if leg.chainId == SECOND { 0 } else { FIRST };
    }
    let mut cheap = theirs.clone();
    cheap.legs.iter_mut().filter(|leg| leg.chainId == 0).for_each(|leg| leg.amount = alloy::primitives::U256::ONE);
    world.send(SECOND, Some(contract), createCall { terms: cheap }.abi_encode().into()).await;
    let differs = world.until_needs(&pair, AttentionKind::MirrorDiffers, SECOND).await;
    assert!(differs.detail.contains(&format!("instead of {COINS} of")), "{differs:?}");

    world.send(SECOND, Some(contract), createCall { terms: theirs }.abi_encode().into()).await;
    let found = |pair: &dalp_proto::settlement::Pair| !id_of(&pair.reveal).is_empty();
    let pair = until("their settlement is found", async || world.pair(&pair.pair_id).await, found).await;
    assert_eq!(pair.state(), PairState::Locking);
    world.alice_locks(&pair).await;
    world.bob_locks(&pair).await;
    world.exchanged(&pair, before).await;
}
