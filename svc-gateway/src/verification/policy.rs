//! Which writes of a tenant need a verification.

use std::str::FromStr;

use dalp_proto::{IdempotencyClass, Method};
use serde::Deserialize;

use crate::permissions::Pattern;

/// The service by which factors are kept. A person's own calls to it verify by themselves: they must be possible before there is a factor, and ask for one that there is.
const SERVICE: &str = "dalp.verification.v1.WalletVerificationService";
const OWN: &str = "verification:own";
/// By these a verification could be got around: a key that is never asked, another sign-in, a changed policy, a reset.
const ALWAYS: [&str; 7] = [
    "api-key:write",
    "principal:write",
    "principal:grant",
    "checker:write",
    "verification:write",
    "verification:reset",
    "platform:tenants",
];

/// Which writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// None.
    #[default]
    Off,
    /// Every one.
    AllWrites,
    /// Those of the policy, and those by which it could be got around.
    Chosen,
}

/// The policy of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Policy {
    /// Which.
    pub mode: Mode,
    /// RPCs, as `dalp.asset.v1.AssetService/Mint`.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Patterns of permissions.
    #[serde(default)]
    pub permissions: Vec<Pattern>,
}

// === impl Mode ===

impl Mode {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::AllWrites => "all-writes",
            Self::Chosen => "chosen",
        }
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Off, Self::AllWrites, Self::Chosen].into_iter().find(|mode| mode.as_str() == text).ok_or(())
    }
}

// === impl Policy ===

impl Policy {
    /// Whether a call of a person who signs in by browser needs a verification.
    #[must_use]
    pub fn asks(&self, method: &Method) -> bool {
        if method.idempotency == IdempotencyClass::Read || verifies_itself(method) {
            return false;
        }
        match self.mode {
            Mode::Off => false,
            Mode::AllWrites => true,
            Mode::Chosen => {
                let name = method.path.trim_start_matches('/');
                ALWAYS.contains(&method.permission.as_str())
                    || self.methods.iter().any(|one| one == name)
                    || self.permissions.iter().any(|pattern| pattern.matches(&method.permission))
            }
        }
    }
}

/// Whether a call is a person's own to the service of factors.
#[must_use]
pub fn verifies_itself(method: &Method) -> bool {
    method.service == SERVICE && method.permission == OWN
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dalp_proto::{Exposure, Methods};

    use super::*;

    fn asked(policy: &Policy) -> BTreeSet<String> {
        let methods = Methods::load();
        let public = methods.iter().filter(|method| method.exposure != Exposure::Mesh);
        public.filter(|method| policy.asks(method)).map(|method| method.path.clone()).collect()
    }

    #[test]
    fn every_write_but_ones_own_factors() {
        let methods = Methods::load();
        let all = asked(&Policy { mode: Mode::AllWrites, ..Policy::default() });
        for method in methods.iter().filter(|method| method.exposure != Exposure::Mesh) {
            let write = method.idempotency != IdempotencyClass::Read;
            assert_eq!(all.contains(&method.path), write && method.permission != OWN, "{}", method.path);
        }
        assert!(all.contains("/dalp.verification.v1.WalletVerificationService/ResetVerification"));
        assert!(asked(&Policy::default()).is_empty());
    }

    #[test]
    fn what_is_chosen_and_what_would_get_around_it() {
        let none_chosen = asked(&Policy { mode: Mode::Chosen, ..Policy::default() });
        let mint = "/dalp.asset.v1.AssetService/Mint";
        assert!(!none_chosen.contains(mint));
        for always in [
            "/dalp.apikey.v1.ApiKeyService/CreateApiKey",
            "/dalp.principal.v1.PrincipalService/BindCredential",
            "/dalp.checker.v1.CheckerService/RemovePolicy",
            "/dalp.verification.v1.WalletVerificationService/SetVerificationPolicy",
            "/dalp.verification.v1.WalletVerificationService/ResetVerification",
        ] {
            assert!(none_chosen.contains(always), "{always}");
        }
        let by_method = Policy { mode: Mode::Chosen, methods: vec![mint[1..].to_owned()], ..Policy::default() };
        assert!(asked(&by_method).contains(mint));
        let methods = Methods::load();
        let permission = &methods.get(mint).unwrap().permission;
        let by_permission =
            Policy { mode: Mode::Chosen, permissions: vec![permission.parse().unwrap()], ..Policy::default() };
        assert!(asked(&by_permission).contains(mint));
    }
}
