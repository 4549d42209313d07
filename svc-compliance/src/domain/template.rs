//! Templates: what an asset of a kind has unless its order says otherwise. The platform has one for each class; tenants derive
//! their own from them.

use super::{
    ViolationKind, Violations,
    asset::{AssetClass, AssetRole, CreateAsset, MAX_RULES},
    claim::TopicName,
    expression::Claims,
    feature::Feature,
    rule::{ListRule, Rule, Sides},
    terms::Terms,
};
use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name; that of the class for the platform's own.
    pub name: TemplateName,
    /// Its class.
    pub class: AssetClass,
    /// What it is for.
    pub description: String,
    /// What it settles.
    pub defaults: Defaults,
}

/// What a template settles. Stored for those of tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Whether an asset needs an ISIN.
    pub isin_required: bool,
    /// Rules that every asset gets, beside those that follow from its terms.
    pub rules: Vec<Rule>,
    /// Features that every asset gets, beside those that follow from its terms.
    pub features: Vec<Feature>,
    /// Roles that the issuer gets where the order gives them to nobody.
    pub roles: Vec<AssetRole>,
    /// What holders need where the order does not say.
    pub policy: Option<Claims>,
}

/// The name of a template, 1 to 64 of `[a-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateName(TopicName);

/// What an asset gets once its order is laid over its template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outfit {
    /// Rules in the order they are asked, with the path that a refusal of their parameters names.
    pub rules: Vec<(String, Rule)>,
    /// Features.
    pub features: Vec<Feature>,
    /// Roles that the issuer gets beside those of the order.
    pub roles: Vec<AssetRole>,
    /// What holders need; none takes the registry's default.
    pub policy: Option<Claims>,
}

// === impl TemplateName ===

impl TemplateName {
    /// A well-formed name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        TopicName::new(name).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

// === impl Template ===

impl Template {
    /// The platform's template of a class.
    #[must_use]
    pub fn platform(class: AssetClass) -> Self {
        let barred = || Rule::List(ListRule { allow: None, block: Some(Sides::Both), entries: Vec::new() });
        let (description, isin_required, rules, features, extra_role) = match class {
            AssetClass::Bond => {
                ("a debt that is paid back on a day, with or without coupons", true, vec![], vec![], None)
            }
            AssetClass::Equity => ("shares in a company, with their votes", true, vec![], vec![], None),
            AssetClass::Fund => ("units of a fund", true, vec![], vec![], Some(AssetRole::Funds)),
            AssetClass::Deposit => {
                ("money at a bank; who is barred neither sends nor receives", false, vec![barred()], vec![], None)
            }
            AssetClass::Stablecoin => (
                "a token worth a unit of a currency, minted as far as collateral is attested",
                false,
                vec![barred()],
                vec![],
                None,
            ),
            AssetClass::RealEstate => (
                "units of land or buildings, whose holders vote",
                false,
                vec![],
                vec![Feature::VotingPower],
                Some(AssetRole::Funds),
            ),
            AssetClass::PreciousMetal => {
                ("metal in a vault, minted as far as its keeper attests it", false, vec![], vec![], None)
            }
        };
        let everyday = [AssetRole::Supply, AssetRole::Custodian, AssetRole::Emergency];
        let defaults = Defaults {
            isin_required,
            rules,
            features,
            roles: everyday.into_iter().chain(extra_role).collect(),
            policy: None,
        };
        let name = TemplateName(TopicName::unchecked(class.name()));
        Self { name, class, description: description.to_owned(), defaults }
    }

    /// The platform's template of a name.
    #[must_use]
    pub fn platform_of_name(name: &str) -> Option<Self> {
        AssetClass::of_name(name).map(Self::platform)
    }

    /// Whether it is the platform's own.
    #[must_use]
    pub fn is_platform(&self) -> bool {
        self.name.as_str() == self.class.name()
    }

    /// A tenant's template: what it settles replaces, kind by kind, what the platform's template of the class settles.
    #[must_use]
    pub fn derived(name: TemplateName, class: AssetClass, description: String, own: Defaults) -> Self {
        let base = Self::platform(class).defaults;
        let defaults = Defaults {
            isin_required: base.isin_required || own.isin_required,
            rules: overlaid(base.rules, own.rules, Rule::kind),
            features: overlaid(base.features, own.features, Feature::kind),
            roles: if own.roles.is_empty() { base.roles } else { own.roles },
            policy: own.policy,
        };
        Self { name, class, description, defaults }
    }

    /// Lays an order over the template: what the order says wins over what its terms imply, and that over the template.
    pub fn outfit(&self, order: &CreateAsset) -> Result<Outfit, Violations> {
        let mut violations = Violations::new();
        if self.class != order.class {
            let text = format!("the template {} is one of the class {}", self.name.as_str(), self.class.name());
            violations.push("asset_class", text);
        }
        match &order.terms {
            Some(terms) if terms.class() != order.class => {
                violations.push("terms", format!("must be those of the class {}", order.class.name()));
            }
            Some(_) => {}
            None => violations.push("terms", format!("are missing: the class {} needs its own", order.class.name())),
        }
        if self.defaults.isin_required && order.isin.is_none() {
            violations.push("isin", format!("is missing: the template {} needs one", self.name.as_str()));
        }
        let at = |place: &str, rules: Vec<Rule>| -> Vec<(String, Rule)> {
            rules.into_iter().enumerate().map(|(index, rule)| (format!("{place}[{index}]"), rule)).collect()
        };
        let implied = order.terms.as_ref().map(Terms::rules).unwrap_or_default();
        let defaults =
            overlaid(at("template.rules", self.defaults.rules.clone()), at("terms", implied), |(_, rule)| rule.kind());
        let rules = overlaid(defaults, at("rules", order.rules.clone()), |(_, rule)| rule.kind());
        let implied = order.terms.as_ref().map(|terms| terms.features(order.issuer)).unwrap_or_default();
        let defaults = overlaid(self.defaults.features.clone(), implied, Feature::kind);
        let features = overlaid(defaults, order.features.clone(), Feature::kind);
        if rules.len() + features.len() > MAX_RULES {
            violations.push_kind(
                ViolationKind::ModuleParameters,
                "rules",
                format!("make more than {MAX_RULES} modules with those of the template"),
            );
        }
        let named = |role: &AssetRole| order.roles.iter().any(|(given, _): &(AssetRole, Address)| given == role);
        let roles = self.defaults.roles.iter().copied().filter(|role| !named(role)).collect();
        let policy = match (&order.policy, order.claim_topics.is_empty()) {
            (Some(policy), _) => Some(policy.clone()),
            (None, true) => self.defaults.policy.clone(),
            (None, false) => None,
        };
        violations.into_result(Outfit { rules, features, roles, policy })
    }
}

/// What of the lower list is of no kind that the upper one names, then the upper list.
fn overlaid<T, K: PartialEq>(lower: Vec<T>, upper: Vec<T>, kind: impl Fn(&T) -> K) -> Vec<T> {
    let mut result: Vec<T> = lower.into_iter().filter(|one| !upper.iter().any(|own| kind(own) == kind(one))).collect();
    result.extend(upper);
    result
}

#[cfg(test)]
mod tests;
