//! The audit log on the whole stack: written by the services, sealed by the gateway, signed by svc-signer, exported by the command line and over HTTP,
//! and verified by a program that has the export and the public key and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack, binary};
use dalp_proto::asset::{MintRequest, asset_service_client::AssetServiceClient};
use dalp_proto::audit::{
    AuditDecision, AuditFilter, AuditLeaf, GetInclusionProofRequest, GetRootRequest, ListLeavesRequest,
    audit_service_client::AuditServiceClient,
};
use dalp_proto::signer::{CreateKeyRequest, KeyPurpose, ListKeysRequest, key_service_client::KeyServiceClient};
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
use sqlx::PgPool;

struct Auditor<'s> {
    stack: &'s Stack,
    client: &'s Client,
}

// === impl Auditor ===

impl Auditor<'_> {
    async fn leaves(&self, filter: AuditFilter) -> Vec<AuditLeaf> {
        let request = ListLeavesRequest { filter: Some(filter), page_size: 500, ..Default::default() };
        let page = AuditServiceClient::new(self.client.gateway()).list_leaves(request).await;
        page.map(|page| page.into_inner().leaves).unwrap_or_default()
    }

    /// Waits until a leaf is sealed.
    async fn sealed(&self, filter: AuditFilter) -> AuditLeaf {
        let last = async || self.leaves(filter.clone()).await.pop();
        until("such a leaf is sealed", last, Option::is_some).await.expect("a leaf")
    }

    /// Waits until a signed root covers so many leaves.
    async fn signed(&self, at_least: u64) -> (u64, String) {
        let told = async || {
            let told = AuditServiceClient::new(self.client.gateway()).get_root(GetRootRequest::default()).await;
            let told = told.ok()?.into_inner();
            Some((told.root?.size, told.public_key))
        };
        let covers = |root: &Option<(u64, String)>| root.as_ref().is_some_and(|(size, _)| *size >= at_least);
        until("a root over them is signed", told, covers).await.expect("a root")
    }

    /// Writes an export with the command line.
    fn export(&self, file: &str) -> PathBuf {
        let mut command = Command::new(binary("dalp").expect("dalp is built"));
        command.env_clear().env("DALP_API_KEY", &self.stack.settings().api_key).env("DALP_SERVER_NAME", "localhost");
        command.env("DALP_GATEWAY", self.stack.settings().address("svc-gateway"));
        command.env("DALP_CA", self.stack.folder().join("pki/ca.pem"));
        let output = command.args(["audit", "export-leaves", "--json"]).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = self.stack.folder().join(file);
        std::fs::write(&path, output.stdout).expect("written");
        path
    }
}

fn verify(key: &str, export: &Path, more: &[&str]) -> Output {
    let program = binary("dalp-audit-verify").expect("dalp-audit-verify is built");
    Command::new(program).env_clear().args(["--public-key", key]).args(more).arg(export).output().expect("it runs")
}

fn holds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}{}", said(output), String::from_utf8_lossy(&output.stderr));
    assert!(said(output).starts_with("holds: "), "{}", said(output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A superuser's hand, past every trigger.
async fn by_hand(pool: &PgPool, statement: &'static str, position: i64) {
    let mut connection = pool.acquire().await.expect("the database");
    sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await.expect("a superuser");
    let done = sqlx::query(statement).bind(position).execute(&mut *connection).await.expect("done");
    assert_eq!(done.rows_affected(), 1, "{statement}");
    sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await.expect("a superuser");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bank_did_is_proven_to_somebody_who_trusts_nobody() {
    let mut stack = Stack::start(&Options::default()).await.expect("the stack starts");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let client = stack.client().expect("a client");
    let load = Load::prepare(&client, &chain, 1, "local").await.expect("a bond");
    let auditor = Auditor { stack: &stack, client: &client };

    // A write and a refusal, each in the log with who, what and why.
    let operation = load.transfer(0, "audited").await.expect("accepted");
    client.finished(Some(operation.clone())).await.expect("completed");
    let leaf = auditor.sealed(AuditFilter { subject: operation.operation_id.clone(), ..AuditFilter::default() }).await;
    assert_eq!((leaf.action.as_str(), leaf.actor.as_str()), ("operation.accept", "operator"));
    assert_eq!(leaf.decision(), AuditDecision::Allowed);
    assert_eq!(leaf.payload_hash.len(), 66, "{leaf:?}");
    let mint = MintRequest { asset: "no address".to_owned(), ..MintRequest::default() };
    let refused =
        AssetServiceClient::new(client.gateway()).mint(keyed(mint, "refused")).await.expect_err("a bad field");
    assert_eq!(reason(&refused), "INVALID_FIELD");
    let refusal = auditor
        .sealed(AuditFilter {
            action: "call.refused".to_owned(),
            reason: "INVALID_FIELD".to_owned(),
            ..AuditFilter::default()
        })
        .await;
    assert_eq!(
        (refusal.subject.as_str(), refusal.decision()),
        ("/dalp.asset.v1.AssetService/Mint", AuditDecision::Refused)
    );

    // The key is the tenant's own and for this alone; nobody makes another one of its name.
    let (size, public_key) = auditor.signed(refusal.position + 1).await;
    let every = ListKeysRequest { page_size: 500, ..Default::default() };
    let keys = KeyServiceClient::new(client.gateway()).list_keys(every).await.expect("keys").into_inner().keys;
    let audit: Vec<_> = keys.iter().filter(|key| key.purpose() == KeyPurpose::AuditRoot).collect();
    assert_eq!(audit.len(), 1);
    assert_eq!((audit[0].wallet.as_str(), &audit[0].public_key), ("audit-root-1", &public_key));
    let named = CreateKeyRequest { wallet: "audit-root-2".to_owned(), ..CreateKeyRequest::default() };
    let refused =
        KeyServiceClient::new(client.gateway()).create_key(keyed(named, "named")).await.expect_err("reserved");
    assert_eq!(reason(&refused), "INVALID_FIELD");
    let proof = GetInclusionProofRequest { position: leaf.position, size };
    let proof =
        AuditServiceClient::new(client.gateway()).get_inclusion_proof(proof).await.expect("a proof").into_inner();
    assert!(proof.root.is_some() && !proof.proof.is_empty());

    // Offline, and only with the right key.
    let first = auditor.export("first.jsonl");
    holds(&verify(&public_key, &first, &[]));
    let other = keys.iter().find(|key| key.purpose() == KeyPurpose::General).expect("a wallet");
    let wrong = verify(&other.public_key, &first, &[]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).contains("SIGNATURE"), "{}", said(&wrong));
    assert_eq!(verify("0x12", &first, &[]).status.code(), Some(2));
    assert_eq!(verify(&public_key, Path::new("/nowhere"), &[]).status.code(), Some(3));

    // The gateway is killed, and goes on where it was: the log continues what was kept.
    let gateway = stack.service("svc-gateway").expect("a service");
    tokio::task::block_in_place(|| gateway.kill());
    let gateway = stack.service("svc-gateway").expect("a service");
    tokio::task::block_in_place(|| gateway.restart()).expect("it comes again");
    stack.wait_until_serving().await.expect("everything serves");
    let client = stack.client().expect("a client");
    let load = load.through(&client);
    let auditor = Auditor { stack: &stack, client: &client };
    let operation = load.transfer(0, "after-the-kill").await.expect("accepted");
    client.finished(Some(operation.clone())).await.expect("completed");
    let leaf = auditor.sealed(AuditFilter { subject: operation.operation_id.clone(), ..AuditFilter::default() }).await;
    assert!(leaf.position >= size);
    auditor.signed(leaf.position + 1).await;
    let kept = first.display().to_string();
    let second = auditor.export("second.jsonl");
    holds(&verify(&public_key, &second, &["--roots", &kept]));

    // What a superuser does to the rows is told from the next export.
    let pool = PgPool::connect(&stack.settings().database_url).await.expect("the database");
    let position = leaf.position.cast_signed();
    by_hand(
        &pool,
        "UPDATE engine.audit_leaves SET actor = 'nobody' WHERE sequence = (SELECT leaf_sequence FROM gateway.audit_entries WHERE tenant = 'example-bank' AND position = $1)",
        position,
    )
    .await;
    let tampered = verify(&public_key, &auditor.export("tampered.jsonl"), &[]);
    assert_eq!(tampered.status.code(), Some(1));
    assert!(said(&tampered).contains(&format!("TAMPERED: the row at position {position} ")), "{}", said(&tampered));
    by_hand(
        &pool,
        "DELETE FROM engine.audit_leaves WHERE sequence = (SELECT leaf_sequence FROM gateway.audit_entries WHERE tenant = 'example-bank' AND position = $1)",
        position,
    )
    .await;
    let dropped = verify(&public_key, &auditor.export("dropped.jsonl"), &[]);
    assert!(said(&dropped).contains(&format!("DROPPED: the row at position {position} ")), "{}", said(&dropped));
    // A line that somebody takes out of a good export is missed as well.
    let text = std::fs::read_to_string(&second).expect("readable");
    let cut: Vec<&str> = text.lines().enumerate().filter(|(number, _)| *number != 5).map(|(_, line)| line).collect();
    let path = stack.folder().join("cut.jsonl");
    std::fs::write(&path, cut.join("\n")).expect("written");
    assert_eq!(verify(&public_key, &path, &[]).status.code(), Some(1));
    pool.close().await;
}
