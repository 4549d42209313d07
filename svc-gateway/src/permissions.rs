//! Permissions, and the patterns by which roles grant them.

use std::{collections::BTreeSet, fmt, str::FromStr};

use dalp_proto::{Exposure, Methods};
use serde::Deserialize;

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

// === impl Pattern ===

impl Pattern {
    fn matches(&self, permission: &str) -> bool {
        let Some((area, verb)) = permission.split_once(':') else { return false };
        self.area.as_deref().is_none_or(|own| own == area) && self.verb.as_deref().is_none_or(|own| own == verb)
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
    fn a_forgotten_permission_allows_nobody() {
        let everything = Universe::of(&Methods::load()).resolve(&"*".parse().unwrap());
        assert!(!everything.allows(""));
    }
}
