//! Operations of one transaction on an asset, on its rules and on what the registry keeps of it: from the command to the accepted order.

use super::{Admitted, Write};
use crate::{
    app::{App, AppHandle},
    domain::{
        Violations,
        asset::{AssetAction, AssetCommand, Authority},
        expression::{Expression, SavedRef},
        feature::FeatureKind,
        rule::{Rule, RuleAction},
    },
    flows::asset::{AssetOrder, RuleTarget, with_asset_flow},
    readers::{assets, expressions, identities::require_topic, modules, systems::require_role},
    store::{
        audit,
        expressions::{Place, put_use},
    },
};
use alloy::primitives::Address;
use dalp_contracts::bindings::AssetToken;
use dalp_engine::AcceptHook;
use dalp_service::Refusal;
use tonic::Request;

/// What a command is sent to, and what it takes that changes under its name.
#[derive(Default)]
struct Resolved {
    rule_target: Option<RuleTarget>,
    registry: Option<Address>,
    policy: Option<Expression>,
    taken: Option<(Place, SavedRef)>,
}

/// Accepts an operation on an asset.
pub(super) async fn command<T: Send + Sync>(
    app: &AppHandle,
    method: &'static str,
    request: Request<T>,
) -> Result<Admitted, Refusal>
where
    for<'m> AssetCommand: TryFrom<&'m T, Error = Violations>,
{
    let write = Write::begin(app, method, &request).await?;
    let command = AssetCommand::try_from(request.get_ref())?;
    run(write, command).await
}

async fn run(write: Write<'_>, command: AssetCommand) -> Result<Admitted, Refusal> {
    write.require_wallet(command.sender).await?;
    let (app, tenant, principal) = (write.app, write.tenant().to_owned(), write.caller.principal.to_string());
    let order = async {
        app.require_asset(&tenant, command.asset).await?;
        match command.action.authority() {
            Authority::System(role) => {
                require_role(&app.chain, &*app.system(&tenant).await?, command.sender, role).await?;
            }
            Authority::OnAsset(right) => {
                assets::require_right(&app.chain, command.asset, command.sender, right).await?;
            }
        }
        let Resolved { rule_target, registry, policy, taken } = resolved(app, &tenant, &command).await?;
        let (owner, principal, said, chain_id) =
            (tenant.clone(), principal.clone(), command.clone(), app.chain.chain_id());
        let intervention = audit::intervention(&command);
        // Rows of our own need a commit of their own; what has none shares one with everybody who asks at the moment.
        let hook = (taken.is_some() || intervention.is_some()).then(|| -> AcceptHook {
            Box::new(move |connection, id| {
                Box::pin(async move {
                    if let Some(one) = taken {
                        put_use(connection, &owner, chain_id, id.0, Some(said.asset), &one).await?;
                    }
                    if let Some(body) = intervention {
                        audit::write_intervention(connection, &owner, &principal, id.0, &said, body).await?;
                    }
                    Ok(())
                })
            })
        });
        let order = AssetOrder { chain_id, rule_target, registry, policy, command: command.clone() };
        Ok((order, hook))
    };
    macro_rules! accept {
        ($flow:ty) => {
            write.accept::<$flow, _>(&command, order).await
        };
    }
    with_asset_flow!(command.action, accept)
}

/// Where a command is sent. Everything that the contracts there would refuse is refused here.
async fn resolved(app: &App, tenant: &str, command: &AssetCommand) -> Result<Resolved, Refusal> {
    let chain = &app.chain;
    let mut resolved = Resolved::default();
    match &command.action {
        AssetAction::AddRule { rule } => {
            let (rule, taken) = written(app, tenant, rule).await?;
            let system = app.system(tenant).await?;
            let module = modules::require(chain, &system, rule.kind().contract()).await?;
            let params = modules::accepted_params(chain, module, &rule, "rule").await?;
            let compliance = chain.read(command.asset, AssetToken::complianceCall {}).await?;
            resolved.rule_target = Some(RuleTarget { compliance, module, params });
            resolved.taken = taken;
        }
        AssetAction::RemoveRule { module } => {
            let compliance = chain.read(command.asset, AssetToken::complianceCall {}).await?;
            resolved.rule_target = Some(RuleTarget { compliance, module: *module, ..RuleTarget::default() });
        }
        AssetAction::Rules(action) => {
            let mut target = modules::bound(chain, command.asset, action.rule()).await?;
            match action {
                RuleAction::SetParameters { rule } => {
                    let (rule, taken) = written(app, tenant, rule).await?;
                    modules::refuse_fixed(chain, &target, &rule, "rule").await?;
                    target.params = modules::accepted_params(chain, target.module, &rule, "rule").await?;
                    resolved.taken = taken;
                }
                RuleAction::Approve { expires_at, .. } => {
                    modules::require_approver(chain, &target, command.sender).await?;
                    modules::require_expiry(chain, &target, *expires_at).await?;
                }
                RuleAction::RevokeApproval { movement } => {
                    modules::require_approver(chain, &target, command.sender).await?;
                    modules::require_approval(chain, &target, movement).await?;
                }
                RuleAction::SetListEntries { .. }
                | RuleAction::SetExemption { .. }
                | RuleAction::CountHolders { .. } => {}
            }
            resolved.rule_target = Some(target);
        }
        AssetAction::SetFeature { feature } => {
            let mut target = modules::attached(chain, command.asset, feature.kind()).await?;
            target.params = modules::accepted_feature(chain, target.module, feature, "feature").await?;
            resolved.rule_target = Some(target);
        }
        AssetAction::CollectManagementFee => {
            resolved.rule_target = Some(modules::attached(chain, command.asset, FeatureKind::ManagementFee).await?);
        }
        AssetAction::SetPolicy { policy } => {
            let system = app.system(tenant).await?;
            resolved.registry = Some(system.identity_registry);
            if let Some(claims) = policy {
                let (expression, saved) = expressions::written(app, tenant, claims).await?;
                for topic in expression.topics() {
                    require_topic(chain, &system, topic).await?;
                }
                resolved.policy = Some(expression);
                resolved.taken = saved.map(|saved| (Place::Policy, saved));
            }
        }
        AssetAction::SetIdentityExemption { account, exempt } => {
            if *exempt {
                assets::require_contract(chain, "account", *account).await?;
            }
            resolved.registry = Some(app.system(tenant).await?.identity_registry);
        }
        _ => {}
    }
    Ok(resolved)
}

/// A rule with its claims written down and its topics known, and the version that it takes of a saved expression.
async fn written(app: &App, tenant: &str, rule: &Rule) -> Result<(Rule, Option<(Place, SavedRef)>), Refusal> {
    let system = app.system(tenant).await?;
    let (rule, saved) = expressions::rule_written(app, tenant, rule).await?;
    for topic in rule.topics() {
        require_topic(&app.chain, &system, topic).await?;
    }
    Ok((rule, saved.map(|saved| (Place::Rule, saved))))
}
