//! What is let in: bad input stores nothing, races have one winner, roles are needed, tenants do not meet.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::Address;
use dalp_proto::{
    asset::{self, CountryMode},
    compliance, holder, identity,
    system::{self, SystemRole},
};
use futures::future::join_all;
use support::{RIVAL, Stack, TENANT, order, refusal, text};
use tonic::Status;

const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
const WRONG_CHECKSUM: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046";
const TOO_LARGE: &str = "340282366920938463463374607431768211456";

fn transfer(to: &str, amount: &str) -> asset::TransferRequest {
    asset::TransferRequest { sender: WALLET.into(), asset: WALLET.into(), to: to.into(), amount: amount.into() }
}

fn country_rule(mode: i32, countries: &[u32]) -> asset::RuleBinding {
    let rule = asset::CountryRule { mode, countries: countries.to_vec() };
    asset::RuleBinding { rule: Some(asset::rule_binding::Rule::Country(rule)) }
}

fn claim_rule(all_of: &[&str]) -> asset::RuleBinding {
    let group = asset::ClaimGroup { all_of: all_of.iter().map(|topic| (*topic).to_owned()).collect(), none_of: vec![] };
    let rule = asset::ClaimRule { any_of: vec![group], ..Default::default() };
    asset::RuleBinding { rule: Some(asset::rule_binding::Rule::Claim(rule)) }
}

/// Reason and first violated field.
fn why(status: &Status) -> (String, String) {
    let details = refusal(status);
    let field = details.violations.first().map(|(field, _)| field.clone()).unwrap_or_default();
    (details.reason, field)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_by_field_and_nothing_is_stored() {
    let stack = Stack::start(1).await;
    let before = stack.rows().await;
    let (mut assets, mut identities, mut rules) = (stack.assets(), stack.identities(), stack.rules());
    let mut refused = Vec::new();
    let mut saw = |what: &'static str, reason: &'static str, field: &'static str, status: Status| {
        refused.push((what, (reason.to_owned(), field.to_owned()), why(&status)));
    };

    for (what, request, field) in [
        ("checksum", transfer(WRONG_CHECKSUM, "1"), "to"),
        ("no address", transfer("", "1"), "to"),
        ("negative", transfer(WALLET, "-1"), "amount"),
        ("zero", transfer(WALLET, "0"), "amount"),
        ("not a number", transfer(WALLET, "1e3"), "amount"),
        ("over-large", transfer(WALLET, TOO_LARGE), "amount"),
    ] {
        saw(what, "INVALID_FIELD", field, assets.transfer(stack.fresh(request)).await.unwrap_err());
    }
    let items = ["1", "-1"].map(|amount| asset::TransferItem { to: WALLET.into(), amount: amount.into() }).to_vec();
    let batch = asset::BatchTransferRequest { sender: WALLET.into(), asset: WALLET.into(), items };
    saw("item", "INVALID_FIELD", "items[1].amount", assets.batch_transfer(stack.fresh(batch)).await.unwrap_err());
    let forced = asset::ForcedTransferRequest {
        sender: WALLET.into(),
        asset: WALLET.into(),
        from: WALLET.into(),
        to: WALLET.into(),
        amount: "1".into(),
        reason: String::new(),
    };
    saw("no reason", "INVALID_FIELD", "reason", assets.forced_transfer(stack.fresh(forced)).await.unwrap_err());
    let grant =
        asset::GrantRoleRequest { sender: WALLET.into(), asset: WALLET.into(), role: 7, account: WALLET.into() };
    saw("asset role", "INVALID_FIELD", "role", assets.grant_role(stack.fresh(grant)).await.unwrap_err());

    let good = order(stack.wallets[0], stack.wallets[0], "BOND");
    for (what, reason, field, request) in [
        ("class", "TEMPLATE_UNKNOWN", "asset_class", asset::CreateAssetRequest { asset_class: 99, ..good.clone() }),
        ("decimals", "INVALID_FIELD", "decimals", asset::CreateAssetRequest { decimals: 19, ..good.clone() }),
        ("isin", "INVALID_FIELD", "isin", asset::CreateAssetRequest { isin: "US0378331004".into(), ..good.clone() }),
        (
            "supply",
            "INVALID_FIELD",
            "initial_supply",
            asset::CreateAssetRequest { initial_supply: TOO_LARGE.into(), ..good.clone() },
        ),
        (
            "country",
            "MODULE_PARAMETERS_INVALID",
            "rules[1].country.countries[0]",
            asset::CreateAssetRequest {
                rules: vec![claim_rule(&["kyc"]), country_rule(CountryMode::Allow.into(), &[1000])],
                ..good.clone()
            },
        ),
    ] {
        saw(what, reason, field, assets.create_asset(stack.fresh(request)).await.unwrap_err());
    }
    for (what, field, rule) in [
        ("no rule", "rule", None),
        ("empty rule", "rule", Some(asset::RuleBinding { rule: None })),
        ("no countries", "rule.country.countries", Some(country_rule(CountryMode::Allow.into(), &[]))),
        ("country twice", "rule.country.countries", Some(country_rule(CountryMode::Block.into(), &[756, 756]))),
        ("unknown mode", "rule.country.mode", Some(country_rule(9, &[756]))),
        ("empty group", "rule.claim.any_of[0]", Some(claim_rule(&[]))),
        ("topic", "rule.claim.any_of[0].all_of[1]", Some(claim_rule(&["kyc", "K Y C"]))),
    ] {
        let request = compliance::AddRuleRequest { sender: WALLET.into(), asset: WALLET.into(), rule };
        let status = rules.add_rule(stack.fresh(request)).await.unwrap_err();
        saw(what, "MODULE_PARAMETERS_INVALID", field, status);
    }
    let remove = compliance::RemoveRuleRequest { sender: WALLET.into(), asset: WALLET.into(), module: "0x1".into() };
    saw("module", "INVALID_FIELD", "module", rules.remove_rule(stack.fresh(remove)).await.unwrap_err());
    let simulate =
        compliance::SimulateTransferRequest { asset: WALLET.into(), amount: "1".into(), ..Default::default() };
    saw("no side", "INVALID_FIELD", "to", rules.simulate_transfer(stack.fresh(simulate)).await.unwrap_err());

    let register = identity::RegisterIdentityRequest { sender: WALLET.into(), wallet: WALLET.into(), country: 1000 };
    saw("country", "INVALID_FIELD", "country", identities.register_identity(stack.fresh(register)).await.unwrap_err());
    let key = identity::AddKeyRequest { sender: WALLET.into(), wallet: WALLET.into(), key: WALLET.into(), purpose: 4 };
    saw("purpose", "INVALID_FIELD", "purpose", identities.add_key(stack.fresh(key)).await.unwrap_err());
    let role = system::GrantRoleRequest { sender: WALLET.into(), account: WALLET.into(), role: 7 };
    saw("role", "INVALID_FIELD", "role", stack.systems().grant_role(stack.fresh(role)).await.unwrap_err());
    let page = holder::ListHoldersRequest { asset: WALLET.into(), page_size: 501, ..Default::default() };
    saw("page", "INVALID_FIELD", "page_size", stack.holders().list_holders(stack.fresh(page)).await.unwrap_err());
    // Well formed, but nobody's wallet, and nothing is bootstrapped.
    saw("wallet", "KEY_NOT_FOUND", "", assets.transfer(stack.fresh(transfer(WALLET, "1"))).await.unwrap_err());
    let early = assets.create_asset(stack.fresh(good)).await.unwrap_err();
    saw("system", "SYSTEM_NOT_BOOTSTRAPPED", "", early);

    for (what, expected, seen) in &refused {
        assert_eq!(seen, expected, "{what}");
    }
    assert_eq!(stack.rows().await, before, "a refused request stored something");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_requests_at_once_one_wins_and_the_others_are_told() {
    let stack = Stack::start(2).await;
    let (admin, holder) = (stack.wallets[0], stack.wallets[1]);

    // --- one system, whoever asks for it
    let asked = join_all((0..8).map(|index| {
        let mut systems = stack.systems();
        let request =
            stack.request(&format!("boot-{index}"), system::BootstrapRequest { admin: text(admin), chain_id: 0 });
        async move { systems.bootstrap(request).await.unwrap().into_inner().operation.unwrap().operation_id }
    }))
    .await;
    assert!(asked.iter().all(|operation| *operation == asked[0]), "{asked:?}");
    let other = system::BootstrapRequest { admin: text(holder), chain_id: 0 };
    let status = stack.systems().bootstrap(stack.fresh(other)).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).metadata["admin"].as_str()),
        ("ALREADY_EXISTS", text(admin).as_str())
    );
    let rows = stack.rows().await;
    assert_eq!((rows["compliance.systems"], rows["engine.operations"]), (1, 1));
    stack.bootstrap(TENANT, admin).await;

    // --- one asset per symbol
    let before = stack.rows().await["engine.operations"];
    let asked = join_all((0..8).map(|index| {
        let mut assets = stack.assets();
        let request = stack.request(&format!("create-{index}"), order(admin, admin, "RACE"));
        async move { assets.create_asset(request).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for status in lost {
        assert_eq!(refusal(&status.unwrap_err()).reason, "SYMBOL_TAKEN");
    }
    let rows = stack.rows().await;
    assert_eq!((rows["compliance.assets"], rows["engine.operations"]), (1, before + 1));

    // --- one operation per key, also when its repeats arrive while it is being accepted
    let asked = join_all((0..8).map(|_| {
        let mut assets = stack.assets();
        let request = stack.request("same-key", order(admin, admin, "SAME"));
        async move { assets.create_asset(request).await.unwrap().into_inner().operation.unwrap().operation_id }
    }))
    .await;
    assert!(asked.iter().all(|operation| *operation == asked[0]), "{asked:?}");
    // Identities of one wallet are decided by the chain: the slower one is told in its operation, or at once.
    let register = identity::RegisterIdentityRequest { sender: text(admin), wallet: text(holder), country: 756 };
    let asked = join_all((0..2).map(|_| {
        let mut identities = stack.identities();
        let request = stack.fresh(register.clone());
        async move { identities.register_identity(request).await }
    }))
    .await;
    let mut failures = Vec::new();
    for answer in asked {
        match answer {
            Ok(answer) => {
                failures.extend(stack.ended(answer.into_inner().operation).await.error.map(|error| error.reason))
            }
            Err(status) => failures.push(refusal(&status).reason),
        }
    }
    assert_eq!(failures, ["IDENTITY_EXISTS"]);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_without_a_role_is_told_which_and_can_be_given_it() {
    let stack = Stack::start(3).await;
    let [admin, issuer, manager] = stack.wallets[..] else { panic!("three wallets") };
    stack.bootstrap(TENANT, admin).await;
    stack.register(TENANT, admin, issuer, 756).await;
    let before = stack.rows().await;
    let mut systems = stack.systems();

    let create = |key: &str| stack.request(key, order(issuer, issuer, "ISS"));
    let status = stack.assets().create_asset(create("without")).await.unwrap_err();
    let details = refusal(&status);
    assert_eq!((details.reason.as_str(), details.metadata["role"].as_str()), ("ROLE_MISSING", "token_manager"));
    assert_eq!(details.metadata["account"], text(issuer));
    assert!(details.metadata["granted_by"].starts_with("SystemService.GrantRole"), "{details:?}");
    let topic = identity::RegisterTopicRequest { sender: text(issuer), name: "aml".into(), signature: "()".into() };
    let status = stack.identities().register_topic(stack.fresh(topic)).await.unwrap_err();
    assert_eq!(refusal(&status).metadata["role"], "claim_policy_manager");
    let register = identity::RegisterIdentityRequest { sender: text(issuer), wallet: text(manager), country: 756 };
    let status = stack.identities().register_identity(stack.fresh(register)).await.unwrap_err();
    assert_eq!(refusal(&status).metadata["role"], "identity_manager");

    // Who may not grant is refused too; only the administrator makes platform admins.
    let grant = |sender: Address, account: Address, role: SystemRole| system::GrantRoleRequest {
        sender: text(sender),
        account: text(account),
        role: role.into(),
    };
    let status = systems.grant_role(stack.fresh(grant(issuer, issuer, SystemRole::TokenManager))).await.unwrap_err();
    assert_eq!(refusal(&status).metadata["role"], "platform_admin");
    assert_eq!(stack.rows().await, before, "a refused request stored something");

    let made = systems.grant_role(stack.fresh(grant(admin, manager, SystemRole::PlatformAdmin))).await.unwrap();
    stack.done(made.into_inner().operation).await;
    let status = systems.grant_role(stack.fresh(grant(manager, issuer, SystemRole::PlatformAdmin))).await.unwrap_err();
    assert_eq!(refusal(&status).metadata["role"], "administrator");
    let given = systems.grant_role(stack.fresh(grant(manager, issuer, SystemRole::TokenManager))).await.unwrap();
    stack.done(given.into_inner().operation).await;
    let request = system::GetRolesRequest { account: text(issuer) };
    let held = systems.get_roles(stack.fresh(request.clone())).await.unwrap().into_inner();
    assert_eq!((held.roles, held.administrator), (vec![i32::from(SystemRole::TokenManager)], false));

    // The claim topic makes the issuer's own wallet no holder: no supply is ordered.
    let bare = asset::CreateAssetRequest {
        initial_supply: String::new(),
        initial_holder: String::new(),
        ..order(issuer, issuer, "ISS")
    };
    let created = stack.assets().create_asset(stack.request("with", bare)).await.unwrap();
    stack.done(created.into_inner().operation).await;
    let revoke = system::RevokeRoleRequest {
        sender: text(manager),
        account: text(issuer),
        role: SystemRole::TokenManager.into(),
    };
    stack.done(systems.revoke_role(stack.fresh(revoke)).await.unwrap().into_inner().operation).await;
    assert!(systems.get_roles(stack.fresh(request)).await.unwrap().into_inner().roles.is_empty());
    let again = order(issuer, issuer, "ISS2");
    let status = stack.assets().create_asset(stack.fresh(again)).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "ROLE_MISSING");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_and_moves_nothing() {
    let stack = Stack::start(2).await;
    let (admin, rival) = (stack.wallets[0], stack.rival);
    let token = stack.bond().await;
    stack.bootstrap(RIVAL, rival).await;
    let before = stack.rows().await;
    fn theirs<T>(stack: &Stack, message: T) -> tonic::Request<T> {
        stack.request_of(RIVAL, "ops", &uuid::Uuid::new_v4().to_string(), message)
    }
    let mut refused = Vec::new();
    // Reading the asset.
    let get = asset::GetAssetRequest { asset: text(token) };
    refused.push(("get", "NOT_FOUND", stack.assets().get_asset(theirs(&stack, get)).await.unwrap_err()));
    let list = holder::ListHoldersRequest { asset: text(token), ..Default::default() };
    refused.push(("holders", "NOT_FOUND", stack.holders().list_holders(theirs(&stack, list)).await.unwrap_err()));
    let balance = holder::GetBalanceRequest { asset: text(token), holder: text(admin), block_number: 0 };
    refused.push(("balance", "NOT_FOUND", stack.holders().get_balance(theirs(&stack, balance)).await.unwrap_err()));
    let list = compliance::ListRulesRequest { asset: text(token) };
    refused.push(("rules", "NOT_FOUND", stack.rules().list_rules(theirs(&stack, list)).await.unwrap_err()));
    let simulate = compliance::SimulateTransferRequest {
        asset: text(token),
        to: text(admin),
        amount: "1".into(),
        ..Default::default()
    };
    let status = stack.rules().simulate_transfer(theirs(&stack, simulate)).await.unwrap_err();
    refused.push(("simulate", "NOT_FOUND", status));
    let get = identity::GetIdentityRequest { wallet: text(admin) };
    let status = stack.identities().get_identity(theirs(&stack, get)).await.unwrap_err();
    refused.push(("identity", "IDENTITY_NOT_FOUND", status));
    // Acting on it, from a wallet of one's own and from a wallet of the owner.
    let mint = |sender: Address| asset::MintRequest {
        sender: text(sender),
        asset: text(token),
        to: text(rival),
        amount: "1".into(),
    };
    refused.push(("mint", "NOT_FOUND", stack.assets().mint(theirs(&stack, mint(rival))).await.unwrap_err()));
    refused.push(("wallet", "KEY_NOT_FOUND", stack.assets().mint(theirs(&stack, mint(admin))).await.unwrap_err()));
    let rule = compliance::RemoveRuleRequest { sender: text(rival), asset: text(token), module: text(admin) };
    refused.push(("rule", "NOT_FOUND", stack.rules().remove_rule(theirs(&stack, rule)).await.unwrap_err()));
    for (what, reason, status) in &refused {
        assert_eq!(refusal(status).reason, *reason, "{what}");
    }
    assert!(
        stack.assets().list_assets(theirs(&stack, Default::default())).await.unwrap().into_inner().assets.is_empty()
    );
    // The same key in another tenant is another key, and nobody reads a foreign operation.
    let ours = stack.request("shared", mint(admin));
    let ours = stack.assets().mint(asset_for_holder(ours, stack.wallets[1])).await.unwrap().into_inner().operation;
    let id: dalp_engine::OperationId = ours.as_ref().unwrap().operation_id.parse().unwrap();
    let seen = stack.engine.reader().get_operation(&dalp_engine::TenantId::new(RIVAL), id).await.unwrap();
    assert!(seen.is_none());
    stack.done(ours).await;
    let theirs = stack.request_of(RIVAL, "ops", "shared", mint(rival));
    assert_eq!(refusal(&stack.assets().mint(theirs).await.unwrap_err()).reason, "NOT_FOUND");
    assert_eq!(stack.rows().await["engine.operations"], before["engine.operations"] + 1);
    // A principal without the right to every wallet uses its own ones only.
    let mut request = stack.fresh(mint(admin));
    let caller =
        dalp_service::Caller { tenant: TENANT.parse().unwrap(), principal: "clerk".parse().unwrap(), roles: vec![] };
    caller.apply(request.metadata_mut());
    assert_eq!(refusal(&stack.assets().mint(request).await.unwrap_err()).reason, "WALLET_NOT_OWNED");
    stack.end().await;
}

fn asset_for_holder(
    mut request: tonic::Request<asset::MintRequest>,
    holder: Address,
) -> tonic::Request<asset::MintRequest> {
    request.get_mut().to = text(holder);
    request
}
