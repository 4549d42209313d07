//! Saved claim expressions: read with positions, kept by version, never changed under an asset that took one.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use dalp_proto::{
    asset::{self, ClaimExpression, ClaimRule, SavedExpression, claim_expression::Form, rule_binding::Rule as Wire},
    compliance::{self as proto, ExpressionPlace},
    identity,
};
use support::{RIVAL, Stack, TENANT, order, refusal, text};

fn saved(name: &str, version: u32) -> ClaimExpression {
    ClaimExpression { form: Some(Form::Saved(SavedExpression { name: name.into(), version })) }
}

fn claim_rule(expression: ClaimExpression) -> Option<asset::RuleBinding> {
    let rule = ClaimRule { expression: Some(expression), ..Default::default() };
    Some(asset::RuleBinding { rule: Some(Wire::Claim(rule)) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_expression_is_kept_by_version() {
    let stack = Stack::start(1).await;
    let mut rules = stack.rules();
    let create =
        |name: &str, text: &str| stack.fresh(proto::CreateExpressionRequest { name: name.into(), text: text.into() });
    let get = |name: &str, version| stack.fresh(proto::GetExpressionRequest { name: name.into(), version });

    // --- what is no expression is refused with its place, and nothing is stored
    let before = stack.rows().await;
    for (text, position) in [("kyc AND", Some("8")), ("kyc and aml", Some("5")), ("", None), ("a OR NOT a", None)] {
        let status = rules.create_expression(create("eligible", text)).await.unwrap_err();
        let details = refusal(&status);
        assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "text"), "{text}");
        assert_eq!(details.metadata.get("position").map(String::as_str), position, "{text}");
    }
    let status = rules.create_expression(create("Eligible", "kyc")).await.unwrap_err();
    assert_eq!(refusal(&status).violations[0].0, "name");
    assert_eq!(stack.rows().await, before, "a refused request stored something");
    let parsed = proto::ParseExpressionRequest { text: "(a OR b) AND kyc AND NOT x".into() };
    let parsed = rules.parse_expression(stack.fresh(parsed)).await.unwrap().into_inner();
    assert_eq!((parsed.any_of.len(), parsed.canonical_text.as_str()), (2, "kyc AND (a OR b) AND NOT x"));

    // --- versions
    let first =
        rules.create_expression(create("eligible", "kyc AND aml")).await.unwrap().into_inner().expression.unwrap();
    assert_eq!((first.version, first.newest_version, first.created_by.as_str()), (1, 1, "ops"));
    let again = rules.create_expression(create("eligible", "kyc AND aml")).await.unwrap().into_inner().expression;
    assert_eq!(again, Some(first), "a repeat answers alike");
    let status = rules.create_expression(create("eligible", "kyc")).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "ALREADY_EXISTS");
    let update = |version, text: &str| {
        stack.fresh(proto::UpdateExpressionRequest { name: "eligible".into(), version, text: text.into() })
    };
    for _ in 0..2 {
        let second = rules.update_expression(update(1, "kyc")).await.unwrap().into_inner().expression.unwrap();
        assert_eq!((second.version, second.text.as_str()), (2, "kyc"), "a repeat answers alike");
    }
    let status = rules.update_expression(update(1, "aml")).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).metadata["version"].as_str()),
        ("FAILED_PRECONDITION", "2")
    );
    let old = rules.get_expression(get("eligible", 1)).await.unwrap().into_inner().expression.unwrap();
    assert_eq!((old.version, old.newest_version, old.text.as_str()), (1, 2, "kyc AND aml"));
    let written =
        sqlx::query("UPDATE compliance.expression_versions SET text = 'aml'").execute(&stack.store.pool()).await;
    assert!(written.unwrap_err().to_string().contains("final"), "a version never changes");

    // --- pages, deletion, the next life of a name, other tenants
    rules.create_expression(create("abc", "aml")).await.unwrap();
    let page = |page_token: String| stack.fresh(proto::ListExpressionsRequest { page_size: 1, page_token });
    let one = rules.list_expressions(page(String::new())).await.unwrap().into_inner();
    assert_eq!((one.expressions[0].name.as_str(), one.next_page_token.as_str()), ("abc", "abc"));
    let two = rules.list_expressions(page(one.next_page_token)).await.unwrap().into_inner();
    assert_eq!((two.expressions[0].version, two.next_page_token.as_str()), (2, ""));
    for _ in 0..2 {
        let delete = stack.fresh(proto::DeleteExpressionRequest { name: "eligible".into() });
        rules.delete_expression(delete).await.unwrap();
    }
    assert!(rules.get_expression(get("eligible", 0)).await.unwrap().into_inner().expression.unwrap().deleted);
    let status = rules.update_expression(update(2, "aml")).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "NOT_FOUND");
    let next = rules.create_expression(create("eligible", "aml")).await.unwrap().into_inner().expression.unwrap();
    assert_eq!((next.version, next.deleted), (3, false), "a version number never means two things");
    let theirs = proto::GetExpressionRequest { name: "eligible".into(), version: 0 };
    let theirs = stack.request_of(RIVAL, "ops", "theirs", theirs);
    assert_eq!(refusal(&rules.get_expression(theirs).await.unwrap_err()).reason, "NOT_FOUND");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_keeps_the_version_it_was_made_from() {
    let stack = Stack::start(1).await;
    let admin = stack.wallets[0];
    stack.bootstrap(TENANT, admin).await;
    for topic in ["accredited", "sanctioned"] {
        let request = identity::RegisterTopicRequest {
            sender: text(admin),
            name: topic.into(),
            signature: "(bytes payload)".into(),
        };
        let answer = stack.identities().register_topic(stack.fresh(request)).await.unwrap().into_inner();
        stack.done(answer.operation).await;
    }
    let mut rules = stack.rules();
    let first = "kyc AND NOT sanctioned";
    let create = proto::CreateExpressionRequest { name: "eligible".into(), text: first.into() };
    rules.create_expression(stack.fresh(create)).await.unwrap();

    let create = |policy: ClaimExpression, symbol: &str| {
        stack.fresh(asset::CreateAssetRequest {
            policy: Some(policy),
            claim_topics: vec![],
            initial_supply: String::new(),
            initial_holder: String::new(),
            ..order(admin, admin, symbol)
        })
    };
    for (name, version) in [("unknown", 0), ("eligible", 2)] {
        let status = stack.assets().create_asset(create(saved(name, version), "NONE")).await.unwrap_err();
        assert_eq!(
            (refusal(&status).reason.as_str(), refusal(&status).metadata["expression"].as_str()),
            ("NOT_FOUND", name)
        );
    }
    let written = ClaimExpression { form: Some(Form::Text("kyc AND never.registered".into())) };
    let status = stack.assets().create_asset(create(written, "NONE")).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "TOPIC_UNKNOWN");
    let created = stack.assets().create_asset(create(saved("eligible", 0), "SAVED")).await.unwrap().into_inner();
    let created = stack.done(created.operation).await;
    let token: alloy::primitives::Address = created.result.unwrap()["asset"].as_str().unwrap().parse().unwrap();
    // The indexer tells the asset's address to what was ordered under its operation.
    support::eventually("the asset is indexed", async || {
        let listed = stack.assets().list_assets(stack.fresh(Default::default())).await.ok()?.into_inner();
        (!listed.assets.is_empty()).then_some(())
    })
    .await;

    // --- changed, the asset stays as it is, and says with which version
    let update =
        proto::UpdateExpressionRequest { name: "eligible".into(), version: 1, text: "kyc AND accredited".into() };
    rules.update_expression(stack.fresh(update)).await.unwrap();
    let shown = async || {
        let get = stack.fresh(asset::GetAssetRequest { asset: text(token) });
        let asset = stack.assets().get_asset(get).await.unwrap().into_inner().asset.unwrap();
        (asset.policy, asset.policy_expression.map(|one| (one.name, one.version)))
    };
    assert_eq!(shown().await, (first.to_owned(), Some(("eligible".to_owned(), 1))));
    let uses = async || {
        let get = stack.fresh(proto::GetExpressionRequest { name: "eligible".into(), version: 0 });
        let answer = stack.rules().get_expression(get).await.unwrap().into_inner();
        let mut uses: Vec<_> = answer.uses.iter().map(|one| (one.place(), one.version)).collect();
        assert!(answer.uses.iter().all(|one| one.asset == text(token)));
        uses.sort();
        uses
    };
    assert_eq!(uses().await, [(ExpressionPlace::Policy, 1)]);

    // --- a claim rule takes the newest, and loses its name once it is something else
    let add = proto::AddRuleRequest { sender: text(admin), asset: text(token), rule: claim_rule(saved("eligible", 0)) };
    let added = rules.add_rule(stack.fresh(add)).await.unwrap().into_inner();
    stack.done(added.operation).await;
    let bound = async || {
        let list = stack.fresh(proto::ListRulesRequest { asset: text(token) });
        let rule = stack.rules().list_rules(list).await.unwrap().into_inner().rules.remove(0);
        (rule.expression, rule.saved_expression.map(|one| one.version))
    };
    assert_eq!(bound().await, ("kyc AND accredited".to_owned(), Some(2)));
    assert_eq!(uses().await, [(ExpressionPlace::Policy, 1), (ExpressionPlace::Rule, 2)]);
    let set = |expression| proto::SetRuleParametersRequest {
        sender: text(admin),
        asset: text(token),
        rule: claim_rule(expression),
    };
    let written = ClaimExpression { form: Some(Form::Text("kyc OR accredited".into())) };
    let changed = rules.set_rule_parameters(stack.fresh(set(written))).await.unwrap().into_inner();
    stack.done(changed.operation).await;
    assert_eq!(bound().await, ("kyc OR accredited".to_owned(), None));
    assert_eq!(uses().await, [(ExpressionPlace::Policy, 1)]);

    // --- deleted, it is given to nothing new and stays where it is
    rules.delete_expression(stack.fresh(proto::DeleteExpressionRequest { name: "eligible".into() })).await.unwrap();
    let status = rules.set_rule_parameters(stack.fresh(set(saved("eligible", 1)))).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "NOT_FOUND");
    assert_eq!(shown().await.1, Some(("eligible".to_owned(), 1)));
    stack.end().await;
}
