//! What operators do with an asset that is in use: a feature, an exemption, another policy, and the recovery of a lost wallet.

use std::cell::RefCell;

use dalp_proto::asset::{ClaimExpression, Feature, VotingPowerFeature, claim_expression, feature};
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::compliance::{
    AttachFeatureRequest, GetExemptionsRequest, SetIdentityExemptionRequest, SetPolicyRequest, set_policy_request,
};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{PreviewRecoveryRequest, RecoverWalletRequest};

use super::{Outcome, Parties, Steps};
use crate::client::{Client, keyed};

/// Changes the settings of the asset, then recovers alice's wallet.
pub(super) async fn run(client: &Client, parties: &Parties, token: &str, steps: &mut Steps) {
    settings(client, parties, token, steps).await;
    recovery(client, parties, steps).await;
}

async fn settings(client: &Client, parties: &Parties, token: &str, steps: &mut Steps) {
    let (sender, asset) = (parties.issuer.text.clone(), token.to_owned());
    let compliance = || ComplianceServiceClient::new(client.gateway());
    let votes = RefCell::new(String::new());
    steps
        .run("attach voting power", "completed", async {
            let feature = Feature { feature: Some(feature::Feature::VotingPower(VotingPowerFeature {})) };
            let request = AttachFeatureRequest { sender: sender.clone(), asset: asset.clone(), feature: Some(feature) };
            let accepted = compliance().attach_feature(keyed(request, "attach-votes")).await?.into_inner();
            let operation = client.finished(accepted.operation).await?;
            if let Ok(result) = serde_json::from_str::<serde_json::Value>(&operation.result_json) {
                *votes.borrow_mut() = result["module"].as_str().unwrap_or_default().to_owned();
            }
            Ok(Outcome::of(&operation))
        })
        .await;
    let contract = votes.into_inner();
    steps
        .run("let a contract receive without an identity", "completed", async {
            let (sender, asset, account) = (sender.clone(), asset.clone(), contract.clone());
            let request = SetIdentityExemptionRequest { sender, asset, account, exempt: true };
            let accepted = compliance().set_identity_exemption(keyed(request, "exempt")).await?.into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
    steps
        .run("read who is exempt", "the contract, not bob", async {
            let accounts = vec![contract.clone(), parties.bob.text.clone()];
            let request = GetExemptionsRequest { asset: asset.clone(), accounts };
            let found = compliance().get_exemptions(request).await?.into_inner().exemptions;
            let exempt: Vec<bool> = found.iter().map(|one| one.identity).collect();
            Ok(Outcome::said(match exempt[..] {
                [true, false] => "the contract, not bob".to_owned(),
                _ => format!("{exempt:?}"),
            }))
        })
        .await;
    steps
        .run("say what holders need as an expression", "completed", async {
            let claims = ClaimExpression { form: Some(claim_expression::Form::Text("kyc".to_owned())) };
            let policy = Some(set_policy_request::Policy::Claims(claims));
            let request = SetPolicyRequest { sender: sender.clone(), asset: asset.clone(), policy };
            let accepted = compliance().set_policy(keyed(request, "policy")).await?.into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
}

async fn recovery(client: &Client, parties: &Parties, steps: &mut Steps) {
    let (sender, lost_wallet, new_wallet) =
        (parties.issuer.text.clone(), parties.alice.text.clone(), parties.alice_new.text.clone());
    let preview = async || {
        let request = PreviewRecoveryRequest {
            sender: sender.clone(),
            lost_wallet: lost_wallet.clone(),
            new_wallet: new_wallet.clone(),
            assets: Vec::new(),
        };
        let seen = IdentityServiceClient::new(client.gateway()).preview_recovery(request).await?.into_inner();
        let balances: Vec<String> = seen.assets.into_iter().map(|one| one.balance).collect();
        let obstacles: Vec<String> = seen.obstacles.into_iter().map(|one| one.reason).collect();
        anyhow::Ok(Outcome::said(format!("balances {balances:?}, obstacles {obstacles:?}")))
    };
    steps.run("preview the recovery of alice's wallet", "balances [\"940\"], obstacles []", preview()).await;
    steps
        .run("recover alice's wallet", "completed", async {
            let request = RecoverWalletRequest {
                sender: sender.clone(),
                lost_wallet: lost_wallet.clone(),
                new_wallet: new_wallet.clone(),
                assets: Vec::new(),
                reason: "phone lost, case 9/2026".to_owned(),
            };
            let accepted = IdentityServiceClient::new(client.gateway())
                .recover_wallet(keyed(request, "recover-alice"))
                .await?
                .into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
}
