//! Every RPC of the contracts is called without right, so that none can be added unguarded.

use super::*;
use crate::api_key::ApiKey;

struct World {
    gate: Gate,
    nobody: ApiKey,
    everybody: ApiKey,
}

/// The example configuration with two more principals: one without any role, one with all rights.
fn world() -> World {
    let (nobody, everybody) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let mut text = include_str!("../../config.example.toml").to_owned();
    for (id, roles, key) in [("nobody", "", &nobody), ("everybody", "\"operator\"", &everybody)] {
        text += &format!(
            "\n[[principals]]\nid = \"{id}\"\ntenant = \"acme-bank\"\nroles = [{roles}]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n",
            key.prefix(),
            key.digest()
        );
    }
    let config: GatewayConfig = toml::from_str(&text).unwrap();
    World { gate: Gate::new(&config, Instant::now()), nobody, everybody }
}

fn admit(gate: &Gate, path: &str, key: Option<&ApiKey>) -> Result<Admitted, Denied> {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        headers.insert("authorization", format!("Bearer {}", key.expose()).parse().unwrap());
    }
    gate.admit(path, &headers, None, Instant::now(), OffsetDateTime::now_utc())
}

#[test]
fn no_rpc_is_open_to_strangers_or_to_principals_without_rights() {
    let world = world();
    for method in Methods::load().iter() {
        let stranger = admit(&world.gate, &method.path, None).unwrap_err().refusal;
        assert_eq!(stranger.reason(), Reason::UnauthenticatedMissing, "{}", method.path);
        let powerless = admit(&world.gate, &method.path, Some(&world.nobody)).unwrap_err().refusal;
        let expected = if method.exposure == Exposure::Mesh { Reason::NotFound } else { Reason::PermissionDenied };
        assert_eq!(powerless.reason(), expected, "{}", method.path);
    }
}

#[test]
fn every_routed_rpc_has_an_owner_and_reaches_it_with_all_rights() {
    let world = world();
    for method in Methods::load().iter() {
        let admitted = admit(&world.gate, &method.path, Some(&world.everybody));
        match method.exposure {
            Exposure::Mesh => assert_eq!(admitted.unwrap_err().refusal.reason(), Reason::NotFound, "{}", method.path),
            _ => {
                let admitted = admitted.unwrap_or_else(|denied| panic!("{}: {:?}", method.path, denied.refusal));
                assert_eq!(admitted.route == Route::Own, OWN_SERVICES.contains(&method.service.as_str()));
                assert_eq!(admitted.idempotency_key.is_some(), method.idempotency == IdempotencyClass::Keyed);
            }
        }
    }
}

#[test]
fn credentials_and_keys_are_given_once() {
    let world = world();
    for name in ["authorization", "idempotency-key"] {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", world.everybody.expose()).parse().unwrap());
        let again = headers.get(name).cloned().unwrap_or_else(|| "k".parse().unwrap());
        headers.append(name, again.clone());
        if name == "idempotency-key" {
            headers.append(name, again);
        }
        let denied = world.gate.admit(
            "/dalp.asset.v1.AssetService/Mint",
            &headers,
            None,
            Instant::now(),
            OffsetDateTime::now_utc(),
        );
        assert_eq!(denied.unwrap_err().refusal.reason(), Reason::InvalidField, "{name}");
    }
}
