//! What the audit says beside the acceptance of an operation.

use crate::{
    domain::asset::{AssetAction, AssetCommand},
    flows::recovery::{RecoverWalletFlow, RecoverWalletOrder},
};
use dalp_engine::Flow as _;
use serde_json::{Value, json};
use uuid::Uuid;

/// What an operator did to somebody's holding and why, for actions that need a reason. `None`: the action is no intervention.
pub(crate) fn intervention(command: &AssetCommand) -> Option<Value> {
    let text = |address: &alloy::primitives::Address| address.to_checksum(None);
    let (mut body, reason) = match &command.action {
        AssetAction::ForcedTransfer { from, to, amount, reason } => {
            (json!({"from": text(from), "to": text(to), "amount": amount.to_string()}), reason)
        }
        AssetAction::SetAddressFrozen { holder, frozen, reason } => {
            (json!({"holder": text(holder), "frozen": frozen}), reason)
        }
        AssetAction::FreezePartial { holder, amount, reason }
        | AssetAction::UnfreezePartial { holder, amount, reason } => {
            (json!({"holder": text(holder), "amount": amount.to_string()}), reason)
        }
        AssetAction::Mint { .. }
        | AssetAction::Burn { .. }
        | AssetAction::Transfer { .. }
        | AssetAction::Pause
        | AssetAction::Unpause
        | AssetAction::GrantRole { .. }
        | AssetAction::RevokeRole { .. }
        | AssetAction::AddRule { .. }
        | AssetAction::RemoveRule { .. }
        | AssetAction::Rules(_)
        | AssetAction::SetFeature { .. }
        | AssetAction::CollectManagementFee
        | AssetAction::SetPolicy { .. }
        | AssetAction::SetIdentityExemption { .. } => return None,
    };
    body["reason"] = json!(reason);
    body["sender"] = json!(text(&command.sender));
    Some(body)
}

/// Writes an intervention; runs in the commit that accepts the operation, so that there is none without its reason.
pub(crate) async fn write_intervention(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    principal: &str,
    operation_id: Uuid,
    command: &AssetCommand,
    mut body: Value,
) -> Result<(), sqlx::Error> {
    body["operation_id"] = json!(operation_id);
    let asset = command.asset.to_checksum(None);
    dalp_engine::audit_leaf(connection, tenant, command.action.kind(), principal, &asset, body).await
}

/// Writes who had a lost wallet recovered and why; runs in the commit that accepts the operation.
pub(crate) async fn recovery(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    principal: &str,
    operation_id: Uuid,
    order: &RecoverWalletOrder,
) -> Result<(), sqlx::Error> {
    let text = |address: &alloy::primitives::Address| address.to_checksum(None);
    let command = &order.command;
    let body = json!({
        "identity": text(&order.identity),
        "new_wallet": text(&command.new_wallet),
        "assets": order.assets.iter().map(text).collect::<Vec<_>>(),
        "reason": command.reason,
        "sender": text(&command.sender),
        "operation_id": operation_id,
    });
    dalp_engine::audit_leaf(connection, tenant, RecoverWalletFlow::KIND, principal, &text(&command.lost_wallet), body)
        .await
}
