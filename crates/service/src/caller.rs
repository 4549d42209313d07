//! On whose behalf a request is made: what the gateway established and the services behind it may believe.

use std::{collections::BTreeSet, fmt, str::FromStr};

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::{
    errors::{Reason, Refusal},
    peer::PeerIdentity,
};

/// The service whose word about callers is believed.
pub const GATEWAY: &str = "svc-gateway";
/// Metadata key of the tenant.
pub const TENANT: &str = "dalp-tenant";
/// Metadata key of the principal.
pub const PRINCIPAL: &str = "dalp-principal";
/// Metadata key of the roles, comma separated.
pub const ROLES: &str = "dalp-roles";
/// Metadata key of the principals through whose hands the credential of the call went, comma separated: who made it, and by what that was made.
pub const HANDS: &str = "dalp-hands";
/// Metadata key of the idempotency key, in requests and in responses.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Metadata key of a response: `true` when an earlier request with the same key was answered again.
pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

/// The role to act with every wallet of the tenant, whoever owns it.
pub const ANY_WALLET: &str = "wallet:any";

/// The longest idempotency key.
const IDEMPOTENCY_KEY_MAX: usize = 128;

/// A tenant: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(String);

/// A principal within a tenant: 1 to 128 printable characters of `[A-Za-z0-9._:/@+-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalId(String);

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {expected}")]
pub struct IdentifierError {
    what: &'static str,
    expected: &'static str,
}

/// On whose behalf a request is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant all data of the request belongs to.
    pub tenant: TenantId,
    /// Who asks.
    pub principal: PrincipalId,
    /// The roles the principal holds in the tenant.
    pub roles: Vec<String>,
}

/// The client's idempotency key, from the metadata of a request; `None` when it gave none.
pub fn idempotency_key(metadata: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = metadata.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = |message: &str| Refusal::new(Reason::InvalidField, message).field(IDEMPOTENCY_KEY, message);
    if values.next().is_some() {
        return Err(refuse("give the idempotency-key metadata once"));
    }
    match value.to_str() {
        Ok(key)
            if (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(Some(key.to_owned()))
        }
        _ => Err(refuse("an idempotency key is 1 to 128 visible ASCII characters without blanks")),
    }
}

/// Through whose hands the credential of a call went, from metadata whose origin was already checked.
#[must_use]
pub fn hands(metadata: &MetadataMap) -> BTreeSet<String> {
    let values = metadata.get_all(HANDS).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter(|hand| !hand.is_empty()).map(str::to_owned).collect()
}

/// Writes through whose hands the credential of a call went into outgoing metadata, replacing whatever a client put there.
///
/// # Errors
/// When metadata cannot carry them: nobody is to be left out.
pub fn set_hands(metadata: &mut MetadataMap, hands: &BTreeSet<String>) -> Result<(), Refusal> {
    metadata.remove(HANDS);
    if hands.is_empty() {
        return Ok(());
    }
    let value = hands.iter().map(String::as_str).collect::<Vec<_>>().join(",").parse::<MetadataValue<Ascii>>();
    metadata.insert(HANDS, value.map_err(Refusal::internal)?);
    Ok(())
}

/// Says in the response which key is in force and whether the answer is that of an earlier request.
pub fn set_idempotency<T>(response: &mut tonic::Response<T>, key: &str, replayed: bool) {
    if let Ok(value) = key.parse::<MetadataValue<Ascii>>() {
        response.metadata_mut().insert(IDEMPOTENCY_KEY, value);
    }
    let replayed = MetadataValue::from_static(if replayed { "true" } else { "false" });
    response.metadata_mut().insert(IDEMPOTENCY_REPLAYED, replayed);
}

// === impl Caller ===

impl Caller {
    /// The caller of a request, believed only when the gateway's certificate stands behind it.
    pub fn from_request<T>(request: &tonic::Request<T>) -> Result<Self, Refusal> {
        let believed = request.extensions().get::<PeerIdentity>().is_some_and(|peer| peer.is_service(GATEWAY));
        if !believed {
            return Err(Refusal::new(
                Reason::CallerNotTrusted,
                "the caller of this request is not vouched for by the gateway",
            ));
        }
        Self::from_metadata(request.metadata())
    }

    /// Reads a caller from metadata whose origin was already checked.
    pub fn from_metadata(metadata: &MetadataMap) -> Result<Self, Refusal> {
        let one = |key: &'static str| {
            let mut values = metadata.get_all(key).iter();
            match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
                (Some(value), None) => Ok(value.to_owned()),
                _ => Err(Refusal::new(
                    Reason::CallerNotTrusted,
                    format!("the metadata {key} must be given exactly once"),
                )),
            }
        };
        let unreadable = |error: IdentifierError| Refusal::new(Reason::CallerNotTrusted, error.to_string());
        let roles = match metadata.contains_key(ROLES) {
            true => one(ROLES)?,
            false => String::new(),
        };
        Ok(Self {
            tenant: one(TENANT)?.parse().map_err(unreadable)?,
            principal: one(PRINCIPAL)?.parse().map_err(unreadable)?,
            roles: roles.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// Writes this caller into outgoing metadata, replacing whatever a client put there.
    pub fn apply(&self, metadata: &mut MetadataMap) {
        let roles = self.roles.join(",");
        for (key, value) in
            [(TENANT, self.tenant.as_str()), (PRINCIPAL, self.principal.as_str()), (ROLES, roles.as_str())]
        {
            metadata.remove(key);
            if let Ok(value) = value.parse::<MetadataValue<Ascii>>() {
                metadata.insert(key, value);
            }
        }
    }

    /// Whether the caller holds a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

// === impl TenantId, PrincipalId ===

impl FromStr for TenantId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = (1..=63).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|byte| plain(byte) || byte == b'-');
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err(IdentifierError { what: "tenant", expected: "[a-z0-9][a-z0-9-]{0,62}" }),
        }
    }
}

impl FromStr for PrincipalId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte));
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err(IdentifierError { what: "principal", expected: "1 to 128 characters of [A-Za-z0-9._:/@+-]" }),
        }
    }
}

macro_rules! text_identifier {
    ($($name:ident),*) => {$(
        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

text_identifier!(TenantId, PrincipalId);

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn caller() -> Caller {
        Caller {
            tenant: "acme".parse().unwrap(),
            principal: "api-key:ops".parse().unwrap(),
            roles: vec!["issuer".into(), "auditor".into()],
        }
    }

    fn request_from(peer: Option<&str>) -> tonic::Request<()> {
        let mut request = tonic::Request::new(());
        caller().apply(request.metadata_mut());
        if let Some(peer) = peer {
            request.extensions_mut().insert(PeerIdentity::trusted(peer.parse().unwrap()));
        }
        request
    }

    #[test]
    fn the_gateway_is_believed_and_nobody_else() {
        assert_eq!(Caller::from_request(&request_from(Some("spiffe://dalp.dev/svc-gateway"))).unwrap(), caller());
        for peer in [None, Some("spiffe://dalp.dev/svc-feeds"), Some("spiffe://dalp.dev/svc-gateway/other")] {
            let refusal = Caller::from_request(&request_from(peer)).unwrap_err();
            assert_eq!(refusal.reason(), Reason::CallerNotTrusted);
        }
    }

    #[test]
    fn a_second_tenant_header_is_refused() {
        let mut request = request_from(Some("spiffe://dalp.dev/svc-gateway"));
        request.metadata_mut().append(TENANT, MetadataValue::from_static("other"));
        assert_eq!(Caller::from_request(&request).unwrap_err().reason(), Reason::CallerNotTrusted);
    }

    #[test]
    fn idempotency_keys_are_bounded() {
        let given = |keys: &[&str]| {
            let mut metadata = HeaderMap::new();
            for key in keys {
                metadata.append(IDEMPOTENCY_KEY, key.parse().unwrap());
            }
            idempotency_key(&metadata)
        };
        assert_eq!(given(&[]).unwrap(), None);
        assert_eq!(given(&["pay-1"]).unwrap().as_deref(), Some("pay-1"));
        assert!(given(&["x".repeat(128).as_str()]).is_ok());
        for refused in [vec!["x".repeat(129)], vec!["a b".into()], vec![String::new()], vec!["a".into(), "a".into()]] {
            let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
            assert_eq!(given(&refused).unwrap_err().reason(), Reason::InvalidField, "{refused:?}");
        }
    }

    #[test]
    fn a_response_carries_the_key_in_force() {
        let mut response = tonic::Response::new(());
        set_idempotency(&mut response, "pay-1", true);
        assert_eq!(response.metadata().get(IDEMPOTENCY_KEY).unwrap(), "pay-1");
        assert_eq!(response.metadata().get(IDEMPOTENCY_REPLAYED).unwrap(), "true");
    }

    proptest! {
        #[test]
        fn metadata_of_any_bytes_is_a_caller_or_a_refusal(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 4)) {
            let mut headers = HeaderMap::new();
            for (name, value) in [TENANT, PRINCIPAL, ROLES, IDEMPOTENCY_KEY].into_iter().zip(&values) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(name, value);
                }
            }
            if let Ok(Some(key)) = idempotency_key(&headers) {
                prop_assert_eq!(key.as_bytes(), values[3].as_slice());
            }
            if let Ok(caller) = Caller::from_metadata(&MetadataMap::from_headers(headers)) {
                prop_assert_eq!(caller.tenant.as_str().as_bytes(), values[0].as_slice());
                prop_assert_eq!(caller.principal.as_str().as_bytes(), values[1].as_slice());
            }
        }
    }
}
