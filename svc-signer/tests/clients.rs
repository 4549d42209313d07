//! For the same logical call our request is that of the custodian's own client, on the wire: method, path, query, headers, body, the claims of tokens, and the bytes
//! that a credential signs. A recorder stands before the simulator; first our client makes its calls, then theirs makes the same.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use alloy::{
    consensus::TxEip1559,
    dyn_abi::TypedData,
    primitives::{Address, Bytes, TxKind, U256, address, b256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dalp_simulators::{
    custodian::{Custodian, Kind, Pace},
    http::Request,
    recorder::Recorder,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use svc_signer::{
    config::{dfns::DfnsConfig, fireblocks::FireblocksConfig},
    core::{
        digest::digest,
        payload::{Claim, Payload, ProviderCall, UnsignedTransaction},
    },
    providers::{
        KeyHandle, KeyName, NewKey, Provider as _,
        custody::{Custody as _, Order},
        dfns::{self, DfnsProvider},
        fireblocks::{self, FireblocksProvider},
    },
};

const PACE: Pace = Pace { call_timeout_ms: 5_000, settle_ms: 0, looks_ms: (10, 20), broadcast: false };
const TO: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
/// What a client says of itself, or its library of what it can read.
const OF_THE_CLIENT: [&str; 4] = ["user-agent", "accept", "host", "content-length"];

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/custody-clients")
}

/// Has a client of theirs make calls. Answers those that the simulator refused.
async fn theirs(program: &Path, script: &str, given: &Value) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), given.to_string()).unwrap();
    let output = tokio::process::Command::new(program)
        .current_dir(clients())
        .arg(script)
        .arg(file.path())
        .output()
        .await
        .expect("node and the clients are installed: make tools");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{script}: {error}: {said}"))
}

fn python() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/custody-py/bin/python");
    assert!(path.exists(), "{} is not there: make tools", path.display());
    path
}

fn transaction() -> Payload {
    Payload::Transaction(UnsignedTransaction::Eip1559(TxEip1559 {
        chain_id: 31_337,
        nonce: 7,
        gas_limit: 90_000,
        max_fee_per_gas: 10,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(TO),
        value: U256::from(1_500_000_000_000_000_000_u64),
        access_list: Default::default(),
        input: Bytes::from_static(&[0xa9, 0x05, 0x9c, 0xbb]),
    }))
}

/// The same for a provider that numbers, prices and broadcasts by itself.
fn handed_over() -> Payload {
    let Payload::Transaction(UnsignedTransaction::Eip1559(tx)) = transaction() else { panic!() };
    let TxEip1559 { chain_id, to, value, input, .. } = tx;
    Payload::Transaction(UnsignedTransaction::ByProvider(ProviderCall { chain_id, to, value, input }))
}

fn claim() -> Payload {
    let topic = b256!("0x00000000000000000000000000000000000000000000000000000000000000aa");
    Payload::Claim(Claim { identity: TO, topic, data: Bytes::from_static(b"kyc") })
}

/// A document as a wallet would be asked for it.
fn document() -> Value {
    json!({
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"}, {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"},
            ],
            "Mail": [{"name": "to", "type": "address"}, {"name": "contents", "type": "string"}],
        },
        "primaryType": "Mail",
        "domain": {"name": "Desk", "version": "1", "chainId": "0x7a69", "verifyingContract": TO.to_string().to_lowercase()},
        "message": {"to": TO.to_string(), "contents": "hello"},
    })
}

fn typed() -> Payload {
    Payload::Document(Box::new(serde_json::from_value::<TypedData>(document()).unwrap()))
}

fn order<'a>(name: &'a KeyName, key: &'a NewKey, payload: &'a Payload, external_id: &'a str) -> Order<'a> {
    let address = svc_signer::core::signature::address_of(&key.public_key);
    let digest = digest(payload).unwrap();
    Order { key: KeyHandle { name, material: &key.material }, address, payload, digest, external_id }
}

// === On the wire ===

/// What of a request both clients must have alike.
#[derive(Debug, PartialEq)]
struct Wire {
    call: String,
    query: BTreeSet<(String, String)>,
    headers: BTreeMap<String, Value>,
    body: Value,
}

fn decoded(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap()
}

fn wire(request: &Request) -> Wire {
    let query = request.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let names = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap().to_owned());
    let query = names.map(|name| (name.clone(), request.query(&name).unwrap())).collect();
    let mut headers = BTreeMap::new();
    for name in ["content-type", "idempotency-key", "x-api-key"] {
        // Of a request without a body its media type says nothing.
        if let Some(value) = request.header(name).filter(|_| name != "content-type" || !request.body.is_empty()) {
            headers.insert(name.to_owned(), json!(value.split(';').next().unwrap().trim()));
        }
    }
    headers.insert("x-dfns-useraction".to_owned(), json!(request.header("x-dfns-useraction").is_some()));
    let authorization = request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let said =
        if request.header("x-api-key").is_some() { claims(request, authorization) } else { json!(authorization) };
    headers.insert("authorization".to_owned(), said);
    Wire { call: format!("{} {}", request.method, request.segments().join("/")), query, headers, body: body(request) }
}

/// A token's head and claims less its nonce and times. What the claims say of the request is checked against it.
fn claims(request: &Request, token: &str) -> Value {
    let mut parts = token.split('.').map(str::to_owned);
    let (head, mut claims) = (decoded(&parts.next().unwrap()), decoded(&parts.next().unwrap()));
    let told = claims.as_object_mut().unwrap();
    assert_eq!(told.remove("uri").unwrap(), request.target, "the path and query as they were sent");
    assert_eq!(told.remove("bodyHash").unwrap(), hex::encode(Sha256::digest(&request.body)), "the very bytes");
    let [iat, exp] = ["iat", "exp"].map(|name| told.remove(name).unwrap().as_i64().unwrap());
    assert_eq!(exp - iat, 55);
    assert!(told.remove("nonce").is_some());
    json!([head, claims])
}

fn body(request: &Request) -> Value {
    let mut body = request.json().unwrap();
    match request.path.as_str() {
        // The text that will be sent, whose members have no order.
        "/auth/action/init" => {
            body["userActionPayload"] = serde_json::from_str(body["userActionPayload"].as_str().unwrap()).unwrap();
        }
        "/auth/action" => {
            body["challengeIdentifier"] = json!("*");
            let assertion = &mut body["firstFactor"]["credentialAssertion"];
            let signature = URL_SAFE_NO_PAD.decode(assertion["signature"].as_str().unwrap()).unwrap();
            assertion["signature"] = json!(signature[0]);
            let data = URL_SAFE_NO_PAD.decode(assertion["clientData"].as_str().unwrap()).unwrap();
            let text = String::from_utf8(data).unwrap();
            let challenge =
                decoded(assertion["clientData"].as_str().unwrap())["challenge"].as_str().unwrap().to_owned();
            assertion["clientData"] = json!(text.replace(&challenge, "*"));
        }
        _ => {}
    }
    // Nothing, and an object without members.
    if body == json!({}) { Value::Null } else { body }
}

/// What Fireblocks' Python client writes out although nobody gave it: the defaults of the platform's own specification.
const DEFAULTS: [(&str, &str); 5] = [
    ("autoAssign", "false"),
    ("vaultType", "\"MPC\""),
    ("treatAsGrossAmount", "false"),
    ("forceSweep", "false"),
    ("useGasless", "false"),
];

/// A member that is null is one that is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// Compares call by call. Members that they write out with their defaults may be left out by us.
fn are_alike(ours: &[Request], theirs: &[Request], defaults: &[(&str, &str)]) {
    let calls = |requests: &[Request]| -> Vec<String> { requests.iter().map(|request| wire(request).call).collect() };
    assert_eq!(calls(ours), calls(theirs));
    for (our, their) in ours.iter().zip(theirs) {
        let (our_wire, mut their_wire) = (wire(our), wire(their));
        their_wire.body = without_nulls(their_wire.body);
        if let Value::Object(members) = &mut their_wire.body {
            let is_default = |name: &str, value: &Value| defaults.contains(&(name, value.to_string().as_str()));
            members.retain(|name, value| our_wire.body.get(name).is_some() || !is_default(name, value));
        }
        assert_eq!(our_wire, their_wire);
        let names = |request: &Request| -> BTreeSet<String> {
            request.headers.keys().map(|name| name.as_str().to_owned()).collect()
        };
        let more: Vec<_> = names(our).difference(&names(their)).cloned().collect();
        assert!(more.iter().all(|name| OF_THE_CLIENT.contains(&name.as_str())), "we send more: {more:?}");
    }
}

// === Fireblocks ===

/// The section of a signer that calls through the recorder.
fn section(custodian: &Custodian, recorder: &Recorder, secrets: &Path, broadcast: bool) -> String {
    let text = custodian.section(secrets, &Pace { broadcast, ..PACE }).unwrap();
    let (origin, text) = match custodian {
        Custodian::Dfns(simulator) => (simulator.base_url(), text.replace("[dfns]", "")),
        Custodian::Fireblocks(simulator) => {
            (simulator.base_url().trim_end_matches("/v1").to_owned(), text.replace("[fireblocks]", ""))
        }
    };
    text.replace(&origin, &recorder.origin())
}

/// Every call that we make of Fireblocks, and the same as their clients are asked for it.
async fn fireblocks_calls(secrets: &Path) -> (Recorder, Vec<Request>, Value) {
    let custodian = Custodian::start(Kind::Fireblocks, None).await.unwrap();
    let Custodian::Fireblocks(simulator) = &custodian else { panic!() };
    let recorder = Recorder::before(simulator.base_url().trim_end_matches("/v1")).await.unwrap();
    let provider = |broadcast| {
        let text = section(&custodian, &recorder, secrets, broadcast);
        FireblocksProvider::new(toml::from_str::<FireblocksConfig>(&text).unwrap()).unwrap()
    };
    let (signs, broadcasts) = (provider(false), provider(true));
    let name = KeyName { tenant: "bank".to_owned(), wallet: "desk".to_owned() };
    assert!(signs.status().await.ready);
    let key = signs.create(&name).await.unwrap();
    let (claim, typed, call) = (claim(), typed(), handed_over());
    let raw = order(&name, &key, &claim, "dalp-raw");
    let id = signs.submit(&raw).await.unwrap().id.unwrap();
    signs.find(&raw).await.unwrap().unwrap();
    signs.look(&raw, &id).await.unwrap();
    signs.cancel(&raw, &id).await.unwrap();
    signs.submit(&order(&name, &key, &typed, "dalp-typed")).await.unwrap();
    broadcasts.submit(&order(&name, &key, &call, "dalp-call")).await.unwrap();
    let ours = recorder.take();

    let keys: Vec<_> = ours.iter().filter_map(|request| request.header("idempotency-key")).collect();
    let place: Value = serde_json::from_slice(&key.material).unwrap();
    let (vault, label) = (&place["vault"], "dalp:bank:desk");
    let transaction = |operation: &str, external_id: &str, more: Value| {
        let mut request = json!({
            "operation": operation, "assetId": "ETH_TEST5", "source": {"type": "VAULT_ACCOUNT", "id": vault},
            "note": "bank desk", "externalTxId": external_id,
        });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"call": "transaction", "request": request})
    };
    let content = hex::encode(raw.digest);
    let messages = |message: Value| json!({"extraParameters": {"rawMessageData": {"messages": [message]}}});
    let calls = json!([
        {"call": "vaults", "limit": 1},
        {"call": "vaults", "name": label, "limit": 500},
        {"call": "vault", "idempotencyKey": keys[0],
            "request": {"name": label, "hiddenOnUI": false, "autoFuel": false, "customerRefId": label}},
        {"call": "wallet", "vault": vault, "asset": "ETH_TEST5", "idempotencyKey": keys[1]},
        {"call": "key", "vault": vault, "asset": "ETH_TEST5"},
        {"call": "addresses", "vault": vault, "asset": "ETH_TEST5"},
        transaction("RAW", "dalp-raw", messages(json!({"content": content}))),
        {"call": "find", "externalId": "dalp-raw"},
        {"call": "look", "id": id},
        {"call": "cancel", "id": id},
        {"call": "look", "id": id},
        transaction("TYPED_MESSAGE", "dalp-typed", messages(json!({"content": document(), "type": "EIP712"}))),
        transaction("CONTRACT_CALL", "dalp-call", json!({
            "destination": {"type": "ONE_TIME_ADDRESS", "oneTimeAddress": {"address": TO.to_checksum(None)}},
            "amount": "1.5", "extraParameters": {"contractCallData": "0xa9059cbb"},
        })),
    ]);
    let key_file = secrets.join("their-rsa.pem");
    std::fs::write(&key_file, simulator.secret_pem()).unwrap();
    let given = json!({
        "basePath": format!("{}/v1", recorder.origin()), "apiKey": simulator.api_key(), "keyFile": key_file, "calls": calls,
    });
    // A page further on is asked for by its mark; here only its address is compared.
    let page = fireblocks::request::vaults_named("/v1", label, Some("mark+/="));
    assert_eq!(page.target, "/v1/vault/accounts_paged?namePrefix=dalp%3Abank%3Adesk&limit=500&after=mark%2B%2F%3D");
    std::mem::forget(custodian);
    (recorder, ours, given)
}

/// They have no empty body: what is sent without one goes as nothing here and as an object there.
#[tokio::test(flavor = "multi_thread")]
async fn our_requests_to_fireblocks_are_those_of_its_node_client() {
    let secrets = tempfile::tempdir().unwrap();
    let (recorder, ours, given) = fireblocks_calls(secrets.path()).await;
    let refused = theirs(Path::new("node"), "fireblocks_calls.mjs", &given).await;
    are_alike(&ours, &recorder.take(), &[]);
    // The three that were made by us before, and what is over cannot be cancelled.
    assert_eq!(refused.as_array().unwrap().len(), 4, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_requests_to_fireblocks_are_those_of_its_python_client() {
    let secrets = tempfile::tempdir().unwrap();
    let (recorder, ours, given) = fireblocks_calls(secrets.path()).await;
    let refused = theirs(&python(), "fireblocks_calls.py", &given).await;
    are_alike(&ours, &recorder.take(), &DEFAULTS);
    assert_eq!(refused.as_array().unwrap().len(), 4, "{refused}");
}

// === DFNS ===

#[tokio::test(flavor = "multi_thread")]
async fn our_requests_to_dfns_are_those_of_its_own_client() {
    let secrets = tempfile::tempdir().unwrap();
    let custodian = Custodian::start(Kind::Dfns, None).await.unwrap();
    let Custodian::Dfns(simulator) = &custodian else { panic!() };
    let recorder = Recorder::before(&simulator.base_url()).await.unwrap();
    let provider = |broadcast| {
        let text = section(&custodian, &recorder, secrets.path(), broadcast);
        DfnsProvider::new(toml::from_str::<DfnsConfig>(&text).unwrap()).unwrap()
    };
    let (signs, broadcasts) = (provider(false), provider(true));
    let name = |wallet: &str| KeyName { tenant: "bank".to_owned(), wallet: wallet.to_owned() };
    let (desk, fund) = (name("desk"), name("fund"));
    assert!(signs.status().await.ready);
    let key = signs.create(&desk).await.unwrap();
    let (claim, typed, call, handed) = (claim(), typed(), transaction(), handed_over());
    let hash = order(&desk, &key, &claim, "dalp-hash");
    let id = signs.submit(&hash).await.unwrap().id.unwrap();
    signs.look(&hash, &id).await.unwrap();
    signs.find(&hash).await.unwrap().unwrap();
    signs.submit(&order(&desk, &key, &typed, "dalp-typed")).await.unwrap();
    signs.submit(&order(&desk, &key, &call, "dalp-tx")).await.unwrap();
    // What is rejected is asked about twice: its approval tells why.
    custodian.ask_people().await;
    let denied = order(&desk, &key, &claim, "dalp-denied");
    let denied_id = signs.submit(&denied).await.unwrap().id.unwrap();
    custodian.deny().await;
    signs.look(&denied, &denied_id).await.unwrap();
    custodian.allow().await;
    let funds = broadcasts.create(&fund).await.unwrap();
    let sent = order(&fund, &funds, &handed, "dalp-sent");
    let sent_id = broadcasts.submit(&sent).await.unwrap().id.unwrap();
    broadcasts.look(&sent, &sent_id).await.unwrap();
    broadcasts.find(&sent).await.unwrap().unwrap();
    let ours = recorder.take();

    let place: Value = serde_json::from_slice(&key.material).unwrap();
    let fund_place: Value = serde_json::from_slice(&funds.material).unwrap();
    let (key, wallet) = (&place["key"], &fund_place["wallets"]["EthereumSepolia"]);
    let approval = ours.iter().find_map(|request| request.path.strip_prefix("/v2/policy-approvals/")).unwrap();
    let unsigned = {
        use alloy::consensus::SignableTransaction as _;
        let Payload::Transaction(UnsignedTransaction::Eip1559(tx)) = transaction() else { panic!() };
        format!("0x{}", hex::encode(tx.encoded_for_signing()))
    };
    let mut document = document();
    document["types"].as_object_mut().unwrap().remove("EIP712Domain");
    let sign = |more: Value| {
        let mut request = json!({"blockchainKind": "Evm"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"call": "signature", "key": key, "request": request})
    };
    let digest = hash.digest.to_string();
    let made = |name: &str| json!({"call": "key", "request": {"scheme": "ECDSA", "curve": "secp256k1", "name": name}});
    let calls = json!([
        {"call": "keys", "limit": 1},
        {"call": "keys", "limit": 100},
        made("dalp:bank:desk"),
        sign(json!({"kind": "Hash", "hash": digest, "externalId": "dalp-hash"})),
        {"call": "look", "key": key, "id": id},
        {"call": "find", "key": key, "limit": 100},
        sign(json!({"kind": "Eip712", "types": document["types"], "domain": document["domain"], "message": document["message"], "externalId": "dalp-typed"})),
        sign(json!({"kind": "Transaction", "transaction": unsigned, "externalId": "dalp-tx"})),
        sign(json!({"kind": "Hash", "hash": digest, "externalId": "dalp-denied"})),
        {"call": "look", "key": key, "id": denied_id},
        {"call": "approval", "id": approval},
        {"call": "keys", "limit": 100},
        made("dalp:bank:fund"),
        {"call": "wallet", "request": {"network": "EthereumSepolia", "name": "dalp:bank:fund",
            "signingKey": {"id": fund_place["key"]}, "externalId": "dalp:bank:fund:EthereumSepolia"}},
        {"call": "broadcast", "wallet": wallet, "request": {"kind": "Evm", "to": TO.to_checksum(None), "value": "1500000000000000000",
            "data": "0xa9059cbb", "externalId": "dalp-sent"}},
        {"call": "lookAtBroadcast", "wallet": wallet, "id": sent_id},
        {"call": "findBroadcast", "wallet": wallet, "limit": 100},
    ]);
    let key_file = secrets.path().join("their-credential.pem");
    std::fs::write(&key_file, simulator.credential_pem()).unwrap();
    let given = json!({
        "baseUrl": recorder.origin(), "orgId": simulator.organisation(), "authToken": simulator.token(),
        "credId": simulator.credential_id(), "keyFile": key_file, "calls": calls,
    });
    let refused = theirs(Path::new("node"), "dfns_calls.mjs", &given).await;
    are_alike(&ours, &recorder.take(), &[]);
    assert_eq!(refused, json!([]), "what was made before is answered");
    assert_eq!(dfns::request::keys(Some("mark")).target, "/keys?limit=100&paginationToken=mark");
}
