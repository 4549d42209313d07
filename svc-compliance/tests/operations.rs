//! Operations on what exists: batches, pauses, rules, keys, interventions.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::{Address, U256};
use dalp_contracts::{
    bindings::{AssetToken, Identity},
    encode::{claim_id, key_of, topic_id},
};
use dalp_proto::{
    asset::{self, AssetRole, CountryMode},
    compliance,
    identity::{self, KeyPurpose},
};
use support::{Stack, TENANT, order, refusal, text};
use svc_compliance::{flows::batch_transfer::ChunkOutcome, readers::ChainReader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_split_and_says_what_became_of_each_item() {
    let stack = Stack::start(3).await;
    let [_, holder, receiver] = stack.wallets[..] else { panic!("three wallets") };
    let outsider = Address::repeat_byte(0x77);
    let token = stack.bond().await;
    let item = |to: Address| asset::TransferItem { to: text(to), amount: "1".into() };
    let batch = |items: Vec<asset::TransferItem>| {
        stack.fresh(asset::BatchTransferRequest { sender: text(holder), asset: text(token), items })
    };
    let chain = ChainReader::new(stack.upstreams.clone());
    let balance = async |account: Address| chain.read(token, AssetToken::balanceOfCall { account }).await.unwrap();

    // 400 transfers do not fit into one transaction of 10 million gas; one bad item takes only its own transaction down.
    let mut items = vec![item(receiver); 400];
    items[390] = item(outsider);
    let answer = stack.assets().batch_transfer(batch(items)).await.unwrap().into_inner().operation;
    let done = stack.done(answer).await;
    let chunks: Vec<ChunkOutcome> = serde_json::from_value(done.result.unwrap()).unwrap();
    assert!(chunks.len() > 1, "{chunks:?}");
    assert_eq!(chunks.iter().map(|chunk| chunk.items).sum::<usize>(), 400);
    let mut next = 0;
    for chunk in &chunks {
        assert_eq!(chunk.first_item, next, "no item is left out or named twice");
        next += chunk.items;
        let holds_the_bad_one = (chunk.first_item..next).contains(&390);
        assert_eq!(chunk.tx_hash.is_none(), holds_the_bad_one, "{chunk:?}");
        if let Some(refusal) = &chunk.refusal {
            assert_eq!((refusal.reason.as_str(), refusal.metadata["item"].as_str()), ("COMPLIANCE_REFUSED", "390"));
            assert_eq!(refusal.metadata["module_reason"], "NOT_REGISTERED");
        }
    }
    let moved: usize = chunks.iter().filter(|chunk| chunk.tx_hash.is_some()).map(|chunk| chunk.items).sum();
    assert_eq!(balance(receiver).await, U256::from(moved));
    assert_eq!(balance(holder).await, U256::from(1000 - moved));

    // Nothing moves: the operation itself is refused.
    let answer = stack.assets().batch_transfer(batch(vec![item(outsider)])).await.unwrap().into_inner().operation;
    let error = stack.ended(answer).await.error.unwrap();
    assert_eq!(error.metadata["module_reason"], "NOT_REGISTERED");
    // Each item is within the balance, their sum is not: the simulation of the whole refuses.
    let greedy = vec![asset::TransferItem { to: text(receiver), amount: "600".into() }; 2];
    let answer = stack.assets().batch_transfer(batch(greedy)).await.unwrap().into_inner().operation;
    let error = stack.ended(answer).await.error.unwrap();
    assert_eq!(error.metadata["module_reason"], "BALANCE_TOO_LOW");
    assert_eq!(balance(receiver).await, U256::from(moved), "all or nothing");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_is_born_paused_carries_its_claims_and_opens_and_stops() {
    let stack = Stack::start(3).await;
    let [admin, holder, receiver] = stack.wallets[..] else { panic!("three wallets") };
    stack.bond().await;
    // Neither opened nor minted unless ordered.
    let closed = asset::CreateAssetRequest {
        unpause: false,
        initial_supply: String::new(),
        initial_holder: String::new(),
        ..order(admin, holder, "SHUT")
    };
    let created = stack.assets().create_asset(stack.fresh(closed)).await.unwrap().into_inner().operation;
    let created = stack.done(created).await;
    let steps: Vec<_> = created.transactions.iter().map(|one| one.step.as_str()).collect();
    assert_eq!(steps, ["create", "claim_issuer", "claim_class", "claim_isin"]);
    let result = created.result.unwrap();
    let token: Address = result["asset"].as_str().unwrap().parse().unwrap();
    let shown = async || {
        let get = stack.fresh(asset::GetAssetRequest { asset: text(token) });
        stack.assets().get_asset(get).await.unwrap().into_inner().asset.unwrap()
    };
    let asset = shown().await;
    assert_eq!((asset.paused, asset.total_supply.as_str()), (true, "0"));
    assert_eq!(
        asset.identity.parse::<Address>().unwrap(),
        result["identity"].as_str().unwrap().parse::<Address>().unwrap()
    );

    // The claims are live: the issuer's identity vouches for them.
    let chain = ChainReader::new(stack.upstreams.clone());
    let own: Address = asset.identity.parse().unwrap();
    let get = stack.fresh(identity::GetIdentityRequest { wallet: text(admin) });
    let issuer = stack.identities().get_identity(get).await.unwrap().into_inner().identity.unwrap().identity;
    let issuer: Address = issuer.parse().unwrap();
    for topic in ["asset.issuer", "asset.class", "asset.isin"] {
        let id = claim_id(issuer, topic_id(topic));
        let claim = chain.read(own, Identity::getClaimCall { claimId: id }).await.unwrap();
        let valid = Identity::isClaimValidCall {
            identity: own,
            topic: topic_id(topic),
            signature: claim.signature,
            data: claim.data,
        };
        assert!(chain.read(issuer, valid).await.unwrap(), "{topic}");
    }

    // Unpause, mint, pause; a second pause is a typed refusal.
    let unpause = || stack.fresh(asset::UnpauseRequest { sender: text(admin), asset: text(token) });
    let pause = || stack.fresh(asset::PauseRequest { sender: text(admin), asset: text(token) });
    stack.done(stack.assets().unpause(unpause()).await.unwrap().into_inner().operation).await;
    assert!(!shown().await.paused);
    let again = stack.ended(stack.assets().unpause(unpause()).await.unwrap().into_inner().operation).await;
    let error = again.error.unwrap();
    assert_eq!(
        (error.reason.as_str(), error.metadata["contract_error"].as_str()),
        ("FAILED_PRECONDITION", "NotPaused")
    );
    let mint = asset::MintRequest { sender: text(admin), asset: text(token), to: text(holder), amount: "10".into() };
    stack.done(stack.assets().mint(stack.fresh(mint)).await.unwrap().into_inner().operation).await;
    let burn = asset::BurnRequest { sender: text(admin), asset: text(token), from: text(holder), amount: "4".into() };
    stack.done(stack.assets().burn(stack.fresh(burn)).await.unwrap().into_inner().operation).await;
    assert_eq!(shown().await.total_supply, "6");
    stack.done(stack.assets().pause(pause()).await.unwrap().into_inner().operation).await;
    let transfer =
        asset::TransferRequest { sender: text(holder), asset: text(token), to: text(receiver), amount: "1".into() };
    let refused =
        stack.ended(stack.assets().transfer(stack.fresh(transfer)).await.unwrap().into_inner().operation).await;
    assert_eq!(refused.error.unwrap().metadata["module_reason"], "TOKEN_PAUSED");
    // Who lacks the role is told at once, and how it is granted.
    let status =
        stack.assets().pause(stack.fresh(asset::PauseRequest { sender: text(holder), asset: text(token) })).await;
    let details = refusal(&status.unwrap_err());
    assert_eq!((details.reason.as_str(), details.metadata["role"].as_str()), ("ASSET_ROLE_MISSING", "emergency"));
    assert!(details.metadata["granted_by"].starts_with("AssetService.GrantRole"));
    // Granted, it works; revoked, no longer.
    let role = AssetRole::Emergency.into();
    let grant = asset::GrantRoleRequest { sender: text(admin), asset: text(token), role, account: text(holder) };
    stack.done(stack.assets().grant_role(stack.fresh(grant)).await.unwrap().into_inner().operation).await;
    let unpause = || stack.fresh(asset::UnpauseRequest { sender: text(holder), asset: text(token) });
    stack.done(stack.assets().unpause(unpause()).await.unwrap().into_inner().operation).await;
    let revoke = asset::RevokeRoleRequest { sender: text(admin), asset: text(token), role, account: text(holder) };
    stack.done(stack.assets().revoke_role(stack.fresh(revoke)).await.unwrap().into_inner().operation).await;
    assert_eq!(refusal(&stack.assets().unpause(unpause()).await.unwrap_err()).reason, "ASSET_ROLE_MISSING");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_bound_asked_and_unbound() {
    let stack = Stack::start(3).await;
    let [admin, holder, receiver] = stack.wallets[..] else { panic!("three wallets") };
    let token = stack.bond().await;
    let country = asset::CountryRule { mode: CountryMode::Block.into(), countries: vec![756] };
    let add = |rule: asset::rule_binding::Rule| {
        let rule = Some(asset::RuleBinding { rule: Some(rule) });
        stack.fresh(compliance::AddRuleRequest { sender: text(admin), asset: text(token), rule })
    };
    let country = asset::rule_binding::Rule::Country(country);
    let simulate = async || {
        let request = compliance::SimulateTransferRequest {
            asset: text(token),
            from: text(holder),
            to: text(receiver),
            amount: "1".into(),
            forced: false,
        };
        stack.rules().simulate_transfer(stack.fresh(request)).await.unwrap().into_inner()
    };
    assert!(simulate().await.allowed);
    let group = asset::ClaimGroup { all_of: vec!["never.registered".into()], none_of: vec![] };
    let unknown = asset::rule_binding::Rule::Claim(asset::ClaimRule { any_of: vec![group], ..Default::default() });
    let status = stack.rules().add_rule(add(unknown)).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).metadata["topic"].as_str()),
        ("TOPIC_UNKNOWN", "never.registered")
    );

    stack.done(stack.rules().add_rule(add(country.clone())).await.unwrap().into_inner().operation).await;
    let verdicts = simulate().await;
    let veto = verdicts.verdicts.iter().find(|verdict| !verdict.passed).unwrap();
    assert_eq!((veto.check.as_str(), veto.reason.as_str()), ("CountryRule", "COUNTRY_BLOCKED"));
    let twice = stack.ended(stack.rules().add_rule(add(country)).await.unwrap().into_inner().operation).await;
    assert_eq!(twice.error.unwrap().reason, "ALREADY_EXISTS");

    let list = compliance::ListRulesRequest { asset: text(token) };
    let bound = stack.rules().list_rules(stack.fresh(list)).await.unwrap().into_inner().rules;
    assert_eq!(bound.len(), 1);
    let remove = |module: &str| {
        stack.fresh(compliance::RemoveRuleRequest { sender: text(admin), asset: text(token), module: module.into() })
    };
    stack.done(stack.rules().remove_rule(remove(&bound[0].module)).await.unwrap().into_inner().operation).await;
    assert!(simulate().await.allowed);

    // An issuer that is no longer trusted attests nothing: the next transfer is refused.
    let distrust = identity::RemoveTrustedIssuerRequest { sender: text(admin), issuer: text(admin) };
    let distrusted = stack.identities().remove_trusted_issuer(stack.fresh(distrust.clone())).await.unwrap();
    stack.done(distrusted.into_inner().operation).await;
    let verdicts = simulate().await.verdicts;
    let veto = verdicts.iter().find(|verdict| !verdict.passed).unwrap();
    assert_eq!((veto.check.as_str(), veto.reason.as_str()), ("identity", "ISSUER_NOT_TRUSTED"));
    let again = stack.identities().remove_trusted_issuer(stack.fresh(distrust)).await.unwrap();
    assert_eq!(stack.ended(again.into_inner().operation).await.error.unwrap().reason, "NOT_FOUND");

    let gone =
        stack.ended(stack.rules().remove_rule(remove(&bound[0].module)).await.unwrap().into_inner().operation).await;
    assert_eq!(gone.error.unwrap().reason, "NOT_FOUND");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_an_identity_are_added_and_removed_by_its_manager() {
    let stack = Stack::start(3).await;
    let [admin, wallet, other] = stack.wallets[..] else { panic!("three wallets") };
    stack.bootstrap(TENANT, admin).await;
    stack.register(TENANT, admin, wallet, 756).await;
    let get = stack.fresh(identity::GetIdentityRequest { wallet: text(wallet) });
    let shown = stack.identities().get_identity(get).await.unwrap().into_inner().identity.unwrap();
    let own: Address = shown.identity.parse().unwrap();
    let chain = ChainReader::new(stack.upstreams.clone());
    let holds = async |key: Address, purpose: u64| {
        let asked = Identity::keyHasPurposeCall { key: key_of(key), purpose: U256::from(purpose) };
        chain.read(own, asked).await.unwrap()
    };
    let add = |sender: Address, purpose: KeyPurpose| {
        stack.fresh(identity::AddKeyRequest {
            sender: text(sender),
            wallet: text(wallet),
            key: text(other),
            purpose: purpose.into(),
        })
    };
    let remove = |key: Address, purpose: KeyPurpose| {
        stack.fresh(identity::RemoveKeyRequest {
            sender: text(wallet),
            wallet: text(wallet),
            key: text(key),
            purpose: purpose.into(),
        })
    };
    let status = stack.identities().add_key(add(admin, KeyPurpose::Management)).await.unwrap_err();
    let details = refusal(&status);
    assert_eq!((details.reason.as_str(), details.metadata["role"].as_str()), ("ROLE_MISSING", "management_key"));

    stack.done(stack.identities().add_key(add(wallet, KeyPurpose::Claim)).await.unwrap().into_inner().operation).await;
    assert!(holds(other, 3).await && !holds(other, 1).await);
    let twice =
        stack.ended(stack.identities().add_key(add(wallet, KeyPurpose::Claim)).await.unwrap().into_inner().operation);
    assert_eq!(twice.await.error.unwrap().reason, "ALREADY_EXISTS");
    stack
        .done(stack.identities().remove_key(remove(other, KeyPurpose::Claim)).await.unwrap().into_inner().operation)
        .await;
    assert!(!holds(other, 3).await);
    let gone = stack
        .ended(stack.identities().remove_key(remove(other, KeyPurpose::Claim)).await.unwrap().into_inner().operation);
    assert_eq!(gone.await.error.unwrap().reason, "NOT_FOUND");
    let last = stack.ended(
        stack.identities().remove_key(remove(wallet, KeyPurpose::Management)).await.unwrap().into_inner().operation,
    );
    let error = last.await.error.unwrap();
    assert_eq!(
        (error.reason.as_str(), error.metadata["contract_error"].as_str()),
        ("FAILED_PRECONDITION", "IdentityLastManagementKey")
    );
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_intervention_stands_in_the_audit_with_its_reason() {
    let stack = Stack::start(3).await;
    let [admin, holder, receiver] = stack.wallets[..] else { panic!("three wallets") };
    let token = stack.bond().await;
    let (sender, asset, holder) = (text(admin), text(token), text(holder));
    let mut assets = stack.assets();
    let freeze = asset::FreezePartialRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        holder: holder.clone(),
        amount: "10".into(),
        reason: "dispute 12".into(),
    };
    let unfreeze = asset::UnfreezePartialRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        holder: holder.clone(),
        amount: "4".into(),
        reason: "dispute 12 settled in part".into(),
    };
    let frozen = asset::SetAddressFrozenRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        holder: holder.clone(),
        frozen: true,
        reason: "sanctions list".into(),
    };
    let forced = asset::ForcedTransferRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        from: holder.clone(),
        to: text(receiver),
        amount: "995".into(),
        reason: "court order 7".into(),
    };
    stack.done(assets.freeze_partial(stack.fresh(freeze)).await.unwrap().into_inner().operation).await;
    stack.done(assets.unfreeze_partial(stack.fresh(unfreeze)).await.unwrap().into_inner().operation).await;
    stack.done(assets.set_address_frozen(stack.fresh(frozen)).await.unwrap().into_inner().operation).await;
    let operation =
        assets.forced_transfer(stack.request("force", forced.clone())).await.unwrap().into_inner().operation;
    let last = stack.done(operation).await;
    assets.forced_transfer(stack.request("force", forced)).await.unwrap(); // a repeat says nothing new

    let leaves: Vec<(String, String, String, serde_json::Value)> = sqlx::query_as(
        "SELECT action, actor, subject, body FROM engine.audit_leaves
         WHERE tenant = $1 AND action LIKE 'asset.%' ORDER BY sequence",
    )
    .bind(TENANT)
    .fetch_all(&stack.store.pool())
    .await
    .unwrap();
    let said: Vec<_> = leaves.iter().map(|leaf| (leaf.0.as_str(), leaf.3["reason"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            ("asset.freeze_partial", "dispute 12"),
            ("asset.unfreeze_partial", "dispute 12 settled in part"),
            ("asset.set_address_frozen", "sanctions list"),
            ("asset.forced_transfer", "court order 7"),
        ]
    );
    let (_, actor, subject, body) = &leaves[3];
    assert_eq!((actor.as_str(), subject.as_str()), ("ops", asset.as_str()));
    assert_eq!(
        *body,
        serde_json::json!({
            "operation_id": last.operation_id.to_string(), "sender": sender, "from": holder, "to": text(receiver),
            "amount": "995", "reason": "court order 7",
        })
    );
    stack.end().await;
}
