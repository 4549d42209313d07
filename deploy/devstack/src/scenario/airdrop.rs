//! An airdrop of the bond: a list with one who may hold it and one who may not, pushed.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use dalp_proto::asset::MintRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::compliance::SetIdentityExemptionRequest;
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::distribution::airdrop_service_client::AirdropServiceClient;
use dalp_proto::distribution::{
    AirdropHeader, AirdropKind, AirdropTerms, CreateAirdropRequest, GetAirdropRequest, ListEnd, ListFormat, ListHeader,
    PushAirdropRequest, create_airdrop_request::Part,
};

use super::{Outcome, Parties, Steps};
use crate::client::{Client, keyed, reason};

/// How long a push of two may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Creates, funds and pushes the airdrop.
pub(super) async fn run(client: &Client, parties: &Parties, token: &str, steps: &mut Steps) {
    let issuer = &parties.issuer.text;
    let (alice, carol) = (&parties.alice_new.text, &parties.carol.text);
    let airdrop = RefCell::new(String::new());
    let upload = async |list: String, key: &str| {
        let request = keyed(tokio_stream::iter(messages(issuer, token, list)), key);
        AirdropServiceClient::new(client.gateway()).create_airdrop(request).await
    };
    steps
        .run("airdrop to a list that pays alice twice", "refused RECIPIENT_LIST_INVALID", async {
            Ok(match upload(format!("{alice},10\n{alice},10\n"), "airdrop-twice").await {
                Ok(_) => Outcome::said("accepted"),
                Err(status) => Outcome::said(format!("refused {}", reason(&status))),
            })
        })
        .await;
    steps
        .run("create an airdrop to alice and carol", "completed", async {
            let created = upload(format!("{alice},10\n{carol},10\n"), "airdrop").await?.into_inner();
            *airdrop.borrow_mut() = created.airdrop;
            Ok(Outcome::of(&client.finished(created.operation).await?))
        })
        .await;
    let airdrop = airdrop.into_inner();
    steps
        .run("admit the airdrop as a holder and mint 20 to it", "completed", async {
            let exempt = SetIdentityExemptionRequest {
                sender: issuer.clone(),
                asset: token.to_owned(),
                account: airdrop.clone(),
                exempt: true,
            };
            let accepted = ComplianceServiceClient::new(client.gateway())
                .set_identity_exemption(keyed(exempt, "airdrop-exempt"))
                .await?
                .into_inner();
            client.finished(accepted.operation).await?;
            let mint = MintRequest {
                sender: issuer.clone(),
                asset: token.to_owned(),
                to: airdrop.clone(),
                amount: "20".to_owned(),
            };
            let accepted =
                AssetServiceClient::new(client.gateway()).mint(keyed(mint, "airdrop-fund")).await?.into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
    steps
        .run("push the airdrop; carol's country is barred", "1 paid, 1 skipped", async {
            let push = PushAirdropRequest { sender: issuer.clone(), airdrop: airdrop.clone() };
            AirdropServiceClient::new(client.gateway()).push_airdrop(push).await?;
            tried(client, &airdrop).await
        })
        .await;
}

/// Header, list and end.
fn messages(issuer: &str, token: &str, list: String) -> Vec<CreateAirdropRequest> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map(|age| age.as_secs()).unwrap_or_default();
    let terms = AirdropTerms {
        sender: issuer.to_owned(),
        kind: AirdropKind::Push.into(),
        starts_at: now_s - 60,
        ends_at: now_s + 86_400,
        ..AirdropTerms::default()
    };
    let format = ListFormat::Csv.into();
    let about = ListHeader { asset: token.to_owned(), format, accept_unverified: true };
    let header = AirdropHeader { terms: Some(terms), list: Some(about), leave_out_bad_lines: false };
    let parts = [Part::Header(header), Part::List(list.into_bytes()), Part::End(ListEnd { recipients: 2 })];
    parts.into_iter().map(|part| CreateAirdropRequest { part: Some(part) }).collect()
}

/// What came of everybody, once everybody was tried.
async fn tried(client: &Client, airdrop: &str) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    loop {
        let asked = GetAirdropRequest { airdrop: airdrop.to_owned() };
        let answer = AirdropServiceClient::new(client.gateway()).get_airdrop(asked).await?.into_inner();
        let now = answer.airdrop.and_then(|airdrop| airdrop.progress).context("the answer carries no progress")?;
        if now.left == 0 {
            return Ok(Outcome::said(format!("{} paid, {} skipped", now.paid, now.skipped)));
        }
        ensure!(begun.elapsed() < PATIENCE, "not everybody was tried: {now:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
