//! The base price of an asset is a feed on it, and a rule of that asset reads it through the adapter.

use alloy::primitives::Address;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{
    AssetClass, AssetRole, AssetTerms, BondTerms, CreateAssetRequest, IssuanceLimit, IssuanceRule, MintRequest,
    PriceSource, RoleGrant, RuleBinding, SupplyMeasure, asset_terms, issuance_limit::Measure, rule_binding::Rule,
};
use dalp_proto::compliance::AddRuleRequest;
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::feeds::{CreateAdapterRequest, HistoryMode};
use dalp_proto::identity::IssueClaimRequest;
use dalp_proto::operation::{Operation, OperationState};

use crate::support::{PRICE, Wanted, World, fresh, now_s, text};

/// An open asset of whole units that the issuer may mint, govern and hold.
async fn asset(world: &World) -> String {
    let claim = IssueClaimRequest {
        issuer: world.issuer.text.clone(),
        subject: world.issuer.text.clone(),
        topic: "plain".to_owned(),
        data: "0x".to_owned(),
        expires_at: 0,
    };
    let accepted = world.identities().issue_claim(fresh(claim)).await.expect("accepted").into_inner();
    world.done(accepted.operation).await;
    let terms = BondTerms {
        maturity_date: "2090-05-01".to_owned(),
        denomination: "1000".to_owned(),
        currency: "CHF".to_owned(),
        ..BondTerms::default()
    };
    let role = |role: AssetRole| RoleGrant { role: role.into(), account: world.issuer.text.clone() };
    let request = CreateAssetRequest {
        issuer: world.issuer.text.clone(),
        name: "Capped bond".to_owned(),
        symbol: "CAPD".to_owned(),
        asset_class: AssetClass::Bond.into(),
        isin: "CH0012032048".to_owned(),
        terms: Some(AssetTerms { terms: Some(asset_terms::Terms::Bond(terms)) }),
        claim_topics: vec!["plain".to_owned()],
        roles: vec![role(AssetRole::Governance), role(AssetRole::Supply)],
        unpause: true,
        ..CreateAssetRequest::default()
    };
    let accepted = AssetServiceClient::new(world.client.gateway()).create_asset(fresh(request)).await;
    let result = world.done(accepted.expect("accepted").into_inner().operation).await;
    text(result["asset"].as_str().expect("an asset").parse::<Address>().expect("an address"))
}

async fn mint(world: &World, asset: &str, amount: u64) -> Operation {
    let request = MintRequest {
        sender: world.issuer.text.clone(),
        asset: asset.to_owned(),
        to: world.issuer.text.clone(),
        amount: amount.to_string(),
    };
    let accepted = AssetServiceClient::new(world.client.gateway()).mint(fresh(request)).await.expect("accepted");
    world.client.finished(accepted.into_inner().operation).await.expect("it ends")
}

pub(crate) async fn an_issuance_limit_in_fiat_follows_the_feed(world: &World) {
    let asset = asset(world).await;
    let wanted = Wanted {
        topic: PRICE.into(),
        subject: asset.clone(),
        decimals: 2,
        mode: HistoryMode::LatestOnly,
        positive: true,
        ..Wanted::default()
    };
    let feed = world.feed(wanted).await;
    let adapter = CreateAdapterRequest {
        sender: world.issuer.text.clone(),
        subject: asset.clone(),
        topic_name: PRICE.to_owned(),
        ..Default::default()
    };
    let accepted = world.directory().create_adapter(fresh(adapter)).await.expect("accepted").into_inner();
    let adapter = world.done(accepted.operation).await["adapter"].as_str().expect("an adapter").to_owned();
    // At any time at most 10,000 francs' worth.
    let limit = IssuanceLimit {
        measure: Some(Measure::Supply(SupplyMeasure {})),
        max: format!("10000{}", "0".repeat(18)),
        price: Some(PriceSource { feed: adapter, max_age_s: 86_400 }),
    };
    let rule = RuleBinding { rule: Some(Rule::Issuance(IssuanceRule { limits: vec![limit] })) };
    let add = AddRuleRequest { sender: world.issuer.text.clone(), asset: asset.clone(), rule: Some(rule) };
    let accepted = ComplianceServiceClient::new(world.client.gateway()).add_rule(fresh(add)).await.expect("accepted");
    world.done(accepted.into_inner().operation).await;

    let minted = async |amount: u64| {
        let operation = mint(world, &asset, amount).await;
        let error = operation.error.clone().unwrap_or_default();
        match operation.state() {
            OperationState::Completed => "minted".to_owned(),
            _ => error.metadata.get("module_reason").cloned().unwrap_or(error.reason),
        }
    };
    assert_eq!(minted(1).await, "ISSUANCE_PRICE_UNAVAILABLE", "no price, no issue");
    let observed_at = now_s() - 30;
    world.publish(feed, "100000", observed_at).await;
    assert_eq!(minted(10).await, "minted", "10 at 1,000.00");
    assert_eq!(minted(1).await, "ISSUANCE_CAP_EXCEEDED");
    world.publish(feed, "50000", observed_at).await;
    assert_eq!(minted(10).await, "minted", "20 at 500.00");
    world.publish(feed, "50001", observed_at).await;
    assert_eq!(minted(1).await, "ISSUANCE_CAP_EXCEEDED");
}
