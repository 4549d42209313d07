//! A lost wallet: its identity, tokens, freezes, holds and entitlements follow to the new one, step by step.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::{Address, B256, U256, aliases::U48};
use dalp_contracts::{
    bindings::{
        AddonFactory, AssetToken, AssetTokenCustody, AssetTokenGovernance, IdentityControl, IdentityRegistry,
        RegistryRecords, Servicing, ServicingLifecycle, Settlement,
    },
    encode::key_of,
    roles::names,
};
use dalp_proto::{
    asset::{self, AssetRole},
    holder,
    identity::{self, PreviewRecoveryResponse, RecoverWalletRequest},
    system::{self, SystemRole},
};
use serde_json::json;
use support::{RIVAL, Stack, TENANT, eventually, order, outside::event, refusal, text};
use svc_compliance::flows::recovery::RecoveredWallet;

fn request(sender: Address, lost: Address, new: Address) -> RecoverWalletRequest {
    RecoverWalletRequest {
        sender: text(sender),
        lost_wallet: text(lost),
        new_wallet: text(new),
        assets: Vec::new(),
        reason: "phone in the lake, ticket 12".into(),
    }
}

async fn preview(stack: &Stack, sender: Address, lost: Address, new: Address) -> PreviewRecoveryResponse {
    let request = identity::PreviewRecoveryRequest {
        sender: text(sender),
        lost_wallet: text(lost),
        new_wallet: text(new),
        assets: Vec::new(),
    };
    stack.identities().preview_recovery(stack.fresh(request)).await.unwrap().into_inner()
}

/// Another open asset with 1,000 units for a holder.
async fn second_asset(stack: &Stack, admin: Address, holder: Address, symbol: &str) -> Address {
    let order = stack.request(symbol, order(admin, holder, symbol));
    let created = stack.done(stack.assets().create_asset(order).await.unwrap().into_inner().operation).await;
    created.result.unwrap()["asset"].as_str().unwrap().parse().unwrap()
}

fn reasons(preview: &PreviewRecoveryResponse) -> Vec<&str> {
    preview.obstacles.iter().map(|obstacle| obstacle.reason.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_follows_to_the_new_wallet() {
    let stack = Stack::start(2).await;
    let [admin, treasurer] = stack.wallets[..] else { panic!("two wallets") };
    let bond = stack.bond().await;
    let [lost, new, buyer, officer] = [
        stack.outsider(0xa1).await,
        stack.outsider(0xa2).await,
        stack.outsider(0xa3).await,
        stack.outsider(0xa4).await,
    ];
    stack.verify(admin, lost).await;
    stack.verify(admin, buyer).await;
    stack.transfer(bond, treasurer, lost, 100).await;
    let cash = second_asset(&stack, admin, treasurer, "CASH").await;
    stack.transfer(cash, treasurer, buyer, 300).await;
    stack.transfer(cash, treasurer, lost, 7).await;

    // A coupon of a half per unit, which becomes due; nobody claims it while the wallet is there.
    stack.grant(bond, officer, &[AssetRole::Governance, AssetRole::Funds]).await;
    let terms = AddonFactory::ServicingTerms {
        token: bond,
        sweepTo: officer,
        currency: cash,
        maturity: 0,
        redemptionPrice: U256::ZERO,
    };
    let factory = stack.contract(names::ADDON_FACTORY).await;
    let create = AddonFactory::createServicingCall { salt: B256::ZERO, terms };
    let servicing = event::<AddonFactory::ServicingCreated>(&stack.send(officer, factory, &create).await).servicing;
    stack.grant(bond, servicing, &[AssetRole::Funds]).await;
    stack.verify(admin, servicing).await;
    stack.transfer(cash, treasurer, servicing, 600).await;
    let now = stack.upstreams.block(dalp_chain::BlockNumberOrTag::Latest).await.unwrap().unwrap().timestamp_s;
    let plan = ServicingLifecycle::CouponPlan {
        start: U48::from(now + 100),
        end: U48::from(now + 100 + 86_400),
        interval: 86_400,
        lead: 60,
        rate: 5 * 10_u128.pow(17),
    };
    stack.send(officer, servicing, &ServicingLifecycle::scheduleCall { plan_: plan }).await;

    // 30 are held for a settlement, 20 frozen; the other asset is frozen as a whole.
    let settlement = stack.contract(names::SETTLEMENT).await;
    let leg = |asset: Address, from: Address, to: Address, amount: u64| Settlement::Leg {
        asset,
        from,
        to,
        amount: U256::from(amount),
        chainId: 0,
    };
    let terms = Settlement::Terms {
        salt: B256::ZERO,
        name: "bond against cash".into(),
        cutoff: (now + 10 * 86_400).try_into().unwrap(),
        autoExecute: true,
        hashKind: 0,
        hashlock: B256::ZERO,
        legs: vec![leg(bond, lost, buyer, 30), leg(cash, buyer, lost, 300)],
    };
    stack.send(buyer, settlement, &Settlement::createCall { terms: terms.clone() }).await;
    for (party, asset, amount) in [(lost, bond, 30), (buyer, cash, 300)] {
        let allow = AssetToken::approveCall { spender: settlement, value: U256::from(amount) };
        stack.send(party, asset, &allow).await;
    }
    stack.send(lost, settlement, &Settlement::approveCall { terms: terms.clone() }).await;
    let freeze = asset::FreezePartialRequest {
        sender: text(admin),
        asset: text(bond),
        holder: text(lost),
        amount: "20".into(),
        reason: "dispute 3".into(),
    };
    stack.done(stack.assets().freeze_partial(stack.fresh(freeze)).await.unwrap().into_inner().operation).await;
    let freeze = |asset: Address, holder: Address, frozen: bool| asset::SetAddressFrozenRequest {
        sender: text(admin),
        asset: text(asset),
        holder: text(holder),
        frozen,
        reason: "dispute 3".into(),
    };
    let frozen = stack.assets().set_address_frozen(stack.fresh(freeze(cash, lost, true))).await.unwrap();
    stack.done(frozen.into_inner().operation).await;
    stack.pass(2 * 86_400).await;

    // The preview lists it all, and that nothing stands in the way.
    let shown = preview(&stack, admin, lost, new).await;
    assert_eq!((reasons(&shown), shown.country, shown.registry_recovered), (vec![], 756, false));
    let mut at_stake: Vec<_> = shown
        .assets
        .iter()
        .map(|one| {
            (
                one.asset.parse::<Address>().unwrap(),
                one.balance.as_str(),
                one.frozen.as_str(),
                one.held.as_str(),
                one.address_frozen,
            )
        })
        .collect();
    at_stake.sort_by_key(|one| one.0 != bond);
    assert_eq!(at_stake, [(bond, "100", "20", "30", false), (cash, "7", "0", "0", true)]);

    let recover = || stack.request("recover", request(admin, lost, new));
    let accepted = stack.identities().recover_wallet(recover()).await.unwrap().into_inner().operation;
    let done = stack.done(accepted).await;
    let steps: Vec<_> = done.transactions.iter().map(|one| one.step.as_str()).collect();
    assert_eq!(steps, ["registry", "assets[0]", "assets[1]"]);
    let result: RecoveredWallet = serde_json::from_value(done.result.clone().unwrap()).unwrap();
    assert_eq!(result.transactions().len(), 3);

    // Balances, freezes and holds.
    for (asset, free_and_all) in [(bond, (20, 30, 100, false)), (cash, (0, 0, 7, true))] {
        let (partly, held, all, whole) = free_and_all;
        assert_eq!(stack.read(asset, AssetToken::balanceOfCall { account: lost }).await, U256::ZERO);
        assert_eq!(stack.read(asset, AssetToken::balanceOfCall { account: new }).await, U256::from(all));
        assert_eq!(stack.read(asset, AssetToken::getFrozenTokensCall { account: new }).await, U256::from(partly));
        assert_eq!(stack.read(asset, AssetToken::heldOfCall { account: new }).await, U256::from(held));
        assert_eq!(stack.read(asset, AssetToken::isFrozenCall { account: new }).await, whole);
    }
    // Identity and claims: the new wallet is verified, the old one barred for good.
    let get = stack.fresh(identity::GetIdentityRequest { wallet: text(new) });
    let identity = stack.identities().get_identity(get).await.unwrap().into_inner().identity.unwrap();
    assert_eq!((identity.identity, identity.claims.len()), (shown.identity, 1));
    assert!(identity.claims[0].live);
    let register = identity::RegisterIdentityRequest { sender: text(admin), wallet: text(lost), country: 756 };
    let status = stack.identities().register_identity(stack.fresh(register)).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).metadata["successor"].as_str()),
        ("WALLET_RECOVERED", text(new).as_str())
    );

    // The index follows.
    let listed = eventually("the index knows", async || {
        let list = holder::ListHoldersRequest { asset: text(bond), ..Default::default() };
        let listed = stack.holders().list_holders(stack.fresh(list)).await.unwrap().into_inner().holders;
        listed.iter().all(|one| one.holder != text(lost)).then_some(listed)
    })
    .await;
    let of_new = listed.iter().find(|one| one.holder == text(new)).unwrap();
    assert_eq!((of_new.balance.as_str(), of_new.frozen.as_str()), ("100", "20"));

    // What was unpaid is paid to the successor, once its freeze is lifted; the settlement finds the held tokens.
    let claim = Servicing::claimCall { holder: lost, ids: vec![U256::ZERO] };
    let lift = stack.assets().set_address_frozen(stack.fresh(freeze(cash, new, false))).await.unwrap();
    stack.done(lift.into_inner().operation).await;
    stack.send(officer, servicing, &claim).await;
    assert_eq!(stack.read(cash, AssetToken::balanceOfCall { account: new }).await, U256::from(7 + 50));
    assert_eq!(
        stack.refused(officer, servicing, &claim).await.map(|refused| refused.contract_error),
        Some("PeriodAlreadyPaid".to_owned())
    );
    stack.send(buyer, settlement, &Settlement::approveCall { terms }).await;
    assert_eq!(stack.read(bond, AssetToken::balanceOfCall { account: buyer }).await, U256::from(30));
    assert_eq!(stack.read(bond, AssetToken::balanceOfCall { account: new }).await, U256::from(70));
    assert_eq!(stack.read(cash, AssetToken::balanceOfCall { account: new }).await, U256::from(7 + 50 + 300));

    // Once only: the key stands for the operation, another key finds nothing, and nothing goes back.
    let again = stack.identities().recover_wallet(recover()).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(again.operation_id, done.operation_id.to_string());
    let status = stack.identities().recover_wallet(stack.fresh(request(admin, lost, new))).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "NOTHING_TO_RECOVER");
    let status = stack.identities().recover_wallet(stack.fresh(request(admin, new, lost))).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "WALLET_RECOVERED");
    let body: serde_json::Value = sqlx::query_scalar(
        "SELECT body FROM engine.audit_leaves WHERE tenant = $1 AND action = 'identity.recover_wallet' AND subject = $2",
    )
    .bind(TENANT)
    .bind(text(lost))
    .fetch_one(&stack.store.pool())
    .await
    .unwrap();
    assert_eq!(
        (body["reason"].as_str(), body["new_wallet"].as_str()),
        (Some("phone in the lake, ticket 12"), Some(text(new).as_str()))
    );
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_listed_and_refused() {
    let stack = Stack::start(3).await;
    let [admin, treasurer, other] = stack.wallets[..] else { panic!("three wallets") };
    let bond = stack.bond().await;
    let [lost, new, stranger] = [stack.outsider(0xb1).await, stack.outsider(0xb2).await, stack.outsider(0xb3).await];
    let refused = async |request: RecoverWalletRequest| {
        refusal(&stack.identities().recover_wallet(stack.fresh(request)).await.unwrap_err())
    };

    // Unknown wallet; taken wallet; missing rights, all at once.
    assert_eq!(refused(request(admin, lost, new)).await.reason, "IDENTITY_NOT_FOUND");
    stack.verify(admin, lost).await;
    stack.transfer(bond, treasurer, lost, 50).await;
    assert_eq!(
        reasons(&preview(&stack, treasurer, lost, other).await),
        ["IDENTITY_EXISTS", "ROLE_MISSING", "ASSET_ROLE_MISSING"]
    );
    let first = refused(request(treasurer, lost, other)).await;
    assert_eq!((first.reason.as_str(), first.metadata["obstacles"].as_str()), ("IDENTITY_EXISTS", "3"));
    let missing = refused(request(treasurer, lost, new)).await;
    assert_eq!((missing.reason.as_str(), missing.metadata["role"].as_str()), ("ROLE_MISSING", "identity_manager"));
    let grant = system::GrantRoleRequest {
        sender: text(admin),
        account: text(treasurer),
        role: SystemRole::IdentityManager.into(),
    };
    stack.done(stack.systems().grant_role(stack.fresh(grant)).await.unwrap().into_inner().operation).await;
    let missing = refused(request(treasurer, lost, new)).await;
    assert_eq!((missing.reason.as_str(), missing.metadata["role"].as_str()), ("ASSET_ROLE_MISSING", "custodian"));
    assert_eq!(missing.metadata["asset"], text(bond));
    let unknown = RecoverWalletRequest { assets: vec![text(stranger)], ..request(admin, lost, new) };
    assert_eq!(refused(unknown).await.reason, "NOT_FOUND");
    let oneself = refused(request(admin, lost, lost)).await;
    assert_eq!((oneself.reason.as_str(), oneself.violations[0].0.as_str()), ("INVALID_FIELD", "new_wallet"));
    assert_eq!(stack.read(bond, AssetToken::balanceOfCall { account: lost }).await, U256::from(50), "nothing moved");

    // An identity of another factory keeps its own keys: the new wallet has to hold one.
    stack.bootstrap(RIVAL, stack.rival).await;
    let (own, spare) = (stack.outsider(0xb4).await, stack.outsider(0xb5).await);
    stack.register(RIVAL, stack.rival, own, 756).await;
    let get = stack.request_of(RIVAL, "ops", "get", identity::GetIdentityRequest { wallet: text(own) });
    let foreign = stack.identities().get_identity(get).await.unwrap().into_inner().identity.unwrap().identity;
    let foreign: Address = foreign.parse().unwrap();
    let registry = stack.contract(names::IDENTITY_REGISTRY).await;
    let grant = system::GrantRoleRequest {
        sender: text(admin),
        account: text(stranger),
        role: SystemRole::IdentityManager.into(),
    };
    stack.done(stack.systems().grant_role(stack.fresh(grant)).await.unwrap().into_inner().operation).await;
    let register = RegistryRecords::registerIdentityCall { wallet: own, identity_: foreign, country: 756 };
    stack.send(stranger, registry, &register).await;
    let missing = refused(request(admin, own, spare)).await;
    assert_eq!(
        (missing.reason.as_str(), missing.metadata["identity"].as_str()),
        ("RECOVERY_KEY_MISSING", text(foreign).as_str())
    );
    let key = IdentityControl::addKeyCall { key: key_of(spare), purpose: U256::ONE, keyType: U256::ONE };
    stack.send(own, foreign, &key).await;
    let accepted = stack.identities().recover_wallet(stack.fresh(request(admin, own, spare))).await.unwrap();
    stack.done(accepted.into_inner().operation).await;
    assert_eq!(stack.read(registry, IdentityRegistry::identityCall { wallet: spare }).await, foreign);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_recovery_goes_on_and_does_nothing_twice() {
    let mut stack = Stack::start(2).await;
    let [admin, treasurer] = stack.wallets[..] else { panic!("two wallets") };
    let bond = stack.bond().await;
    let (lost, new) = (stack.outsider(0xc1).await, stack.outsider(0xc2).await);
    stack.verify(admin, lost).await;
    let mut assets = vec![bond];
    for symbol in ["TWO", "THREE", "FOUR"] {
        assets.push(second_asset(&stack, admin, treasurer, symbol).await);
    }
    for asset in &assets {
        stack.transfer(*asset, treasurer, lost, 10).await;
    }
    let nonce = async || {
        let count: U256 = stack.upstreams.request("eth_getTransactionCount", json!([admin, "latest"])).await.unwrap();
        count.to::<u64>()
    };
    let before = nonce().await;
    let recover = stack.request("recover", request(admin, lost, new));
    let operation = stack.identities().recover_wallet(recover).await.unwrap().into_inner().operation;
    // Killed as soon as it is accepted, again when the registry's step is mined, and again when an asset's is.
    for mined in 1..=2 {
        stack.kill_and_restart().await;
        eventually("a step is mined", async || {
            let count: U256 =
                stack.upstreams.request("eth_getTransactionCount", json!([admin, "latest"])).await.unwrap();
            (count.to::<u64>() >= before + mined).then_some(())
        })
        .await;
    }
    stack.kill_and_restart().await;
    let done = stack.done(operation).await;
    let hashes: std::collections::BTreeSet<_> = done.transactions.iter().map(|one| one.tx_hash.unwrap()).collect();
    assert_eq!(hashes.len(), 1 + assets.len());
    let count: U256 = stack.upstreams.request("eth_getTransactionCount", json!([admin, "latest"])).await.unwrap();
    assert_eq!(count.to::<u64>(), before + 1 + assets.len() as u64, "each step is sent once");
    for asset in &assets {
        assert_eq!(stack.read(*asset, AssetToken::balanceOfCall { account: new }).await, U256::from(10));
    }
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_custodian_recovers_the_assets_it_has() {
    let stack = Stack::start(2).await;
    let [admin, treasurer] = stack.wallets[..] else { panic!("two wallets") };
    let bond = stack.bond().await;
    let other = second_asset(&stack, admin, treasurer, "OTHER").await;
    let (lost, new, officer) = (stack.outsider(0xd1).await, stack.outsider(0xd2).await, stack.outsider(0xd3).await);
    stack.verify(admin, lost).await;
    for asset in [bond, other] {
        stack.transfer(asset, treasurer, lost, 10).await;
    }
    stack.grant(other, officer, &[AssetRole::Custodian]).await;
    // One asset through the platform; the other by its own custodian, by hand: then nothing is left.
    let limited = RecoverWalletRequest { assets: vec![text(bond)], ..request(admin, lost, new) };
    let accepted = stack.identities().recover_wallet(stack.fresh(limited)).await.unwrap().into_inner().operation;
    stack.done(accepted).await;
    let shown = preview(&stack, admin, lost, new).await;
    assert!(shown.registry_recovered && shown.obstacles.is_empty(), "{shown:?}");
    assert_eq!(shown.assets.iter().map(|one| one.asset.clone()).collect::<Vec<_>>(), [text(other)]);
    let registry = stack.contract(names::IDENTITY_REGISTRY).await;
    let identity = stack.read(registry, IdentityRegistry::identityCall { wallet: new }).await;
    let by_hand =
        AssetTokenCustody::recoveryAddressCall { lostWallet: lost, newWallet: new, investorOnchainID: identity };
    stack.send(officer, other, &by_hand).await;
    let status = stack.identities().recover_wallet(stack.fresh(request(admin, lost, new))).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "NOTHING_TO_RECOVER");
    assert_eq!(stack.read(other, AssetToken::balanceOfCall { account: new }).await, U256::from(10));

    // Without the role on one asset the others can be recovered, and the rest once somebody has it.
    let (again, newer) = (new, stack.outsider(0xd4).await);
    let revoke = asset::RevokeRoleRequest {
        sender: text(admin),
        asset: text(other),
        role: AssetRole::Custodian.into(),
        account: text(admin),
    };
    stack.done(stack.assets().revoke_role(stack.fresh(revoke)).await.unwrap().into_inner().operation).await;
    assert_eq!(reasons(&preview(&stack, admin, again, newer).await), ["ASSET_ROLE_MISSING"]);
    let limited = RecoverWalletRequest { assets: vec![text(bond)], ..request(admin, again, newer) };
    let accepted = stack.identities().recover_wallet(stack.fresh(limited)).await.unwrap().into_inner().operation;
    stack.done(accepted).await;
    stack.grant(other, admin, &[AssetRole::Custodian]).await;
    let rest = stack.identities().recover_wallet(stack.fresh(request(admin, again, newer))).await.unwrap();
    let done = stack.done(rest.into_inner().operation).await;
    assert_eq!(done.transactions.len(), 1, "the registry's step is not repeated");
    assert_eq!(stack.read(other, AssetToken::balanceOfCall { account: newer }).await, U256::from(10));
    // The chain of successors ends at the newest wallet.
    assert_eq!(stack.read(registry, IdentityRegistry::successorCall { wallet: lost }).await, newer);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_refused_half_way_says_where_and_is_finished_later() {
    let stack = Stack::start(2).await;
    let [admin, treasurer] = stack.wallets[..] else { panic!("two wallets") };
    let bond = stack.bond().await;
    let other = second_asset(&stack, admin, treasurer, "OTHER").await;
    let (lost, new) = (stack.outsider(0xf1).await, stack.outsider(0xf2).await);
    stack.verify(admin, lost).await;
    for asset in [bond, other] {
        stack.transfer(asset, treasurer, lost, 10).await;
        stack.grant(asset, treasurer, &[AssetRole::Custodian]).await;
    }
    let grant = system::GrantRoleRequest {
        sender: text(admin),
        account: text(treasurer),
        role: SystemRole::IdentityManager.into(),
    };
    stack.done(stack.systems().grant_role(stack.fresh(grant)).await.unwrap().into_inner().operation).await;
    // The role goes between acceptance and step: no block comes before the asset's admin has taken it away.
    stack.node("anvil_impersonateAccount", json!([admin])).await;
    stack.node("evm_setAutomine", json!([false])).await;
    let recover = stack.request("recover", request(treasurer, lost, new));
    let operation = stack.identities().recover_wallet(recover).await.unwrap().into_inner().operation;
    let mask = dalp_contracts::roles::asset::CUSTODIAN;
    let revoke = AssetTokenGovernance::revokeCall { account: treasurer, roleMask: mask };
    let revoked = stack.post(admin, other, &revoke).await;
    stack.node("evm_setAutomine", json!([true])).await;
    stack.node("evm_mine", json!([])).await;
    eventually("the role is gone", async || stack.upstreams.receipt(revoked).await.unwrap()).await;
    let error = stack.ended(operation).await.error.unwrap();
    let said = |key: &str| error.metadata[key].as_str();
    assert_eq!(
        (error.reason.as_str(), said("asset"), said("role")),
        ("ASSET_ROLE_MISSING", text(other).as_str(), "custodian")
    );
    assert_eq!((said("recovered"), said("left")), ("1", "1"));
    assert_eq!(stack.read(bond, AssetToken::balanceOfCall { account: new }).await, U256::from(10), "what moved stays");

    stack.send(admin, other, &AssetTokenGovernance::grantCall { account: treasurer, roleMask: mask }).await;
    let rest = stack.identities().recover_wallet(stack.fresh(request(treasurer, lost, new))).await.unwrap();
    let done = stack.done(rest.into_inner().operation).await;
    assert_eq!(done.transactions.iter().map(|one| one.step.as_str()).collect::<Vec<_>>(), ["assets[0]"]);
    assert_eq!(stack.read(other, AssetToken::balanceOfCall { account: new }).await, U256::from(10));
    stack.end().await;
}
