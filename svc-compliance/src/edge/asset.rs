//! The asset service.

use super::{
    Admitted, Write, asset_messages::class_of, bad_page_token, command::command, page_size, read_address,
    rule_messages::wire_saved, templates, terms_messages::wire_terms,
};
use crate::{
    app::{App, AppHandle, came_to_nothing},
    domain::{
        Violations,
        asset::{BatchTransfer, CreateAsset},
        expression::{Expression, SavedRef},
        feature::{Feature, FeatureKind},
        system::SystemRole,
    },
    flows::{
        batch_transfer::{BatchTransferFlow, BatchTransferOrder},
        create_asset::{CreateAssetFlow, CreateAssetOrder, ModuleConfig},
    },
    readers::{
        assets, bounded, expressions,
        identities::{identity_of, require_topic},
        modules,
        rule_parameters::TopicNames,
        systems::require_role,
    },
    store::{
        assets::{self as stored_assets, StoredAsset},
        expressions::{Place, put_use},
    },
};
use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall as _,
};
use dalp_chain::BlockId;
use dalp_contracts::bindings::AssetToken;
use dalp_engine::{AcceptHook, TransactionState, TransactionView};
use dalp_proto::asset::{self as proto, asset_service_server::AssetService};
use dalp_service::{Caller, Reason, Refusal};
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Items of the batch that is measured.
const MEASURED_ITEMS: usize = 16;
/// Items of one transaction when nothing could be measured, for instance because the first ones would be refused.
const UNMEASURED_ITEMS: usize = 32;
/// The most items of one transaction.
const MOST_ITEMS: usize = 256;

/// Serves `dalp.asset.v1.AssetService`.
pub(super) struct AssetEdge {
    app: AppHandle,
}

impl AssetEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }

    async fn create(&self, request: Request<proto::CreateAssetRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.asset.v1.AssetService/CreateAsset", &request).await?;
        let command = CreateAsset::try_from(request.get_ref())?;
        write.require_wallet(command.issuer).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let (system, chain_id) = (app.system(&tenant).await?, app.chain.chain_id());
            require_role(&app.chain, &system, command.issuer, SystemRole::TokenManager).await?;
            let issuer_identity = identity_of(&app.chain, &system, command.issuer).await?.ok_or_else(|| {
                Refusal::new(Reason::IssuerIdentityMissing, "the issuer has no on-chain identity; register it first")
            })?;
            let name = command.template.as_deref().unwrap_or(command.class.name());
            let template = templates::find(app, &tenant, name).await?;
            let outfit = template.outfit(&command)?;
            require_dates(app, &command).await?;
            let mut taken: Vec<(Place, SavedRef)> = Vec::new();
            let policy = match &outfit.policy {
                Some(claims) => {
                    let (expression, saved) = expressions::written(app, &tenant, claims).await?;
                    taken.extend(saved.map(|saved| (Place::Policy, saved)));
                    Some(expression)
                }
                None => None,
            };
            let asked = policy.as_ref().map(Expression::topics).unwrap_or_default();
            for topic in command.claim_topics.iter().chain(asked) {
                require_topic(&app.chain, &system, topic).await?;
            }
            let mut modules = Vec::new();
            for (path, rule) in &outfit.rules {
                let (rule, saved) = expressions::rule_written(app, &tenant, rule).await?;
                taken.extend(saved.map(|saved| (Place::Rule, saved)));
                for topic in rule.topics() {
                    require_topic(&app.chain, &system, topic).await?;
                }
                let module = modules::require(&app.chain, &system, rule.kind().contract()).await?;
                let params = modules::accepted_params(&app.chain, module, &rule, path).await?;
                modules.push(ModuleConfig { module, params, roles: U256::ZERO });
            }
            // The votes of an asset have a contract of their own, which the flow creates.
            for feature in outfit.features.iter().filter(|feature| feature.kind() != FeatureKind::VotingPower) {
                let kind = feature.kind();
                let module = modules::require(&app.chain, &system, kind.contract()).await?;
                let params = modules::accepted_feature(&app.chain, module, feature, "features").await?;
                modules.push(ModuleConfig { module, params, roles: kind.roles() });
            }
            let replaces = free_symbol(app, &tenant, &command.symbol).await?;
            let (owner, row) = (tenant.clone(), command.clone());
            let hook: AcceptHook = Box::new(move |connection, id| {
                Box::pin(async move {
                    stored_assets::insert(connection, &owner, chain_id, id.0, &row, &template.name, replaces).await?;
                    for one in &taken {
                        put_use(connection, &owner, chain_id, id.0, None, one).await?;
                    }
                    Ok(())
                })
            });
            let order = CreateAssetOrder {
                chain_id,
                asset_factory: system.asset_factory,
                country_rule: None,
                claim_rule: None,
                modules,
                issuer_roles: outfit.roles,
                voting_power: outfit.features.contains(&Feature::VotingPower),
                policy,
                issuer_identity,
                command: command.clone(),
            };
            Ok((order, Some(hook)))
        };
        write.accept::<CreateAssetFlow, _>(&command, order).await
    }

    async fn batch(&self, request: Request<proto::BatchTransferRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.asset.v1.AssetService/BatchTransfer", &request).await?;
        let command = BatchTransfer::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            app.require_asset(&tenant, command.asset).await?;
            let items_per_transaction = items_per_transaction(app, &command).await?;
            Ok((
                BatchTransferOrder { chain_id: app.chain.chain_id(), items_per_transaction, command: command.clone() },
                None,
            ))
        };
        write.accept::<BatchTransferFlow, _>(&command, order).await
    }
}

/// An asset at a block, with what was ordered of it.
async fn view(
    app: &App,
    asset: Address,
    stored: Option<&StoredAsset>,
    block: BlockId,
) -> Result<proto::Asset, Refusal> {
    let view = assets::view(&app.chain, asset, block).await?;
    Ok(proto::Asset {
        asset: asset.to_checksum(None),
        name: view.name,
        symbol: view.symbol,
        decimals: view.decimals.into(),
        asset_class: stored.map(|stored| class_of(stored.class)).unwrap_or_default().into(),
        isin: stored.and_then(|stored| stored.isin.clone()).unwrap_or_default(),
        compliance: view.compliance.to_checksum(None),
        total_supply: view.total_supply.to_string(),
        paused: view.paused,
        chain_id: app.chain.chain_id(),
        identity: view.identity.to_checksum(None),
        template: stored.and_then(|stored| stored.template.clone()).unwrap_or_default(),
        terms: stored.and_then(|stored| stored.terms.as_ref()).map(wire_terms),
        ..Default::default()
    })
}

/// Refuses terms whose days lie on the wrong side of today, by the chain's clock.
async fn require_dates(app: &App, command: &CreateAsset) -> Result<(), Refusal> {
    let Some(terms) = &command.terms else { return Ok(()) };
    if terms.ends().is_none() && terms.happened().is_none() {
        return Ok(());
    }
    let now = i64::try_from(app.chain.latest().await?.timestamp_s).unwrap_or(i64::MAX);
    let mut violations = Violations::new();
    if let Some((field, date)) = terms.ends().filter(|(_, date)| date.begins_at_s() <= now) {
        violations.push(field, format!("is {date}: must lie after today"));
    }
    if let Some((field, date)) = terms.happened().filter(|(_, date)| date.begins_at_s() > now) {
        violations.push(field, format!("is {date}: must not lie after today"));
    }
    Ok(violations.into_result(())?)
}

/// What holders of an asset need, and the saved expression it was made from.
async fn policy(
    app: &App,
    tenant: &str,
    asset: Address,
    block: BlockId,
) -> Result<(String, Option<proto::SavedExpression>), Refusal> {
    let (system, chain_id) = (app.system(tenant).await?, app.chain.chain_id());
    let topics = TopicNames::new(app.store.topics(tenant, chain_id).await?);
    let policy = expressions::policy(&app.chain, system.identity_registry, asset, &topics, block).await?;
    let taken = app.store.expressions_of_asset(tenant, chain_id, asset).await?;
    let taken = taken.into_iter().filter(|one| one.place == Place::Policy).collect();
    let saved = expressions::in_force(app, tenant, taken, &topics, block).await?;
    Ok((policy.to_string(), saved.first().map(|one| wire_saved(&one.saved))))
}

/// Refuses a symbol in use; answers the order that holds it but came to nothing. The constraint decides between two at once.
async fn free_symbol(app: &App, tenant: &str, symbol: &str) -> Result<Option<Uuid>, Refusal> {
    let Some(holder) = app.store.asset_by_symbol(tenant, app.chain.chain_id(), symbol).await? else { return Ok(None) };
    let operation = app.operation(tenant, holder.operation_id).await?;
    let in_vain = operation.is_some_and(|operation| {
        // What was created stays created, also when a later step failed.
        let created = |one: &TransactionView| one.step == "create" && one.state == TransactionState::Completed;
        came_to_nothing(&operation) && !operation.transactions.iter().any(created)
    });
    if in_vain && holder.asset.is_none() {
        return Ok(Some(holder.operation_id));
    }
    let taken = Refusal::new(Reason::SymbolTaken, format!("another asset of the tenant has the symbol {symbol}"));
    Err(match holder.asset {
        Some(asset) => taken.meta("asset", asset.to_checksum(None)),
        None => taken.meta("operation_id", holder.operation_id),
    })
}

/// How many items fit into one transaction, from the gas of a sample.
async fn items_per_transaction(app: &App, command: &BatchTransfer) -> Result<usize, Refusal> {
    let gas_of = |count: usize| {
        let (to_list, amounts) = command.items.iter().take(count).copied().unzip();
        app.chain.gas(
            command.sender,
            command.asset,
            AssetToken::batchTransferCall { toList: to_list, amounts }.abi_encode(),
        )
    };
    let sample = MEASURED_ITEMS.min(command.items.len());
    let items = match gas_of(sample).await? {
        Some(gas) => (app.batch_gas_limit / (gas / sample as u64).max(1)) as usize,
        None => UNMEASURED_ITEMS,
    };
    Ok(items.clamp(1, MOST_ITEMS))
}

macro_rules! writes {
    ($($name:ident: $request:ident -> $response:ident, $method:literal;)+) => {
        #[tonic::async_trait]
        impl AssetService for AssetEdge {
            $(
                async fn $name(&self, request: Request<proto::$request>) -> Result<Response<proto::$response>, Status> {
                    let admitted = command(&self.app, concat!("dalp.asset.v1.AssetService/", $method), request).await?;
                    Ok(admitted.respond(|operation| proto::$response { operation }))
                }
            )+

            async fn create_asset(&self, request: Request<proto::CreateAssetRequest>) -> Result<Response<proto::CreateAssetResponse>, Status> {
                Ok(self.create(request).await?.respond(|operation| proto::CreateAssetResponse { operation }))
            }

            async fn batch_transfer(&self, request: Request<proto::BatchTransferRequest>) -> Result<Response<proto::BatchTransferResponse>, Status> {
                Ok(self.batch(request).await?.respond(|operation| proto::BatchTransferResponse { operation }))
            }

            async fn list_templates(&self, request: Request<proto::ListTemplatesRequest>) -> Result<Response<proto::ListTemplatesResponse>, Status> {
                let caller = Caller::from_request(&request)?;
                Ok(Response::new(templates::list(self.app.get()?, caller.tenant.as_str()).await?))
            }

            async fn get_template(&self, request: Request<proto::GetTemplateRequest>) -> Result<Response<proto::GetTemplateResponse>, Status> {
                let caller = Caller::from_request(&request)?;
                Ok(Response::new(templates::get(self.app.get()?, caller.tenant.as_str(), &request.get_ref().name).await?))
            }

            async fn create_template(&self, request: Request<proto::CreateTemplateRequest>) -> Result<Response<proto::CreateTemplateResponse>, Status> {
                let caller = Caller::from_request(&request)?;
                Ok(Response::new(templates::create(self.app.get()?, &caller, request.get_ref()).await?))
            }

            async fn delete_template(&self, request: Request<proto::DeleteTemplateRequest>) -> Result<Response<proto::DeleteTemplateResponse>, Status> {
                let caller = Caller::from_request(&request)?;
                Ok(Response::new(templates::delete(self.app.get()?, &caller, request.get_ref()).await?))
            }

            async fn get_asset(&self, request: Request<proto::GetAssetRequest>) -> Result<Response<proto::GetAssetResponse>, Status> {
                let caller = Caller::from_request(&request)?;
                let asset = read_address("asset", &request.get_ref().asset)?;
                let app = self.app.get()?;
                app.require_asset(caller.tenant.as_str(), asset).await?;
                let stored = app.store.asset(caller.tenant.as_str(), app.chain.chain_id(), asset).await.map_err(Refusal::from)?;
                let block = app.chain.latest().await?.id();
                let mut view = view(app, asset, stored.as_ref(), block).await?;
                (view.policy, view.policy_expression) = policy(app, caller.tenant.as_str(), asset, block).await?;
                Ok(Response::new(proto::GetAssetResponse { asset: Some(view) }))
            }

            async fn list_assets(&self, request: Request<proto::ListAssetsRequest>) -> Result<Response<proto::ListAssetsResponse>, Status> {
                let caller = Caller::from_request(&request)?;
                let (app, tenant, message) = (self.app.get()?, caller.tenant.as_str(), request.get_ref());
                let limit = page_size(message.page_size)?;
                let below = match message.page_token.as_str() {
                    "" => None,
                    token => Some(token.parse::<u64>().map_err(|_| bad_page_token())?),
                };
                let mut stored = app.store.assets(tenant, app.chain.chain_id(), below, limit + 1).await.map_err(Refusal::from)?;
                let more = stored.len() > limit as usize;
                stored.truncate(limit as usize);
                let next_page_token = stored.last().filter(|_| more).map(|last| last.seq.to_string()).unwrap_or_default();
                let block = app.chain.latest().await?.id();
                let created = stored.iter().filter_map(|stored| Some((stored.asset?, stored)));
                let assets = bounded(created.map(|(asset, stored)| view(app, asset, Some(stored), block))).await?;
                Ok(Response::new(proto::ListAssetsResponse { assets, next_page_token }))
            }
        }
    };
}

writes! {
    mint: MintRequest -> MintResponse, "Mint";
    burn: BurnRequest -> BurnResponse, "Burn";
    transfer: TransferRequest -> TransferResponse, "Transfer";
    forced_transfer: ForcedTransferRequest -> ForcedTransferResponse, "ForcedTransfer";
    set_address_frozen: SetAddressFrozenRequest -> SetAddressFrozenResponse, "SetAddressFrozen";
    freeze_partial: FreezePartialRequest -> FreezePartialResponse, "FreezePartial";
    unfreeze_partial: UnfreezePartialRequest -> UnfreezePartialResponse, "UnfreezePartial";
    pause: PauseRequest -> PauseResponse, "Pause";
    unpause: UnpauseRequest -> UnpauseResponse, "Unpause";
    grant_role: GrantRoleRequest -> GrantRoleResponse, "GrantRole";
    revoke_role: RevokeRoleRequest -> RevokeRoleResponse, "RevokeRole";
}
