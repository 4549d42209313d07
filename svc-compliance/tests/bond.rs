//! The way of a bond: system, identities, claims, asset with rules, mint, transfers that settle and transfers that are refused.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::Address;
use dalp_chain::BlockNumberOrTag;
use dalp_contracts::bindings::AssetToken;
use dalp_engine::OperationView;
use dalp_proto::{
    asset::{self, asset_service_client::AssetServiceClient},
    compliance::{self, compliance_service_client::ComplianceServiceClient},
    holder::{self, holder_service_client::HolderServiceClient},
    identity::{self, identity_service_client::IdentityServiceClient},
    system::{self, system_service_client::SystemServiceClient},
};
use dalp_service::Refusal;
use support::{Stack, eventually, text};
use svc_compliance::readers::ChainReader;

fn refused_by(view: &OperationView) -> (String, String) {
    let error = view.error.as_ref().unwrap_or_else(|| panic!("not refused: {view:#?}"));
    assert_eq!(error.reason, "COMPLIANCE_REFUSED", "{error:?}");
    (error.metadata["module"].clone(), error.metadata["module_reason"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bond_is_issued_and_moves_only_as_its_rules_allow() {
    let stack = Stack::start(6).await;
    let [admin, alice, bob, barred, unverified, outsider] = stack.wallets[..] else { panic!("six wallets") };
    let mut systems = SystemServiceClient::new(stack.transport.clone());
    let mut identities = IdentityServiceClient::new(stack.transport.clone());
    let mut assets = AssetServiceClient::new(stack.transport.clone());
    let mut rules = ComplianceServiceClient::new(stack.transport.clone());
    let mut holders = HolderServiceClient::new(stack.transport.clone());

    // --- system
    let early = systems.get_system(stack.request("s", system::GetSystemRequest {})).await.unwrap_err();
    assert_eq!(Refusal::details(&early).unwrap().reason, "SYSTEM_NOT_BOOTSTRAPPED");
    let bootstrap = || system::BootstrapRequest { admin: text(admin), chain_id: 0 };
    let first = systems.bootstrap(stack.request("boot", bootstrap())).await.unwrap().into_inner().operation;
    let again = systems.bootstrap(stack.request("boot-2", bootstrap())).await.unwrap().into_inner().operation;
    assert_eq!(first.as_ref().unwrap().operation_id, again.unwrap().operation_id, "one system per tenant");
    stack.done(first).await;
    let addresses =
        systems.get_system(stack.request("s", system::GetSystemRequest {})).await.unwrap().into_inner().system.unwrap();
    assert_eq!(addresses.admin, text(admin));

    // --- topics, identities, trust, claims
    for topic in ["kyc", "accredited"] {
        let request = identity::RegisterTopicRequest {
            sender: text(admin),
            name: topic.into(),
            signature: "(bytes payload)".into(),
        };
        let operation = identities.register_topic(stack.request(topic, request)).await.unwrap().into_inner().operation;
        stack.done(operation).await;
    }
    let mut registered = Vec::new();
    for (wallet, country) in [(admin, 756), (alice, 756), (bob, 276), (barred, 840), (unverified, 756)] {
        let request = identity::RegisterIdentityRequest { sender: text(admin), wallet: text(wallet), country };
        registered.push(
            identities.register_identity(stack.request(&text(wallet), request)).await.unwrap().into_inner().operation,
        );
    }
    for operation in registered {
        stack.done(operation).await;
    }
    let repeat = identity::RegisterIdentityRequest { sender: text(admin), wallet: text(alice), country: 756 };
    let taken = identities.register_identity(stack.request("other-key", repeat.clone())).await.unwrap_err();
    assert_eq!(Refusal::details(&taken).unwrap().reason, "IDENTITY_EXISTS");
    let replayed = identities.register_identity(stack.request(&text(alice), repeat)).await.unwrap();
    assert_eq!(
        replayed.metadata().get("idempotency-replayed").unwrap(),
        "true",
        "a repeat finds its operation, not the precondition"
    );
    let topics = vec!["kyc".to_owned(), "accredited".to_owned()];
    let trust = identity::AddTrustedIssuerRequest { sender: text(admin), issuer: text(admin), topics };
    stack
        .done(identities.add_trusted_issuer(stack.request("trust", trust)).await.unwrap().into_inner().operation)
        .await;
    let claim = |subject: Address, topic: &str| identity::IssueClaimRequest {
        issuer: text(admin),
        subject: text(subject),
        topic: topic.into(),
        data: "0x01".into(),
        expires_at: 4_000_000_000,
    };
    let mut issued = Vec::new();
    for (subject, topic) in [
        (alice, "kyc"),
        (alice, "accredited"),
        (bob, "kyc"),
        (bob, "accredited"),
        (barred, "kyc"),
        (barred, "accredited"),
        (unverified, "kyc"),
    ] {
        let key = format!("{topic}-{subject}");
        issued.push(
            identities.issue_claim(stack.request(&key, claim(subject, topic))).await.unwrap().into_inner().operation,
        );
    }
    for operation in issued {
        stack.done(operation).await;
    }
    let seen = identities
        .get_identity(stack.request("r", identity::GetIdentityRequest { wallet: text(alice) }))
        .await
        .unwrap()
        .into_inner();
    let seen = seen.identity.unwrap();
    assert_eq!((seen.country, seen.claims.len(), seen.claims.iter().all(|claim| claim.live)), (756, 2, true));

    // --- the bond
    let country = asset::CountryRule { mode: asset::CountryMode::Allow.into(), countries: vec![756, 276] };
    let accredited = asset::ClaimGroup { all_of: vec!["accredited".into()], none_of: vec![] };
    let create = asset::CreateAssetRequest {
        issuer: text(admin),
        name: "Green Bond 2031".into(),
        symbol: "GRN31".into(),
        decimals: 0,
        asset_class: asset::AssetClass::Bond.into(),
        isin: "US0378331005".into(),
        rules: vec![
            asset::RuleBinding { rule: Some(asset::rule_binding::Rule::Country(country)) },
            asset::RuleBinding {
                rule: Some(asset::rule_binding::Rule::Claim(asset::ClaimRule {
                    any_of: vec![accredited],
                    ..Default::default()
                })),
            },
        ],
        claim_topics: vec!["kyc".into()],
        roles: [asset::AssetRole::Supply, asset::AssetRole::Custodian, asset::AssetRole::Emergency]
            .map(|role| asset::RoleGrant { role: role.into(), account: text(admin) })
            .to_vec(),
        unpause: true,
        initial_supply: "1000".into(),
        initial_holder: text(alice),
        terms: Some(support::bond_terms()),
        ..Default::default()
    };
    let operation = assets.create_asset(stack.request("bond", create.clone())).await.unwrap().into_inner().operation;
    let created = stack.done(operation).await;
    let token: Address = created.result.as_ref().unwrap()["asset"].as_str().unwrap().parse().unwrap();
    let taken = assets.create_asset(stack.request("bond-2", create.clone())).await.unwrap_err();
    assert_eq!(Refusal::details(&taken).unwrap().reason, "SYMBOL_TAKEN");
    assert!(assets.create_asset(stack.request("bond", create.clone())).await.is_ok(), "the same key is the same bond");
    let changed = asset::CreateAssetRequest { name: "Other".into(), ..create };
    let reused = assets.create_asset(stack.request("bond", changed)).await.unwrap_err();
    assert_eq!(Refusal::details(&reused).unwrap().reason, "IDEMPOTENCY_KEY_REUSED");
    let bound = rules
        .list_rules(stack.request("r", compliance::ListRulesRequest { asset: text(token) }))
        .await
        .unwrap()
        .into_inner()
        .rules;
    assert_eq!(bound.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["CountryRule", "ClaimRule"]);

    // --- mint and transfer
    let mint = asset::MintRequest { sender: text(admin), asset: text(token), to: text(bob), amount: "50".into() };
    stack.done(assets.mint(stack.request("mint", mint.clone())).await.unwrap().into_inner().operation).await;
    let without_role = asset::MintRequest { sender: text(alice), ..mint };
    let missing = assets.mint(stack.request("mint-2", without_role)).await.unwrap_err();
    assert_eq!(Refusal::details(&missing).unwrap().reason, "ASSET_ROLE_MISSING");
    let transfer = |to: Address, amount: &str| asset::TransferRequest {
        sender: text(alice),
        asset: text(token),
        to: text(to),
        amount: amount.into(),
    };
    stack.done(assets.transfer(stack.request("t1", transfer(bob, "100"))).await.unwrap().into_inner().operation).await;

    // --- refused before anything is signed
    let (signed, nonce) =
        (stack.signer.signed(), stack.upstreams.nonce(alice, BlockNumberOrTag::Pending).await.unwrap());
    for (to, module, reason) in [
        (outsider, "IdentityRegistry", "NOT_REGISTERED"),
        (barred, "CountryRule", "COUNTRY_NOT_ALLOWED"),
        (unverified, "ClaimRule", "RECIPIENT_CLAIMS_MISSING"),
    ] {
        let operation = assets
            .transfer(stack.request(&format!("refused-{to}"), transfer(to, "1")))
            .await
            .unwrap()
            .into_inner()
            .operation;
        let view = stack.ended(operation).await;
        assert_eq!(refused_by(&view), (module.to_owned(), reason.to_owned()));
        assert_eq!(view.transactions[0].nonce, None, "no nonce is used");
        let simulate = compliance::SimulateTransferRequest {
            asset: text(token),
            from: text(alice),
            to: text(to),
            amount: "1".into(),
            forced: false,
        };
        let answer = rules.simulate_transfer(stack.request("r", simulate)).await.unwrap().into_inner();
        assert!(
            !answer.allowed
                && answer.verdicts.iter().any(|verdict| verdict.reason == reason && !verdict.advice.is_empty()),
            "{answer:?}"
        );
    }
    assert_eq!(stack.signer.signed(), signed, "nothing was signed");
    assert_eq!(stack.upstreams.nonce(alice, BlockNumberOrTag::Pending).await.unwrap(), nonce);

    // --- a revoked claim stops the next transfer; a freeze shows in the list
    let revoke = identity::RevokeClaimRequest { issuer: text(admin), subject: text(bob), topic: "kyc".into() };
    stack.done(identities.revoke_claim(stack.request("revoke", revoke)).await.unwrap().into_inner().operation).await;
    let view = stack
        .ended(assets.transfer(stack.request("t2", transfer(bob, "1"))).await.unwrap().into_inner().operation)
        .await;
    assert_eq!(refused_by(&view), ("IdentityRegistry".into(), "CLAIM_REVOKED".into()));
    let forced = asset::ForcedTransferRequest {
        sender: text(admin),
        asset: text(token),
        from: text(bob),
        to: text(alice),
        amount: "30".into(),
        reason: "court order".into(),
    };
    stack.done(assets.forced_transfer(stack.request("force", forced)).await.unwrap().into_inner().operation).await;
    let freeze = asset::FreezePartialRequest {
        sender: text(admin),
        asset: text(token),
        holder: text(alice),
        amount: "10".into(),
        reason: "dispute".into(),
    };
    let frozen =
        stack.done(assets.freeze_partial(stack.request("freeze", freeze)).await.unwrap().into_inner().operation).await;
    let batch = asset::BatchTransferRequest {
        sender: text(admin),
        asset: text(token),
        items: vec![asset::TransferItem { to: text(alice), amount: "1".into() }],
    };
    let view =
        stack.ended(assets.batch_transfer(stack.request("batch", batch)).await.unwrap().into_inner().operation).await;
    assert_eq!(refused_by(&view), ("AssetToken".into(), "BALANCE_TOO_LOW".into()));

    // --- the list equals the chain, and an earlier block is answered too
    let last = frozen.transactions[0].block_number.unwrap();
    let listed = eventually("the freeze is indexed", async || {
        let request = holder::ListHoldersRequest { asset: text(token), ..Default::default() };
        let answer = stack.holders().list_holders(stack.request("r", request)).await.ok()?.into_inner();
        (answer.block_number >= last).then_some(answer)
    })
    .await;
    let chain = ChainReader::new(stack.upstreams.clone());
    assert_eq!(listed.holders.len(), 2);
    for one in &listed.holders {
        let account: Address = one.holder.parse().unwrap();
        let balance = chain.read(token, AssetToken::balanceOfCall { account }).await.unwrap();
        assert_eq!(one.balance, balance.to_string(), "{account}");
    }
    let alice_now = listed.holders.iter().find(|one| one.holder == text(alice)).unwrap();
    assert_eq!((alice_now.balance.as_str(), alice_now.frozen.as_str()), ("930", "10"));
    let born = created.transactions.iter().find(|one| one.step == "mint").unwrap().block_number.unwrap();
    let then = holder::GetBalanceRequest { asset: text(token), holder: text(alice), block_number: born };
    let then = holders.get_balance(stack.request("r", then)).await.unwrap().into_inner().holder.unwrap();
    assert_eq!(then.balance, "1000");
    let listed =
        assets.list_assets(stack.request("r", asset::ListAssetsRequest::default())).await.unwrap().into_inner().assets;
    assert_eq!((listed.len(), listed[0].isin.as_str(), listed[0].total_supply.as_str()), (1, "US0378331005", "1050"));
    stack.end().await;
}
