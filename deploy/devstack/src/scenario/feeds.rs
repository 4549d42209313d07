//! The bond's price: a feed signed by the issuer's key in the HSM, read through the adapter as a contract would.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use anyhow::Context as _;
use dalp_proto::feeds::feed_directory_service_client::FeedDirectoryServiceClient;
use dalp_proto::feeds::feed_service_client::FeedServiceClient;
use dalp_proto::feeds::{CreateAdapterRequest, CreateFeedRequest, HistoryMode, SubmitUpdateRequest};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{AddTrustedIssuerRequest, RegisterTopicRequest};
use dalp_proto::operation::Operation;

use super::{ChainView, Outcome, Parties, Steps};
use crate::client::{Client, keyed};

const TOPIC: &str = "price";

/// Creates the feed, publishes to it and reads it.
pub(super) async fn run(client: &Client, chain: &ChainView, parties: &Parties, token: &str, steps: &mut Steps) {
    let issuer = &parties.issuer.text;
    let feeds = || FeedServiceClient::new(client.gateway());
    prepare(client, issuer, steps).await;
    let feed = RefCell::new(String::new());
    steps
        .run("create a feed of the bond's price", "completed", async {
            let request = CreateFeedRequest {
                sender: issuer.clone(),
                subject: token.to_owned(),
                topic_name: TOPIC.to_owned(),
                decimals: 2,
                description: "EXB31/CHF".to_owned(),
                history_mode: HistoryMode::Full.into(),
                require_positive: true,
                ..CreateFeedRequest::default()
            };
            let accepted = feeds().create_feed(keyed(request, "feed")).await?.into_inner();
            let operation = client.finished(accepted.operation).await?;
            *feed.borrow_mut() = named(&operation, "feed").unwrap_or_default();
            Ok(Outcome::of(&operation))
        })
        .await;
    let feed = feed.into_inner();
    let observed_at = SystemTime::now().duration_since(UNIX_EPOCH).map(|age| age.as_secs()).unwrap_or_default() - 60;
    let submit = async |value: &str, key: &str| {
        let request = SubmitUpdateRequest {
            feed: feed.clone(),
            value: value.to_owned(),
            observed_at,
            sender: issuer.clone(),
            ..SubmitUpdateRequest::default()
        };
        let accepted = feeds().submit_update(keyed(request, key)).await?.into_inner();
        anyhow::Ok(Outcome::of(&client.finished(accepted.operation).await?))
    };
    for (value, price) in [("100150", "1001.50"), ("100175", "1001.75"), ("99950", "999.50")] {
        let name = format!("publish a price of {price}, signed by the HSM");
        steps.run(&name, "completed", submit(value, &format!("price-{value}"))).await;
    }
    steps
        .run(
            "publish a price of 0, which the feed does not take",
            "refused FEED_VALUE_NOT_POSITIVE",
            submit("0", "price-0"),
        )
        .await;
    steps
        .run("read the price through the adapter", "99950 in round 3", async {
            let request = CreateAdapterRequest {
                sender: issuer.clone(),
                subject: token.to_owned(),
                topic_name: TOPIC.to_owned(),
                ..CreateAdapterRequest::default()
            };
            let accepted = FeedDirectoryServiceClient::new(client.gateway())
                .create_adapter(keyed(request, "adapter"))
                .await?
                .into_inner();
            let operation = client.finished(accepted.operation).await?;
            let adapter: Address = named(&operation, "adapter").context("the result names no adapter")?.parse()?;
            let (round, answer) = chain.aggregator(adapter).await?;
            Ok(Outcome { got: format!("{answer} in round {round}"), ..Outcome::of(&operation) })
        })
        .await;
}

async fn prepare(client: &Client, issuer: &str, steps: &mut Steps) {
    let identities = || IdentityServiceClient::new(client.gateway());
    steps
        .run("register the topic price", "completed", async {
            let request = RegisterTopicRequest {
                sender: issuer.to_owned(),
                name: TOPIC.to_owned(),
                signature: "(int256 value)".to_owned(),
            };
            let accepted = identities().register_topic(keyed(request, "topic-price")).await?.into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
    steps
        .run("trust the issuer for price", "completed", async {
            let request = AddTrustedIssuerRequest {
                sender: issuer.to_owned(),
                issuer: issuer.to_owned(),
                topics: vec![TOPIC.to_owned()],
            };
            let accepted = identities().add_trusted_issuer(keyed(request, "trust-price")).await?.into_inner();
            Ok(Outcome::of(&client.finished(accepted.operation).await?))
        })
        .await;
}

fn named(operation: &Operation, field: &str) -> Option<String> {
    let result: serde_json::Value = serde_json::from_str(&operation.result_json).ok()?;
    Some(result[field].as_str()?.to_owned())
}
