//! Bad input: each is refused by type, and nothing of it is stored.

use dalp_devstack::client::{Client, health, keyed, reason};
use dalp_devstack::configuration::TENANT;
use dalp_devstack::pki::DevPki;
use dalp_devstack::stack::Stack;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{CreateAssetRequest, TransferRequest};
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::sign_request::Payload;
use dalp_proto::signer::signer_service_client::SignerServiceClient;
use dalp_proto::signer::{CreateKeyRequest, EvmTransaction, GetKeyRequest, SignRequest};
use dalp_service::Refusal;
use dalp_tests::load::Load;
use tonic::Request;

use crate::support::{Keys, stored, until, with_key};

const ADDRESS: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

fn transfer() -> TransferRequest {
    TransferRequest {
        sender: ADDRESS.to_owned(),
        asset: ADDRESS.to_owned(),
        to: ADDRESS.to_owned(),
        amount: "1".to_owned(),
    }
}

/// A transaction of a holder, as a domain service has it signed.
fn payment(load: &Load) -> SignRequest {
    let transaction = EvmTransaction {
        chain_id: 31_337,
        nonce: 99,
        target: ADDRESS.to_owned(),
        value_wei: "1".to_owned(),
        data: "0x".to_owned(),
        gas_limit: 21_000,
        max_fee_per_gas_wei: "10".to_owned(),
        max_priority_fee_per_gas_wei: "1".to_owned(),
        gas_price_wei: String::new(),
        by_provider: false,
    };
    SignRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        tenant: TENANT.to_owned(),
        signer: load.holders[0].text.clone(),
        payload: Some(Payload::EvmTransaction(transaction)),
        replaces_request_id: String::new(),
    }
}

pub(crate) async fn bad_fields(client: &Client) {
    let before = stored(client).await;
    let wrong = [
        ("wrong checksum", TransferRequest { to: ADDRESS.replace("5aA", "5AA"), ..transfer() }, "INVALID_FIELD"),
        ("negative amount", TransferRequest { amount: "-1".to_owned(), ..transfer() }, "INVALID_FIELD"),
        ("over-large amount", TransferRequest { amount: "9".repeat(79), ..transfer() }, "INVALID_FIELD"),
        ("no amount", TransferRequest { amount: String::new(), ..transfer() }, "INVALID_FIELD"),
        ("a wallet of nobody", transfer(), "KEY_NOT_FOUND"),
    ];
    for (what, request, expected) in wrong {
        let refused = AssetServiceClient::new(client.gateway()).transfer(keyed(request, &what.replace(' ', "-"))).await;
        let status = refused.expect_err(what);
        assert_eq!(reason(&status), expected, "{what}: {status:?}");
    }
    let unknown = CreateAssetRequest { issuer: ADDRESS.to_owned(), asset_class: 99, ..CreateAssetRequest::default() };
    let status =
        AssetServiceClient::new(client.gateway()).create_asset(keyed(unknown, "enum")).await.expect_err("enum");
    assert_eq!(reason(&status), "INVALID_FIELD", "{status:?}");
    let large = TransferRequest { amount: "1".repeat(10 << 20), ..TransferRequest::default() };
    let status = AssetServiceClient::new(client.gateway()).transfer(keyed(large, "large")).await.expect_err("large");
    assert_eq!(reason(&status), "MESSAGE_TOO_LARGE", "{status:?}");
    assert_eq!(stored(client).await, before, "a refused request stored something");
}

pub(crate) async fn credentials(stack: &Stack, client: &Client, load: &Load, keys: &Keys) {
    let before = stored(client).await;
    let good = || TransferRequest {
        sender: load.holders[0].text.clone(),
        asset: load.token.to_checksum(None),
        to: load.receiver.text.clone(),
        amount: "1".to_owned(),
    };
    let unknown = format!("dalp_operator_{}", "0".repeat(48));
    for (what, key, expected) in [
        ("an expired key", &keys.expired, "API_KEY_EXPIRED"),
        ("a disabled key", &keys.disabled, "API_KEY_DISABLED"),
        ("the prefix of a known key with another secret", &unknown, "UNAUTHENTICATED_INVALID"),
        ("a principal without the permission", &keys.poor, "PERMISSION_DENIED"),
        ("a key that may only read", &keys.reader, "READ_ONLY_KEY"),
        // The wallet belongs to the other tenant: here it does not exist.
        ("a wallet of another tenant", &keys.foreign, "KEY_NOT_FOUND"),
    ] {
        let refused = AssetServiceClient::new(with_key(stack, key).gateway()).transfer(keyed(good(), what)).await;
        let status = refused.expect_err(what);
        // Blanks are no part of an idempotency key, but who may call is decided first.
        let refused_first = ["UNAUTHENTICATED_INVALID", "API_KEY_EXPIRED", "API_KEY_DISABLED"];
        if refused_first.contains(&expected) {
            assert_eq!(reason(&status), expected, "{what}: {status:?}");
        }
        let key_without_blanks = what.replace(' ', "-");
        let refused =
            AssetServiceClient::new(with_key(stack, key).gateway()).transfer(keyed(good(), &key_without_blanks)).await;
        assert_eq!(reason(&refused.expect_err(what)), expected, "{what}");
    }
    // Without any credential.
    let anonymous =
        AssetServiceClient::new(stack.channel().expect("a channel")).transfer(keyed(good(), "nobody")).await;
    assert_eq!(reason(&anonymous.expect_err("no credential")), "UNAUTHENTICATED_MISSING");
    // A principal of one tenant that names another, in the metadata and in the request.
    let foreign = with_key(stack, &keys.foreign);
    let mut named = keyed(good(), "foreign");
    named.metadata_mut().insert("dalp-tenant", TENANT.parse().expect("ASCII"));
    let status = AssetServiceClient::new(foreign.gateway()).transfer(named).await.expect_err("another tenant");
    assert_eq!(reason(&status), "TENANT_MISMATCH");
    let get = GetKeyRequest { address: load.holders[0].text.clone(), tenant: TENANT.to_owned() };
    let status = KeyServiceClient::new(foreign.gateway()).get_key(get.clone()).await.expect_err("another tenant");
    assert_eq!(reason(&status), "TENANT_MISMATCH");
    let own = GetKeyRequest { tenant: String::new(), ..get };
    let status = KeyServiceClient::new(foreign.gateway()).get_key(own).await.expect_err("another tenant's key");
    assert_eq!(reason(&status), "KEY_NOT_FOUND");
    assert_eq!(stored(&foreign).await, (0, 0), "the other tenant has nothing");
    assert_eq!(stored(client).await, before, "a refused request stored something");
}

pub(crate) async fn certificates(stack: &mut Stack, client: &Client, load: &Load) {
    let before = stored(client).await;
    let probe = stack.pki().issue("probe").expect("a certificate");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let foreign =
        DevPki::create(elsewhere.path(), &["svc-compliance"]).expect("another authority").files("svc-compliance");
    for service in ["svc-signer", "svc-compliance"] {
        // Without a certificate, or with one of another authority, there is no connection that could carry a reason.
        for identity in [None, Some(&foreign)] {
            let channel = stack.channel_to(service, identity).expect("a channel");
            let status = health(channel, "").await.expect_err("no connection comes about");
            assert!(Refusal::details(&status).is_none(), "{service}: {status:?}");
        }
        assert!(health(stack.channel_to(service, Some(&probe)).expect("a channel"), "").await.is_ok());
    }
    // Certificates of our own authority whose holder may not have anything signed, make keys, or speak for callers.
    // The gateway has roots of the audit log signed, and nothing else.
    for (name, refused) in [("svc-gateway", "GRANT_MISSING"), ("probe", "PEER_NOT_ALLOWED")] {
        let files = stack.pki().files(name);
        let channel = stack.channel_to("svc-signer", Some(&files)).expect("a channel");
        let status = SignerServiceClient::new(channel).sign(payment(load)).await.expect_err(name);
        assert_eq!(reason(&status), refused, "{name}");
    }
    let compliance = stack.pki().files("svc-compliance");
    let channel = stack.channel_to("svc-signer", Some(&compliance)).expect("a channel");
    let create = keyed(CreateKeyRequest { wallet: "stolen".to_owned(), ..CreateKeyRequest::default() }, "stolen");
    let status = KeyServiceClient::new(channel).create_key(create).await.expect_err("a domain service makes no keys");
    assert_eq!(reason(&status), "PEER_NOT_ALLOWED");
    let signer = stack.pki().files("svc-signer");
    let channel = stack.channel_to("svc-compliance", Some(&signer)).expect("a channel");
    let mut spoofed = Request::new(transfer());
    for (name, value) in
        [("dalp-tenant", TENANT), ("dalp-principal", "operator"), ("dalp-roles", "operator,wallet:any")]
    {
        spoofed.metadata_mut().insert(name, value.parse().expect("ASCII"));
    }
    let status =
        AssetServiceClient::new(channel).transfer(spoofed).await.expect_err("only the gateway vouches for callers");
    assert_eq!(reason(&status), "PEER_NOT_ALLOWED");
    // Revoked: the connection it has ends, and it gets no other.
    let held = stack.channel_to("svc-signer", Some(&probe)).expect("a channel");
    assert!(health(held.clone(), "").await.is_ok());
    stack.pki().revoke(probe.serial).expect("a revocation list");
    until("the revoked certificate is refused", async || health(held.clone(), "").await.is_err(), |refused| *refused)
        .await;
    for service in ["svc-signer", "svc-compliance", "svc-gateway"] {
        let channel = stack.channel_to(service, Some(&probe)).expect("a channel");
        until(
            "no connection with a revoked certificate",
            async || health(channel.clone(), "").await.is_err(),
            |refused| *refused,
        )
        .await;
    }
    assert_eq!(stored(client).await, before, "a refused request stored something");
}
