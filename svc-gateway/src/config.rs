//! What an operator writes down about the gateway. Every key stands annotated in `config.example.toml`.

mod validation;
mod webhooks;

use dalp_proto::RateClass;
use dalp_service::{
    PrincipalId, SpiffeId, TenantId,
    config::{DatabaseConfig, PeerConfig, ServerConfig, TelemetryConfig, TlsConfig},
};
use http::uri::Authority;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    api_key::KeyDigest, hooks::HooksConfig, oidc::OidcConfig, permissions::Pattern, rest::HttpConfig,
    sealing::SealingConfig, status::StatusConfig, verification::VerificationConfig,
};

pub(crate) use validation::is_cell;
pub use webhooks::WebhooksConfig;

/// The services which the gateway answers itself.
pub const OWN_SERVICES: &[&str] = &[
    "dalp.operation.v1.OperationService",
    "dalp.transaction.v1.TransactionService",
    "dalp.operator.v1.OperatorService",
    "dalp.tenant.v1.TenantService",
    "dalp.principal.v1.PrincipalService",
    "dalp.apikey.v1.ApiKeyService",
    "dalp.checker.v1.CheckerService",
    "dalp.event.v1.EventService",
    "dalp.webhook.v1.WebhookService",
    "dalp.audit.v1.AuditService",
    "dalp.verification.v1.WalletVerificationService",
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
            "dalp.wallet.v1.SmartWalletService",
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
    /// The engine's database, by a role that owns the schema `gateway`, may read the engine's, withdraw operations, and write what
    /// operators ask for.
    pub database: DatabaseConfig,
    /// The cell of this gateway: it serves the tenants of that.
    #[serde(default = "default_cell")]
    pub cell: String,
    /// Which of several configurations is the newest: what [tenants](Self::tenants), roles and principals say counts when nothing newer was applied.
    #[serde(default)]
    pub generation: u64,
    /// Who may ask what there is to call.
    #[serde(default)]
    pub reflection: Reflection,
    /// How long what is known of a caller holds.
    #[serde(default)]
    pub access: AccessConfig,
    /// Identity providers whose tokens are taken.
    #[serde(default)]
    pub oidc: Vec<OidcConfig>,
    /// How often each upstream's health is asked, in milliseconds.
    #[serde(default = "default_health_interval_ms")]
    pub health_interval_ms: u64,
    /// HTTP/JSON and gRPC-Web.
    #[serde(default)]
    pub http: HttpConfig,
    /// Endpoints for custodians' events. Absent: none.
    #[serde(default)]
    pub hooks: Option<HooksConfig>,
    /// The status page for operators. Absent: there is none.
    #[serde(default)]
    pub status: Option<StatusConfig>,
    /// Sealing of the audit log.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Keys that factors of persons and secrets of webhooks are sealed with.
    #[serde(default)]
    pub sealing: SealingConfig,
    /// Factors by which persons verify writes.
    #[serde(default)]
    pub verification: VerificationConfig,
    /// Webhooks. Left out: there are none.
    #[serde(default)]
    pub webhooks: Option<WebhooksConfig>,
    /// Rates of each tenant that has no own.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// The services behind the gateway.
    pub upstreams: Vec<UpstreamConfig>,
    /// Tenants that this file keeps; RPCs keep others.
    #[serde(default)]
    pub tenants: Vec<TenantConfig>,
    /// What may be granted.
    pub roles: Vec<RoleConfig>,
    /// Principals that this file keeps; RPCs keep others.
    #[serde(default)]
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
    /// For people. Unset: the identifier.
    #[serde(default)]
    pub name: Option<String>,
    /// The cell that holds its data. Unset: the gateway's own.
    #[serde(default)]
    pub cell: Option<String>,
    /// The chains it works on. Empty: whichever the cell serves.
    #[serde(default)]
    pub chain_ids: Vec<u64>,
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
    /// Person or machine.
    #[serde(default)]
    pub kind: PrincipalKind,
    /// Of a machine, the person of this file who answers for it.
    #[serde(default)]
    pub owner: Option<PrincipalId>,
    /// Whom it is at an identity provider.
    #[serde(default)]
    pub oidc: Option<OidcSubject>,
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

/// Somebody at an identity provider.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct OidcSubject {
    /// The issuer, one of `[[oidc]]`.
    pub issuer: String,
    /// The value of its claim.
    pub subject: String,
}

/// What a principal is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PrincipalKind {
    /// A person.
    Person,
    /// A machine.
    #[default]
    Service,
}

/// Who may ask what there is to call.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Reflection {
    /// Nobody.
    Off,
    /// Whoever proves who it is.
    #[default]
    Authenticated,
    /// Everybody.
    Open,
}

/// `[access]`: how long what is known of a caller holds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Credentials kept in memory.
    pub cache_entries: u64,
    /// After how long a credential is read again even if nothing was told to have changed, in milliseconds.
    pub cache_ttl_ms: u64,
    /// How long a caller that was let in goes on reading while the database is away, in milliseconds.
    pub grace_ms: u64,
    /// How long a credential is waited for before the database counts as away, in milliseconds.
    pub read_within_ms: u64,
}

/// `[audit]`: how the audit log is sealed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// How often leaves are looked for, in milliseconds.
    pub seal_every_ms: u64,
    /// Leaves sealed in one commit.
    pub seal_batch: u32,
    /// How often a root of a tenant that has new leaves is made and signed, in milliseconds.
    pub root_every_ms: u64,
    /// Refused calls of a tenant that are written one by one: so many a second,
    pub refusals_per_second: u32,
    /// and so many at once. More are counted.
    pub refusals_burst: u32,
    /// How long the end of a call is waited for whose service leaves no leaf, in seconds.
    pub heard_within_s: u64,
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
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
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

fn default_cell() -> String {
    "main".to_owned()
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self { cache_entries: 50_000, cache_ttl_ms: 30_000, grace_ms: 300_000, read_within_ms: 1_000 }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            seal_every_ms: 500,
            seal_batch: 5_000,
            root_every_ms: 10_000,
            refusals_per_second: 20,
            refusals_burst: 500,
            heard_within_s: 300,
        }
    }
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

// === impl Scope, PrincipalKind ===

impl Scope {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Read, Self::ReadWrite].into_iter().find(|scope| scope.as_str() == text).ok_or(())
    }
}

impl PrincipalKind {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

impl std::str::FromStr for PrincipalKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Person, Self::Service].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

// === impl LimitsConfig, UpstreamConfig ===

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

    /// What is wrong with them: which, and why.
    pub(crate) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let rates = [("read", self.read), ("write", self.write), ("stream", self.stream), ("admin", self.admin)];
        let rates = rates.into_iter().filter(|(_, rate)| rate.per_second == 0 || rate.burst == 0);
        let most = [("calls_at_once", self.calls_at_once), ("streams_at_once", self.streams_at_once)];
        let most = most.into_iter().filter(|(_, most)| !(1..=100_000).contains(most));
        let rates = rates.map(|(name, _)| (name, "per_second and burst must be at least 1"));
        rates.chain(most.map(|(name, _)| (name, "must lie between 1 and 100000"))).collect()
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
