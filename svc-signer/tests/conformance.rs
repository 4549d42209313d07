//! What every provider must do.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use alloy::{
    consensus::Transaction as _,
    primitives::{Address, B256, Signature, keccak256},
};
use dalp_proto::signer::{
    ClaimAttestation, CreateKeyRequest, DisableKeyRequest, Eip712Document, EvmTransaction, GetKeyRequest, Key,
    ListIntentsRequest, ListKeysRequest, ReleaseRequest, SignRequest, SignStatus, StatusRequest,
    key_service_server::KeyService as _, sign_request::Payload, signer_service_server::SignerService as _,
};
use support::{
    Bench, PEER, Setting, TARGET, approved_transaction, call, create, from_caller, from_peer, meta, order, reason,
    sender, sign,
};
use svc_signer::providers::{KeyHandle, ProviderKind, Signing};

async fn conformance(provider: ProviderKind) {
    conforms(Bench::new(provider).await, provider).await;
}

async fn conforms(bench: Bench, provider: ProviderKind) {
    let key = create(&bench, "desk").await;
    let again = create(&bench, "desk").await;
    assert_eq!(key, again, "CreateKey repeats with the same key");
    assert_eq!(key.provider, provider.as_str());

    signatures(&bench, &key).await;
    payloads(&bench, &key.address).await;
    repeats(&bench, &key.address).await;
    watermark(&bench, &create(&bench, "lane").await.address).await;
    refusals(&bench, &key.address).await;
    limits(&bench, &create(&bench, "limited").await.address).await;
    administration(&bench, &key.address).await;
    disabled(&bench, &create(&bench, "old").await.address).await;
}

/// 200 random digests: one shape, low s, recovered to the key. Eight at a time: sessions are never shared.
async fn signatures(bench: &Bench, key: &Key) {
    let address: Address = key.address.parse().unwrap();
    let record = bench.store.key(address).await.unwrap().unwrap();
    let provider = Arc::clone(bench.signer.providers().select(record.provider).unwrap());
    if let Signing::Custody(_) = provider.signing() {
        return documents(bench, &key.address).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0u64..8 {
        let (provider, record) = (Arc::clone(&provider), record.clone());
        tasks.spawn(async move {
            for number in 0u64..25 {
                let digest = keccak256([worker.to_be_bytes(), number.to_be_bytes()].concat());
                let handle = KeyHandle { name: &record.name, material: &record.material };
                let Signing::AtOnce(signer) = provider.signing() else { panic!("it was none of these") };
                let raw = signer.sign(handle, digest).await.unwrap();
                let signature = raw.normalise(digest, &record.public_key).unwrap();
                assert!(signature.normalize_s().is_none(), "low s");
                assert_eq!(signature.recover_address_from_prehash(&digest).unwrap(), record.address);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// A custodian signs what it can read: 40 documents, half of them at once.
async fn documents(bench: &Bench, signer: &str) {
    let requests: Vec<_> = (0..40).map(|number| document_of(signer, &serde_json::json!(31337), number)).collect();
    let (one_by_one, at_once) = requests.split_at(4);
    for request in one_by_one {
        assert_eq!(sign(bench, request).await.unwrap().status(), SignStatus::Approved);
    }
    for answer in futures::future::join_all(at_once.iter().map(|request| sign(bench, request))).await {
        let outcome = answer.unwrap();
        assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
        let signature = Signature::from_raw(&hex::decode(&outcome.signature[2..]).unwrap()).unwrap();
        assert!(signature.normalize_s().is_none(), "low s");
    }
}

async fn payloads(bench: &Bench, signer: &str) {
    let address: Address = signer.parse().unwrap();
    let modern = approved_transaction(&sign(bench, &order(signer, call(0))).await.unwrap());
    assert_eq!(sender(&modern), address);
    assert_eq!((modern.nonce(), modern.chain_id(), modern.is_eip1559()), (0, Some(31337), true));
    let legacy = EvmTransaction {
        gas_price_wei: "9".to_owned(),
        max_fee_per_gas_wei: String::new(),
        max_priority_fee_per_gas_wei: String::new(),
        ..call(1)
    };
    let legacy = approved_transaction(&sign(bench, &order(signer, legacy)).await.unwrap());
    assert_eq!(sender(&legacy), address);
    assert!(legacy.is_legacy() && legacy.chain_id() == Some(31337));

    let outcome = sign(bench, &claim(signer)).await.unwrap();
    let signature = Signature::from_raw(&hex::decode(&outcome.signature[2..]).unwrap()).unwrap();
    let encoded = format!(
        "000000000000000000000000{}{}{}{}01{}",
        &TARGET[2..],
        hex::encode(B256::with_last_byte(1)),
        hex::encode(B256::with_last_byte(0x60)),
        hex::encode(B256::with_last_byte(1)),
        "00".repeat(31)
    );
    let statement = keccak256(hex::decode(encoded).unwrap());
    assert_eq!(signature.recover_address_from_msg(statement).unwrap(), address);

    assert_eq!(sign(bench, &document(signer, &serde_json::json!(31337))).await.unwrap().status(), SignStatus::Approved);
    for chain_id in [serde_json::json!(0), serde_json::Value::Null] {
        assert_eq!(reason(&sign(bench, &document(signer, &chain_id)).await.unwrap_err()), "INVALID_FIELD");
    }
}

fn claim(signer: &str) -> SignRequest {
    let claim = ClaimAttestation {
        identity: TARGET.to_owned(),
        topic: B256::with_last_byte(1).to_string(),
        data: "0x01".to_owned(),
    };
    SignRequest { payload: Some(Payload::Claim(claim)), ..order(signer, call(0)) }
}

fn document(signer: &str, chain_id: &serde_json::Value) -> SignRequest {
    document_of(signer, chain_id, 5)
}

fn document_of(signer: &str, chain_id: &serde_json::Value, value: u32) -> SignRequest {
    let json = serde_json::json!({
        "types": {"EIP712Domain": [{"name": "chainId", "type": "uint256"}], "Price": [{"name": "value", "type": "uint256"}]},
        "primaryType": "Price", "domain": {"chainId": chain_id}, "message": {"value": value.to_string()}
    });
    let document = Eip712Document { document_json: json.to_string() };
    SignRequest { payload: Some(Payload::Eip712(document)), ..order(signer, call(0)) }
}

async fn repeats(bench: &Bench, signer: &str) {
    let request = order(signer, call(10));
    let (first, second) = tokio::join!(sign(bench, &request), sign(bench, &request));
    let first = first.unwrap();
    assert_eq!(first, second.unwrap(), "two at once get one answer");
    assert_eq!(first, sign(bench, &request).await.unwrap(), "a repeat gets the stored bytes");
    let status =
        bench.edge.status(from_peer(StatusRequest { request_id: request.request_id.clone() }, PEER)).await.unwrap();
    assert_eq!(status.into_inner().outcome.unwrap(), first);
    // A caller whose database was restored may ask under a known id for something else: it is told what the id stands for.
    let other = SignRequest { request_id: request.request_id.clone(), ..order(signer, call(11)) };
    let unnamed = SignRequest { request_id: request.request_id.clone(), ..claim(signer) };
    let narrowed = bench.replica_with("").await;
    for reused in [sign(bench, &other).await, sign(bench, &unnamed).await, sign(&narrowed, &other).await] {
        let reused = reused.unwrap_err();
        let told = ["nonce", "status", "chain_id"].map(|key| meta(&reused, key));
        assert_eq!(
            (reason(&reused).as_str(), told),
            ("REQUEST_ID_REUSED", ["10", "APPROVED", "31337"].map(str::to_owned))
        );
    }
    assert_eq!(first, sign(&narrowed, &request).await.unwrap(), "its own request stays readable, whatever the grants");
    let strange = SignRequest { request_id: request.request_id.clone(), ..document(signer, &serde_json::json!(31337)) };
    let strange = bench.edge.sign(from_peer(strange, "spiffe://dalp.dev/svc-feeds")).await.unwrap_err();
    assert_eq!(
        (reason(&strange).as_str(), meta(&strange, "nonce").as_str()),
        ("REQUEST_ID_REUSED", ""),
        "a peer hears of its own only"
    );
    let stranger = StatusRequest { request_id: request.request_id.clone() };
    let stranger = bench.edge.status(from_peer(stranger, "spiffe://dalp.dev/svc-feeds")).await.unwrap_err();
    assert_eq!(reason(&stranger), "NOT_FOUND", "a peer sees its own requests only");
    let release = ReleaseRequest { request_id: request.request_id };
    let refused = bench.edge.release(from_peer(release, PEER)).await.unwrap_err();
    assert_eq!(reason(&refused), "WATERMARK_CONFLICT", "a signed request is never released");
}

async fn watermark(bench: &Bench, signer: &str) {
    let first = order(signer, call(0));
    sign(bench, &first).await.unwrap();
    let dearer = EvmTransaction { max_fee_per_gas_wei: "20".to_owned(), ..call(0) };
    let conflict = sign(bench, &order(signer, dearer.clone())).await.unwrap_err();
    assert_eq!((reason(&conflict), meta(&conflict, "next_nonce")), ("WATERMARK_CONFLICT".to_owned(), "1".to_owned()));
    let replace = |tx: EvmTransaction, replaced: &SignRequest| SignRequest {
        replaces_request_id: replaced.request_id.clone(),
        ..order(signer, tx)
    };
    let changed = EvmTransaction { data: "0x095ea7b3".to_owned(), ..dearer.clone() };
    assert_eq!(reason(&sign(bench, &replace(changed.clone(), &first)).await.unwrap_err()), "WATERMARK_CONFLICT");
    let second = replace(dearer, &first);
    approved_transaction(&sign(bench, &second).await.unwrap());
    let cancel = EvmTransaction { target: signer.to_owned(), data: String::new(), ..call(0) };
    let unnamed = sign(bench, &order(signer, cancel.clone())).await.unwrap_err();
    assert_eq!(reason(&unnamed), "WATERMARK_CONFLICT", "a cancel names what it replaces, too");
    approved_transaction(&sign(bench, &replace(cancel, &second)).await.unwrap());
    let list =
        ListIntentsRequest { tenant: "bank".to_owned(), chain_id: 31337, signer: signer.to_owned(), from_nonce: 0 };
    let intents = bench.edge.list_intents(from_peer(list, PEER)).await.unwrap().into_inner().intents;
    assert_eq!(intents.len(), 3, "every request of the nonce, and no refused one");
    assert!(intents.iter().all(|intent| intent.nonce == 0));
    // Twenty at once for one nonce: one gets it.
    let requests: Vec<_> =
        (0..20u32).map(|number| order(signer, EvmTransaction { data: format!("0x{number:08x}"), ..call(1) })).collect();
    let answers = futures::future::join_all(requests.iter().map(|request| sign(bench, request))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    // Fifty nonces at once: all get theirs.
    let requests: Vec<_> = (2..52).map(|nonce| order(signer, call(nonce))).collect();
    for answer in futures::future::join_all(requests.iter().map(|request| sign(bench, request))).await {
        approved_transaction(&answer.unwrap());
    }
}

async fn refusals(bench: &Bench, signer: &str) {
    let no_key = Address::repeat_byte(9).to_checksum(None);
    assert_eq!(reason(&sign(bench, &order(&no_key, call(90))).await.unwrap_err()), "KEY_NOT_FOUND");
    let other_tenant = SignRequest { tenant: "other".to_owned(), ..order(signer, call(90)) };
    assert_eq!(
        reason(&sign(bench, &other_tenant).await.unwrap_err()),
        "KEY_NOT_FOUND",
        "another tenant's key is no key"
    );
    let feeds = bench.edge.sign(from_peer(order(signer, call(90)), "spiffe://dalp.dev/svc-feeds")).await.unwrap_err();
    assert_eq!(reason(&feeds), "GRANT_MISSING");
    let rich_order = order(signer, EvmTransaction { value_wei: "1001".to_owned(), ..call(90) });
    let rich = sign(bench, &rich_order).await.unwrap_err();
    assert_eq!((reason(&rich), meta(&rich, "rule")), ("POLICY_DENIED".to_owned(), "small".to_owned()));
    let bad = [
        EvmTransaction { chain_id: 0, ..call(90) },
        EvmTransaction { value_wei: "-1".to_owned(), ..call(90) },
        EvmTransaction { value_wei: format!("1{}", "0".repeat(78)), ..call(90) },
        EvmTransaction { target: "0x70997970c51812dc3A010C7d01b50e0d17dc79C8".to_owned(), ..call(90) },
        EvmTransaction { gas_price_wei: "1".to_owned(), ..call(90) },
        EvmTransaction { data: "0x0".to_owned(), ..call(90) },
        EvmTransaction { target: String::new(), data: String::new(), ..call(90) },
    ];
    for tx in bad {
        assert_eq!(reason(&sign(bench, &order(signer, tx.clone())).await.unwrap_err()), "INVALID_FIELD", "{tx:?}");
    }
    let empty = SignRequest { payload: None, ..order(signer, call(90)) };
    assert_eq!(reason(&sign(bench, &empty).await.unwrap_err()), "INVALID_FIELD");
    let list =
        ListIntentsRequest { tenant: "bank".to_owned(), chain_id: 31337, signer: signer.to_owned(), from_nonce: 90 };
    let intents = bench.edge.list_intents(from_peer(list, PEER)).await.unwrap().into_inner().intents;
    let statuses: Vec<SignStatus> =
        intents.iter().filter_map(|intent| Some(intent.outcome.as_ref()?.status())).collect();
    assert_eq!(statuses, [SignStatus::Denied], "what the policy refused stays refused; nothing else was stored");
    let again = sign(bench, &rich_order).await.unwrap();
    assert_eq!((again.status(), again.error.as_str()), (SignStatus::Denied, "POLICY_DENIED"), "whoever asks again");
    approved_transaction(&sign(bench, &order(signer, call(90))).await.unwrap());
}

async fn limits(bench: &Bench, signer: &str) {
    let pay = |nonce, value: &str| {
        let target = "0x1111111111111111111111111111111111111111".to_owned();
        order(signer, EvmTransaction { target, value_wei: value.to_owned(), ..call(nonce) })
    };
    approved_transaction(&sign(bench, &pay(0, "60")).await.unwrap());
    let over = sign(bench, &pay(1, "41")).await.unwrap_err();
    assert_eq!((reason(&over), meta(&over, "rule")), ("POLICY_DENIED".to_owned(), "hourly".to_owned()));
    approved_transaction(&sign(bench, &pay(1, "40")).await.unwrap());
    assert_eq!(reason(&sign(bench, &pay(2, "1")).await.unwrap_err()), "POLICY_DENIED");
}

async fn administration(bench: &Bench, address: &str) {
    let get = GetKeyRequest { address: address.to_owned(), tenant: "bank".to_owned() };
    assert!(bench.keys.get_key(from_peer(get.clone(), PEER)).await.is_ok());
    let foreign = bench.keys.get_key(from_caller(get.clone(), "other", "k")).await.unwrap_err();
    assert_eq!(reason(&foreign), "TENANT_MISMATCH");
    let own = GetKeyRequest { tenant: String::new(), ..get };
    assert_eq!(reason(&bench.keys.get_key(from_caller(own, "other", "k")).await.unwrap_err()), "KEY_NOT_FOUND");
    let reused = CreateKeyRequest { wallet: "other-wallet".to_owned(), ..Default::default() };
    assert_eq!(
        reason(&bench.keys.create_key(from_caller(reused, "bank", "desk")).await.unwrap_err()),
        "IDEMPOTENCY_KEY_REUSED"
    );
    let taken = CreateKeyRequest { wallet: "desk".to_owned(), ..Default::default() };
    assert_eq!(
        reason(&bench.keys.create_key(from_caller(taken, "bank", "another")).await.unwrap_err()),
        "KEY_LABEL_TAKEN"
    );
    let unnamed = CreateKeyRequest { wallet: "Big Wallet".to_owned(), ..Default::default() };
    assert_eq!(reason(&bench.keys.create_key(from_caller(unnamed, "bank", "bad")).await.unwrap_err()), "INVALID_FIELD");
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = bench
            .keys
            .list_keys(from_caller(ListKeysRequest { page_size: 2, page_token, ..Default::default() }, "bank", "l"))
            .await
            .unwrap()
            .into_inner();
        listed.extend(page.keys.into_iter().map(|key| key.wallet));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["desk", "lane", "limited"]);
}

async fn disabled(bench: &Bench, signer: &str) {
    let before = order(signer, call(0));
    let outcome = sign(bench, &before).await.unwrap();
    // A second replica has the key in memory when the first disables it.
    let replica = bench.replica().await;
    sign(&replica, &order(signer, call(1))).await.unwrap();
    let disable = DisableKeyRequest { address: signer.to_owned(), reason: "lost".to_owned() };
    let key = bench.keys.disable_key(from_caller(disable, "bank", "d")).await.unwrap().into_inner().key.unwrap();
    assert!(key.disabled);
    for bench in [bench, &replica] {
        assert_eq!(reason(&sign(bench, &order(signer, call(2))).await.unwrap_err()), "KEY_DISABLED");
        assert_eq!(sign(bench, &before).await.unwrap(), outcome, "what was signed stays readable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_conforms() {
    conformance(ProviderKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pkcs11_conforms() {
    conformance(ProviderKind::Pkcs11).await;
}

/// A Luna partition that two of three people have activated.
#[tokio::test(flavor = "multi_thread")]
async fn luna_conforms() {
    let bench = Bench::luna("").await;
    bench.device().demand_quorum(2, 3).unwrap();
    bench.device().present(1).unwrap();
    assert!(bench.device().present(3).unwrap());
    conforms(bench, ProviderKind::Pkcs11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dfns_conforms() {
    conformance(ProviderKind::Dfns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fireblocks_conforms() {
    conformance(ProviderKind::Fireblocks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_conforms() {
    conformance(ProviderKind::Kms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_provider_need_allow_mixed() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let over = |allow_mixed| Setting { allow_mixed, ..Setting::of(ProviderKind::Local) };
    let strict = bench.replica_of(over(false)).await;
    assert_eq!(reason(&sign(&strict, &order(&key.address, call(0))).await.unwrap_err()), "PROVIDER_NOT_ACTIVE");
    let mixed = bench.replica_of(over(true)).await;
    approved_transaction(&sign(&mixed, &order(&key.address, call(0))).await.unwrap());
}

#[tokio::test]
async fn the_example_configuration_is_complete_and_readable() {
    let text = include_str!("../config.example.toml");
    let config: svc_signer::config::SignerConfig = toml::from_str(text).unwrap();
    assert!(config.signer.allow_mixed && config.local.is_some() && config.pkcs11.is_some());
    // With every commented key switched on it is still readable: no key of the example is a fantasy.
    let on: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key)
                if key.starts_with('[')
                    || key.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ') || name.starts_with('"')) =>
            {
                key
            }
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let config: svc_signer::config::SignerConfig = toml::from_str(&on).unwrap();
    assert_eq!(config.policy.rules.len(), 3);
}
