//! Permissions, and the patterns by which roles grant them.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use dalp_proto::{Exposure, Methods};
use serde::Deserialize;

use crate::access::store::GrantedRole;

/// Permissions over all tenants. No wildcard of a tenant's role reaches them: a role has to name the area.
pub const PLATFORM: &str = "platform";
/// How many different sets of grants are kept resolved.
const RESOLVED: u64 = 10_000;

/// Permissions that no RPC asks for by itself: the domain services check them on the object a request names.
pub const OBJECT_PERMISSIONS: &[&str] = &["wallet:any"];

/// What a role grants: `*`, `<area>:*` or `<area>:<verb>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    area: Option<String>,
    verb: Option<String>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a permission pattern: expected *, <area>:* or <area>:<verb> in [a-z_-]")]
pub struct PatternError;

/// The permissions of a principal, each one written out, so that a check is a look-up and never a match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(BTreeSet<String>);

/// Every permission there is to grant.
#[derive(Clone, Debug)]
pub struct Universe(BTreeSet<String>);

/// Everything that grants come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// For the whole tenant.
    pub permissions: PermissionSet,
    /// Names of the roles held for the whole tenant, then `permissions`, as the services behind the gateway see them.
    pub roles: Vec<String>,
    /// What is held beside that on single assets, by asset in lower case.
    pub on_assets: Vec<(String, PermissionSet)>,
}

/// Turns grants into permissions, each set of grants once.
#[derive(Clone, Debug)]
pub struct Granting {
    universe: Universe,
    resolved: moka::sync::Cache<Vec<GrantedRole>, Arc<Granted>>,
}

// === impl Pattern ===

impl Pattern {
    /// Whether it grants a permission.
    #[must_use]
    pub fn matches(&self, permission: &str) -> bool {
        let Some((area, verb)) = permission.split_once(':') else { return false };
        self.area.as_deref().map_or(area != PLATFORM, |own| own == area)
            && self.verb.as_deref().is_none_or(|own| own == verb)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'-')
        };
        match text.split_once(':') {
            None if text == "*" => Ok(Self { area: None, verb: None }),
            Some((area, "*")) if word(area) => Ok(Self { area: Some(area.to_owned()), verb: None }),
            Some((area, verb)) if word(area) && word(verb) => {
                Ok(Self { area: Some(area.to_owned()), verb: Some(verb.to_owned()) })
            }
            _ => Err(PatternError),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.area, &self.verb) {
            (None, _) => formatter.write_str("*"),
            (Some(area), None) => write!(formatter, "{area}:*"),
            (Some(area), Some(verb)) => write!(formatter, "{area}:{verb}"),
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl Granted ===

impl Granted {
    /// Whether `permission` is held for every object of the tenant.
    #[must_use]
    pub fn allows(&self, permission: &str) -> bool {
        self.permissions.allows(permission)
    }

    /// The assets that `permission` is held on, where it is not held for the whole tenant.
    pub fn assets_with<'g>(&'g self, permission: &'g str) -> impl Iterator<Item = &'g str> {
        self.on_assets.iter().filter(move |(_, set)| set.allows(permission)).map(|(asset, _)| asset.as_str())
    }
}

// === impl Granting ===

impl Granting {
    /// For the RPCs of this build.
    #[must_use]
    pub fn new(methods: &Methods) -> Self {
        Self { universe: Universe::of(methods), resolved: moka::sync::Cache::new(RESOLVED) }
    }

    /// What grants come to. A stored pattern that no longer reads, or names nothing any more, grants nothing.
    #[must_use]
    pub fn granted(&self, grants: &[GrantedRole]) -> Arc<Granted> {
        match self.resolved.get(grants) {
            Some(granted) => granted,
            None => self.resolved.get_with(grants.to_vec(), || Arc::new(self.resolve(grants))),
        }
    }

    fn resolve(&self, grants: &[GrantedRole]) -> Granted {
        let mut all = Granted::default();
        for grant in grants {
            let mut set = self.permissions(&grant.permissions);
            if grant.area != PLATFORM {
                set.0.retain(|permission| !is_platform(permission));
            }
            if grant.asset.is_empty() {
                all.permissions.extend(set);
                all.roles.push(grant.role.clone());
            } else {
                match all.on_assets.iter_mut().find(|(asset, _)| *asset == grant.asset) {
                    Some((_, held)) => held.extend(set),
                    None => all.on_assets.push((grant.asset.clone(), set)),
                }
            }
        }
        all.roles.extend(all.permissions.iter().map(str::to_owned));
        all
    }

    /// What patterns come to.
    #[must_use]
    pub fn permissions(&self, patterns: &[String]) -> PermissionSet {
        let mut set = PermissionSet::default();
        let readable = patterns.iter().filter_map(|pattern| pattern.parse().ok());
        readable.for_each(|pattern: Pattern| set.extend(self.universe.resolve(&pattern)));
        set
    }
}

/// Whether a permission reaches over all tenants.
#[must_use]
pub fn is_platform(permission: &str) -> bool {
    permission.split_once(':').is_some_and(|(area, _)| area == PLATFORM)
}

// === impl PermissionSet ===

impl PermissionSet {
    /// Whether the set holds `permission`.
    #[must_use]
    pub fn allows(&self, permission: &str) -> bool {
        !permission.is_empty() && self.0.contains(permission)
    }

    /// Adds everything of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// All permissions, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

// === impl Universe ===

impl Universe {
    /// The permissions of every RPC that the gateway routes, and those on objects. Calls inside the mesh are not for roles to grant.
    #[must_use]
    pub fn of(methods: &Methods) -> Self {
        let routed =
            methods.iter().filter(|method| method.exposure != Exposure::Mesh).map(|method| method.permission.clone());
        Self(routed.chain(OBJECT_PERMISSIONS.iter().map(|&permission| permission.to_owned())).collect())
    }

    /// What a pattern grants; empty when it names nothing that exists.
    #[must_use]
    pub fn resolve(&self, pattern: &Pattern) -> PermissionSet {
        PermissionSet(self.0.iter().filter(|permission| pattern.matches(permission)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pattern: &str) -> Vec<String> {
        Universe::of(&Methods::load()).resolve(&pattern.parse().unwrap()).iter().map(str::to_owned).collect()
    }

    #[test]
    fn patterns_grant_what_they_say() {
        assert_eq!(resolve("asset:mint"), ["asset:mint"]);
        let assets = resolve("asset:*");
        assert!(assets.contains(&"asset:transfer".to_owned()) && assets.iter().all(|one| one.starts_with("asset:")));
        assert!(resolve("*").contains(&"wallet:any".to_owned()));
        assert!(resolve("asset:fly").is_empty());
    }

    #[test]
    fn nothing_grants_signing() {
        assert!(resolve("*").iter().all(|permission| !permission.starts_with("signer:")));
        assert!(resolve("signer:*").is_empty());
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in ["", "asset", "asset:", ":mint", "*:mint", "asset:mint:x", "Asset:mint", "asset: mint", "**"] {
            assert_eq!(text.parse::<Pattern>(), Err(PatternError), "{text}");
        }
        for text in ["*", "asset:*", "asset:mint"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn no_wildcard_reaches_over_tenants() {
        assert!(resolve("*").iter().all(|permission| !is_platform(permission)));
        assert!(resolve("platform:*").iter().any(|permission| permission == "platform:tenants"));
        let grant = |area: &str| GrantedRole {
            role: "r".to_owned(),
            asset: String::new(),
            area: area.to_owned(),
            permissions: vec!["platform:*".to_owned()],
        };
        let granting = Granting::new(&Methods::load());
        assert!(granting.granted(&[grant("platform")]).allows("platform:tenants"));
        assert!(!granting.granted(&[grant("system")]).allows("platform:tenants"), "only a grant over the platform");
    }

    #[test]
    fn a_role_on_one_asset_is_none_on_the_tenant() {
        let grant = |asset: &str| GrantedRole {
            role: "issuer".to_owned(),
            asset: asset.to_owned(),
            area: if asset.is_empty() { "system" } else { "asset" }.to_owned(),
            permissions: vec!["asset:mint".to_owned()],
        };
        let granting = Granting::new(&Methods::load());
        let (one, all) = (granting.granted(&[grant("0xaa")]), granting.granted(&[grant("")]));
        assert!(!one.allows("asset:mint") && one.roles.is_empty());
        assert_eq!(one.assets_with("asset:mint").collect::<Vec<_>>(), ["0xaa"]);
        assert_eq!(one.assets_with("asset:burn").count(), 0);
        assert!(all.allows("asset:mint") && all.on_assets.is_empty());
    }

    #[test]
    fn a_forgotten_permission_allows_nobody() {
        let everything = Universe::of(&Methods::load()).resolve(&"*".parse().unwrap());
        assert!(!everything.allows(""));
    }
}
