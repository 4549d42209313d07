//! Messages of the asset service to commands, and enums back.

use super::{
    rule_messages::{claims, rule},
    terms_messages::{features, terms},
};
use crate::domain::{
    ViolationKind, Violations,
    asset::{AssetAction, AssetClass, AssetCommand, AssetRole, BatchTransfer, CreateAsset, MAX_BATCH, MAX_RULES},
    expression::Claims,
    isin::Isin,
    rule::{Fields, Rule},
};
use alloy::primitives::U256;
use dalp_proto::asset as proto;

/// The longest reason of an intervention.
const MAX_REASON_CHARS: usize = 500;
/// The most role grants of a new asset.
const MAX_ROLES: usize = 50;
/// The most claim topics of an asset; the contract's own bound.
const MAX_CLAIM_TOPICS: usize = 15;

impl TryFrom<&proto::CreateAssetRequest> for CreateAsset {
    type Error = Violations;

    fn try_from(request: &proto::CreateAssetRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            issuer: violations.address("issuer", &request.issuer),
            name: name(&mut violations, &request.name),
            symbol: symbol(&mut violations, &request.symbol),
            decimals: decimals(&mut violations, request.decimals),
            class: class(&mut violations, request.asset_class),
            isin: isin(&mut violations, &request.isin),
            rules: rules(&mut violations, &request.rules),
            claim_topics: claim_topics(&mut violations, &request.claim_topics),
            policy: policy(&mut violations, request),
            roles: roles(&mut violations, &request.roles),
            unpause: request.unpause,
            initial_mint: initial_mint(&mut violations, request),
            template: (!request.template.is_empty()).then(|| request.template.clone()),
            terms: terms(&mut violations, request.terms.as_ref()),
            features: features(&mut violations, "features", &request.features),
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::BatchTransferRequest> for BatchTransfer {
    type Error = Violations;

    fn try_from(request: &proto::BatchTransferRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        if !(1..=MAX_BATCH).contains(&request.items.len()) {
            violations.push("items", format!("needs 1 to {MAX_BATCH} items"));
            return Err(violations);
        }
        let items = request
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let to = violations.address(&format!("items[{index}].to"), &item.to);
                (to, violations.amount(&format!("items[{index}].amount"), &item.amount))
            })
            .collect();
        let command = Self {
            sender: violations.address("sender", &request.sender),
            asset: violations.address("asset", &request.asset),
            items,
        };
        violations.into_result(command)
    }
}

/// One message to one command: who, on which asset, and the fields of the action.
macro_rules! asset_command {
    ($message:ident, |$violations:ident, $request:ident| $action:expr) => {
        impl TryFrom<&proto::$message> for AssetCommand {
            type Error = Violations;

            fn try_from($request: &proto::$message) -> Result<Self, Violations> {
                let mut $violations = Violations::new();
                let command = Self {
                    sender: $violations.address("sender", &$request.sender),
                    asset: $violations.address("asset", &$request.asset),
                    action: $action,
                };
                $violations.into_result(command)
            }
        }
    };
}

asset_command!(MintRequest, |violations, request| AssetAction::Mint {
    to: violations.address("to", &request.to),
    amount: violations.amount("amount", &request.amount),
});
asset_command!(BurnRequest, |violations, request| AssetAction::Burn {
    from: violations.address("from", &request.from),
    amount: violations.amount("amount", &request.amount),
});
asset_command!(TransferRequest, |violations, request| AssetAction::Transfer {
    to: violations.address("to", &request.to),
    amount: violations.amount("amount", &request.amount),
});
asset_command!(ForcedTransferRequest, |violations, request| AssetAction::ForcedTransfer {
    from: violations.address("from", &request.from),
    to: violations.address("to", &request.to),
    amount: violations.amount("amount", &request.amount),
    reason: violations.text("reason", &request.reason, MAX_REASON_CHARS),
});
asset_command!(SetAddressFrozenRequest, |violations, request| AssetAction::SetAddressFrozen {
    holder: violations.address("holder", &request.holder),
    frozen: request.frozen,
    reason: violations.text("reason", &request.reason, MAX_REASON_CHARS),
});
asset_command!(FreezePartialRequest, |violations, request| AssetAction::FreezePartial {
    holder: violations.address("holder", &request.holder),
    amount: violations.amount("amount", &request.amount),
    reason: violations.text("reason", &request.reason, MAX_REASON_CHARS),
});
asset_command!(UnfreezePartialRequest, |violations, request| AssetAction::UnfreezePartial {
    holder: violations.address("holder", &request.holder),
    amount: violations.amount("amount", &request.amount),
    reason: violations.text("reason", &request.reason, MAX_REASON_CHARS),
});
asset_command!(PauseRequest, |violations, request| AssetAction::Pause);
asset_command!(UnpauseRequest, |violations, request| AssetAction::Unpause);
asset_command!(GrantRoleRequest, |violations, request| AssetAction::GrantRole {
    role: role(&mut violations, "role", request.role),
    account: violations.address("account", &request.account),
});
asset_command!(RevokeRoleRequest, |violations, request| AssetAction::RevokeRole {
    role: role(&mut violations, "role", request.role),
    account: violations.address("account", &request.account),
});

/// A class as the wire names it.
pub(super) fn class_of(class: AssetClass) -> proto::AssetClass {
    match class {
        AssetClass::Bond => proto::AssetClass::Bond,
        AssetClass::Equity => proto::AssetClass::Equity,
        AssetClass::Fund => proto::AssetClass::Fund,
        AssetClass::Deposit => proto::AssetClass::Deposit,
        AssetClass::Stablecoin => proto::AssetClass::Stablecoin,
        AssetClass::RealEstate => proto::AssetClass::RealEstate,
        AssetClass::PreciousMetal => proto::AssetClass::PreciousMetal,
    }
}

fn name(violations: &mut Violations, text: &str) -> String {
    let name = violations.text("name", text, 50);
    // The contract counts bytes; characters beyond ASCII take more than one.
    if name.len() > 50 && name.chars().count() <= 50 {
        violations.push("name", "must be at most 50 bytes in UTF-8");
    }
    name
}

fn symbol(violations: &mut Violations, text: &str) -> String {
    if !(1..=24).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        violations.push("symbol", "must be 1 to 24 of [A-Z0-9]");
    }
    text.to_owned()
}

fn decimals(violations: &mut Violations, decimals: u32) -> u8 {
    match u8::try_from(decimals) {
        Ok(decimals @ 0..=18) => decimals,
        _ => {
            violations.push("decimals", "must be 0 to 18");
            0
        }
    }
}

/// A class of the wire.
pub(super) fn class(violations: &mut Violations, class: i32) -> AssetClass {
    match proto::AssetClass::try_from(class) {
        Ok(proto::AssetClass::Bond) => AssetClass::Bond,
        Ok(proto::AssetClass::Equity) => AssetClass::Equity,
        Ok(proto::AssetClass::Fund) => AssetClass::Fund,
        Ok(proto::AssetClass::Deposit) => AssetClass::Deposit,
        Ok(proto::AssetClass::Stablecoin) => AssetClass::Stablecoin,
        Ok(proto::AssetClass::RealEstate) => AssetClass::RealEstate,
        Ok(proto::AssetClass::PreciousMetal) => AssetClass::PreciousMetal,
        Ok(proto::AssetClass::Unspecified) | Err(_) => {
            let description = format!(
                "unknown template {class}: one of ASSET_CLASS_BOND, EQUITY, FUND, DEPOSIT, STABLECOIN, REAL_ESTATE, PRECIOUS_METAL"
            );
            violations.push_kind(ViolationKind::Template, "asset_class", description);
            AssetClass::Bond
        }
    }
}

fn isin(violations: &mut Violations, text: &str) -> Option<Isin> {
    if text.is_empty() {
        return None;
    }
    Isin::parse(text).map_err(|error| violations.push("isin", error.to_string())).ok()
}

fn rules(violations: &mut Violations, bindings: &[proto::RuleBinding]) -> Vec<Rule> {
    if bindings.len() > MAX_RULES {
        violations.push("rules", format!("holds at most {MAX_RULES} rules"));
        return Vec::new();
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (index, binding) in bindings.iter().enumerate() {
        let path = format!("rules[{index}]");
        let Some(rule) = rule(violations, &path, Some(binding)) else { continue };
        if rules.iter().any(|earlier| earlier.kind() == rule.kind()) {
            violations.push_kind(
                ViolationKind::ModuleParameters,
                path,
                "binds a kind of rule twice; put everything into one",
            );
        }
        rules.push(rule);
    }
    rules
}

fn claim_topics(violations: &mut Violations, names: &[String]) -> Vec<crate::domain::claim::TopicName> {
    if names.len() > MAX_CLAIM_TOPICS {
        violations.push("claim_topics", format!("holds at most {MAX_CLAIM_TOPICS} topics"));
        return Vec::new();
    }
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            if names[..index].contains(name) {
                violations.push(format!("claim_topics[{index}]"), "is named twice");
            }
            violations.topic(ViolationKind::Field, &format!("claim_topics[{index}]"), name)
        })
        .collect()
}

fn policy(violations: &mut Violations, request: &proto::CreateAssetRequest) -> Option<Claims> {
    let wire = request.policy.as_ref()?;
    if !request.claim_topics.is_empty() {
        violations.push("policy", "is given beside claim_topics: one of them says what a holder needs");
    }
    claims(&mut Fields::of_kind(violations, ViolationKind::Field, "policy"), wire)
}

fn roles(violations: &mut Violations, grants: &[proto::RoleGrant]) -> Vec<(AssetRole, alloy::primitives::Address)> {
    if grants.len() > MAX_ROLES {
        violations.push("roles", format!("holds at most {MAX_ROLES} grants"));
        return Vec::new();
    }
    grants
        .iter()
        .enumerate()
        .map(|(index, grant)| {
            let role = role(violations, &format!("roles[{index}].role"), grant.role);
            (role, violations.address(&format!("roles[{index}].account"), &grant.account))
        })
        .collect()
}

/// A role as the wire names it.
pub(super) fn wire_role(role: AssetRole) -> proto::AssetRole {
    match role {
        AssetRole::Governance => proto::AssetRole::Governance,
        AssetRole::Supply => proto::AssetRole::Supply,
        AssetRole::Custodian => proto::AssetRole::Custodian,
        AssetRole::Emergency => proto::AssetRole::Emergency,
        AssetRole::Sale => proto::AssetRole::Sale,
        AssetRole::Funds => proto::AssetRole::Funds,
    }
}

/// A role of the wire.
pub(super) fn role(violations: &mut Violations, field: &str, role: i32) -> AssetRole {
    match proto::AssetRole::try_from(role) {
        Ok(proto::AssetRole::Governance) => AssetRole::Governance,
        Ok(proto::AssetRole::Supply) => AssetRole::Supply,
        Ok(proto::AssetRole::Custodian) => AssetRole::Custodian,
        Ok(proto::AssetRole::Emergency) => AssetRole::Emergency,
        Ok(proto::AssetRole::Sale) => AssetRole::Sale,
        Ok(proto::AssetRole::Funds) => AssetRole::Funds,
        Ok(proto::AssetRole::Unspecified) | Err(_) => {
            violations.push(
                field,
                format!(
                    "unknown value {role}: one of ASSET_ROLE_GOVERNANCE, SUPPLY, CUSTODIAN, EMERGENCY, SALE, FUNDS"
                ),
            );
            AssetRole::Governance
        }
    }
}

fn initial_mint(
    violations: &mut Violations,
    request: &proto::CreateAssetRequest,
) -> Option<(alloy::primitives::Address, U256)> {
    let amount = match request.initial_supply.as_str() {
        "" => U256::ZERO,
        text => violations.amount_or_zero("initial_supply", text),
    };
    if amount.is_zero() {
        let supply_was_bad = violations.0.iter().any(|violation| violation.field == "initial_supply");
        if !request.initial_holder.is_empty() && !supply_was_bad {
            violations.push("initial_holder", "is given without an initial_supply");
        }
        return None;
    }
    Some((violations.address("initial_holder", &request.initial_holder), amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";

    fn request() -> proto::CreateAssetRequest {
        proto::CreateAssetRequest {
            issuer: WALLET.into(),
            name: "Green Bond 2031".into(),
            symbol: "GRN31".into(),
            decimals: 6,
            asset_class: proto::AssetClass::Bond.into(),
            isin: "US0378331005".into(),
            rules: vec![country(proto::CountryMode::Allow.into(), &[756])],
            claim_topics: vec!["kyc".into()],
            roles: vec![proto::RoleGrant { role: proto::AssetRole::Supply.into(), account: WALLET.into() }],
            unpause: true,
            initial_supply: "1000000".into(),
            initial_holder: WALLET.into(),
            ..Default::default()
        }
    }

    fn country(mode: i32, countries: &[u32]) -> proto::RuleBinding {
        let rule = proto::CountryRule { mode, countries: countries.to_vec() };
        proto::RuleBinding { rule: Some(proto::rule_binding::Rule::Country(rule)) }
    }

    fn claim(any_of: Vec<proto::ClaimGroup>) -> proto::RuleBinding {
        proto::RuleBinding {
            rule: Some(proto::rule_binding::Rule::Claim(proto::ClaimRule { any_of, ..Default::default() })),
        }
    }

    fn expression(form: proto::claim_expression::Form) -> proto::ClaimExpression {
        proto::ClaimExpression { form: Some(form) }
    }

    fn refused(change: impl FnOnce(&mut proto::CreateAssetRequest)) -> (ViolationKind, Vec<String>) {
        let mut request = request();
        change(&mut request);
        let violations = CreateAsset::try_from(&request).expect_err("refused");
        (violations.kind(), violations.0.into_iter().map(|violation| violation.field).collect())
    }

    #[test]
    fn a_good_request_passes() {
        let command = CreateAsset::try_from(&request()).expect("passes");
        assert_eq!((command.decimals, command.class, command.rules.len()), (6, AssetClass::Bond, 1));
        assert_eq!(command.initial_mint.map(|(_, amount)| amount), Some(U256::from(1_000_000)));
    }

    #[test]
    fn each_bad_field_is_named() {
        use ViolationKind::{Field, ModuleParameters, Template};
        type Change = Box<dyn FnOnce(&mut proto::CreateAssetRequest)>;
        let cases: Vec<(ViolationKind, &str, Change)> = vec![
            (Field, "issuer", Box::new(|request| request.issuer = WALLET.replace("d8dA", "D8dA"))),
            (Field, "name", Box::new(|request| request.name = " ".into())),
            (Field, "name", Box::new(|request| request.name = "x".repeat(51))),
            (Field, "name", Box::new(|request| request.name = "é".repeat(26))),
            (Field, "symbol", Box::new(|request| request.symbol = "grn".into())),
            (Field, "symbol", Box::new(|request| request.symbol = String::new())),
            (Field, "decimals", Box::new(|request| request.decimals = 19)),
            (Template, "asset_class", Box::new(|request| request.asset_class = 0)),
            (Template, "asset_class", Box::new(|request| request.asset_class = 99)),
            (Field, "isin", Box::new(|request| request.isin = "US0378331004".into())),
            (ModuleParameters, "rules[0].country.countries", Box::new(|request| request.rules = vec![country(1, &[])])),
            (
                ModuleParameters,
                "rules[0].country.countries[0]",
                Box::new(|request| request.rules = vec![country(1, &[0])]),
            ),
            (
                ModuleParameters,
                "rules[0].country.countries[1]",
                Box::new(|request| request.rules = vec![country(2, &[1, 1000])]),
            ),
            (ModuleParameters, "rules[0].country.mode", Box::new(|request| request.rules = vec![country(7, &[1])])),
            (ModuleParameters, "rules[0]", Box::new(|request| request.rules = vec![proto::RuleBinding { rule: None }])),
            (ModuleParameters, "rules[0].claim.any_of", Box::new(|request| request.rules = vec![claim(vec![])])),
            (
                ModuleParameters,
                "rules[0].claim.any_of[0]",
                Box::new(|request| request.rules = vec![claim(vec![proto::ClaimGroup::default()])]),
            ),
            (
                ModuleParameters,
                "rules[1]",
                Box::new(|request| request.rules = vec![country(1, &[1]), country(2, &[2])]),
            ),
            (Field, "claim_topics[1]", Box::new(|request| request.claim_topics = vec!["kyc".into(), "A".into()])),
            (
                Field,
                "policy",
                Box::new(|request| {
                    request.policy = Some(expression(proto::claim_expression::Form::Text("kyc".into())))
                }),
            ),
            (
                Field,
                "policy.text",
                Box::new(|request| {
                    request.claim_topics.clear();
                    request.policy = Some(expression(proto::claim_expression::Form::Text("kyc AND".into())));
                }),
            ),
            (
                Field,
                "policy.saved.name",
                Box::new(|request| {
                    request.claim_topics.clear();
                    request.policy = Some(expression(proto::claim_expression::Form::Saved(Default::default())));
                }),
            ),
            (Field, "roles[0].role", Box::new(|request| request.roles[0].role = 77)),
            (Field, "roles[0].account", Box::new(|request| request.roles[0].account = "0x".into())),
            (Field, "initial_supply", Box::new(|request| request.initial_supply = "-1".into())),
            (Field, "initial_supply", Box::new(|request| request.initial_supply = "9".repeat(60))),
            (Field, "initial_holder", Box::new(|request| request.initial_holder = String::new())),
            (Field, "initial_holder", Box::new(|request| request.initial_supply = String::new())),
        ];
        for (kind, field, change) in cases {
            assert_eq!(refused(change), (kind, vec![field.to_owned()]), "{field}");
        }
    }

    #[test]
    fn token_operations_are_checked() {
        let transfer = |to: &str, amount: &str| {
            let request = proto::TransferRequest {
                sender: WALLET.into(),
                asset: WALLET.into(),
                to: to.into(),
                amount: amount.into(),
            };
            AssetCommand::try_from(&request).map_err(|violations| violations.0[0].field.clone())
        };
        assert!(transfer(WALLET, "1").is_ok());
        assert_eq!(transfer("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046", "1").unwrap_err(), "to");
        for amount in ["", "-5", "0", "1e3", "340282366920938463463374607431768211456"] {
            assert_eq!(transfer(WALLET, amount).unwrap_err(), "amount", "{amount}");
        }
        let forced = proto::ForcedTransferRequest {
            sender: WALLET.into(),
            asset: WALLET.into(),
            from: WALLET.into(),
            to: WALLET.into(),
            amount: "1".into(),
            reason: " ".into(),
        };
        assert_eq!(AssetCommand::try_from(&forced).unwrap_err().0[0].field, "reason");
        let grant =
            proto::GrantRoleRequest { sender: WALLET.into(), asset: WALLET.into(), role: 0, account: WALLET.into() };
        assert_eq!(AssetCommand::try_from(&grant).unwrap_err().0[0].field, "role");
    }

    #[test]
    fn batches_are_bounded_and_each_bad_item_is_named() {
        let item = |amount: &str| proto::TransferItem { to: WALLET.into(), amount: amount.into() };
        let batch = |items| {
            BatchTransfer::try_from(&proto::BatchTransferRequest { sender: WALLET.into(), asset: WALLET.into(), items })
        };
        assert_eq!(batch(vec![]).unwrap_err().0[0].field, "items");
        assert_eq!(batch(vec![item("1"); 10_001]).unwrap_err().0[0].field, "items");
        let fields: Vec<_> = batch(vec![item("1"), item("-1"), item("x")])
            .unwrap_err()
            .0
            .into_iter()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, ["items[1].amount", "items[2].amount"]);
        assert_eq!(batch(vec![item("1"); 10_000]).unwrap().items.len(), 10_000);
    }
}
