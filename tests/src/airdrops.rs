//! Airdrops of a bond under load, as an ordinary client makes them.

use anyhow::{Context as _, ensure};
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_proto::asset::MintRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::compliance::SetIdentityExemptionRequest;
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::distribution::airdrop_service_client::AirdropServiceClient;
use dalp_proto::distribution::{
    AirdropHeader, AirdropKind, AirdropTerms, CreateAirdropRequest, CreateAirdropResponse, ListEnd, ListFormat,
    ListHeader, create_airdrop_request::Part,
};
use dalp_proto::operation::{Operation, OperationState};
use futures::stream;
use tonic::Status;
use uuid::Uuid;

use crate::load::Load;

/// Bytes of a piece of a list.
const PIECE: usize = 64 * 1024;

/// An airdrop to create.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The terms; sender and window are filled in.
    pub terms: AirdropTerms,
    /// The list, as CSV.
    pub list: String,
    /// Recipients that the last message tells of; `None`: it is not sent.
    pub announced: Option<u64>,
    /// Take accounts that are not verified.
    pub accept_unverified: bool,
    /// Leave bad lines out.
    pub leave_out: bool,
}

/// Makes airdrops of a bond.
#[derive(Debug, Clone)]
pub struct Airdrops<'a> {
    /// As whom.
    pub client: &'a Client,
    /// Of what.
    pub load: &'a Load,
}

// === impl Wanted ===

impl Wanted {
    /// An airdrop of a kind, open from now on for a while, to everybody on a list.
    #[must_use]
    pub fn of(kind: AirdropKind, rows: &[(String, u64)], now_s: u64) -> Self {
        let list = rows.iter().map(|(account, amount)| format!("{account},{amount}\n")).collect();
        let terms = AirdropTerms {
            kind: kind.into(),
            starts_at: now_s - 60,
            ends_at: now_s + 86_400,
            duration_s: if kind == AirdropKind::Vesting { 1_000 } else { 0 },
            ..AirdropTerms::default()
        };
        let announced = Some(rows.len() as u64);
        Self { terms, list, announced, accept_unverified: false, leave_out: false }
    }
}

// === impl Airdrops ===

impl Airdrops<'_> {
    /// The service.
    #[must_use]
    pub fn service(&self) -> AirdropServiceClient<Gateway> {
        AirdropServiceClient::new(self.client.gateway())
    }

    fn asset(&self) -> String {
        self.load.token.to_checksum(None)
    }

    /// Sends a list.
    ///
    /// # Errors
    /// As the platform refuses it.
    pub async fn upload(&self, wanted: &Wanted, key: &str) -> Result<CreateAirdropResponse, Status> {
        let header = AirdropHeader {
            terms: Some(AirdropTerms { sender: self.load.issuer.text.clone(), ..wanted.terms.clone() }),
            list: Some(ListHeader {
                asset: self.asset(),
                format: ListFormat::Csv.into(),
                accept_unverified: wanted.accept_unverified,
            }),
            leave_out_bad_lines: wanted.leave_out,
        };
        let message = |part| CreateAirdropRequest { part: Some(part) };
        let mut messages = vec![message(Part::Header(header))];
        messages.extend(wanted.list.as_bytes().chunks(PIECE).map(|piece| message(Part::List(piece.to_vec()))));
        messages.extend(wanted.announced.map(|recipients| message(Part::End(ListEnd { recipients }))));
        Ok(self.service().create_airdrop(keyed(stream::iter(messages), key)).await?.into_inner())
    }

    /// Creates an airdrop, admits its contract as a holder and mints to it. Its address.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn create(&self, wanted: &Wanted, funds: u64) -> anyhow::Result<String> {
        let created = self.upload(wanted, &key()).await?;
        self.completed(created.operation).await?;
        self.make_ready(&created.airdrop, funds).await?;
        Ok(created.airdrop)
    }

    /// Admits an airdrop as a holder and mints to it.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn make_ready(&self, airdrop: &str, funds: u64) -> anyhow::Result<()> {
        let exempt = SetIdentityExemptionRequest {
            sender: self.load.issuer.text.clone(),
            asset: self.asset(),
            account: airdrop.to_owned(),
            exempt: true,
        };
        let accepted =
            ComplianceServiceClient::new(self.client.gateway()).set_identity_exemption(keyed(exempt, &key())).await?;
        self.completed(accepted.into_inner().operation).await?;
        self.fund(airdrop, funds).await
    }

    /// Mints to an airdrop.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn fund(&self, airdrop: &str, amount: u64) -> anyhow::Result<()> {
        let mint = MintRequest {
            sender: self.load.issuer.text.clone(),
            asset: self.asset(),
            to: airdrop.to_owned(),
            amount: amount.to_string(),
        };
        let accepted = AssetServiceClient::new(self.client.gateway()).mint(keyed(mint, &key())).await?.into_inner();
        self.completed(accepted.operation).await.map(drop)
    }

    /// The result of an operation that must complete.
    ///
    /// # Errors
    /// When it does not.
    pub async fn completed(&self, accepted: Option<Operation>) -> anyhow::Result<serde_json::Value> {
        let operation = self.client.finished(accepted).await?;
        ensure!(operation.state() == OperationState::Completed, "{} did not complete: {operation:?}", operation.kind);
        serde_json::from_str(&operation.result_json).context("the result is no JSON")
    }
}

/// A key of its own.
#[must_use]
pub fn key() -> String {
    Uuid::new_v4().to_string()
}
