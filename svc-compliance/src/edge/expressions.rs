//! Saved claim expressions: kept by name and version, shown with the assets that keep one.

use super::{bad_page_token, page_size, rule_messages::wire_groups};
use crate::{
    app::App,
    domain::{
        Violations,
        expression::{Expression, ExpressionError, ExpressionName},
    },
    readers::{expressions, rule_parameters::TopicNames},
    store::expressions::{ExpressionUse, Place, StoredExpression},
};
use dalp_proto::compliance as proto;
use dalp_service::{Caller, Reason, Refusal};

/// The most uses that an answer lists.
const MAX_USES: u32 = 500;

/// Saves the first version under a name. A repeat with the same text answers alike.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    request: &proto::CreateExpressionRequest,
) -> Result<proto::CreateExpressionResponse, Refusal> {
    let (name, expression) = (name(&request.name)?, text(&request.text)?);
    let (tenant, principal) = (caller.tenant.as_str(), caller.principal.as_str());
    let created = app.store.create_expression(tenant, principal, &name, &request.text, &expression).await?;
    let stored = require(app, tenant, &name, None).await?;
    if !created && stored.text != request.text {
        return Err(Refusal::new(
            Reason::AlreadyExists,
            "the name stands for another expression; UpdateExpression changes it",
        )
        .meta("expression", name.as_str())
        .meta("version", stored.version));
    }
    Ok(proto::CreateExpressionResponse { expression: Some(wire(&stored)) })
}

/// Saves the next version. A repeat with the same text answers alike.
pub(super) async fn update(
    app: &App,
    caller: &Caller,
    request: &proto::UpdateExpressionRequest,
) -> Result<proto::UpdateExpressionResponse, Refusal> {
    let (name, expression) = (name(&request.name)?, text(&request.text)?);
    let (tenant, principal, seen) = (caller.tenant.as_str(), caller.principal.as_str(), request.version);
    let written = app.store.update_expression(tenant, principal, &name, seen, &request.text, &expression).await?;
    let stored = require(app, tenant, &name, None).await?;
    let repeated = stored.version == seen.saturating_add(1) && stored.text == request.text;
    if !written && !repeated {
        let text = format!("version {seen} is not the newest, {} is; read it and change that", stored.version);
        return Err(Refusal::new(Reason::FailedPrecondition, text)
            .meta("expression", name.as_str())
            .meta("version", stored.version));
    }
    Ok(proto::UpdateExpressionResponse { expression: Some(wire(&stored)) })
}

/// Gives an expression to nothing new any more; also said of one that was deleted before.
pub(super) async fn delete(
    app: &App,
    caller: &Caller,
    request: &proto::DeleteExpressionRequest,
) -> Result<proto::DeleteExpressionResponse, Refusal> {
    let name = name(&request.name)?;
    let (tenant, principal) = (caller.tenant.as_str(), caller.principal.as_str());
    if !app.store.delete_expression(tenant, principal, &name).await?
        && app.store.expression(tenant, &name, None).await?.is_none()
    {
        return Err(unknown(&name));
    }
    Ok(proto::DeleteExpressionResponse {})
}

/// A version with the assets that keep any version of it.
pub(super) async fn get(
    app: &App,
    tenant: &str,
    request: &proto::GetExpressionRequest,
) -> Result<proto::GetExpressionResponse, Refusal> {
    let name = name(&request.name)?;
    let version = (request.version != 0).then_some(request.version);
    let stored = app.store.expression(tenant, &name, version).await?.ok_or_else(|| unknown(&name))?;
    let taken = app.store.expression_uses(tenant, app.chain.chain_id(), &name, MAX_USES).await?;
    let uses = match taken.is_empty() {
        true => Vec::new(),
        false => {
            let topics = TopicNames::new(app.store.topics(tenant, app.chain.chain_id()).await?);
            let block = app.chain.latest().await?.id();
            expressions::in_force(app, tenant, taken, &topics, block).await?
        }
    };
    Ok(proto::GetExpressionResponse { expression: Some(wire(&stored)), uses: uses.iter().map(wire_use).collect() })
}

/// The newest versions, by name.
pub(super) async fn list(
    app: &App,
    tenant: &str,
    request: &proto::ListExpressionsRequest,
) -> Result<proto::ListExpressionsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    if !request.page_token.is_empty() && ExpressionName::new(&request.page_token).is_none() {
        return Err(bad_page_token());
    }
    let mut stored = app.store.expressions(tenant, &request.page_token, limit + 1).await?;
    let more = stored.len() > limit as usize;
    stored.truncate(limit as usize);
    let next_page_token = stored.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    Ok(proto::ListExpressionsResponse { expressions: stored.iter().map(wire).collect(), next_page_token })
}

/// What a text would stand for.
pub(super) fn parse(request: &proto::ParseExpressionRequest) -> Result<proto::ParseExpressionResponse, Refusal> {
    let expression = text(&request.text)?;
    Ok(proto::ParseExpressionResponse { any_of: wire_groups(&expression), canonical_text: expression.to_string() })
}

async fn require(
    app: &App,
    tenant: &str,
    name: &ExpressionName,
    version: Option<u32>,
) -> Result<StoredExpression, Refusal> {
    let stored = app.store.expression(tenant, name, version).await?;
    stored.filter(|stored| !stored.deleted).ok_or_else(|| unknown(name))
}

fn unknown(name: &ExpressionName) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no saved expression {}", name.as_str()))
        .meta("expression", name.as_str())
}

fn name(text: &str) -> Result<ExpressionName, Refusal> {
    ExpressionName::new(text).ok_or_else(|| {
        let mut violations = Violations::new();
        violations.push("name", "must be 1 to 64 of [a-z0-9._-]");
        violations.into()
    })
}

fn text(text: &str) -> Result<Expression, Refusal> {
    Expression::parse(text).map_err(|error| {
        let refusal = Refusal::new(Reason::InvalidField, format!("text: {error}")).field("text", error.to_string());
        match position(&error) {
            Some(position) => refusal.meta("position", position),
            None => refusal,
        }
    })
}

fn position(error: &ExpressionError) -> Option<usize> {
    match error {
        ExpressionError::Unexpected { position, .. }
        | ExpressionError::SmallOperator { position, .. }
        | ExpressionError::Topic { position }
        | ExpressionError::TooDeep { position }
        | ExpressionError::TooManyGroups { position }
        | ExpressionError::TooManyTopics { position } => Some(*position),
        ExpressionError::Empty
        | ExpressionError::TooLong
        | ExpressionError::MetByNobody
        | ExpressionError::MetByEveryone => None,
    }
}

fn wire(stored: &StoredExpression) -> proto::Expression {
    proto::Expression {
        name: stored.name.clone(),
        version: stored.version,
        newest_version: stored.newest,
        text: stored.text.clone(),
        any_of: wire_groups(&stored.expression),
        canonical_text: stored.expression.to_string(),
        deleted: stored.deleted,
        created_by: stored.created_by.clone(),
        created_at: Some(dalp_proto::timestamp(stored.created_at)),
    }
}

fn wire_use(one: &ExpressionUse) -> proto::ExpressionUse {
    proto::ExpressionUse {
        asset: one.asset.to_checksum(None),
        version: one.saved.version.unwrap_or_default(),
        place: match one.place {
            Place::Policy => proto::ExpressionPlace::Policy,
            Place::Rule => proto::ExpressionPlace::Rule,
        }
        .into(),
    }
}
