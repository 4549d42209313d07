//! Principals beside the operator, and waiting for conditions.

use dalp_devstack::client::Client;
use dalp_devstack::configuration::TENANT;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::ListOperationsRequest;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::{KeyPurpose, ListKeysRequest};

pub(crate) use dalp_tests::waiting::until;

/// API keys of principals with little or other rights.
pub(crate) struct Keys {
    /// May read assets.
    pub(crate) poor: String,
    /// Everything, but read only.
    pub(crate) reader: String,
    /// May ask for anything, from wallets of its own.
    pub(crate) colleague: String,
    /// Keeps lanes going, and orders nothing.
    pub(crate) keeper: String,
    pub(crate) expired: String,
    pub(crate) disabled: String,
    /// The operator of another tenant.
    pub(crate) foreign: String,
}

/// Options of a stack with these principals.
pub(crate) fn principals() -> (Options, Keys) {
    let mut gateway =
        "\n[[tenants]]\nid = \"other-bank\"\n[[roles]]\nname = \"poor\"\npermissions = [\"asset:read\"]\n\
         [[roles]]\nname = \"desk\"\npermissions = [\"asset:*\", \"operation:*\", \"transaction:*\"]\n\
         [[roles]]\nname = \"lane-keeper\"\npermissions = [\"operator:*\", \"transaction:*\", \"operation:read\", \"key:read\", \"wallet:any\"]\n"
            .to_owned();
    let mut key = |id: &str, tenant: &str, role: &str, more: &str| {
        let key = svc_gateway::api_key::ApiKey::generate().expect("random bytes");
        gateway += &format!(
            "[[principals]]\nid = \"{id}\"\ntenant = \"{tenant}\"\nroles = [\"{role}\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n{more}\n",
            key.prefix(),
            key.digest()
        );
        key.expose().to_owned()
    };
    let keys = Keys {
        poor: key("poor", TENANT, "poor", ""),
        reader: key("reader", TENANT, "operator", "scope = \"read\""),
        colleague: key("colleague", TENANT, "desk", ""),
        keeper: key("keeper", TENANT, "lane-keeper", ""),
        expired: key("expired", TENANT, "operator", "expires_at = \"2020-01-01T00:00:00Z\""),
        disabled: key("disabled", TENANT, "operator", "disabled = true"),
        foreign: key("foreign", "other-bank", "operator", ""),
    };
    (Options { gateway, ..Options::default() }, keys)
}

/// A client with another API key.
pub(crate) fn with_key(stack: &Stack, key: &str) -> Client {
    Client::new(stack.channel().expect("a channel"), key).expect("a key")
}

/// How much a tenant has stored: operations and keys.
pub(crate) async fn stored(client: &Client) -> (usize, usize) {
    let request = ListOperationsRequest { page_size: 500, ..ListOperationsRequest::default() };
    let operations = OperationServiceClient::new(client.gateway()).list_operations(request).await;
    let keys = KeyServiceClient::new(client.gateway())
        .list_keys(ListKeysRequest { page_size: 500, ..ListKeysRequest::default() })
        .await;
    // The key of a tenant's audit log is made by the platform, at the first thing that it tells of the tenant.
    let keys = keys.expect("keys").into_inner().keys;
    let made = keys.iter().filter(|key| key.purpose() != KeyPurpose::AuditRoot).count();
    (operations.expect("operations").into_inner().operations.len(), made)
}
