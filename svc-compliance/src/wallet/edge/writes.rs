//! Everything that changes wallets and user operations: command, right, what the chain says, acceptance.

use super::{Write, answers, messages::Cancel, user_operation_of, wallet_of};
use crate::{
    app::{App, AppHandle},
    metric_definitions as metric,
    wallet::{
        commands::{
            Approve, CALL_GAS_MAX, CreateWallet, DEADLINE_AHEAD_MAX_S, DeployWallet, OPEN_OF_TENANT_MAX,
            OPEN_OF_WALLET_MAX, Propose,
        },
        flows::{ApproveFlow, ApproveOrder, DeployFlow, DeployOrder, ProposeFlow, ProposeOrder},
        operation::{self, UserOperation},
        readers::{self, Account},
        state::State,
        store::{
            approvals::put_approval,
            operations::{StoredUserOperation, put_user_operation},
        },
    },
};
use alloy::primitives::{Address, Bytes};
use dalp_contracts::deployer::ENTRY_POINT;
use dalp_domain::{Admitted, Desk as _, Head, refusals::engine_store};
use dalp_engine::{AcceptHook, OperationId, OperationState, TenantId};
use dalp_proto::wallet as proto;
use dalp_service::{Caller, Reason, Refusal, caller::ANY_WALLET};
use tonic::Request;
use uuid::Uuid;

fn counted<T>(answer: Result<T, Refusal>) -> Result<T, Refusal> {
    answer.inspect_err(|refusal| metric::wallet_refused(refusal.reason().as_str()))
}

/// Notes a wallet. A repeat that says the same answers alike.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    request: &proto::CreateSmartWalletRequest,
) -> Result<proto::CreateSmartWalletResponse, Refusal> {
    let command = CreateWallet::try_from(request)?;
    let tenant = caller.tenant.as_str();
    let factory = readers::factory(&app.chain, app.system(tenant).await?.system).await?;
    let wallet = readers::predicted(&app.chain, factory, &command).await?;
    if command.config.signers.iter().any(|(signer, _)| *signer == wallet) || command.config.guardian == Some(wallet) {
        return Err(Refusal::new(Reason::InvalidField, "the wallet would sign for itself")
            .field("signers", "must not name the wallet itself"));
    }
    let principal = caller.principal.as_str();
    app.store.create_wallet(tenant, principal, app.chain.chain_id(), wallet, &command).await?;
    let stored = app.store.wallet(tenant, app.chain.chain_id(), wallet).await?;
    match stored.filter(|stored| stored.name == command.name) {
        Some(stored) => Ok(proto::CreateSmartWalletResponse { wallet: Some(answers::wallet(&stored)) }),
        None => {
            let text = "the tenant has this wallet under another name, or another wallet under this name";
            Err(Refusal::new(Reason::AlreadyExists, text).meta("wallet", wallet.to_checksum(None)))
        }
    }
}

/// Accepts a deployment.
pub(super) async fn deploy(
    app: &AppHandle,
    request: Request<proto::DeploySmartWalletRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.wallet.v1.SmartWalletService/DeploySmartWallet", &request).await?;
    let command = DeployWallet::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let order = counted(deployment(app, &tenant, &command).await)?;
        Ok((order, None))
    };
    write.accept::<DeployFlow, _>(&command, order).await
}

async fn deployment(app: &App, tenant: &str, command: &DeployWallet) -> Result<DeployOrder, Refusal> {
    let stored = wallet_of(app, tenant, command.wallet).await?;
    if app.chain.has_code(command.wallet).await? {
        return Err(Refusal::new(Reason::AlreadyExists, "the wallet is deployed")
            .meta("wallet", command.wallet.to_checksum(None)));
    }
    let factory = readers::factory(&app.chain, app.system(tenant).await?.system).await?;
    let asked = CreateWallet { name: stored.name, config: stored.config.clone(), salt: stored.salt };
    if readers::predicted(&app.chain, factory, &asked).await? != command.wallet {
        let text = "the tenant's system has another factory now, which makes the wallet at another address";
        return Err(Refusal::new(Reason::FailedPrecondition, text).meta("factory", factory.to_checksum(None)));
    }
    Ok(DeployOrder {
        chain_id: app.chain.chain_id(),
        factory,
        config: stored.config,
        salt: stored.salt,
        command: command.clone(),
    })
}

/// Accepts a proposal.
pub(super) async fn propose(
    app: &AppHandle,
    request: Request<proto::ProposeUserOperationRequest>,
) -> Result<(Admitted, proto::UserOperation), Refusal> {
    let write = Write::begin(app, "dalp.wallet.v1.SmartWalletService/ProposeUserOperation", &request).await?;
    let command = Propose::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant, principal) = (write.app, write.tenant().to_owned(), write.caller.principal.as_str().to_owned());
    let order = async {
        let (order, head) = counted(proposal(app, &tenant, &command).await)?;
        let (owner, written) = (tenant.clone(), order.clone());
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(
                async move { put_user_operation(connection, &owner, &principal, id.0, head.number, &written).await },
            )
        });
        Ok((order, Some(hook)))
    };
    let admitted = write.accept::<ProposeFlow, _>(&command, order).await?;
    if !admitted.replayed {
        metric::user_operation_stands(State::Pending);
    }
    let answer = answer(app, &tenant, admitted.operation.operation_id.0).await?;
    Ok((admitted, answer))
}

/// What is signed. Everything that stands against it now is found before anybody is asked to sign.
async fn proposal(app: &App, tenant: &str, command: &Propose) -> Result<(ProposeOrder, Head), Refusal> {
    wallet_of(app, tenant, command.wallet).await?;
    let (chain, head) = (&app.chain, app.chain.latest().await?);
    let account = require_account(app, command.wallet, head).await?;
    if command.deadline_s <= head.timestamp_s || command.deadline_s > head.timestamp_s + DEADLINE_AHEAD_MAX_S {
        let text = format!("must be later than the latest block, which is of {}, by at most 90 days", head.timestamp_s);
        return Err(
            Refusal::new(Reason::InvalidField, "the deadline is over, or too far ahead").field("deadline", text)
        );
    }
    require_entry_point(app, account.entry_point, head).await?;
    readers::rehearsed(chain, account.entry_point, command, head).await?;
    require_room(app, tenant, command.wallet).await?;
    let call_gas_limit = match command.call_gas_limit {
        Some(given) => given,
        None => {
            let gas = chain.gas(account.entry_point, command.wallet, command.call_data().to_vec()).await?;
            let refused = || Refusal::new(Reason::SimulationReverted, "the gas of the calls cannot be estimated");
            let gas = gas.ok_or_else(refused)?;
            if gas > CALL_GAS_MAX {
                let text = format!("take {gas} gas, and a user operation gets at most {CALL_GAS_MAX}");
                return Err(Refusal::new(Reason::InvalidField, "the calls take too much gas").field("calls", text));
            }
            operation::call_gas(gas).min(CALL_GAS_MAX)
        }
    };
    let ample = operation::verification_gas(account.signers.signers.len());
    let user_operation = UserOperation {
        chain_id: chain.chain_id(),
        entry_point: account.entry_point,
        wallet: command.wallet,
        nonce: operation::nonce(command.deadline_s, Uuid::new_v4()),
        call_data: command.call_data(),
        call_gas_limit,
        verification_gas_limit: command.verification_gas_limit.unwrap_or(ample),
    };
    Ok((ProposeOrder { user_operation, command: command.clone() }, head))
}

/// Each is looked at in every turn of the driver, so that there is an end to how many there are.
async fn require_room(app: &App, tenant: &str, wallet: Address) -> Result<(), Refusal> {
    let (of_wallet, of_tenant) = app.store.open_user_operations(tenant, wallet).await?;
    if of_wallet < OPEN_OF_WALLET_MAX && of_tenant < OPEN_OF_TENANT_MAX {
        return Ok(());
    }
    let text = "too many user operations are open: they end at their deadlines, or are cancelled";
    Err(Refusal::new(Reason::TenantQuotaExceeded, text)
        .meta("wallet", wallet.to_checksum(None))
        .meta("open_of_wallet", of_wallet)
        .meta("open_of_tenant", of_tenant))
}

async fn require_account(app: &App, wallet: Address, head: Head) -> Result<Account, Refusal> {
    readers::account(&app.chain, wallet, head).await?.ok_or_else(|| {
        Refusal::new(Reason::WalletNotDeployed, "the smart wallet is not deployed; DeploySmartWallet deploys it")
            .meta("wallet", wallet.to_checksum(None))
    })
}

/// The accounts of this release obey one entry point. The attestor knows that one, and on a chain that lacks it a wallet cannot act.
async fn require_entry_point(app: &App, entry_point: Address, head: Head) -> Result<(), Refusal> {
    if entry_point == ENTRY_POINT && readers::has_code(&app.chain, entry_point, head).await? {
        return Ok(());
    }
    let text = "the wallet's entry point is not on the chain, or none that the platform works with";
    Err(Refusal::new(Reason::FailedPrecondition, text).meta("entry_point", entry_point.to_checksum(None)))
}

/// Accepts an approval.
pub(super) async fn approve(
    app: &AppHandle,
    request: Request<proto::ApproveUserOperationRequest>,
) -> Result<(Admitted, proto::UserOperation), Refusal> {
    let write = Write::begin(app, "dalp.wallet.v1.SmartWalletService/ApproveUserOperation", &request).await?;
    let command = Approve::try_from(request.get_ref())?;
    if command.by_platform_key() && write.repeated.is_none() {
        require_own_key(&write, &command).await?;
    }
    let (app, tenant, principal) = (write.app, write.tenant().to_owned(), write.caller.principal.as_str().to_owned());
    let order = async {
        let (order, brought) = counted(approval(app, &tenant, &principal, &command).await)?;
        let noted = command.clone();
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(async move { put_approval(connection, &principal, id.0, &noted, brought.as_ref()).await })
        });
        Ok((order, Some(hook)))
    };
    let admitted = write.accept::<ApproveFlow, _>(&command, order).await?;
    app.approved.notify_one();
    if !admitted.replayed {
        metric::user_operation_approved(command.by_platform_key());
    }
    let answer = answer(app, &tenant, command.user_operation_id).await?;
    Ok((admitted, answer))
}

/// Whether the approval counts on the chain as it is now.
async fn approval(
    app: &App,
    tenant: &str,
    principal: &str,
    command: &Approve,
) -> Result<(ApproveOrder, Option<Bytes>), Refusal> {
    let stored = user_operation_of(app, tenant, command.user_operation_id).await?;
    require_pending(&stored)?;
    let head = app.chain.latest().await?;
    let deadline = stored.user_operation.deadline_s();
    if head.timestamp_s > deadline {
        let text = "the deadline of the user operation has passed";
        return Err(Refusal::new(Reason::UserOperationExpired, text).meta("deadline", deadline));
    }
    let account = require_account(app, stored.command.wallet, head).await?;
    if account.signers.weight_of(command.signer).is_none() {
        return Err(Refusal::new(Reason::NotASigner, "the address does not sign for the smart wallet")
            .meta("signer", command.signer.to_checksum(None))
            .meta("wallet", stored.command.wallet.to_checksum(None)));
    }
    let ours = command.by_platform_key();
    if ours {
        require_released(app, tenant, &stored).await?;
    }
    let given = app.store.approvals(&[stored.id]).await?;
    let twice = |one: &&crate::wallet::store::approvals::StoredApproval| {
        one.signer == command.signer || (ours && one.platform_key && one.approved_by == principal)
    };
    if let Some(earlier) = given.iter().find(twice) {
        return Err(already_approved().meta("signer", earlier.signer.to_checksum(None)));
    }
    let mut in_form = None;
    if let Some(signature) = &command.signature {
        let taken = readers::verified(&app.chain, command.signer, stored.hash, signature, head).await?;
        let wrong = || {
            Refusal::new(
                Reason::SignatureInvalid,
                "the signature is not the signer's over the hash of the user operation",
            )
            .meta("signer", command.signer.to_checksum(None))
            .meta("hash", stored.hash)
        };
        in_form = Some(taken.ok_or_else(wrong)?);
    }
    Ok((ApproveOrder { user_operation: stored.user_operation, command: command.clone() }, in_form))
}

/// A key of the platform signs for who owns it, and for nobody who may use any wallet: approvals count people, and one person with that right would be many.
async fn require_own_key(write: &Write<'_>, command: &Approve) -> Result<(), Refusal> {
    let owner = write.app.rights().require_wallet(&write.caller, command.signer).await?;
    if owner == write.caller.principal.as_str() {
        return Ok(());
    }
    let text = "an approval takes the signer's own principal, whoever else may use the wallet";
    counted(Err(Refusal::new(Reason::WalletNotOwned, text).meta("wallet", command.signer.to_checksum(None))))
}

/// No key of the platform signs what a second person has yet to release: the signature would be good without that person.
async fn require_released(app: &App, tenant: &str, stored: &StoredUserOperation) -> Result<(), Refusal> {
    let id = OperationId(stored.id);
    let proposal = app.engine.reader().get_operation(&TenantId::new(tenant), id).await.map_err(engine_store)?;
    match proposal.map(|proposal| proposal.state) {
        Some(OperationState::Completed) => Ok(()),
        _ => Err(Refusal::new(Reason::AwaitingChecker, "the proposal has not been released yet")
            .meta("operation_id", stored.id)),
    }
}

/// The refusal of a second approval.
pub(crate) fn already_approved() -> Refusal {
    Refusal::new(Reason::AlreadyApproved, "the signer, or this principal with another key, has approved before")
}

/// The refusal of what comes too late.
pub(super) fn closed(state: Option<State>) -> Refusal {
    let refusal = Refusal::new(Reason::UserOperationClosed, "the user operation was sent, or has ended");
    match state {
        Some(state) => refusal.meta("state", state.name()),
        None => refusal,
    }
}

fn require_pending(stored: &StoredUserOperation) -> Result<(), Refusal> {
    match stored.state {
        State::Pending => Ok(()),
        State::Expired => {
            Err(Refusal::new(Reason::UserOperationExpired, "the deadline of the user operation has passed")
                .meta("deadline", stored.user_operation.deadline_s()))
        }
        state => Err(closed(Some(state))),
    }
}

/// Gives a user operation up. Repeating it changes nothing.
pub(super) async fn cancel(
    app: &App,
    caller: &Caller,
    request: &proto::CancelUserOperationRequest,
) -> Result<proto::CancelUserOperationResponse, Refusal> {
    let Cancel { user_operation_id, reason } = Cancel::try_from(request)?;
    let (tenant, principal) = (caller.tenant.as_str(), caller.principal.as_str());
    let stored = user_operation_of(app, tenant, user_operation_id).await?;
    if stored.proposed_by != principal && !caller.has_role(ANY_WALLET) {
        let text = "who proposed a user operation cancels it, or somebody who may use any wallet";
        return counted(Err(Refusal::new(Reason::PermissionDenied, text).meta("permission", ANY_WALLET)));
    }
    if app.store.cancel_user_operation(&stored, principal, &reason).await? {
        metric::user_operation_stands(State::Cancelled);
    }
    let now = user_operation_of(app, tenant, user_operation_id).await?;
    if now.state != State::Cancelled {
        return counted(Err(closed(Some(now.state))));
    }
    let approvals = app.store.approvals(&[now.id]).await?;
    Ok(proto::CancelUserOperationResponse { user_operation: Some(answers::user_operation(&now, &approvals)) })
}

async fn answer(app: &App, tenant: &str, id: Uuid) -> Result<proto::UserOperation, Refusal> {
    let stored = user_operation_of(app, tenant, id).await?;
    Ok(answers::user_operation(&stored, &app.store.approvals(&[id]).await?))
}
