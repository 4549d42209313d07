//! What is asked of wallets and user operations.

use super::{answers, messages, user_operation_of, wallet_of};
use crate::{
    app::App,
    domain::Violations,
    wallet::{readers, state::State, store::wallets::StoredWallet},
};
use dalp_domain::{
    Head,
    chain::bounded,
    pages::{bad_page_token, page_size, paged},
};
use dalp_proto::wallet as proto;
use dalp_service::Refusal;

pub(super) async fn wallet(
    app: &App,
    tenant: &str,
    request: &proto::GetSmartWalletRequest,
) -> Result<proto::GetSmartWalletResponse, Refusal> {
    let mut violations = Violations::new();
    let address = violations.address("wallet", &request.wallet);
    let address = violations.into_result(address)?;
    let stored = wallet_of(app, tenant, address).await?;
    let head = app.chain.latest().await?;
    Ok(proto::GetSmartWalletResponse { wallet: Some(view(app, &stored, head).await?) })
}

pub(super) async fn wallets(
    app: &App,
    tenant: &str,
    request: &proto::ListSmartWalletsRequest,
) -> Result<proto::ListSmartWalletsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let below = below(&request.page_token)?;
    let found = app.store.wallets(tenant, below, limit + 1).await?;
    let (found, next_page_token) = paged(found, limit, |last| last.number.to_string());
    let head = app.chain.latest().await?;
    let wallets = bounded(found.iter().map(|stored| view(app, stored, head))).await?;
    Ok(proto::ListSmartWalletsResponse { wallets, next_page_token })
}

async fn view(app: &App, stored: &StoredWallet, head: Head) -> Result<proto::SmartWalletView, Refusal> {
    let account = readers::account(&app.chain, stored.wallet, head).await?;
    Ok(proto::SmartWalletView { wallet: Some(answers::wallet(stored)), on_chain: Some(answers::on_chain(account)) })
}

pub(super) async fn user_operation(
    app: &App,
    tenant: &str,
    request: &proto::GetUserOperationRequest,
) -> Result<proto::GetUserOperationResponse, Refusal> {
    let mut violations = Violations::new();
    let id = messages::id(&mut violations, &request.user_operation_id);
    let id = violations.into_result(id)?;
    let stored = user_operation_of(app, tenant, id).await?;
    let approvals = app.store.approvals(&[id]).await?;
    let (mut approved_weight, mut threshold) = (0, 0);
    if stored.state == State::Pending {
        let head = app.chain.latest().await?;
        if let Some(account) = readers::account(&app.chain, stored.command.wallet, head).await? {
            let signed = approvals.iter().filter(|approval| approval.settled);
            approved_weight = account.signers.weight(signed.map(|approval| approval.signer));
            threshold = account.signers.threshold;
        }
    }
    let user_operation = Some(answers::user_operation(&stored, &approvals));
    Ok(proto::GetUserOperationResponse { user_operation, approved_weight, threshold })
}

pub(super) async fn user_operations(
    app: &App,
    tenant: &str,
    request: &proto::ListUserOperationsRequest,
) -> Result<proto::ListUserOperationsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let below = below(&request.page_token)?;
    let mut violations = Violations::new();
    let wallet = violations.optional_address("wallet", &request.wallet);
    let state = messages::filter(&mut violations, request.state);
    let (wallet, state) = violations.into_result((wallet, state))?;
    let found = app.store.user_operations(tenant, wallet, state, below, limit + 1).await?;
    let (found, next_page_token) = paged(found, limit, |last| last.number.to_string());
    let ids: Vec<_> = found.iter().map(|one| one.id).collect();
    let approvals = app.store.approvals(&ids).await?;
    let user_operations = found.iter().map(|one| answers::user_operation(one, &approvals)).collect();
    Ok(proto::ListUserOperationsResponse { user_operations, next_page_token })
}

/// Below which number a page of a list begins that counts downwards.
fn below(token: &str) -> Result<i64, Refusal> {
    match token {
        "" => Ok(i64::MAX),
        token => token.parse::<i64>().ok().filter(|below| *below > 0).ok_or_else(bad_page_token),
    }
}
