//! What is wrong with a configuration, all of it.

use std::collections::{BTreeMap, BTreeSet};

use dalp_proto::Methods;
use dalp_service::config::{Problems, Validate};

use super::{
    AccessConfig, AuditConfig, GatewayConfig, LimitsConfig, OWN_SERVICES, PrincipalConfig, PrincipalKind, Scope,
};
use crate::{api_key::is_prefix, permissions::Universe};

const CELL_SHAPE: &str = "a cell's name is small letters, digits and hyphens, 63 at most";

impl Validate for LimitsConfig {
    fn validate(&self, problems: &mut Problems) {
        self.problems().into_iter().for_each(|(name, why)| problems.push(name, why));
    }
}

impl Validate for GatewayConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("client_tls", |problems| self.client_tls.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("http", |problems| self.http.validate(problems));
        problems.section("database", |problems| self.database.validate(problems));
        problems.section("limits", |problems| self.limits.validate(problems));
        problems.section("access", |problems| self.access.validate(problems));
        problems.section("audit", |problems| self.audit.validate(problems));
        problems.section("sealing", |problems| self.sealing.validate(problems));
        problems.section("verification", |problems| self.verification.validate(problems));
        if let Some(webhooks) = &self.webhooks {
            problems.section("webhooks", |problems| webhooks.validate(problems));
            if self.sealing.keys.is_empty() {
                problems.push("webhooks", "needs a key in [[sealing.keys]], which their secrets are sealed with");
            }
        }
        if let Some(status) = &self.status {
            problems.section("status", |problems| status.validate(problems));
            // Its calls are made from inside, where no peer is looked at.
            if self.server.allowed_peers.keys().any(|prefix| prefix.starts_with("/dalp.")) {
                problems.push(
                    "status",
                    "the page shows what server.allowed_peers narrows to some peers: leave one of them out",
                );
            }
        }
        if !is_cell(&self.cell) {
            problems.push("cell", CELL_SHAPE);
        }
        if i64::try_from(self.generation).is_err() {
            problems.push("generation", "must be at most 9223372036854775807");
        }
        if !(100..=60_000).contains(&self.health_interval_ms) {
            problems.push("health_interval_ms", "must lie between 100 and 60000");
        }
        if let Some(hooks) = &self.hooks {
            problems.section("hooks", |problems| hooks.validate(problems));
            if !self.upstreams.iter().any(|upstream| upstream.name == crate::SIGNER) {
                problems.push("hooks", "needs the upstream svc-signer, which verifies events");
            }
        }
        self.validate_upstreams(problems);
        self.validate_tenants_and_roles(problems);
        self.validate_issuers(problems);
        self.validate_principals(problems);
    }
}

impl Validate for AccessConfig {
    fn validate(&self, problems: &mut Problems) {
        if !(100..=10_000_000).contains(&self.cache_entries) {
            problems.push("cache_entries", "must lie between 100 and 10000000");
        }
        if !(100..=3_600_000).contains(&self.cache_ttl_ms) {
            problems.push("cache_ttl_ms", "must lie between 100 and 3600000 (an hour)");
        }
        if self.grace_ms > 3_600_000 {
            problems.push("grace_ms", "must be at most 3600000 (an hour)");
        }
        if !(100..=60_000).contains(&self.read_within_ms) {
            problems.push("read_within_ms", "must lie between 100 and 60000 (a minute)");
        }
    }
}

impl Validate for AuditConfig {
    fn validate(&self, problems: &mut Problems) {
        let ranges = [
            ("seal_every_ms", self.seal_every_ms, 10, 60_000),
            ("seal_batch", u64::from(self.seal_batch), 1, 20_000),
            ("root_every_ms", self.root_every_ms, 10, 3_600_000),
            ("refusals_per_second", u64::from(self.refusals_per_second), 1, 10_000),
            ("refusals_burst", u64::from(self.refusals_burst), 1, 100_000),
            ("heard_within_s", self.heard_within_s, 1, 3_600),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                problems.push(name, format!("must lie between {least} and {most}"));
            }
        }
    }
}

impl GatewayConfig {
    fn validate_upstreams(&self, problems: &mut Problems) {
        let known: BTreeSet<String> = Methods::load().iter().map(|method| method.service.clone()).collect();
        let (mut names, mut owners) = (BTreeSet::new(), BTreeMap::new());
        for (index, upstream) in self.upstreams.iter().enumerate() {
            let key = format!("upstreams[{index}]");
            if !names.insert(&upstream.name) {
                problems.push(format!("{key}.name"), format!("{} is configured twice", upstream.name));
            }
            let services = upstream.owned_services();
            if services.is_empty() {
                problems.push(format!("{key}.services"), format!("name the gRPC services of {}", upstream.name));
            }
            for service in services {
                if OWN_SERVICES.contains(&service.as_str()) {
                    problems.push(format!("{key}.services"), format!("{service} is served by the gateway itself"));
                } else if !known.contains(&service) {
                    problems.push(format!("{key}.services"), format!("{service} is not a service of the contracts"));
                } else if let Some(owner) = owners.insert(service.clone(), &upstream.name) {
                    problems.push(format!("{key}.services"), format!("{service} already belongs to {owner}"));
                }
            }
        }
    }

    fn validate_tenants_and_roles(&self, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (index, tenant) in self.tenants.iter().enumerate() {
            if !seen.insert(&tenant.id) {
                problems.push(format!("tenants[{index}].id"), format!("{} is configured twice", tenant.id));
            }
            if tenant.cell.as_ref().is_some_and(|cell| !is_cell(cell)) {
                problems.push(format!("tenants[{index}].cell"), CELL_SHAPE);
            }
            if tenant.name.as_ref().is_some_and(|name| !(1..=200).contains(&name.chars().count())) {
                problems.push(format!("tenants[{index}].name"), "a tenant's name has 1 to 200 characters");
            }
            if tenant.chain_ids.contains(&0) {
                problems.push(format!("tenants[{index}].chain_ids"), "a chain id is at least 1");
            }
            if let Some(limits) = &tenant.limits {
                problems.section(&format!("tenants[{index}].limits"), |problems| limits.validate(problems));
            }
        }
        let universe = Universe::of(&Methods::load());
        let mut seen = BTreeSet::new();
        for (index, role) in self.roles.iter().enumerate() {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if role.name.is_empty() || !role.name.bytes().all(plain) {
                problems.push(format!("roles[{index}].name"), "a role's name is made of [a-z0-9-]");
            }
            if !seen.insert(&role.name) {
                problems.push(format!("roles[{index}].name"), format!("{} is configured twice", role.name));
            }
            for pattern in &role.permissions {
                if universe.resolve(pattern).iter().next().is_none() {
                    problems
                        .push(format!("roles[{index}].permissions"), format!("{pattern} grants nothing that exists"));
                }
            }
        }
    }

    fn validate_issuers(&self, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (index, issuer) in self.oidc.iter().enumerate() {
            problems.section(&format!("oidc[{index}]"), |problems| issuer.validate(problems));
            if !seen.insert(&issuer.issuer) {
                problems.push(format!("oidc[{index}].issuer"), format!("{} is configured twice", issuer.issuer));
            }
        }
    }

    fn validate_principals(&self, problems: &mut Problems) {
        let tenants: BTreeSet<_> = self.tenants.iter().map(|tenant| &tenant.id).collect();
        let roles: BTreeSet<_> = self.roles.iter().map(|role| role.name.as_str()).collect();
        let (mut ids, mut spiffe_ids, mut prefixes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut subjects = BTreeSet::new();
        for (index, principal) in self.principals.iter().enumerate() {
            let at = |key: &str| format!("principals[{index}].{key}");
            if !ids.insert((&principal.tenant, &principal.id)) {
                problems.push(at("id"), format!("{} is configured twice in tenant {}", principal.id, principal.tenant));
            }
            if !tenants.contains(&principal.tenant) {
                problems.push(at("tenant"), format!("{} is not a configured tenant", principal.tenant));
            }
            for role in &principal.roles {
                if !roles.contains(role.as_str()) {
                    problems.push(at("roles"), format!("{role} is not a configured role"));
                }
            }
            if let Some(owner) = &principal.owner {
                let is_owner = |one: &&PrincipalConfig| one.tenant == principal.tenant && one.id == *owner;
                let person = self.principals.iter().find(is_owner).map(|one| one.kind);
                if principal.kind != PrincipalKind::Service {
                    problems.push(at("owner"), "a person answers for itself");
                } else if person != Some(PrincipalKind::Person) {
                    problems
                        .push(at("owner"), format!("{owner} is no person of tenant {} in this file", principal.tenant));
                }
            }
            if let Some(spiffe) = &principal.spiffe
                && !spiffe_ids.insert(spiffe)
            {
                problems.push(at("spiffe"), format!("{spiffe} already belongs to another principal"));
            }
            if let Some(subject) = &principal.oidc {
                if !self.oidc.iter().any(|issuer| issuer.issuer == subject.issuer) {
                    problems.push(at("oidc"), format!("{} is not a configured issuer", subject.issuer));
                }
                if !subjects.insert((&subject.issuer, &subject.subject)) {
                    problems.push(at("oidc"), format!("{} already belongs to another principal", subject.subject));
                }
                if !(1..=255).contains(&subject.subject.chars().count()) {
                    problems.push(at("oidc"), "a subject has 1 to 255 characters");
                }
            }
            match (&principal.prefix, &principal.api_key_sha256) {
                (Some(prefix), Some(_)) => {
                    if !is_prefix(prefix) {
                        problems.push(at("prefix"), "an API key's prefix is 4 to 16 of [a-z0-9]");
                    }
                    if !prefixes.insert(prefix) {
                        problems.push(at("prefix"), format!("{prefix} already belongs to another API key"));
                    }
                }
                (None, None) if principal.spiffe.is_none() && principal.oidc.is_none() => {
                    problems.push(
                        at("id"),
                        "give the principal a spiffe identity, an oidc subject, or prefix and api_key_sha256 of an API key",
                    );
                }
                (None, None) => {
                    if principal.expires_at.is_some() || principal.scope != Scope::ReadWrite {
                        problems.push(
                            at("scope"),
                            "expires_at and scope belong to an API key, and this principal has none",
                        );
                    }
                }
                _ => problems.push(at("prefix"), "prefix and api_key_sha256 are given together"),
            }
        }
    }
}

/// Whether a text may name a cell.
pub(crate) fn is_cell(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}
