//! Where grants off chain and roles on chain disagree. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::{Need, needs, used_by};
use crate::permissions::Granted;

/// A wallet with what it holds on chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The wallet.
    pub wallet: String,
    /// It is the principal's own.
    pub own: bool,
    /// Its key was disabled.
    pub disabled: bool,
    /// What it holds in the system.
    pub system: BTreeSet<Need>,
    /// What it holds on assets, by asset as the chain's side writes it.
    pub assets: BTreeMap<String, BTreeSet<Need>>,
}

/// How they disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Permissions that no wallet can use.
    GrantWithoutRole,
    /// Roles that no permission uses.
    RoleWithoutGrant,
    /// Roles of a wallet that signs nothing any more.
    RoleOfDisabledWallet,
}

/// Where they disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How.
    pub kind: Kind,
    /// The permissions, in order.
    pub permissions: Vec<String>,
    /// The roles.
    pub roles: Vec<Need>,
    /// The asset; empty: the system.
    pub asset: String,
    /// Who holds the roles; empty: nobody does.
    pub wallet: String,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// What is granted; nothing of one who was disabled.
    pub granted: &'q Granted,
    /// What wallets hold.
    pub holdings: &'q [Holding],
    /// These are all that may be used: only then something can be known to lack.
    pub complete: bool,
    /// The assets looked at.
    pub assets: &'q [String],
    /// Whether the system is looked at, or only assets.
    pub system: bool,
}

// === impl Question ===

impl Question<'_> {
    /// Everything that disagrees: first what is of no use, then what lies idle.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.complete {
            if self.system {
                found.extend(self.of_no_use(""));
            }
            for asset in self.assets {
                found.extend(self.of_no_use(asset));
            }
        }
        for holding in self.holdings.iter().filter(|holding| holding.own) {
            if self.system {
                found.extend(self.idle(holding, "", &holding.system));
            }
            let on = self.assets.iter().filter_map(|asset| Some((asset, holding.assets.get(asset)?)));
            found.extend(on.flat_map(|(asset, held)| self.idle(holding, asset, held)));
        }
        found
    }

    /// Whether a permission is granted where a role counts: in the system on any asset, because its calls may name one.
    fn allows(&self, permission: &str, asset: &str) -> bool {
        let mut on = self.granted.assets_with(permission);
        self.granted.allows(permission)
            || if asset.is_empty() { on.next().is_some() } else { on.any(|own| own.eq_ignore_ascii_case(asset)) }
    }

    /// What the permissions that are granted need, and no wallet holds, by what they need.
    fn of_no_use(&self, asset: &str) -> Vec<Finding> {
        let mut lacking: BTreeMap<&'static [Need], BTreeSet<String>> = BTreeMap::new();
        let on_assets = self.granted.on_assets.iter().flat_map(|(_, set)| set.iter());
        for permission in self.granted.permissions.iter().chain(on_assets) {
            let needs = needs(permission);
            // Of what an asset's role will do for, an asset is to be named; what only the system's will do for is told once.
            let about_assets = needs.iter().any(|need| need.is_on_asset());
            let concerned = !needs.is_empty() && about_assets != asset.is_empty() && self.allows(permission, asset);
            if concerned && !self.holdings.iter().any(|holding| holding.meets(needs, asset)) {
                lacking.entry(needs).or_default().insert(permission.to_owned());
            }
        }
        let finding = |(needs, permissions): (&[Need], BTreeSet<String>)| Finding {
            kind: Kind::GrantWithoutRole,
            permissions: permissions.into_iter().collect(),
            roles: needs.to_vec(),
            asset: asset.to_owned(),
            wallet: String::new(),
        };
        lacking.into_iter().map(finding).collect()
    }

    /// What a wallet holds without a use for it.
    fn idle(&self, holding: &Holding, asset: &str, held: &BTreeSet<Need>) -> Option<Finding> {
        let uses = |need: &Need| used_by(*need).any(|permission| self.allows(permission, asset));
        let (kind, roles): (Kind, Vec<Need>) = match holding.disabled {
            true => (Kind::RoleOfDisabledWallet, held.iter().copied().collect()),
            // What no call of ours uses is nobody's to have granted.
            false => (
                Kind::RoleWithoutGrant,
                held.iter().copied().filter(|need| used_by(*need).next().is_some() && !uses(need)).collect(),
            ),
        };
        let permissions: BTreeSet<&str> = match kind {
            Kind::RoleWithoutGrant => roles.iter().flat_map(|need| used_by(*need)).collect(),
            Kind::GrantWithoutRole | Kind::RoleOfDisabledWallet => BTreeSet::new(),
        };
        (!roles.is_empty()).then(|| Finding {
            kind,
            permissions: permissions.into_iter().map(str::to_owned).collect(),
            roles,
            asset: asset.to_owned(),
            wallet: holding.wallet.clone(),
        })
    }
}

// === impl Holding ===

impl Holding {
    /// Whether it can be used for one of these on an asset, or in the system.
    fn meets(&self, needs: &[Need], asset: &str) -> bool {
        let on = self.assets.get(asset);
        !self.disabled
            && needs.iter().any(|need| match need.is_on_asset() {
                true => on.is_some_and(|held| held.contains(need)),
                false => self.system.contains(need),
            })
    }

    /// Whether it holds anything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        !self.system.is_empty() || self.assets.values().any(|held| !held.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::store::GrantedRole, permissions::Granting};
    use dalp_proto::{Methods, asset::AssetRole, system::SystemRole};
    use std::sync::Arc;

    const ONE: &str = "0xAa00000000000000000000000000000000000001";
    const TWO: &str = "0xAa00000000000000000000000000000000000002";
    const SUPPLY: Need = Need::Asset(AssetRole::Supply);

    fn granted(grants: &[(&str, &str)]) -> Arc<Granted> {
        let grants: Vec<GrantedRole> = grants
            .iter()
            .map(|(permission, asset)| GrantedRole {
                role: (*permission).replace(':', "-"),
                asset: asset.to_lowercase(),
                area: if asset.is_empty() { "system" } else { "asset" }.to_owned(),
                permissions: vec![(*permission).to_owned()],
            })
            .collect();
        Granting::new(&Methods::load()).granted(&grants)
    }

    fn wallet(name: &str, system: &[Need], assets: &[(&str, &[Need])]) -> Holding {
        let assets = assets.iter().map(|(asset, held)| ((*asset).to_owned(), held.iter().copied().collect()));
        Holding {
            wallet: name.to_owned(),
            own: true,
            disabled: false,
            system: system.iter().copied().collect(),
            assets: assets.collect(),
        }
    }

    fn told(granted: &Granted, holdings: &[Holding], complete: bool) -> Vec<(Kind, String, String, String)> {
        let assets = [ONE.to_owned(), TWO.to_owned()];
        let found = Question { granted, holdings, complete, assets: &assets, system: true }.findings();
        let names = |finding: &Finding| finding.roles.iter().map(|need| need.name()).collect::<Vec<_>>().join(",");
        found
            .iter()
            .map(|finding| (finding.kind, finding.permissions.join(","), names(finding), finding.asset.clone()))
            .collect()
    }

    #[test]
    fn a_grant_without_the_role_is_told_where_the_role_is_missing() {
        let minter = granted(&[("asset:mint", ""), ("asset:burn", "")]);
        let holdings = [wallet("w", &[], &[(ONE, &[SUPPLY])])];
        let expected = (Kind::GrantWithoutRole, "asset:burn,asset:mint".into(), "supply".into(), TWO.into());
        assert_eq!(told(&minter, &holdings, true), [expected]);
        assert!(told(&minter, &holdings, false).is_empty(), "another wallet may hold it");
        // Granted on one asset, the other is nobody's concern.
        assert!(told(&granted(&[("asset:mint", ONE), ("asset:burn", ONE)]), &holdings, true).is_empty());
        let creator = granted(&[("asset:create", "")]);
        let expected = (Kind::GrantWithoutRole, "asset:create".into(), "token_manager".into(), String::new());
        assert_eq!(told(&creator, &[], true), [expected]);
    }

    #[test]
    fn any_of_several_roles_will_do() {
        let manager = granted(&[("compliance:manage", "")]);
        let policy = wallet("w", &[Need::System(SystemRole::ClaimPolicyManager)], &[]);
        let found = told(&manager, &[policy], true);
        // The same role serves topics and issuers, of which nothing is granted; but it has a use.
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(told(&manager, &[], true).len(), 2, "on either asset");
    }

    #[test]
    fn a_role_without_the_grant_is_told_with_what_would_use_it() {
        let reader = granted(&[("asset:read", "")]);
        let holdings = [wallet("w", &[Need::Administration], &[(TWO, &[SUPPLY])])];
        assert_eq!(
            told(&reader, &holdings, true),
            [
                (Kind::RoleWithoutGrant, "system:roles".into(), "administrator".into(), String::new()),
                (Kind::RoleWithoutGrant, "asset:burn,asset:mint,treasury:approve".into(), "supply".into(), TWO.into()),
            ]
        );
        // The right role on the wrong asset is none.
        let elsewhere = granted(&[("asset:mint", ONE)]);
        let kinds: Vec<_> =
            told(&elsewhere, &holdings[..], true).into_iter().map(|(kind, _, _, asset)| (kind, asset)).collect();
        assert!(kinds.contains(&(Kind::GrantWithoutRole, ONE.to_owned())));
        assert!(kinds.contains(&(Kind::RoleWithoutGrant, TWO.to_owned())));
    }

    #[test]
    fn a_wallet_that_was_disabled_serves_nobody() {
        let minter = granted(&[("asset:mint", ONE)]);
        let mut lost = wallet("w", &[], &[(ONE, &[SUPPLY])]);
        lost.disabled = true;
        let kinds: Vec<_> = told(&minter, &[lost], true).into_iter().map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [Kind::GrantWithoutRole, Kind::RoleOfDisabledWallet]);
    }

    #[test]
    fn what_others_hold_serves_and_is_not_reported() {
        let anybody = granted(&[("asset:mint", ONE)]);
        let mut others = wallet("w", &[Need::Administration], &[(ONE, &[SUPPLY])]);
        others.own = false;
        assert!(told(&anybody, &[others], true).is_empty());
    }

    #[test]
    fn what_no_call_uses_is_not_missed() {
        let nobody = granted(&[]);
        let idle = wallet("w", &[Need::System(SystemRole::ComplianceManager)], &[]);
        assert!(told(&nobody, &[idle], true).is_empty());
    }
}
