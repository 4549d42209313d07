//! Which role on chain the calls behind a permission need of the wallet that they send from.
//!
//! The contracts decide, and the services ask them before they accept a call; this table only says the same to people, so that they see
//! beforehand where the two sides disagree. A test holds it against every permission there is.

use dalp_proto::{asset::AssetRole, system::SystemRole};

/// What a wallet is to hold on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// A role of the tenant's system.
    System(SystemRole),
    /// The system's administrator, or PLATFORM_ADMIN.
    Administration,
    /// Agent of the identity registry: by IDENTITY_MANAGER, or added there.
    RegistryAgent,
    /// A role on the asset.
    Asset(AssetRole),
    /// The asset's admin.
    AssetAdmin,
}

use Need::{Administration, Asset, AssetAdmin, RegistryAgent, System};

/// Permissions with what their calls need; any of it will do for some of them.
const NEEDS: &[(&str, &[Need])] = &[
    ("airdrop:manage", &[Asset(AssetRole::Sale)]),
    ("asset:burn", &[Asset(AssetRole::Supply)]),
    ("asset:create", &[System(SystemRole::TokenManager)]),
    ("asset:force", &[Asset(AssetRole::Custodian)]),
    ("asset:freeze", &[Asset(AssetRole::Custodian)]),
    ("asset:mint", &[Asset(AssetRole::Supply)]),
    ("asset:pause", &[Asset(AssetRole::Emergency)]),
    ("asset:roles", &[AssetAdmin]),
    ("compliance:manage", &[Asset(AssetRole::Governance), System(SystemRole::ClaimPolicyManager)]),
    ("feed:manage", &[System(SystemRole::FeedsManager), Asset(AssetRole::Governance)]),
    ("identity:recover", &[RegistryAgent]),
    ("identity:register", &[System(SystemRole::IdentityManager)]),
    ("issuer:manage", &[System(SystemRole::ClaimPolicyManager)]),
    ("offering:manage", &[Asset(AssetRole::Sale), Asset(AssetRole::Emergency), Asset(AssetRole::Funds)]),
    ("system:roles", &[Administration]),
    ("topic:manage", &[System(SystemRole::ClaimPolicyManager)]),
    ("treasury:approve", &[Asset(AssetRole::Funds), Asset(AssetRole::Supply), Asset(AssetRole::Governance)]),
    ("treasury:manage", &[Asset(AssetRole::Governance), Asset(AssetRole::Funds)]),
];

/// What the calls behind a permission need, any of it; nothing for most reads and for what is about one's own.
#[must_use]
pub fn needs(permission: &str) -> &'static [Need] {
    NEEDS.iter().find(|(name, _)| *name == permission).map_or(&[], |(_, needs)| needs)
}

/// The permissions whose calls a role on chain is used by, in order.
pub fn used_by(need: Need) -> impl Iterator<Item = &'static str> {
    NEEDS.iter().filter(move |(_, needs)| needs.contains(&need)).map(|(name, _)| *name)
}

// === impl Need ===

impl Need {
    /// Whether it is held on an asset, and not in the system.
    #[must_use]
    pub fn is_on_asset(self) -> bool {
        matches!(self, Self::Asset(_) | Self::AssetAdmin)
    }

    /// As `role` in the metadata of refusals names it.
    #[must_use]
    pub fn name(self) -> String {
        let plain = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
        match self {
            Self::System(role) => plain(role.as_str_name(), "SYSTEM_ROLE_"),
            Self::Administration => "administrator".to_owned(),
            Self::RegistryAgent => "registry_agent".to_owned(),
            Self::Asset(role) => plain(role.as_str_name(), "ASSET_ROLE_"),
            Self::AssetAdmin => "admin".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_proto::{Exposure, IdempotencyClass, Methods};
    use std::collections::BTreeSet;

    /// Permissions to write in the domain services that no role on chain is needed for: one's own, keys of an identity, or nothing on chain.
    const WITHOUT: [&str; 22] = [
        "airdrop:claim",
        "asset:templates",
        "asset:transfer",
        "claim:issue",
        "claim:revoke",
        "compliance:approve",
        "feed:submit",
        "identity:manage",
        "key:create",
        "key:disable",
        "offering:buy",
        "settlement:approve",
        "settlement:create",
        "settlement:execute",
        "smart-wallet:approve",
        "smart-wallet:manage",
        "smart-wallet:propose",
        "system:bootstrap",
        "treasury:claim",
        "treasury:fund",
        "treasury:prepare",
        "wallet:any",
    ];

    #[test]
    fn every_permission_of_the_domain_services_is_thought_of() {
        let own: BTreeSet<&str> = crate::config::OWN_SERVICES.iter().copied().collect();
        let methods = Methods::load();
        let written = methods.iter().filter(|method| {
            method.exposure != Exposure::Mesh
                && method.idempotency != IdempotencyClass::Read
                && !own.contains(method.service.as_str())
        });
        let unknown: BTreeSet<&str> = written
            .map(|method| method.permission.as_str())
            .filter(|name| needs(name).is_empty() && !WITHOUT.contains(name))
            .collect();
        assert!(unknown.is_empty(), "say in the table, or in the list above, what these need on chain: {unknown:?}");
        let every: BTreeSet<&str> = methods.iter().map(|method| method.permission.as_str()).collect();
        let gone: Vec<_> = NEEDS.iter().map(|(name, _)| *name).filter(|name| !every.contains(name)).collect();
        assert!(gone.is_empty(), "no RPC has these permissions any more: {gone:?}");
        assert!(NEEDS.is_sorted_by_key(|(name, _)| *name) && NEEDS.iter().all(|(name, _)| !WITHOUT.contains(name)));
    }

    #[test]
    fn roles_are_named_as_refusals_name_them() {
        assert_eq!(System(SystemRole::TokenManager).name(), "token_manager");
        assert_eq!(Asset(AssetRole::Supply).name(), "supply");
        assert_eq!((Administration.name(), AssetAdmin.name()), ("administrator".to_owned(), "admin".to_owned()));
        assert_eq!(
            used_by(Asset(AssetRole::Supply)).collect::<Vec<_>>(),
            ["asset:burn", "asset:mint", "treasury:approve"]
        );
        assert_eq!(used_by(System(SystemRole::ComplianceManager)).count(), 0);
    }
}
