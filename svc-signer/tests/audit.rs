//! The keys of audit logs: what they sign, what they never sign, and that one never signs two roots of a size.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use alloy::primitives::Address;
use dalp_audit::{Hash, Root, root::request_id, tree};
use dalp_proto::signer::{
    AuditRootStatement, CreateKeyRequest, DisableKeyRequest, Eip712Document, EnsureAuditKeyRequest, Key, KeyPurpose,
    SignOutcome, SignRequest, SignStatus, key_service_server::KeyService as _, sign_request::Payload,
    signer_service_server::SignerService as _,
};
use serde_json::json;
use support::{
    Bench, Holders, PEER, RULES, Setting, call, create, custodians::brief, from_caller, from_peer, order, reason, sign,
    until,
};
use svc_signer::providers::ProviderKind;
use tonic::Status;

const GATEWAY: &str = "spiffe://dalp.dev/svc-gateway";

fn rules() -> String {
    format!("{RULES}[[grants]]\npeer = \"{GATEWAY}\"\nkinds = [\"audit_root\"]\n")
}

async fn bench(provider: ProviderKind) -> Bench {
    Bench::new(provider).await.replica_with(&rules()).await
}

async fn key_of(bench: &Bench, tenant: &str) -> Key {
    let request = EnsureAuditKeyRequest { tenant: tenant.to_owned() };
    bench.edge.ensure_audit_key(from_peer(request, GATEWAY)).await.unwrap().into_inner().key.unwrap()
}

fn root(size: u64, hash: u8) -> Root {
    Root { tenant: "bank".into(), size, root: [hash; 32], sealed_at_us: 1_763_856_000_000_000 }
}

fn asked(key: &str, root: &Root) -> SignRequest {
    let address: Address = key.parse().unwrap();
    let statement = AuditRootStatement {
        size: root.size,
        root_hash: format!("0x{}", hex::encode(root.root)),
        sealed_at_us: root.sealed_at_us,
        ..AuditRootStatement::default()
    };
    SignRequest {
        request_id: request_id(address, root.size).to_string(),
        tenant: "bank".to_owned(),
        signer: key.to_owned(),
        payload: Some(Payload::AuditRoot(statement)),
        replaces_request_id: String::new(),
    }
}

async fn signed(bench: &Bench, request: SignRequest) -> Result<SignOutcome, Status> {
    Ok(bench.edge.sign(from_peer(request, GATEWAY)).await?.into_inner().outcome.unwrap())
}

async fn signs_roots(provider: ProviderKind) {
    let bench = bench(provider).await;
    let key = key_of(&bench, "bank").await;
    assert_eq!((key.purpose(), key.wallet.as_str()), (KeyPurpose::AuditRoot, "audit-root-1"));
    assert_eq!(key_of(&bench, "bank").await.address, key.address, "there is one");
    assert_ne!(key_of(&bench, "other").await.address, key.address, "of each tenant");
    let outcome = signed(&bench, asked(&key.address, &root(7, 1))).await.unwrap();
    assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
    assert!(outcome.attestation.is_none(), "it moves nothing");
    let signature = hex::decode(outcome.signature.trim_start_matches("0x")).unwrap();
    assert_eq!(root(7, 1).signer(&signature).unwrap().to_string(), key.address);
    let by = root(7, 1).public_key(&signature).unwrap();
    assert_eq!(format!("0x{}", hex::encode(by)), key.public_key);
    let again = signed(&bench, asked(&key.address, &root(7, 1))).await.unwrap();
    assert_eq!(again.signature, outcome.signature);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_key_signs_roots() {
    signs_roots(ProviderKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_signs_roots() {
    signs_roots(ProviderKind::Pkcs11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_never_signs_two_roots_of_one_size() {
    let bench = bench(ProviderKind::Local).await;
    let key = key_of(&bench, "bank").await.address;
    signed(&bench, asked(&key, &root(7, 1))).await.unwrap();
    let fork = signed(&bench, asked(&key, &root(7, 2))).await.unwrap_err();
    assert_eq!(reason(&fork), "REQUEST_ID_REUSED");
    let later = Root { sealed_at_us: 1_763_856_000_000_001, ..root(7, 1) };
    assert_eq!(reason(&signed(&bench, asked(&key, &later)).await.unwrap_err()), "REQUEST_ID_REUSED");
    // Nor under an id of the asker's own.
    for id in [uuid::Uuid::new_v4(), request_id(key.parse().unwrap(), 8)] {
        let other = SignRequest { request_id: id.to_string(), ..asked(&key, &root(7, 2)) };
        assert_eq!(reason(&signed(&bench, other).await.unwrap_err()), "INVALID_FIELD");
    }
}

/// A log of so many leaves, of which one was changed.
fn leaves(count: u64, changed: Option<u64>) -> Vec<Hash> {
    let bytes = |number: u64| if changed == Some(number) { u64::MAX } else { number }.to_be_bytes();
    (0..count).map(|number| tree::leaf_hash(&bytes(number))).collect()
}

fn hash_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            tree::node_hash(&hash_of(left), &hash_of(right))
        }
    }
}

fn root_of(leaves: &[Hash]) -> Root {
    Root { root: hash_of(leaves), ..root(leaves.len() as u64, 0) }
}

/// Asked for with a proof from the first so many leaves on.
fn continued(key: &str, leaves: &[Hash], from: usize) -> SignRequest {
    let mut request = asked(key, &root_of(leaves));
    let Some(Payload::AuditRoot(statement)) = &mut request.payload else { unreachable!("a root was asked for") };
    let ranges = tree::consistency(from as u64, leaves.len() as u64).unwrap();
    let hash = |range: &tree::Range| {
        hash_of(&leaves[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()])
    };
    statement.last_size = from as u64;
    statement.consistency_proof = ranges.iter().map(|range| format!("0x{}", hex::encode(hash(range)))).collect();
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_does_not_continue_the_last_one_is_not_signed() {
    let bench = bench(ProviderKind::Local).await;
    let key = key_of(&bench, "bank").await.address;
    let (honest, forged) = (leaves(20, None), leaves(20, Some(3)));
    let refused = async |request: SignRequest| {
        let status = signed(&bench, request).await.unwrap_err();
        let last_size = dalp_service::Refusal::details(&status).unwrap().metadata.get("last_size").cloned();
        (reason(&status), last_size.unwrap_or_default())
    };
    let not_the_log = |last: &str| ("AUDIT_LOG_REWRITTEN".to_owned(), last.to_owned());
    signed(&bench, asked(&key, &root_of(&honest[..7]))).await.unwrap();
    // A history that was rewritten, whatever it comes with.
    assert_eq!(refused(continued(&key, &forged[..12], 7)).await, not_the_log("7"));
    assert_eq!(refused(asked(&key, &root_of(&forged[..12]))).await, ("AUDIT_ROOT_UNPROVEN".to_owned(), "7".to_owned()));
    let mut mixed = continued(&key, &forged[..12], 7);
    if let (Some(Payload::AuditRoot(forged)), Some(Payload::AuditRoot(true_one))) =
        (&mut mixed.payload, continued(&key, &honest[..12], 7).payload)
    {
        forged.consistency_proof = true_one.consistency_proof;
    }
    assert_eq!(refused(mixed).await, not_the_log("7"));
    // The honest one goes on, also after all that.
    let outcome = signed(&bench, continued(&key, &honest[..12], 7)).await.unwrap();
    assert_eq!(outcome.status(), SignStatus::Approved);
    assert_eq!(refused(asked(&key, &root_of(&honest[..9]))).await, not_the_log("12"), "shorter");
    let from_before = refused(continued(&key, &honest[..20], 7)).await;
    assert_eq!(from_before, ("AUDIT_ROOT_UNPROVEN".to_owned(), "12".to_owned()), "and told from where on");
    // What was signed before is answered as before.
    let again = signed(&bench, asked(&key, &root_of(&honest[..7]))).await.unwrap();
    assert_eq!(again.status(), SignStatus::Approved);

    // Another key begins no other history, and another replica knows the same.
    let disable = DisableKeyRequest { address: key.clone(), reason: "replaced".to_owned() };
    bench.keys.disable_key(from_caller(disable, "bank", "d")).await.unwrap();
    let second = key_of(&bench, "bank").await.address;
    assert_eq!(refused(asked(&second, &root_of(&forged[..12]))).await, not_the_log("12"), "of the same size");
    assert_eq!(refused(continued(&second, &forged[..20], 12)).await, not_the_log("12"));
    signed(&bench, continued(&second, &honest[..20], 12)).await.unwrap();
    let shrunk = "update signer.audit_logs set size = 3";
    assert!(sqlx::query(shrunk).execute(&bench.postgres.pool().await).await.is_err(), "what is remembered only grows");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_key_signs_nothing_else_and_nothing_else_signs_roots() {
    let bench = bench(ProviderKind::Local).await;
    // A peer that may have everything signed.
    let wide = format!(
        "[[grants]]\npeer = \"{PEER}\"\nkinds = [\"evm_transaction\", \"eip712\", \"claim\", \"audit_root\"]\n\
         [[grants]]\npeer = \"{GATEWAY}\"\nkinds = [\"audit_root\"]\n[[policy.rules]]\nname = \"all\"\naction = \"allow\"\n"
    );
    let wide = bench.replica_with(&wide).await;
    let (desk, audit) = (create(&wide, "desk").await.address, key_of(&wide, "bank").await.address);
    let document = Eip712Document {
        document_json: json!({
            "types": {"EIP712Domain": [{"name": "chainId", "type": "uint256"}], "Say": [{"name": "what", "type": "string"}]},
            "primaryType": "Say", "domain": {"chainId": 1}, "message": {"what": "x"}
        })
        .to_string(),
    };
    let refused = async |request: SignRequest| reason(&wide.edge.sign(from_peer(request, PEER)).await.unwrap_err());
    assert_eq!(refused(order(&audit, call(0))).await, "KEY_PURPOSE_MISMATCH");
    let statement = SignRequest { payload: Some(Payload::Eip712(document)), ..order(&audit, call(0)) };
    assert_eq!(refused(statement).await, "KEY_PURPOSE_MISMATCH");
    assert_eq!(refused(asked(&desk, &root(1, 1))).await, "KEY_PURPOSE_MISMATCH");
    // The very document of a root, given as a document: its domain names no chain.
    let posed = json!({
        "types": {
            "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "version", "type": "string"}],
            "AuditRoot": [{"name": "tenant", "type": "string"}, {"name": "size", "type": "uint64"}, {"name": "root", "type": "bytes32"}, {"name": "sealedAt", "type": "uint64"}]
        },
        "primaryType": "AuditRoot", "domain": {"name": "DALP audit log", "version": "1"},
        "message": {"tenant": "bank", "size": "1", "root": format!("0x{}", "01".repeat(32)), "sealedAt": "1"}
    });
    let posed = Payload::Eip712(Eip712Document { document_json: posed.to_string() });
    assert_eq!(refused(SignRequest { payload: Some(posed), ..order(&desk, call(0)) }).await, "INVALID_FIELD");
    // The refusals stand in the signer's own audit.
    let leaves: i64 =
        sqlx::query_scalar("select count(*) from signer.audit_leaves where decision = 'KEY_PURPOSE_MISMATCH'")
            .fetch_one(&wide.postgres.pool().await)
            .await
            .unwrap();
    assert_eq!(leaves, 3);
    sign(&wide, &order(&desk, call(0))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_row_says_the_database_stores_no_signature_of_the_wrong_key() {
    let bench = bench(ProviderKind::Local).await;
    let (desk, audit) = (create(&bench, "desk").await.address, key_of(&bench, "bank").await.address);
    let pool = bench.postgres.pool().await;
    for (key, kind) in [(&desk, "audit_root"), (&audit, "claim")] {
        let address: Address = key.parse().unwrap();
        let id = uuid::Uuid::new_v4();
        sqlx::query(
            "insert into signer.requests (request_id, tenant, signer, peer, kind, payload_hash, digest, rule, value_wei)
             values ($1, 'bank', $2, 'p', $3, $4, $4, 'r', 0)",
        )
        .bind(id)
        .bind(address.as_slice())
        .bind(kind)
        .bind([1_u8; 32].as_slice())
        .execute(&pool)
        .await
        .unwrap();
        sqlx::query("update signer.requests set status = 'APPROVED', signature = $2 where request_id = $1")
            .bind(id)
            .bind([1_u8; 65].as_slice())
            .execute(&pool)
            .await
            .unwrap_err();
    }
    sqlx::query("update signer.keys set purpose = 'general'").execute(&pool).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_granted_it_has_keys_made_and_roots_signed() {
    let bench = bench(ProviderKind::Local).await;
    let key = key_of(&bench, "bank").await.address;
    let request = EnsureAuditKeyRequest { tenant: "bank".to_owned() };
    let refused = bench.edge.ensure_audit_key(from_peer(request, PEER)).await.unwrap_err();
    assert_eq!(reason(&refused), "GRANT_MISSING");
    let refused = bench.edge.sign(from_peer(asked(&key, &root(1, 1)), PEER)).await.unwrap_err();
    assert_eq!(reason(&refused), "GRANT_MISSING");
    let desk = create(&bench, "desk").await.address;
    let refused = bench.edge.sign(from_peer(order(&desk, call(0)), GATEWAY)).await.unwrap_err();
    assert_eq!(reason(&refused), "GRANT_MISSING", "the gateway has nothing else signed");
    // Nobody takes the names of audit keys.
    let named = CreateKeyRequest { wallet: "audit-root-2".to_owned(), ..CreateKeyRequest::default() };
    assert_eq!(reason(&bench.keys.create_key(from_caller(named, "bank", "n")).await.unwrap_err()), "INVALID_FIELD");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_is_followed_by_the_next_one() {
    let bench = bench(ProviderKind::Local).await;
    let first = key_of(&bench, "bank").await;
    let disable = DisableKeyRequest { address: first.address.clone(), reason: "replaced".to_owned() };
    bench.keys.disable_key(from_caller(disable, "bank", "d")).await.unwrap();
    let refused = signed(&bench, asked(&first.address, &root(3, 1))).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_DISABLED");
    let second = key_of(&bench, "bank").await;
    assert_eq!(second.wallet, "audit-root-2");
    assert_ne!(second.address, first.address);
    assert_eq!(signed(&bench, asked(&second.address, &root(3, 1))).await.unwrap().status(), SignStatus::Approved);
}

/// A signer whose audit keys are at a custodian that asks people before it signs.
async fn asking_people() -> Bench {
    let setting = Setting { extra: rules(), ..brief(ProviderKind::Fireblocks) };
    let holders = Holders::of(ProviderKind::Fireblocks).await;
    let bench = Bench::over(setting, std::sync::Arc::new(dalp_testing::TestPostgres::start()), holders).await;
    bench.custodian().ask_people().await;
    bench
}

async fn by_hand(bench: &Bench, statement: &'static str) {
    let mut connection = bench.postgres.pool().await.acquire().await.unwrap();
    sqlx::query("set session_replication_role = replica").execute(&mut *connection).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut *connection).await.unwrap();
    sqlx::query("set session_replication_role = origin").execute(&mut *connection).await.unwrap();
}

/// How a request stands: its status, the error and the words beside it, and whether there is a signature.
async fn stands(bench: &Bench, request: &SignRequest) -> (String, String, String, bool) {
    let id: uuid::Uuid = request.request_id.parse().unwrap();
    sqlx::query_as("select status, error, detail, signature is not null from signer.requests where request_id = $1")
        .bind(id)
        .fetch_one(&bench.postgres.pool().await)
        .await
        .unwrap()
}

async fn becomes_approved(bench: &Bench, request: &SignRequest) {
    let asked = async || signed(bench, request.clone()).await.unwrap();
    until(asked, |outcome| outcome.status() == SignStatus::Approved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_waited_while_its_log_went_another_way_is_never_signed() {
    let bench = asking_people().await;
    let key = key_of(&bench, "bank").await.address;
    let (honest, forged) = (leaves(20, None), leaves(20, Some(3)));
    let fork = asked(&key, &root_of(&forged[..12]));
    assert_eq!(signed(&bench, fork.clone()).await.unwrap().status(), SignStatus::Pending);
    // Accepted before logs were remembered: nothing is known of it but the request.
    by_hand(&bench, "delete from signer.audit_roots; delete from signer.audit_logs").await;
    bench.custodian().approve().await;
    bench.custodian().allow().await;
    becomes_approved(&bench, &asked(&key, &root_of(&honest[..7]))).await;

    let sweep = tokio::spawn({
        let signer = std::sync::Arc::clone(&bench.signer);
        async move { signer.sweep().await }
    });
    let waits = until(async || stands(&bench, &fork).await, |stands| stands.2.contains("nobody has shown")).await;
    assert_eq!((waits.0.as_str(), waits.3), ("PENDING", false), "though its custodian has signed it");
    let refused = async |request: SignRequest| reason(&signed(&bench, request).await.unwrap_err());
    assert_eq!(refused(fork.clone()).await, "AUDIT_ROOT_UNPROVEN");
    let forged_proof = continued(&key, &forged[..12], 7);
    assert_eq!(refused(forged_proof.clone()).await, "AUDIT_LOG_REWRITTEN");
    assert_eq!(stands(&bench, &fork).await.0, "PENDING");

    becomes_approved(&bench, &continued(&key, &honest[..13], 7)).await;
    let ended = until(async || stands(&bench, &fork).await, |stands| stands.0 != "PENDING").await;
    assert_eq!((ended.0.as_str(), ended.1.as_str(), ended.3), ("DENIED", "AUDIT_LOG_REWRITTEN", false));
    sweep.abort();
    let again = signed(&bench, forged_proof).await.unwrap();
    assert_eq!((again.status(), again.error.as_str()), (SignStatus::Denied, "AUDIT_LOG_REWRITTEN"));
    becomes_approved(&bench, &continued(&key, &honest[..20], 13)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_waited_across_the_upgrade_is_signed_once_it_is_shown_to_continue_its_log() {
    let bench = asking_people().await;
    let key = key_of(&bench, "bank").await.address;
    let honest = leaves(20, None);
    // The first one of its log, and one behind another.
    for (size, from) in [(5, 0), (12, 5)] {
        bench.custodian().ask_people().await;
        let request = match from {
            0 => asked(&key, &root_of(&honest[..size])),
            from => continued(&key, &honest[..size], from),
        };
        assert_eq!(signed(&bench, request.clone()).await.unwrap().status(), SignStatus::Pending);
        by_hand(&bench, "delete from signer.audit_roots where size = (select size from signer.audit_logs)").await;
        match from {
            0 => by_hand(&bench, "delete from signer.audit_logs").await,
            _ => {
                let before = "update signer.audit_logs set (size, root) = (select size, root from signer.audit_roots order by size desc limit 1)";
                by_hand(&bench, before).await;
                let bare = asked(&key, &root_of(&honest[..size]));
                assert_eq!(reason(&signed(&bench, bare).await.unwrap_err()), "AUDIT_ROOT_UNPROVEN");
            }
        }
        bench.custodian().approve().await;
        bench.custodian().allow().await;
        becomes_approved(&bench, &request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_taken_is_signed_also_after_longer_ones() {
    let bench = asking_people().await;
    let (key, honest) = (key_of(&bench, "bank").await.address, leaves(20, None));
    let first = asked(&key, &root_of(&honest[..7]));
    assert_eq!(signed(&bench, first.clone()).await.unwrap().status(), SignStatus::Pending);
    let second = continued(&key, &honest[..12], 7);
    assert_eq!(signed(&bench, second.clone()).await.unwrap().status(), SignStatus::Pending);
    bench.custodian().approve().await;
    bench.custodian().allow().await;
    becomes_approved(&bench, &first).await;
    becomes_approved(&bench, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_shows_to_continue_its_log_in_time_is_refused() {
    let bench = asking_people().await;
    let key = key_of(&bench, "bank").await.address;
    let request = asked(&key, &root(7, 1));
    assert_eq!(signed(&bench, request.clone()).await.unwrap().status(), SignStatus::Pending);
    by_hand(&bench, "delete from signer.audit_roots; delete from signer.audit_logs; update signer.requests set created_at = created_at - interval '10 days'").await;
    let sweep = tokio::spawn({
        let signer = std::sync::Arc::clone(&bench.signer);
        async move { signer.sweep().await }
    });
    let ended = until(async || stands(&bench, &request).await, |stands| stands.0 != "PENDING").await;
    assert_eq!((ended.0.as_str(), ended.1.as_str()), ("DENIED", "AUDIT_ROOT_UNPROVEN"));
    sweep.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_stores_no_signature_over_a_root_that_was_not_taken() {
    let bench = asking_people().await;
    let key = key_of(&bench, "bank").await.address;
    let request = asked(&key, &root(7, 1));
    signed(&bench, request.clone()).await.unwrap();
    let pool = bench.postgres.pool().await;
    let moved = "update signer.audit_roots set root = sha256('another')";
    assert!(sqlx::query(moved).execute(&pool).await.is_err(), "what was taken stays as it is");
    by_hand(&bench, "update signer.audit_roots set root = sha256('another')").await;
    let approved = "update signer.requests set status = 'APPROVED', signature = decode(repeat('01', 65), 'hex')";
    let refused = sqlx::query(approved).execute(&pool).await.unwrap_err();
    assert!(refused.to_string().contains("was never taken"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_roots_were_remembered_is_remembered_by_the_upgrade() {
    let bench = bench(ProviderKind::Local).await;
    let (key, honest) = (key_of(&bench, "bank").await.address, leaves(20, None));
    signed(&bench, asked(&key, &root_of(&honest[..7]))).await.unwrap();
    signed(&bench, continued(&key, &honest[..12], 7)).await.unwrap();
    // As the release before left it, which signed the second one late and did not remember it.
    by_hand(
        &bench,
        "update signer.audit_logs set (size, root) = (select size, root from signer.audit_roots order by size limit 1);
         drop trigger requests_root_taken on signer.requests; drop trigger audit_logs_taken on signer.audit_logs; drop table signer.audit_roots;
         drop function signer.is_taken, signer.take_audit_root, signer.keep_audit_root; delete from signer._sqlx_migrations where version = 52",
    )
    .await;
    svc_signer::store::Store::new(&bench.config).unwrap().migrate().await.unwrap();
    let bare = signed(&bench, asked(&key, &root_of(&honest[..15]))).await.unwrap_err();
    let last_size = dalp_service::Refusal::details(&bare).unwrap().metadata.get("last_size").cloned();
    assert_eq!((reason(&bare), last_size), ("AUDIT_ROOT_UNPROVEN".to_owned(), Some("12".to_owned())));
    signed(&bench, continued(&key, &honest[..15], 12)).await.unwrap();
    let taken: Vec<i64> = sqlx::query_scalar("select size from signer.audit_roots order by size")
        .fetch_all(&bench.postgres.pool().await)
        .await
        .unwrap();
    assert_eq!(taken, [7, 12, 15]);
}
