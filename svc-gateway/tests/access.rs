//! Tenants, principals and API keys, kept by RPC and by the configuration: who gets in, who no longer does, and how soon.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use dalp_proto::{
    apikey::{
        CreateApiKeyRequest, DisableApiKeyRequest, GetApiKeyRequest, ListApiKeysRequest, RotateApiKeyRequest, Scope,
        api_key_service_client::ApiKeyServiceClient,
    },
    asset::{MintRequest, asset_service_client::AssetServiceClient},
    feeds::{GetLatestRequest, SubmitUpdateRequest, feed_service_client::FeedServiceClient},
    principal::{
        BindCredentialRequest, CreatePrincipalRequest, Credential, DisablePrincipalRequest, GetPrincipalRequest,
        GrantRoleRequest, PrincipalKind, RevokeRoleRequest, credential::Kind,
        principal_service_client::PrincipalServiceClient,
    },
    tenant::{
        CreateTenantRequest, DisableTenantRequest, GetTenantRequest, ListTenantsRequest, UpdateTenantRequest,
        tenant_service_client::TenantServiceClient,
    },
};
use dalp_service::{Reason, Refusal};
use support::{World, until, until_ready, world, world_with};
use tonic::{Request, Response, Status, transport::Channel};

/// A request with an API key and, for a write, an idempotency key.
fn with<T>(key: &str, idempotency: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    if !idempotency.is_empty() {
        request.metadata_mut().insert("idempotency-key", idempotency.parse().unwrap());
    }
    request
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    Refusal::details(&status).unwrap_or_else(|| panic!("not a typed refusal: {status:?}")).reason
}

fn replayed<T>(answer: &Response<T>) -> bool {
    answer.metadata().get("idempotency-replayed").unwrap() == "true"
}

struct Clients {
    principals: PrincipalServiceClient<Channel>,
    keys: ApiKeyServiceClient<Channel>,
    tenants: TenantServiceClient<Channel>,
    feeds: FeedServiceClient<Channel>,
}

impl World {
    fn clients(&self) -> Clients {
        self.clients_at(self.gateway.addr)
    }

    fn clients_at(&self, address: std::net::SocketAddr) -> Clients {
        let channel = self.pki.channel(address, None);
        Clients {
            principals: PrincipalServiceClient::new(channel.clone()),
            keys: ApiKeyServiceClient::new(channel.clone()),
            tenants: TenantServiceClient::new(channel.clone()),
            feeds: FeedServiceClient::new(channel),
        }
    }

    fn operator(&self) -> &str {
        self.keys.operator.expose()
    }
}

fn person(id: &str) -> CreatePrincipalRequest {
    CreatePrincipalRequest {
        principal_id: id.to_owned(),
        kind: PrincipalKind::Person.into(),
        display_name: "Somebody".to_owned(),
        owner: String::new(),
    }
}

fn key_for(id: &str, scope: Scope) -> CreateApiKeyRequest {
    CreateApiKeyRequest { principal_id: id.to_owned(), scope: scope.into(), expires_at: None }
}

fn grant(id: &str, role: &str, asset: &str) -> GrantRoleRequest {
    GrantRoleRequest { principal_id: id.to_owned(), role: role.to_owned(), asset: asset.to_owned() }
}

async fn reads(clients: &mut Clients, key: &str) -> Result<(), Status> {
    clients.feeds.get_latest(with(key, "", GetLatestRequest::default())).await.map(drop)
}

#[tokio::test]
async fn a_key_is_told_once_rotated_with_an_overlap_and_ended_everywhere_within_a_second() {
    let world = world().await;
    let replica = world.replica(&world.text).await;
    let (mut here, mut there) = (world.clients(), world.clients_at(replica.addr));
    let operator = world.operator();
    here.principals.create_principal(with(operator, "p", person("desk"))).await.unwrap();
    let made = here.keys.create_api_key(with(operator, "k", key_for("desk", Scope::ReadWrite))).await.unwrap();
    assert!(!replayed(&made));
    let made = made.into_inner();
    let first = made.secret.clone();
    assert!(first.starts_with(&format!("dalp_{}_", made.api_key.as_ref().unwrap().prefix)));
    // The same request again tells of the key, and no more what it is; another payload under the key is refused.
    let again = here.keys.create_api_key(with(operator, "k", key_for("desk", Scope::ReadWrite))).await.unwrap();
    assert!(replayed(&again));
    assert_eq!((again.get_ref().secret.as_str(), &again.get_ref().api_key), ("", &made.api_key));
    let other = here.keys.create_api_key(with(operator, "k", key_for("desk", Scope::Read))).await;
    assert_eq!(reason(other), "IDEMPOTENCY_KEY_REUSED");
    // Without a grant it may nothing; with one it may at once, on both replicas.
    assert_eq!(reason(reads(&mut there, &first).await), "PERMISSION_DENIED");
    here.principals.grant_role(with(operator, "g", grant("desk", "operator", ""))).await.unwrap();
    until(async || reads(&mut there, &first).await.is_ok()).await;
    reads(&mut here, &first).await.unwrap();
    // Rotated: both work until the overlap is over.
    let prefix = made.api_key.unwrap().prefix;
    let rotate = RotateApiKeyRequest { prefix: prefix.clone(), overlap_s: 3_600, expires_at: None };
    let rotated = here.keys.rotate_api_key(with(operator, "r", rotate.clone())).await.unwrap().into_inner();
    assert_eq!(rotated.predecessor.unwrap().successor, rotated.api_key.clone().unwrap().prefix);
    reads(&mut there, &rotated.secret).await.unwrap();
    reads(&mut there, &first).await.unwrap();
    let twice = here.keys.rotate_api_key(with(operator, "r2", rotate)).await;
    assert_eq!(reason(twice), "FAILED_PRECONDITION");
    // Ended: the answer is there, and from a second after it nobody is let in anywhere.
    let disable = DisableApiKeyRequest { prefix: prefix.clone(), reason: "lost".to_owned() };
    here.keys.disable_api_key(with(operator, "d", disable)).await.unwrap();
    let ended = Instant::now();
    for clients in [&mut here, &mut there] {
        refused_from_a_second_after(ended, clients, &first).await;
        assert_eq!(reason(reads(clients, &first).await), "API_KEY_DISABLED");
    }
    reads(&mut there, &rotated.secret).await.unwrap();
    // An overlap of nothing ends the old one with the answer.
    let second = rotated.api_key.unwrap().prefix;
    let rotate = RotateApiKeyRequest { prefix: second, overlap_s: 0, expires_at: None };
    let third = here.keys.rotate_api_key(with(operator, "r3", rotate)).await.unwrap().into_inner();
    until(async || reads(&mut there, &rotated.secret).await.is_err()).await;
    assert_eq!(reason(reads(&mut there, &rotated.secret).await), "API_KEY_EXPIRED");
    reads(&mut there, &third.secret).await.unwrap();
    // No secret stands anywhere in the tables, and each write in the audit.
    let database = world.database().await;
    for secret in [&first, &rotated.secret, &third.secret] {
        let half = secret.rsplit('_').next().unwrap();
        for table in ["gateway.api_keys", "gateway.requests", "engine.audit_leaves"] {
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                "SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%' OR t::text LIKE '%' || encode(convert_to($1, 'UTF8'), 'hex') || '%'"
            )))
            .bind(half)
            .fetch_one(&database)
            .await
            .unwrap();
            assert_eq!(found, 0, "{table}");
        }
    }
    let actions: Vec<String> = sqlx::query_scalar(
        "SELECT action FROM engine.audit_leaves WHERE tenant = 'acme' AND actor = 'acme/ops' ORDER BY sequence",
    )
    .fetch_all(&database)
    .await
    .unwrap();
    let expected = [
        "principal.create",
        "api_key.create",
        "admin.refused",
        "principal.grant",
        "api_key.rotate",
        "admin.refused",
        "api_key.disable",
        "api_key.rotate",
    ];
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let world = world().await;
    let mut clients = world.clients();
    let foreign = world.keys.foreign.expose();
    let get = GetPrincipalRequest { principal_id: "ops".to_owned() };
    assert_eq!(reason(clients.principals.get_principal(with(foreign, "", get)).await), "NOT_FOUND");
    let prefix = world.keys.operator.prefix().to_owned();
    let get = GetApiKeyRequest { prefix: prefix.clone() };
    clients.keys.get_api_key(with(world.operator(), "", get.clone())).await.unwrap();
    assert_eq!(reason(clients.keys.get_api_key(with(foreign, "", get)).await), "NOT_FOUND");
    let disable = DisableApiKeyRequest { prefix: prefix.clone(), reason: "mine".to_owned() };
    assert_eq!(reason(clients.keys.disable_api_key(with(foreign, "d", disable)).await), "NOT_FOUND");
    let get = GetTenantRequest { tenant_id: "acme".to_owned() };
    assert_eq!(reason(clients.tenants.get_tenant(with(foreign, "", get)).await), "NOT_FOUND");
    let none = |id: &str| grant(id, "operator", "");
    assert_eq!(reason(clients.principals.grant_role(with(foreign, "g", none("ops"))).await), "NOT_FOUND");
    let key = key_for("ops", Scope::Read);
    assert_eq!(reason(clients.keys.create_api_key(with(foreign, "k", key)).await), "NOT_FOUND");
    let list = clients.keys.list_api_keys(with(foreign, "", ListApiKeysRequest::default())).await.unwrap();
    let list = list.into_inner().api_keys;
    assert!(list.iter().all(|key| key.prefix != prefix) && !list.is_empty());
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_hold_and_nobody_changes_what_the_configuration_keeps() {
    let sections = "[[roles]]\nname = \"admin\"\npermissions = [\"principal:*\", \"api-key:*\", \"asset:read\"]\n";
    let world = world_with("", sections).await;
    let mut clients = world.clients();
    let operator = world.operator();
    clients.principals.create_principal(with(operator, "1", person("admin"))).await.unwrap();
    clients.principals.grant_role(with(operator, "2", grant("admin", "admin", ""))).await.unwrap();
    let admin = clients.keys.create_api_key(with(operator, "3", key_for("admin", Scope::ReadWrite))).await.unwrap();
    let admin = admin.into_inner().secret;
    clients.principals.create_principal(with(&admin, "4", person("clerk"))).await.unwrap();
    let more = clients.principals.grant_role(with(&admin, "5", grant("clerk", "operator", ""))).await;
    assert_eq!(reason(more), "GRANT_EXCEEDS_OWN");
    let key = clients.keys.create_api_key(with(&admin, "6", key_for("ops", Scope::Read))).await;
    assert_eq!(reason(key), "GRANT_EXCEEDS_OWN", "a key of somebody who may more");
    let spiffe = Kind::SpiffeId("spiffe://dalp.dev/tenants/acme/clerk".to_owned());
    let bind = BindCredentialRequest {
        principal_id: "ops".to_owned(),
        credential: Some(Credential { kind: Some(spiffe.clone()), managed: false }),
    };
    let bound = clients.principals.bind_credential(with(&admin, "7", bind)).await;
    assert_eq!(reason(bound), "GRANT_EXCEEDS_OWN");
    let platform = clients.principals.grant_role(with(operator, "8", grant("clerk", "platform-operator", ""))).await;
    assert_eq!(reason(platform), "INVALID_FIELD", "not even by who may everything in the tenant");
    clients.principals.grant_role(with(&admin, "9", grant("clerk", "asset-reader", ""))).await.unwrap();
    // What it may give: a certificate of the clerk, who is then let in by it.
    let bind = BindCredentialRequest {
        principal_id: "clerk".to_owned(),
        credential: Some(Credential { kind: Some(spiffe), managed: false }),
    };
    clients.principals.bind_credential(with(&admin, "10", bind)).await.unwrap();
    let mut clerk = FeedServiceClient::new(world.pki.channel(world.gateway.addr, Some("tenants/acme/clerk")));
    assert_eq!(reason(clerk.get_latest(GetLatestRequest::default()).await), "PERMISSION_DENIED");
    // The configuration's own rows.
    let disable = DisablePrincipalRequest { principal_id: "ops".to_owned(), reason: "gone".to_owned() };
    let managed = clients.principals.disable_principal(with(operator, "11", disable)).await;
    assert_eq!(reason(managed), "MANAGED_BY_CONFIGURATION");
    let prefix = world.keys.reader.prefix().to_owned();
    let disable = DisableApiKeyRequest { prefix, reason: "gone".to_owned() };
    let managed = clients.keys.disable_api_key(with(operator, "12", disable)).await;
    assert_eq!(reason(managed), "MANAGED_BY_CONFIGURATION");
    let revoke = RevokeRoleRequest { principal_id: "ops".into(), role: "operator".into(), asset: String::new() };
    let managed = clients.principals.revoke_role(with(operator, "13", revoke)).await;
    assert_eq!(reason(managed), "MANAGED_BY_CONFIGURATION");
    let direct = sqlx::query("UPDATE gateway.principals SET disabled_at = now() WHERE principal_id = 'ops'");
    let refused = direct.execute(&world.database().await).await.unwrap_err();
    assert!(refused.to_string().contains("kept by the configuration"), "the tables say so themselves: {refused}");
}

#[tokio::test]
async fn a_role_on_one_asset_opens_that_asset_and_no_other() {
    const OWN: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    const OTHER: &str = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359";
    let world = world_with("", "[[roles]]\nname = \"minter\"\npermissions = [\"asset:*\"]\n").await;
    let mut clients = world.clients();
    let operator = world.operator();
    clients.principals.create_principal(with(operator, "1", person("issuer"))).await.unwrap();
    let granted = clients.principals.grant_role(with(operator, "2", grant("issuer", "minter", OWN))).await.unwrap();
    assert_eq!(granted.into_inner().principal.unwrap().grants[0].asset, OWN);
    let key = clients.keys.create_api_key(with(operator, "3", key_for("issuer", Scope::ReadWrite))).await.unwrap();
    let key = key.into_inner().secret;
    let mut assets = AssetServiceClient::new(world.pki.channel(world.gateway.addr, None));
    let mint = |asset: &str| MintRequest { asset: asset.to_owned(), ..MintRequest::default() };
    let wrong = assets.mint(with(&key, "m1", mint(OTHER))).await;
    assert_eq!(reason(wrong), "PERMISSION_DENIED");
    // Nobody serves assets in this world: who is let in hears just that.
    let right = assets.mint(with(&key, "m2", mint(OWN))).await;
    assert_eq!(reason(right), "UPSTREAM_UNAVAILABLE");
    assert_eq!(reason(reads(&mut clients, &key).await), "PERMISSION_DENIED");
}

#[tokio::test]
async fn the_platform_opens_and_closes_tenants() {
    let world = world().await;
    let mut clients = world.clients();
    let root = world.keys.platform.expose();
    let in_a_month = std::time::SystemTime::now() + Duration::from_secs(30 * 86_400);
    let open = CreateTenantRequest {
        tenant_id: "new-bank".to_owned(),
        display_name: "New Bank".to_owned(),
        administrator_id: "admin".to_owned(),
        administrator_roles: vec!["operator".to_owned()],
        expires_at: Some(in_a_month.into()),
        ..CreateTenantRequest::default()
    };
    let by_operator = clients.tenants.create_tenant(with(world.operator(), "t", open.clone())).await;
    assert_eq!(reason(by_operator), "PERMISSION_DENIED", "* of a tenant is not the platform");
    let platform = CreateTenantRequest { administrator_roles: vec!["platform-operator".to_owned()], ..open.clone() };
    assert_eq!(reason(clients.tenants.create_tenant(with(root, "t0", platform)).await), "INVALID_FIELD");
    let opened = clients.tenants.create_tenant(with(root, "t", open.clone())).await.unwrap().into_inner();
    let again = clients.tenants.create_tenant(with(root, "t", open.clone())).await.unwrap();
    assert!(replayed(&again) && again.get_ref().secret.is_empty());
    assert_eq!(reason(clients.tenants.create_tenant(with(root, "t2", open)).await), "ALREADY_EXISTS");
    let admin = opened.secret;
    reads(&mut clients, &admin).await.unwrap();
    let seen = clients.tenants.get_tenant(with(&admin, "", GetTenantRequest::default())).await.unwrap().into_inner();
    assert_eq!(seen.tenant.unwrap().tenant_id, "new-bank");
    let all = clients.tenants.list_tenants(with(root, "", ListTenantsRequest::default())).await.unwrap().into_inner();
    assert!(all.tenants.iter().any(|tenant| tenant.tenant_id == "new-bank" && !tenant.managed));
    assert_eq!(
        reason(clients.tenants.list_tenants(with(&admin, "", ListTenantsRequest::default())).await),
        "PERMISSION_DENIED"
    );
    // In another cell: found, and sent there.
    let moved = UpdateTenantRequest {
        tenant_id: "new-bank".into(),
        display_name: "New Bank".into(),
        cell: "east".into(),
        ..Default::default()
    };
    clients.tenants.update_tenant(with(root, "u", moved.clone())).await.unwrap();
    until(async || reads(&mut clients, &admin).await.is_err()).await;
    let status = reads(&mut clients, &admin).await.unwrap_err();
    let details = Refusal::details(&status).unwrap();
    assert_eq!((details.reason.as_str(), details.metadata["cell"].as_str()), ("TENANT_ELSEWHERE", "east"));
    let back = UpdateTenantRequest { cell: String::new(), ..moved };
    clients.tenants.update_tenant(with(root, "u2", back)).await.unwrap();
    until(async || reads(&mut clients, &admin).await.is_ok()).await;
    let close = DisableTenantRequest { tenant_id: "new-bank".to_owned(), reason: "left".to_owned() };
    clients.tenants.disable_tenant(with(root, "d", close)).await.unwrap();
    until(async || reads(&mut clients, &admin).await.is_err()).await;
    assert_eq!(reason(reads(&mut clients, &admin).await), "TENANT_DISABLED");
    let close = DisableTenantRequest { tenant_id: "acme".to_owned(), reason: "left".to_owned() };
    assert_eq!(reason(clients.tenants.disable_tenant(with(root, "d2", close)).await), "MANAGED_BY_CONFIGURATION");
}

#[tokio::test]
async fn what_was_taken_out_of_the_configuration_is_disabled_and_a_restart_changes_nothing() {
    let world = world().await;
    let mut clients = world.clients();
    reads(&mut clients, world.keys.reader.expose()).await.unwrap();
    let database = world.database().await;
    let leaves = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM engine.audit_leaves").fetch_one(&database).await.unwrap()
    };
    let before = leaves().await;
    world.replica(&world.text).await;
    assert_eq!(leaves().await, before, "the same configuration leaves no trace");
    let section = "[[principals]]\nid = \"reader\"";
    let start = world.text.find(section).unwrap();
    let end = start + 4 + world.text[start + 4..].find("[[principals]]").unwrap();
    let without = ["generation = 1\n", &world.text[..start], &world.text[end..]].concat();
    world.replica(&without).await;
    until(async || reads(&mut clients, world.keys.reader.expose()).await.is_err()).await;
    assert_eq!(reason(reads(&mut clients, world.keys.reader.expose()).await), "API_KEY_DISABLED");
    let gone: Vec<String> = sqlx::query_scalar(
        "SELECT action || ' ' || subject FROM engine.audit_leaves WHERE actor = 'configuration' AND body ? 'why' ORDER BY sequence",
    )
    .fetch_all(&database)
    .await
    .unwrap();
    let key = format!("api_key.disable {}", world.keys.reader.prefix());
    assert_eq!(gone[..2], ["principal.disable reader".to_owned(), key], "and its grants: {gone:?}");
    assert_eq!(gone.len(), 4);
    assert!(leaves().await > before);
}

/// Asks until refused. Whoever is still let in began to ask within a second of the end.
async fn refused_from_a_second_after(ended: Instant, clients: &mut Clients, key: &str) {
    loop {
        let asked = ended.elapsed();
        if reads(clients, key).await.is_err() {
            return;
        }
        assert!(asked < Duration::from_secs(1), "let in, though asked {asked:?} after the end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_its_database_who_was_let_in_reads_for_a_while_and_nobody_else() {
    let mut world = world_with("", "[access]\ngrace_ms = 8000\n").await;
    world.until_listening().await;
    let mut clients = world.clients();
    // What is read from here on is good for eight seconds at least.
    let known = Instant::now();
    reads(&mut clients, world.operator()).await.unwrap();
    drop(world.postgres.take());
    let gone = Instant::now();
    reads(&mut clients, world.operator()).await.unwrap();
    let write = with(world.operator(), "w", SubmitUpdateRequest::default());
    until(async || gone.elapsed() > Duration::from_millis(1_200)).await;
    assert_eq!(reason(clients.feeds.submit_update(write).await), "DATABASE_UNAVAILABLE");
    reads(&mut clients, world.operator()).await.unwrap();
    assert_eq!(
        reason(reads(&mut clients, world.keys.reader.expose()).await),
        "DATABASE_UNAVAILABLE",
        "not known before"
    );
    let forged = format!("dalp_{}_{}", world.keys.operator.prefix(), "0".repeat(64));
    assert_eq!(
        reason(reads(&mut clients, &forged).await),
        "DATABASE_UNAVAILABLE",
        "no word on which prefixes there are"
    );
    let unknown = svc_gateway::api_key::ApiKey::generate().unwrap();
    let begun = Instant::now();
    assert_eq!(reason(reads(&mut clients, unknown.expose()).await), "DATABASE_UNAVAILABLE", "nobody can know");
    assert!(begun.elapsed() < Duration::from_secs(5), "and it is told soon");
    until(async || reads(&mut clients, world.operator()).await.is_err()).await;
    assert_eq!(reason(reads(&mut clients, world.operator()).await), "DATABASE_UNAVAILABLE");
    assert!(known.elapsed() >= Duration::from_millis(8_000), "not before its time");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written_at_the_end_at_the_latest() {
    let world = world().await;
    let mut clients = world.clients();
    for _ in 0..20 {
        reads(&mut clients, world.operator()).await.unwrap();
    }
    let database = world.database().await;
    let uses = async || -> Vec<String> {
        sqlx::query_scalar("SELECT prefix FROM gateway.api_key_uses").fetch_all(&database).await.unwrap()
    };
    assert!(uses().await.is_empty(), "no use writes by itself");
    let World { gateway, stop, keys, .. } = &world;
    stop.request();
    let _ = gateway;
    until(async || !uses().await.is_empty()).await;
    assert_eq!(uses().await, [keys.operator.prefix()]);
}

#[tokio::test]
async fn a_tables_change_that_nobody_told_of_is_believed_within_a_second() {
    let world = world().await;
    let mut clients = world.clients();
    reads(&mut clients, world.operator()).await.unwrap();
    let database = world.database().await;
    // The listener's connection is cut, and the key ended behind everybody's back, with no notification.
    let mut commit = database.begin().await.unwrap();
    for statement in [
        "ALTER TABLE gateway.api_keys DISABLE TRIGGER api_keys_told",
        "SELECT set_config('dalp.configuration', 'on', true)",
        "UPDATE gateway.api_keys SET disabled_at = now()",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN \"dalp_gateway\"' OR (application_name = 'svc-gateway' AND query = 'SELECT 1')",
    ] {
        sqlx::query(statement).execute(&mut *commit).await.unwrap();
    }
    commit.commit().await.unwrap();
    let ended = Instant::now();
    refused_from_a_second_after(ended, &mut clients, world.operator()).await;
    assert_eq!(reason(reads(&mut clients, world.operator()).await), Reason::ApiKeyDisabled.as_str());
    until_ready(&world.gateway).await;
}
