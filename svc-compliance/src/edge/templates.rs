//! Templates: the platform's, and those that tenants derive from them.

use super::{
    asset_messages::{class, class_of, role, wire_role},
    catalogue,
    rule_messages::{binding_of, claims, rule, wire_claims},
    terms_messages::{features, wire_feature},
};
use crate::{
    app::App,
    domain::{
        ViolationKind, Violations,
        asset::AssetClass,
        rule::Fields,
        template::{Defaults, Template, TemplateName},
    },
    readers::expressions,
};
use dalp_proto::asset as proto;
use dalp_service::{Caller, Reason, Refusal};

/// The longest description of a template.
const MAX_DESCRIPTION_CHARS: usize = 500;
/// The most roles of a template.
const MAX_ROLES: usize = 6;

/// Every template of a tenant: the platform's, then its own by name.
pub(super) async fn list(app: &App, tenant: &str) -> Result<proto::ListTemplatesResponse, Refusal> {
    let platform = AssetClass::ALL.into_iter().map(Template::platform);
    let own = app.store.templates(tenant).await?;
    Ok(proto::ListTemplatesResponse { templates: platform.chain(own).map(|template| wire(&template)).collect() })
}

/// One template.
pub(super) async fn get(app: &App, tenant: &str, name: &str) -> Result<proto::GetTemplateResponse, Refusal> {
    Ok(proto::GetTemplateResponse { template: Some(wire(&find(app, tenant, name).await?)) })
}

/// The template of a name, the platform's or the tenant's.
pub(super) async fn find(app: &App, tenant: &str, name: &str) -> Result<Template, Refusal> {
    if let Some(template) = Template::platform_of_name(name) {
        return Ok(template);
    }
    let own = match TemplateName::new(name) {
        Some(name) => app.store.template(tenant, &name).await?,
        None => None,
    };
    own.ok_or_else(|| {
        let text = "names no template of the platform or the tenant; ListTemplates lists them";
        Refusal::new(Reason::TemplateUnknown, format!("template {text}")).field("template", text)
    })
}

/// Derives a template. A repeat that says the same answers alike.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    request: &proto::CreateTemplateRequest,
) -> Result<proto::CreateTemplateResponse, Refusal> {
    let (name, class, description, own) = parsed(request)?;
    let tenant = caller.tenant.as_str();
    for saved in
        own.policy.iter().filter_map(|claims| claims.saved()).chain(own.rules.iter().filter_map(|rule| rule.saved()))
    {
        expressions::resolve(app, tenant, saved).await?;
    }
    let template = Template::derived(name.clone(), class, description, own.clone());
    if !app.store.create_template(tenant, caller.principal.as_str(), &template, &own).await?
        && app.store.template(tenant, &name).await?.as_ref() != Some(&template)
    {
        return Err(Refusal::new(Reason::AlreadyExists, "the name stands for another template of the tenant")
            .meta("template", name.as_str()));
    }
    Ok(proto::CreateTemplateResponse { template: Some(wire(&template)) })
}

/// Forgets a template of the tenant.
pub(super) async fn delete(
    app: &App,
    caller: &Caller,
    request: &proto::DeleteTemplateRequest,
) -> Result<proto::DeleteTemplateResponse, Refusal> {
    if Template::platform_of_name(&request.name).is_some() {
        return Err(Refusal::new(Reason::FailedPrecondition, "the platform's own templates cannot be deleted")
            .meta("template", &request.name));
    }
    let deleted = match TemplateName::new(&request.name) {
        Some(name) => app.store.delete_template(caller.tenant.as_str(), caller.principal.as_str(), &name).await?,
        None => false,
    };
    match deleted {
        true => Ok(proto::DeleteTemplateResponse {}),
        false => Err(Refusal::new(Reason::NotFound, "the tenant has no such template").meta("template", &request.name)),
    }
}

fn parsed(request: &proto::CreateTemplateRequest) -> Result<(TemplateName, AssetClass, String, Defaults), Violations> {
    let mut violations = Violations::new();
    let name = TemplateName::new(&request.name);
    if name.is_none() {
        violations.push("name", "must be 1 to 64 of [a-z0-9._-]");
    }
    if Template::platform_of_name(&request.name).is_some() {
        violations.push("name", "is that of a template of the platform");
    }
    let class = class(&mut violations, request.asset_class);
    let description = violations.text("description", &request.description, MAX_DESCRIPTION_CHARS);
    let mut rules = Vec::new();
    for (index, binding) in request.rules.iter().enumerate() {
        let path = format!("rules[{index}]");
        let Some(rule) = rule(&mut violations, &path, Some(binding)) else { continue };
        if rules.iter().any(|earlier: &crate::domain::rule::Rule| earlier.kind() == rule.kind()) {
            violations.push_kind(ViolationKind::ModuleParameters, path, "binds a kind of rule twice");
        }
        rules.push(rule);
    }
    let features = features(&mut violations, "features", &request.features);
    if request.roles.len() > MAX_ROLES {
        violations.push("roles", format!("holds at most {MAX_ROLES} roles"));
    }
    let roles = request.roles.iter().take(MAX_ROLES).enumerate();
    let roles = roles.map(|(index, given)| role(&mut violations, &format!("roles[{index}]"), *given)).collect();
    let policy = request
        .policy
        .as_ref()
        .and_then(|policy| claims(&mut Fields::of_kind(&mut violations, ViolationKind::Field, "policy"), policy));
    let defaults = Defaults { isin_required: request.isin_required, rules, features, roles, policy };
    match name {
        Some(name) => violations.into_result((name, class, description, defaults)),
        None => Err(violations),
    }
}

fn wire(template: &Template) -> proto::Template {
    let Defaults { isin_required, rules, features, roles, policy } = &template.defaults;
    let fields = catalogue::fields_of_terms(template.class.name());
    proto::Template {
        name: template.name.as_str().to_owned(),
        asset_class: class_of(template.class).into(),
        description: template.description.clone(),
        platform: template.is_platform(),
        isin_required: *isin_required,
        terms: fields,
        rules: rules.iter().map(binding_of).collect(),
        features: features.iter().map(wire_feature).collect(),
        roles: roles.iter().map(|role| wire_role(*role).into()).collect(),
        policy: policy.as_ref().map(wire_claims),
    }
}
