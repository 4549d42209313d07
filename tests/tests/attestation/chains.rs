//! Two chains, one attestor.

use dalp_contracts::bindings::AssetToken;
use dalp_devstack::stack::SECOND_CHAIN_ID;
use dalp_proto::signer::{EvmTransaction, SignStatus, sign_request::Payload};
use dalp_service::Refusal;
use dalp_testing::Signal;

use crate::Taken;

fn on(chain_id: u64, payload: Payload) -> Payload {
    let Payload::EvmTransaction(tx) = payload else { panic!("a transaction") };
    Payload::EvmTransaction(EvmTransaction { chain_id, ..tx })
}

/// What is known on one chain says nothing about another one.
pub(crate) async fn each_chain_is_judged_by_itself(taken: &Taken) {
    let (holder, receiver) = (taken.load.holders[0].address, taken.load.receiver.address);
    let elsewhere = on(SECOND_CHAIN_ID, taken.transfer(receiver));
    assert_eq!(taken.refused(holder, elsewhere).await, "COUNTERPARTY_UNKNOWN");
    let mint = AssetToken::mintCall { to: holder, amount: alloy::primitives::U256::ONE };
    let mint = alloy::sol_types::SolCall::abi_encode(&mint);
    let elsewhere = on(SECOND_CHAIN_ID, taken.call(Some(taken.load.token), 0, mint));
    assert_eq!(taken.refused(holder, elsewhere).await, "TARGET_UNKNOWN");
    // A chain that the attestor does not look at.
    assert_eq!(taken.refused(holder, on(1, taken.transfer(receiver))).await, "CHAIN_NOT_SERVED");
}

/// While a chain does not answer, nothing is decided on it, and the other one does not notice.
pub(crate) async fn a_chain_that_stands_still_holds_no_other_up(taken: &Taken) {
    let (holder, receiver) = (taken.load.holders[0].address, taken.load.receiver.address);
    let pid = taken.stack.chain_pids()[1];
    assert!(dalp_testing::signal(pid, Signal::STOP), "the chain runs");
    let requests: Vec<_> =
        (0..8).map(|_| taken.request(holder, on(SECOND_CHAIN_ID, taken.transfer(receiver)))).collect();
    let mut waits = std::pin::pin!(futures::future::join_all(requests.iter().map(|request| taken.sign(request))));
    let mut signed = 0_u32;
    let waited = loop {
        let request = taken.request(holder, taken.transfer(receiver));
        tokio::select! {
            biased;
            waited = &mut waits => break waited,
            outcome = taken.sign(&request) => {
                let outcome = outcome.expect("an outcome");
                assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
                signed += 1;
            }
        }
    };
    for status in waited {
        let status = status.expect_err("not signed");
        let told = Refusal::details(&status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"));
        assert_eq!(told.reason, "ATTESTOR_UNAVAILABLE", "{status:?}");
    }
    assert!(signed > 0, "the other chain was signed for before these gave up");
    assert!(dalp_testing::signal(pid, Signal::CONT), "the chain goes on");
    // The same request is judged once the chain goes on: it was neither signed nor refused.
    let judged = async || taken.sign(&requests[0]).await;
    let is_judged = |status: &Result<_, tonic::Status>| {
        let told = status.as_ref().err().and_then(Refusal::details);
        told.is_some_and(|told| told.reason == "ATTESTATION_REFUSED")
    };
    dalp_tests::waiting::until("it is judged", judged, is_judged).await.expect_err("refused");
}
