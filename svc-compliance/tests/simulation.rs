//! SimulateTransfer: what the token and the registry themselves say, with numbers, and that nothing is left out. What rules say: `cures.rs`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::{Address, B256, U256};
use dalp_contracts::{
    bindings::{AssetToken, AssetTokenCustody, RegistryRecords},
    roles::names,
};
use dalp_proto::{asset, compliance::Cure, identity};
use support::{
    desk::{Desk, verdict, vetoes},
    order, text,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_s_own_checks_and_both_identities_are_told_at_once() {
    let desk = Desk::open().await;
    let (stack, officer, token) = (&desk.stack, desk.officer, desk.token);
    let (sender, receiver) = (desk.sender, desk.receiver);
    let custody = async |call: AssetTokenCustody::freezePartialTokensCall| stack.send(officer, token, &call).await;

    // Free balance 10, needed 25; frozen 90: with both addresses frozen, all of it is told.
    custody(AssetTokenCustody::freezePartialTokensCall { account: sender, amount: U256::from(90) }).await;
    for account in [sender, receiver] {
        let freeze = AssetTokenCustody::setAddressFrozenCall { account, freeze: true };
        stack.send(officer, token, &freeze).await;
    }
    let answer = desk.simulate(Some(sender), Some(receiver), 25).await;
    assert_eq!(
        vetoes(&answer),
        [
            ("sender_freeze", "SENDER_FROZEN"),
            ("recipient_freeze", "RECIPIENT_FROZEN"),
            ("free_balance", "FREE_BALANCE_TOO_LOW")
        ]
    );
    let free = verdict(&answer, "free_balance");
    assert!(free.advice.ends_with("(free balance 10, needed 25; frozen 90, held 0)"), "{}", free.advice);
    assert_eq!((free.cure(), free.figures["free"].as_str()), (Cure::ComplianceOfficer, "10"));
    // A forced transfer and a burn reach frozen tokens; a mint does not ask the sender.
    assert!(desk.judge(token, Some(sender), Some(receiver), 25, true).await.allowed);
    assert!(desk.simulate(Some(sender), None, 25).await.allowed);
    assert_eq!(vetoes(&desk.simulate(Some(sender), None, 101).await), [("balance", "BALANCE_TOO_LOW")]);
    assert_eq!(vetoes(&desk.simulate(None, Some(receiver), 5).await), [("recipient_freeze", "RECIPIENT_FROZEN")]);
    // What is held is out of reach of a burn and a forced transfer.
    for account in [sender, receiver] {
        let lift = AssetTokenCustody::setAddressFrozenCall { account, freeze: false };
        stack.send(officer, token, &lift).await;
    }
    let spender = stack.outsider(0xe5).await;
    stack.send(sender, token, &AssetToken::approveCall { spender, value: U256::from(10) }).await;
    let hold = AssetToken::holdCall { id: B256::ZERO, holder: sender, amount: U256::from(10) };
    stack.send(spender, token, &hold).await;
    assert_eq!(vetoes(&desk.simulate(Some(sender), None, 91).await), [("held", "BALANCE_HELD")]);
    let answer = desk.judge(token, Some(sender), Some(receiver), 91, true).await;
    assert_eq!(vetoes(&answer), [("held", "BALANCE_HELD")]);
    let forced = AssetTokenCustody::forcedTransferForCall {
        from: sender,
        to: receiver,
        amount: U256::from(91),
        reason: B256::repeat_byte(1),
    };
    assert_eq!(
        stack.refused(officer, token, &forced).await.and_then(|refused| refused.reason).as_deref(),
        Some("BALANCE_HELD")
    );

    // A paused asset with two topics: each missing one is named, of both parties; the sender's is for information.
    desk.topics(&[("aml", "(bytes payload)")], desk.treasurer).await;
    let second = asset::CreateAssetRequest {
        claim_topics: vec!["kyc".into(), "aml".into()],
        unpause: false,
        initial_supply: String::new(),
        initial_holder: String::new(),
        ..order(desk.admin, desk.admin, "TWO")
    };
    let created = stack.assets().create_asset(stack.fresh(second)).await.unwrap().into_inner().operation;
    let second: Address = stack.done(created).await.result.unwrap()["asset"].as_str().unwrap().parse().unwrap();
    let bare = stack.outsider(0xe6).await;
    stack.register(support::TENANT, desk.admin, bare, 276).await;
    let answer = desk.judge(second, Some(sender), Some(bare), 25, false).await;
    assert_eq!(
        vetoes(&answer),
        [("paused", "TOKEN_PAUSED"), ("balance", "BALANCE_TOO_LOW"), ("identity", "CLAIM_MISSING")]
    );
    assert!(verdict(&answer, "balance").advice.ends_with("(balance 0, needed 25)"));
    let topics = |check: &str| -> Vec<(String, bool, String)> {
        let claims = &verdict(&answer, check).claims;
        claims.iter().map(|one| (one.topic.clone(), one.passed, one.reason.clone())).collect()
    };
    let missing = |topic: &str| (topic.to_owned(), false, "CLAIM_MISSING".to_owned());
    assert_eq!(topics("identity"), [missing("kyc"), missing("aml")]);
    assert_eq!(topics("sender_identity"), [("kyc".to_owned(), true, String::new()), missing("aml")]);
    assert!(verdict(&answer, "sender_identity").advisory);

    // A contract that governance exempts from identity is admitted, and told as such.
    let (registry, contract) =
        (stack.contract(names::IDENTITY_REGISTRY).await, stack.contract(names::SETTLEMENT).await);
    assert_eq!(vetoes(&desk.simulate(None, Some(contract), 5).await), [("identity", "NOT_REGISTERED")]);
    let exempt = RegistryRecords::setExemptCall { token, account: contract, exempt: true };
    stack.send(officer, registry, &exempt).await;
    let answer = desk.simulate(None, Some(contract), 5).await;
    assert!(answer.allowed);
    assert_eq!(verdict(&answer, "identity").figures["exempt"], "true");

    // A revoked claim, an issuer no longer trusted, and a wallet nobody knows.
    let revoke =
        identity::RevokeClaimRequest { issuer: text(desk.admin), subject: text(receiver), topic: "kyc".into() };
    stack.done(stack.identities().revoke_claim(stack.fresh(revoke)).await.unwrap().into_inner().operation).await;
    let answer = desk.simulate(None, Some(receiver), 5).await;
    assert_eq!(vetoes(&answer), [("identity", "CLAIM_REVOKED")]);
    let found = &verdict(&answer, "identity").claims[0];
    assert_eq!((found.issuers[0].reason.as_str(), found.issuers[0].live), ("CLAIM_REVOKED", false));
    let distrust = identity::RemoveTrustedIssuerRequest { sender: text(desk.admin), issuer: text(desk.admin) };
    let distrusted = stack.identities().remove_trusted_issuer(stack.fresh(distrust)).await.unwrap();
    stack.done(distrusted.into_inner().operation).await;
    let answer = desk.simulate(None, Some(sender), 5).await;
    assert_eq!(vetoes(&answer), [("identity", "ISSUER_NOT_TRUSTED")]);
    assert_eq!(verdict(&answer, "identity").claims[0].reason, "ISSUER_NOT_TRUSTED");
    let stranger = Address::repeat_byte(0x5a);
    let answer = desk.judge(token, Some(sender), Some(stranger), 5, true).await;
    assert_eq!(vetoes(&answer), [("identity", "NOT_REGISTERED")]);
    desk.stack.end().await;
}
