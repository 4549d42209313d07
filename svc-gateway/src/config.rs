//! What an operator writes down about the gateway. Every key stands annotated in `config.example.toml`.

use std::collections::{BTreeMap, BTreeSet};

use dalp_proto::{Methods, RateClass};
use dalp_service::{
    PrincipalId, SpiffeId, TenantId,
    config::{DatabaseConfig, PeerConfig, Problems, ServerConfig, TelemetryConfig, TlsConfig, Validate},
};
use http::uri::Authority;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    api_key::{KeyDigest, is_prefix},
    permissions::{Pattern, Universe},
    rest::HttpConfig,
};

/// The services which the gateway answers itself.
pub const OWN_SERVICES: &[&str] = &[
    "dalp.operation.v1.OperationService",
    "dalp.transaction.v1.TransactionService",
    "dalp.operator.v1.OperatorService",
    "dalp.event.v1.EventService",
];

/// Which gRPC services an upstream owns when its section does not say.
const DEFAULT_SERVICES: &[(&str, &[&str])] = &[
    (
        "svc-compliance",
        &[
            "dalp.system.v1.SystemService",
            "dalp.identity.v1.IdentityService",
            "dalp.asset.v1.AssetService",
            "dalp.compliance.v1.ComplianceService",
            "dalp.holder.v1.HolderService",
        ],
    ),
    ("svc-feeds", &["dalp.feeds.v1.FeedService", "dalp.feeds.v1.FeedDirectoryService"]),
    ("svc-settlement", &["dalp.settlement.v1.SettlementService"]),
    (
        "svc-distribution",
        &[
            "dalp.distribution.v1.OfferingService",
            "dalp.distribution.v1.AirdropService",
            "dalp.distribution.v1.TreasuryService",
        ],
    ),
    ("svc-signer", &["dalp.signer.v1.KeyService"]),
];

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The public listener. Client certificates are optional here: an API key is the other way to prove who calls.
    pub server: ServerConfig,
    /// The gateway's own certificate towards the services behind it.
    pub client_tls: TlsConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The engine's database, by a role that may read it, withdraw operations, and write what operators ask for.
    pub database: DatabaseConfig,
    /// How often each upstream's health is asked, in milliseconds.
    #[serde(default = "default_health_interval_ms")]
    pub health_interval_ms: u64,
    /// HTTP/JSON and gRPC-Web.
    #[serde(default)]
    pub http: HttpConfig,
    /// Rates of each tenant that has no own.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// The services behind the gateway.
    pub upstreams: Vec<UpstreamConfig>,
    /// The tenants.
    pub tenants: Vec<TenantConfig>,
    /// What may be granted.
    pub roles: Vec<RoleConfig>,
    /// Who may call.
    pub principals: Vec<PrincipalConfig>,
}

/// `[[upstreams]]`: a service behind the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Its name, for routing, health and metrics.
    pub name: String,
    /// `host:port`.
    #[serde(deserialize_with = "dalp_service::config::authority")]
    pub address: Authority,
    /// The identity its certificate must carry.
    pub spiffe_id: SpiffeId,
    /// The gRPC services it owns. Empty: the usual ones of a service of this name.
    #[serde(default)]
    pub services: Vec<String>,
}

/// `[[tenants]]`: a tenant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Its identifier.
    pub id: TenantId,
    /// Its own rates, in place of `[limits]`.
    #[serde(default)]
    pub limits: Option<LimitsConfig>,
}

/// `[[roles]]`: a name for a set of permissions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// Its name, `[a-z][a-z0-9-]*`.
    pub name: String,
    /// What it grants.
    pub permissions: Vec<Pattern>,
}

/// `[[principals]]`: someone who may call, proven by a certificate or by an API key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalConfig {
    /// Its identifier, unique in the tenant.
    pub id: PrincipalId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The roles it holds.
    pub roles: Vec<String>,
    /// The identity in its client certificate.
    #[serde(default)]
    pub spiffe: Option<SpiffeId>,
    /// The prefix of its API key.
    #[serde(default)]
    pub prefix: Option<String>,
    /// SHA-256 of its whole API key, hex.
    #[serde(default)]
    pub api_key_sha256: Option<KeyDigest>,
    /// When its API key ends, RFC 3339. Unset: never.
    #[serde(default)]
    pub expires_at: Option<Moment>,
    /// What its API key is good for.
    #[serde(default)]
    pub scope: Scope,
    /// Lets neither its API key nor its certificate in.
    #[serde(default)]
    pub disabled: bool,
}

/// What an API key is good for, whatever the roles say.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Calls that change nothing.
    Read,
    /// Everything the roles grant.
    #[default]
    ReadWrite,
}

/// `[limits]`: token buckets per tenant.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Cheap reads.
    pub read: RateConfig,
    /// Writes that end in chain transactions.
    pub write: RateConfig,
    /// Opening of long-lived streams and waits.
    pub stream: RateConfig,
    /// Administration.
    pub admin: RateConfig,
    /// Calls of the tenant that may be under way at once, waits and streams aside.
    pub calls_at_once: u32,
    /// Waits and streams of the tenant that may be open at once.
    pub streams_at_once: u32,
}

/// One token bucket.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Tokens a second.
    pub per_second: u32,
    /// Tokens a full bucket holds.
    pub burst: u32,
}

/// A point in time, RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub OffsetDateTime);

fn default_health_interval_ms() -> u64 {
    2_000
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = OffsetDateTime::parse(&text, &Rfc3339);
        moment
            .map(Self)
            .map_err(|_| serde::de::Error::custom("expected an RFC 3339 time such as 2027-01-31T00:00:00Z, in quotes"))
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            read: RateConfig { per_second: 500, burst: 1_000 },
            write: RateConfig { per_second: 200, burst: 400 },
            stream: RateConfig { per_second: 50, burst: 200 },
            admin: RateConfig { per_second: 10, burst: 50 },
            calls_at_once: 400,
            streams_at_once: 200,
        }
    }
}

// === impl LimitsConfig, UpstreamConfig, GatewayConfig ===

impl LimitsConfig {
    /// The bucket of each class.
    pub fn classes(&self) -> impl Iterator<Item = (RateClass, RateConfig)> + use<> {
        [
            (RateClass::Read, self.read),
            (RateClass::Write, self.write),
            (RateClass::Stream, self.stream),
            (RateClass::Admin, self.admin),
        ]
        .into_iter()
    }
}

impl UpstreamConfig {
    /// The gRPC services it owns: those of its section, else the usual ones of its name.
    #[must_use]
    pub fn owned_services(&self) -> Vec<String> {
        if !self.services.is_empty() {
            return self.services.clone();
        }
        let usual = DEFAULT_SERVICES.iter().find(|(name, _)| *name == self.name);
        usual.map(|(_, services)| services.iter().map(|&service| service.to_owned()).collect()).unwrap_or_default()
    }

    /// As a peer to connect to.
    #[must_use]
    pub fn peer(&self) -> PeerConfig {
        PeerConfig { address: self.address.clone(), spiffe_id: self.spiffe_id.clone() }
    }
}

impl GatewayConfig {
    /// The rates of a tenant.
    #[must_use]
    pub fn limits_of<'c>(&'c self, tenant: &'c TenantConfig) -> &'c LimitsConfig {
        tenant.limits.as_ref().unwrap_or(&self.limits)
    }
}

impl Validate for LimitsConfig {
    fn validate(&self, problems: &mut Problems) {
        for (name, rate) in [("read", self.read), ("write", self.write), ("stream", self.stream), ("admin", self.admin)]
        {
            if rate.per_second == 0 || rate.burst == 0 {
                problems.push(name, "per_second and burst must be at least 1");
            }
        }
        for (name, most) in [("calls_at_once", self.calls_at_once), ("streams_at_once", self.streams_at_once)] {
            if !(1..=100_000).contains(&most) {
                problems.push(name, "must lie between 1 and 100000");
            }
        }
    }
}

impl Validate for GatewayConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("client_tls", |problems| self.client_tls.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("database", |problems| self.database.validate(problems));
        problems.section("http", |problems| self.http.validate(problems));
        problems.section("limits", |problems| self.limits.validate(problems));
        if !(100..=60_000).contains(&self.health_interval_ms) {
            problems.push("health_interval_ms", "must lie between 100 and 60000");
        }
        self.validate_upstreams(problems);
        self.validate_tenants_and_roles(problems);
        self.validate_principals(problems);
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

    fn validate_principals(&self, problems: &mut Problems) {
        let tenants: BTreeSet<_> = self.tenants.iter().map(|tenant| &tenant.id).collect();
        let roles: BTreeSet<_> = self.roles.iter().map(|role| role.name.as_str()).collect();
        let (mut ids, mut spiffe_ids, mut prefixes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
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
            if let Some(spiffe) = &principal.spiffe
                && !spiffe_ids.insert(spiffe)
            {
                problems.push(at("spiffe"), format!("{spiffe} already belongs to another principal"));
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
                (None, None) if principal.spiffe.is_none() => {
                    problems.push(
                        at("id"),
                        "give the principal a spiffe identity, or prefix and api_key_sha256 of an API key",
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
