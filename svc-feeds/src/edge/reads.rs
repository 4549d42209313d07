//! Reads of feeds and rounds.

use super::{answers, messages::read_round, no_round};
use crate::{
    app::App,
    domain::{feed::Terms, update::Update},
    readers::feeds,
    store::{directory::StoredFeed, latest::Latest, rounds::StoredRound},
};
use alloy::primitives::{Address, U256, aliases::U80};
use dalp_domain::pages::{bad_page_token, page_size};
use dalp_proto::feeds as proto;
use dalp_service::{Reason, Refusal, fields};
use std::sync::Arc;
use time::OffsetDateTime;

/// An address of a read.
pub(super) fn address(path: &str, text: &str) -> Result<Address, Refusal> {
    Ok(fields::nonzero_address(path, text)?)
}

/// The settings of a feed.
pub(super) async fn feed(app: &App, tenant: &str, asked: &str) -> Result<proto::GetFeedResponse, Refusal> {
    let feed = address("feed", asked)?;
    let (terms, stale_after_s) = settings(app, tenant, feed).await?;
    Ok(proto::GetFeedResponse { feed: Some(answers::feed(feed, &terms, stale_after_s)) })
}

async fn settings(app: &App, tenant: &str, feed: Address) -> Result<(Arc<Terms>, Option<u64>), Refusal> {
    match app.store.feed(tenant, app.chain.chain_id(), feed).await? {
        Some(StoredFeed { terms, stale_after_s, .. }) => Ok((Arc::new(terms), stale_after_s)),
        None => Ok((app.feed(tenant, feed).await?, None)),
    }
}

/// The latest round and its age.
pub(super) async fn latest(
    app: &App,
    tenant: &str,
    request: &proto::GetLatestRequest,
) -> Result<proto::GetLatestResponse, Refusal> {
    let feed = address("feed", &request.feed)?;
    let known = match app.latest.of(tenant, feed).await? {
        Some(known) => known,
        None => {
            let terms = app.feed(tenant, feed).await?;
            Latest { decimals: terms.decimals, is_signed: terms.signed.is_some(), stale_after_s: None, round: None }
        }
    };
    let mut answer = proto::GetLatestResponse {
        decimals: known.decimals.into(),
        max_age_s: if request.max_age_s == 0 { known.stale_after_s.unwrap_or_default() } else { request.max_age_s },
        ..Default::default()
    };
    if known.is_signed {
        let latest =
            known.round.ok_or_else(|| Refusal::new(Reason::FeedRoundUnavailable, "the feed has no round yet"))?;
        answer.value = latest.value.to_string();
        answer.observed_at = latest.observed_at;
        answer.round_id = latest.round_id.to_string();
        answer.block_number = latest.block;
    } else {
        let latest = feeds::latest(&app.chain, feed).await?;
        answer.value = latest.value.to_string();
        answer.observed_at = latest.observed_at;
        answer.round_id = latest.round_id.to_string();
    }
    let now_s = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
    answer.age_s = now_s.saturating_sub(answer.observed_at);
    answer.stale = answer.max_age_s != 0 && answer.age_s > answer.max_age_s;
    Ok(answer)
}

/// One round, from the index or from the feed itself.
pub(super) async fn round(
    app: &App,
    tenant: &str,
    request: &proto::GetRoundRequest,
) -> Result<proto::GetRoundResponse, Refusal> {
    let (feed, round_id) = (address("feed", &request.feed)?, read_round(&request.round_id)?);
    let terms = app.feed(tenant, feed).await?;
    let round = if request.on_chain || terms.signed.is_none() {
        answers::on_chain_round(feeds::round(&app.chain, feed, U80::from(round_id)).await?)
    } else {
        answers::round(&stored_round(app, tenant, feed, round_id).await?)
    };
    Ok(proto::GetRoundResponse { round: Some(round) })
}

async fn stored_round(app: &App, tenant: &str, feed: Address, round_id: u128) -> Result<StoredRound, Refusal> {
    let round_id = u64::try_from(round_id).map_err(|_| no_round())?;
    app.store.round(tenant, app.chain.chain_id(), feed, round_id).await?.ok_or_else(no_round)
}

/// Rounds of a feed, newest first.
pub(super) async fn rounds(
    app: &App,
    tenant: &str,
    request: &proto::ListRoundsRequest,
) -> Result<proto::ListRoundsResponse, Refusal> {
    let (feed, limit) = (address("feed", &request.feed)?, page_size(request.page_size)?);
    app.feed(tenant, feed).await?;
    let below = match request.page_token.as_str() {
        "" => None,
        token => Some(token.parse::<u64>().map_err(|_| bad_page_token())?),
    };
    let mut rounds = app.store.rounds(tenant, app.chain.chain_id(), feed, below, limit + 1).await?;
    let more = rounds.len() > limit as usize;
    rounds.truncate(limit as usize);
    let next_page_token = rounds.last().filter(|_| more).map(|last| last.round_id.to_string()).unwrap_or_default();
    Ok(proto::ListRoundsResponse { rounds: rounds.iter().map(answers::round).collect(), next_page_token })
}

/// The nonce that an issuer's next update must carry.
pub(super) async fn nonce(
    app: &App,
    tenant: &str,
    request: &proto::GetNonceRequest,
) -> Result<proto::GetNonceResponse, Refusal> {
    let (feed, named) = (address("feed", &request.feed)?, address("issuer", &request.issuer)?);
    app.signed_feed(tenant, feed).await?;
    let system = app.system(tenant).await?;
    let issuer = feeds::issuer_of(&app.chain, system.identity_registry, named).await?;
    let ahead = app.queue.ahead(tenant, issuer, &[feed]).await?;
    let last = feeds::last_nonce(&app.chain, feed, issuer).await?;
    let waiting = ahead.get(&feed).copied().unwrap_or_default();
    Ok(proto::GetNonceResponse {
        next_nonce: last.saturating_add(1),
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
    })
}

/// Verifies a round from what is stored alone.
pub(super) async fn verify(
    app: &App,
    tenant: &str,
    request: &proto::VerifyRoundRequest,
) -> Result<proto::VerifyRoundResponse, Refusal> {
    let (feed, round_id) = (address("feed", &request.feed)?, read_round(&request.round_id)?);
    let chain_id = app.chain.chain_id();
    let stored = app.store.feed(tenant, chain_id, feed).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such feed").meta("feed", feed.to_checksum(None))
    })?;
    let signed = stored.terms.signed.as_ref().ok_or_else(no_round)?;
    let round = stored_round(app, tenant, feed, round_id).await?;
    let update = Update {
        topic_id: stored.terms.pair.topic_id,
        schema_hash: signed.schema_hash,
        value: round.value,
        observed_at: round.observed_at,
        nonce: round.nonce,
        deadline: U256::from(round.deadline),
    };
    let recovered = update.recover(chain_id, feed, &round.signature);
    Ok(proto::VerifyRoundResponse {
        round: Some(answers::round(&round)),
        valid: recovered.is_some() && recovered == round.signer,
        digest: update.digest(chain_id, feed).to_string(),
        recovered: recovered.map(answers::text).unwrap_or_default(),
    })
}
