//! Reads of airdrops, proofs and outcomes.

use super::{address, airdrop_of, answers};
use crate::{
    airdrop::{
        readers,
        store::{airdrops::StoredAirdrop, lists::StoredRow, outcomes::Outcome},
        tree::Tree,
    },
    app::App,
    readers::registry_of,
};
use alloy::primitives::{Address, B256};
use dalp_domain::pages::{bad_page_token, page_size};
use dalp_proto::distribution as proto;
use dalp_service::{Reason, Refusal, fields};

/// Transactions that a record names.
const TRANSACTIONS: u32 = 10_000;

/// Where an airdrop stands.
pub(super) async fn progress(app: &App, airdrop: &StoredAirdrop) -> Result<proto::AirdropProgress, Refusal> {
    let chain_id = app.chain.chain_id();
    let counts = app.store.counts(chain_id, airdrop.airdrop).await?;
    let push = app.store.push(chain_id, airdrop.airdrop).await?;
    Ok(answers::progress(airdrop, &counts, push.as_ref()))
}

/// An airdrop with what it holds.
pub(super) async fn airdrop(
    app: &App,
    tenant: &str,
    request: &proto::GetAirdropRequest,
) -> Result<proto::GetAirdropResponse, Refusal> {
    let stored = airdrop_of(app, tenant, address("airdrop", &request.airdrop)?).await?;
    let registry = registry_of(&app.chain, stored.terms.asset).await?;
    let standing = readers::standing(&app.chain, registry, stored.terms.asset, stored.airdrop).await?;
    Ok(proto::GetAirdropResponse {
        airdrop: Some(answers::airdrop(&stored, progress(app, &stored).await?)),
        balance: standing.balance.to_string(),
        admitted: standing.admitted,
        block_number: standing.at.number,
    })
}

/// The row of an account with its proof, and the root it leads to.
pub(super) async fn proven(
    app: &App,
    airdrop: &StoredAirdrop,
    account: Address,
) -> Result<(StoredRow, Vec<B256>, B256), Refusal> {
    let row = app.store.rows_of(airdrop.list_id, &[account]).await?.pop().ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the account is not on the airdrop's list")
            .meta("account", answers::text(account))
    })?;
    let (first, count) = airdrop.parts.of_row(row.place);
    let part = app.store.rows(airdrop.list_id, first, count).await?;
    let recipients: Vec<_> = part.iter().map(|row| row.recipient).collect();
    let tree = Tree::of_part(first, &recipients);
    let leaf = usize::try_from(row.place - first).map_err(Refusal::internal)?;
    Ok((row, tree.proof(leaf), tree.root()))
}

/// The row of an account with its proof.
pub(super) async fn proof(
    app: &App,
    tenant: &str,
    request: &proto::GetProofRequest,
) -> Result<proto::GetProofResponse, Refusal> {
    let airdrop = airdrop_of(app, tenant, address("airdrop", &request.airdrop)?).await?;
    let (row, proof, root) = proven(app, &airdrop, address("account", &request.account)?).await?;
    Ok(proto::GetProofResponse {
        index: row.place,
        account: answers::text(row.recipient.account),
        amount: row.recipient.amount.to_string(),
        root: root.to_string(),
        proof: proof.iter().map(ToString::to_string).collect(),
    })
}

/// A page of recipients.
pub(super) async fn recipients(
    app: &App,
    tenant: &str,
    request: &proto::ListRecipientsRequest,
) -> Result<proto::ListRecipientsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let only = match request.outcome {
        0 => None,
        outcome => Some(match fields::enum_value("outcome", outcome)? {
            proto::RecipientOutcome::Paid => Outcome::Paid,
            proto::RecipientOutcome::Skipped => Outcome::Skipped,
            proto::RecipientOutcome::Vesting => Outcome::Vesting,
            proto::RecipientOutcome::Open | proto::RecipientOutcome::Unspecified => Outcome::Open,
        }),
    };
    let airdrop = airdrop_of(app, tenant, address("airdrop", &request.airdrop)?).await?;
    let from = match request.page_token.as_str() {
        "" => 0,
        token => token.parse::<u64>().ok().filter(|from| *from <= airdrop.recipients).ok_or_else(bad_page_token)?,
    };
    let mut page = app.store.outcomes(app.chain.chain_id(), &airdrop, from, only, limit + 1).await?;
    let next = page.get(limit as usize).map(|next| next.row.place.to_string()).unwrap_or_default();
    page.truncate(limit as usize);
    Ok(proto::ListRecipientsResponse {
        recipients: page.into_iter().map(answers::recipient).collect(),
        next_page_token: next,
    })
}

/// The record of an airdrop.
pub(super) async fn evidence(
    app: &App,
    tenant: &str,
    request: &proto::GetAirdropEvidenceRequest,
) -> Result<proto::GetAirdropEvidenceResponse, Refusal> {
    let airdrop = airdrop_of(app, tenant, address("airdrop", &request.airdrop)?).await?;
    let (chain_id, of) = (app.chain.chain_id(), airdrop.airdrop);
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let paid = app.store.counts(chain_id, of).await?.paid_amount;
    let unpaid = app.store.unpaid(chain_id, of, airdrop.list_id).await?.amount;
    let withdrawn = app.store.withdrawn(chain_id, of, airdrop.terms.asset).await?;
    let transactions = app.store.paying_transactions(chain_id, of, TRANSACTIONS).await?;
    Ok(proto::GetAirdropEvidenceResponse {
        indexed_block,
        listed_amount: airdrop.total.to_string(),
        paid_amount: paid.to_string(),
        unpaid_amount: unpaid.to_string(),
        withdrawn_amount: withdrawn.to_string(),
        outcomes_digest: app.store.outcomes_digest(chain_id, &airdrop).await?.to_string(),
        transactions: transactions.into_iter().map(answers::transaction).collect(),
        airdrop: Some(answers::airdrop(&airdrop, progress(app, &airdrop).await?)),
    })
}
