//! Who may decide about what a policy holds. Changes of policies are such operations themselves, and need no service behind the gateway.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use dalp_proto::{
    apikey::{CreateApiKeyRequest, RotateApiKeyRequest, Scope, api_key_service_client::ApiKeyServiceClient},
    checker::{
        ListPoliciesRequest, Policy, RemovePolicyRequest, SetPolicyRequest,
        checker_service_client::CheckerServiceClient,
    },
    operation::{
        ApproveOperationRequest, CancelOperationRequest, GetOperationRequest, Operation, OperationState,
        RejectOperationRequest, operation_service_client::OperationServiceClient,
    },
    principal::{
        BindCredentialRequest, CreatePrincipalRequest, Credential, DisablePrincipalRequest, GetPrincipalRequest,
        PrincipalKind, UnbindCredentialRequest, credential::Kind, principal_service_client::PrincipalServiceClient,
    },
};
use dalp_service::Refusal;
use support::{World, until, world_with};
use svc_gateway::{access::checkers::hands_of, api_key::ApiKey};
use tonic::{Request, Status, transport::Channel};

/// A gateway with persons and machines of theirs.
struct Bank {
    world: World,
    ann: String,
    ann_desk: String,
    bob: String,
    dan: String,
    /// May change policies, and decide nothing.
    clerk: String,
    channel: Channel,
}

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

fn policy(id: &str, checkers: u32) -> Policy {
    Policy { policy_id: id.to_owned(), kinds: vec!["policy.change".to_owned()], checkers, ..Policy::default() }
}

impl Bank {
    async fn open() -> Self {
        let mut sections =
            "[[roles]]\nname = \"clerk\"\npermissions = [\"checker:*\", \"operation:read\", \"operation:cancel\"]\n"
                .to_owned();
        let mut principal = |id: &str, role: &str, more: &str| {
            let key = ApiKey::generate().unwrap();
            sections += &format!(
                "[[principals]]\nid = \"{id}\"\ntenant = \"acme\"\nroles = [\"{role}\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n{more}\n",
                key.prefix(),
                key.digest()
            );
            key.expose().to_owned()
        };
        // In any order: the machine comes before the person who answers for it.
        let ann_desk = principal("ann-desk", "operator", "owner = \"ann\"");
        let ann = principal("ann", "operator", "kind = \"person\"");
        let bob = principal("bob", "operator", "kind = \"person\"");
        let dan = principal("dan", "operator", "kind = \"person\"");
        let clerk = principal("clerk", "clerk", "kind = \"person\"");
        let world = world_with("", &sections).await;
        let channel = world.pki.channel(world.gateway.addr, None);
        Self { world, ann, ann_desk, bob, dan, clerk, channel }
    }

    async fn set(&self, key: &str, name: &str, policy: Policy) -> Result<Operation, Status> {
        let request = with(key, name, SetPolicyRequest { policy: Some(policy) });
        let answer = CheckerServiceClient::new(self.channel.clone()).set_policy(request).await?;
        Ok(answer.into_inner().operation.unwrap())
    }

    async fn remove(&self, key: &str, name: &str, policy_id: &str) -> Result<Operation, Status> {
        let request = with(key, name, RemovePolicyRequest { policy_id: policy_id.to_owned() });
        let answer = CheckerServiceClient::new(self.channel.clone()).remove_policy(request).await?;
        Ok(answer.into_inner().operation.unwrap())
    }

    async fn policies(&self) -> Vec<String> {
        let request = with(&self.ann, "", ListPoliciesRequest {});
        let answer = CheckerServiceClient::new(self.channel.clone()).list_policies(request).await.unwrap();
        answer.into_inner().policies.into_iter().map(|policy| policy.policy_id).collect()
    }

    async fn get(&self, id: &str) -> Operation {
        let request = with(&self.ann, "", GetOperationRequest { operation_id: id.to_owned() });
        let answer = OperationServiceClient::new(self.channel.clone()).get_operation(request).await.unwrap();
        answer.into_inner().operation.unwrap()
    }

    async fn approve(&self, key: &str, held: &Operation) -> Result<Operation, Status> {
        let request = ApproveOperationRequest {
            operation_id: held.operation_id.clone(),
            payload_hash: held.check.as_ref().unwrap().payload_hash.clone(),
            reason: "seen".to_owned(),
        };
        let answer =
            OperationServiceClient::new(self.channel.clone()).approve_operation(with(key, "", request)).await?;
        Ok(answer.into_inner().operation.unwrap())
    }

    /// A key for somebody, made with another key.
    async fn key_for(&self, with_key: &str, name: &str, principal: &str) -> String {
        let request = CreateApiKeyRequest {
            principal_id: principal.to_owned(),
            scope: Scope::ReadWrite.into(),
            ..CreateApiKeyRequest::default()
        };
        let answer = ApiKeyServiceClient::new(self.channel.clone()).create_api_key(with(with_key, name, request)).await;
        answer.unwrap().into_inner().secret
    }

    async fn reject(&self, key: &str, held: &Operation) -> Result<Operation, Status> {
        let request = RejectOperationRequest {
            operation_id: held.operation_id.clone(),
            payload_hash: held.check.as_ref().unwrap().payload_hash.clone(),
            reason: "no".to_owned(),
        };
        let answer = OperationServiceClient::new(self.channel.clone()).reject_operation(with(key, "", request)).await?;
        Ok(answer.into_inner().operation.unwrap())
    }
}

#[tokio::test]
async fn the_persons_behind_principals_decide() {
    let bank = Bank::open().await;
    // Nothing holds the first one.
    let guard = bank.set(&bank.ann, "guard", policy("guard", 1)).await.unwrap();
    assert_eq!(guard.state(), OperationState::Completed, "{guard:?}");
    assert_eq!(
        bank.set(&bank.ann, "guard", policy("guard", 1)).await.unwrap(),
        guard,
        "a repeat is the same operation"
    );
    assert_eq!(reason(bank.set(&bank.ann, "guard", policy("guard", 2)).await), "IDEMPOTENCY_KEY_REUSED");

    let held = bank.remove(&bank.ann_desk, "open", "guard").await.unwrap();
    assert_eq!(held.state(), OperationState::AwaitingChecker, "{held:?}");
    assert_eq!(bank.remove(&bank.ann_desk, "open", "guard").await.unwrap(), held);
    let check = held.check.clone().unwrap();
    assert_eq!((check.policies.as_slice(), check.checkers), (&["guard".to_owned()][..], 1));
    assert!(check.command_json.contains("guard"), "{}", check.command_json);
    assert_eq!(reason(bank.approve(&bank.ann_desk, &held).await), "MAKER_IS_CHECKER");
    assert_eq!(reason(bank.approve(&bank.ann, &held).await), "MAKER_IS_CHECKER", "the person behind the machine");
    assert_eq!(reason(bank.approve(bank.world.keys.operator.expose(), &held).await), "CHECKER_NOT_A_PERSON");
    assert_eq!(reason(bank.approve(bank.world.keys.foreign.expose(), &held).await), "NOT_FOUND", "another tenant");
    assert_eq!(reason(bank.approve(&bank.clerk, &held).await), "PERMISSION_DENIED");
    assert_eq!(reason(bank.approve(bank.world.keys.reader.expose(), &held).await), "READ_ONLY_KEY");
    let mut other = held.clone();
    other.check.as_mut().unwrap().payload_hash = format!("0x{}", "1".repeat(64));
    assert_eq!(reason(bank.approve(&bank.bob, &other).await), "CHECK_PAYLOAD_DIFFERS");
    assert_eq!(bank.policies().await, ["guard"], "nothing of that counted");

    let done = bank.approve(&bank.bob, &held).await.unwrap();
    assert_eq!(done.state(), OperationState::Completed, "{done:?}");
    assert!(bank.policies().await.is_empty());
    let decided = done.check.unwrap().decisions;
    assert_eq!((decided.len(), decided[0].person.as_str()), (1, "bob"));
    let refusals =
        "SELECT count(*) FROM engine.audit_leaves WHERE action = 'operation.decision_refused' AND tenant = 'acme'";
    let refusals: i64 = sqlx::query_scalar(refusals).fetch_one(&bank.world.database().await).await.unwrap();
    assert_eq!(refusals, 4, "each refusal that was decided here stands in the audit");
}

#[tokio::test]
async fn two_persons_at_once_and_one_who_refuses() {
    let bank = Bank::open().await;
    bank.set(&bank.ann, "guard", policy("guard", 2)).await.unwrap();
    let held = bank.set(&bank.clerk, "more", policy("more", 1)).await.unwrap();
    let one = bank.approve(&bank.ann_desk, &held).await.unwrap();
    assert_eq!(one.state(), OperationState::AwaitingChecker);
    let again = bank.approve(&bank.ann, &held).await.unwrap();
    assert_eq!(again.check.unwrap().decisions.len(), 1, "the same person by another principal");
    assert_eq!(reason(bank.reject(&bank.ann, &held).await), "CHECK_DECIDED");
    let ended = bank.reject(&bank.bob, &held).await.unwrap();
    assert_eq!((ended.state(), ended.error.unwrap().reason.as_str()), (OperationState::Failed, "APPROVAL_DENIED"));
    for round in 0..8 {
        let held = bank.set(&bank.clerk, &format!("round-{round}"), policy("more", 1)).await.unwrap();
        let (ann, bob) = tokio::join!(bank.approve(&bank.ann, &held), bank.approve(&bank.bob, &held));
        assert!(ann.is_ok() && bob.is_ok(), "{ann:?} {bob:?}");
        let done = bank.get(&held.operation_id).await;
        assert_eq!((done.state(), done.check.unwrap().decisions.len()), (OperationState::Completed, 2));
    }
    let completed = "SELECT count(*) FROM engine.audit_leaves WHERE action = 'checker.set_policy' AND subject = 'more'";
    let completed: i64 = sqlx::query_scalar(completed).fetch_one(&bank.world.database().await).await.unwrap();
    assert_eq!(completed, 8, "each change was made once");
}

#[tokio::test]
async fn what_the_maker_lost_withdrew_or_left_too_long() {
    let bank = Bank::open().await;
    bank.set(&bank.ann, "guard", policy("guard", 1)).await.unwrap();
    // A maker by RPC, whose key is then used until the principal is disabled.
    let held = bank.set(&bank.clerk, "one", policy("one", 1)).await.unwrap();
    let request = CancelOperationRequest { operation_id: held.operation_id.clone(), reason: "a mistake".to_owned() };
    let cancelled =
        OperationServiceClient::new(bank.channel.clone()).cancel_operation(with(&bank.clerk, "", request)).await;
    assert_eq!(cancelled.unwrap().into_inner().operation.unwrap().state(), OperationState::Cancelled);
    assert_eq!(reason(bank.approve(&bank.bob, &held).await), "CHECK_DECIDED");

    let late = bank.set(&bank.clerk, "late", policy("late", 1)).await.unwrap();
    let database = bank.world.database().await;
    for statement in [
        "ALTER TABLE engine.checks DISABLE TRIGGER checks_insert_only",
        "UPDATE engine.checks SET held_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'",
        "ALTER TABLE engine.checks ENABLE TRIGGER checks_insert_only",
    ] {
        sqlx::query(statement).execute(&database).await.unwrap();
    }
    let told = reason(bank.approve(&bank.bob, &late).await);
    assert!(["APPROVAL_EXPIRED", "CHECK_DECIDED"].contains(&told.as_str()), "{told}");
    until(async || bank.get(&late.operation_id).await.state() == OperationState::Failed).await;
    assert_eq!(bank.get(&late.operation_id).await.error.unwrap().reason, "APPROVAL_EXPIRED");
    assert_eq!(bank.policies().await, ["guard"]);

    let held = bank.set(&bank.clerk, "lost", policy("lost", 1)).await.unwrap();
    let role = "UPDATE gateway.roles SET permissions = '{operation:read}' WHERE role = 'clerk'";
    let mut commit = database.begin().await.unwrap();
    sqlx::query("SET LOCAL dalp.configuration = 'on'").execute(&mut *commit).await.unwrap();
    sqlx::query(role).execute(&mut *commit).await.unwrap();
    commit.commit().await.unwrap();
    assert_eq!(reason(bank.approve(&bank.bob, &held).await), "MAKER_RIGHT_LOST");
    assert_eq!(bank.get(&held.operation_id).await.state(), OperationState::AwaitingChecker);
}

#[tokio::test]
async fn an_owner_is_a_person_and_stays() {
    let bank = Bank::open().await;
    let mut principals = PrincipalServiceClient::new(bank.channel.clone());
    let asked = |id: &str, kind: PrincipalKind, owner: &str| CreatePrincipalRequest {
        principal_id: id.to_owned(),
        kind: kind.into(),
        display_name: id.to_owned(),
        owner: owner.to_owned(),
    };
    for (id, kind, owner) in [
        ("a", PrincipalKind::Person, "ann"),
        ("b", PrincipalKind::Service, "ann-desk"),
        ("c", PrincipalKind::Service, "nobody"),
    ] {
        let refused = principals.create_principal(with(&bank.ann, id, asked(id, kind, owner))).await;
        assert_eq!(reason(refused), "INVALID_FIELD", "{id}");
    }
    let made =
        principals.create_principal(with(&bank.ann, "d", asked("d", PrincipalKind::Service, "bob"))).await.unwrap();
    assert_eq!(made.into_inner().principal.unwrap().owner, "bob");
    let database = bank.world.database().await;
    let other = "UPDATE gateway.principals SET owner_id = 'ann' WHERE principal_id = 'd'";
    assert!(sqlx::query(other).execute(&database).await.is_err(), "another owner makes another person of it");
    let get = GetPrincipalRequest { principal_id: "ann-desk".to_owned() };
    let desk = principals.get_principal(with(&bank.ann, "", get)).await.unwrap().into_inner().principal.unwrap();
    assert_eq!((desk.owner.as_str(), desk.managed), ("ann", true));
    let disable = DisablePrincipalRequest { principal_id: "d".to_owned(), reason: "left".to_owned() };
    principals.disable_principal(with(&bank.ann, "e", disable)).await.unwrap();
}

#[tokio::test]
async fn what_nobody_answers_for_is_approved_only_where_the_policy_says_so() {
    let bank = Bank::open().await;
    bank.set(&bank.ann, "guard", policy("guard", 1)).await.unwrap();
    let machine = bank.world.keys.operator.expose().to_owned();
    let held = bank.set(&machine, "by-machine", policy("second", 1)).await.unwrap();
    assert_eq!(held.state(), OperationState::AwaitingChecker, "{held:?}");
    assert_eq!(reason(bank.approve(&bank.bob, &held).await), "MAKER_NOT_A_PERSON");
    // Refusing it needs nobody to be known.
    let other = bank.set(&machine, "by-machine-too", policy("third", 1)).await.unwrap();
    assert_eq!(bank.reject(&bank.bob, &other).await.unwrap().state(), OperationState::Failed);
    let looser = Policy { unowned_makers: true, ..policy("guard", 1) };
    let change = bank.set(&bank.ann, "looser", looser).await.unwrap();
    bank.approve(&bank.bob, &change).await.unwrap();
    assert_eq!(bank.approve(&bank.bob, &held).await.unwrap().state(), OperationState::Completed);
    // Each policy that holds it has to say so.
    let strict = bank.set(&bank.ann, "strict", policy("strict", 1)).await.unwrap();
    bank.approve(&bank.bob, &strict).await.unwrap();
    let held = bank.set(&machine, "by-machine-again", policy("fourth", 1)).await.unwrap();
    assert_eq!(reason(bank.approve(&bank.bob, &held).await), "MAKER_NOT_A_PERSON");
}

/// Why an approval is refused, and who made the credential.
fn made_by<T: std::fmt::Debug>(answer: Result<T, Status>) -> (String, String) {
    let details = Refusal::details(&answer.unwrap_err()).unwrap();
    let made_by = details.metadata.get("made_by").cloned().unwrap_or_default();
    (details.reason, made_by)
}

#[tokio::test]
async fn a_credential_that_the_maker_made_is_the_maker_s() {
    let bank = Bank::open().await;
    bank.set(&bank.ann, "guard", policy("guard", 1)).await.unwrap();
    let bobs_by_ann = bank.key_for(&bank.ann, "k1", "bob").await;
    let bobs_by_anns_desk = bank.key_for(&bank.ann_desk, "k2", "bob").await;
    let dans_by_that = bank.key_for(&bobs_by_ann, "k3", "dan").await;
    let rotate = RotateApiKeyRequest {
        prefix: bobs_by_ann.split('_').nth(1).unwrap().to_owned(),
        overlap_s: 3_600,
        expires_at: None,
    };
    let mut keys = ApiKeyServiceClient::new(bank.channel.clone());
    let rotated = keys.rotate_api_key(with(&bobs_by_ann, "k4", rotate)).await.unwrap().into_inner().secret;
    let spiffe = "spiffe://dalp.dev/tenants/acme/bob".to_owned();
    let bind = BindCredentialRequest {
        principal_id: "bob".to_owned(),
        credential: Some(Credential { kind: Some(Kind::SpiffeId(spiffe)), managed: false }),
    };
    let mut principals = PrincipalServiceClient::new(bank.channel.clone());
    principals.bind_credential(with(&bank.ann, "k5", bind)).await.unwrap();

    let held = bank.set(&bank.ann, "one", policy("one", 1)).await.unwrap();
    assert_eq!(held.state(), OperationState::AwaitingChecker);
    for key in [&bobs_by_ann, &bobs_by_anns_desk, &dans_by_that, &rotated] {
        assert_eq!(made_by(bank.approve(key, &held).await), ("MAKER_IS_CHECKER".to_owned(), "ann".to_owned()));
    }
    let certificate = bank.world.pki.channel(bank.world.gateway.addr, Some("tenants/acme/bob"));
    let request = ApproveOperationRequest {
        operation_id: held.operation_id.clone(),
        payload_hash: held.check.as_ref().unwrap().payload_hash.clone(),
        reason: "seen".to_owned(),
    };
    let refused = OperationServiceClient::new(certificate).approve_operation(Request::new(request)).await;
    assert_eq!(made_by(refused), ("MAKER_IS_CHECKER".to_owned(), "ann".to_owned()));
    assert_eq!(bank.get(&held.operation_id).await.check.unwrap().decisions.len(), 0);
    // The same persons with what is their own.
    assert_eq!(bank.approve(&bank.dan, &held).await.unwrap().state(), OperationState::Completed);
    // Of what others asked for, ann's hand in a key says nothing.
    let held = bank.set(&bank.clerk, "two", policy("two", 1)).await.unwrap();
    assert_eq!(bank.approve(&dans_by_that, &held).await.unwrap().state(), OperationState::Completed);
}

#[tokio::test]
async fn who_made_what_the_maker_showed_may_have_asked() {
    let bank = Bank::open().await;
    bank.set(&bank.ann, "guard", policy("guard", 1)).await.unwrap();
    let bobs_by_ann = bank.key_for(&bank.ann, "k1", "bob").await;
    let held = bank.set(&bobs_by_ann, "one", policy("one", 1)).await.unwrap();
    assert_eq!(made_by(bank.approve(&bank.ann, &held).await), ("MAKER_IS_CHECKER".to_owned(), "ann".to_owned()));
    assert_eq!(reason(bank.approve(&bank.ann_desk, &held).await), "MAKER_IS_CHECKER");
    assert_eq!(bank.approve(&bank.dan, &held).await.unwrap().state(), OperationState::Completed);
    // Asked for with a key of his own, it is bob's alone.
    let held = bank.set(&bank.bob, "two", policy("two", 1)).await.unwrap();
    assert_eq!(bank.approve(&bank.ann, &held).await.unwrap().state(), OperationState::Completed);
}

#[tokio::test]
async fn two_approvals_of_one_hand_are_one() {
    let bank = Bank::open().await;
    bank.set(&bank.ann, "guard", policy("guard", 2)).await.unwrap();
    let bobs_by_ann = bank.key_for(&bank.ann, "k1", "bob").await;
    let held = bank.set(&bank.clerk, "one", policy("one", 1)).await.unwrap();
    assert_eq!(bank.approve(&bank.ann, &held).await.unwrap().state(), OperationState::AwaitingChecker);
    assert_eq!(made_by(bank.approve(&bobs_by_ann, &held).await), ("CHECK_DECIDED".to_owned(), "ann".to_owned()));
    assert_eq!(bank.approve(&bank.bob, &held).await.unwrap().state(), OperationState::Completed);
    let held = bank.set(&bank.clerk, "two", policy("two", 1)).await.unwrap();
    assert_eq!(bank.approve(&bobs_by_ann, &held).await.unwrap().state(), OperationState::AwaitingChecker);
    assert_eq!(made_by(bank.approve(&bank.ann, &held).await), ("CHECK_DECIDED".to_owned(), "ann".to_owned()));
    assert_eq!(bank.approve(&bank.dan, &held).await.unwrap().state(), OperationState::Completed);
}

#[tokio::test]
async fn through_whose_hands_a_credential_went_is_known_when_it_is_unbound() {
    let bank = Bank::open().await;
    let database = bank.world.database().await;
    let mut principals = PrincipalServiceClient::new(bank.channel.clone());
    for (number, maker) in [&bank.ann_desk, &bank.bob].into_iter().enumerate() {
        let spiffe = Kind::SpiffeId(format!("spiffe://dalp.dev/tenants/acme/dan-{number}"));
        let credential = Some(Credential { kind: Some(spiffe), managed: false });
        let bind = BindCredentialRequest { principal_id: "dan".to_owned(), credential: credential.clone() };
        principals.bind_credential(with(maker, &format!("bind-{number}"), bind)).await.unwrap();
        let unbind = UnbindCredentialRequest { principal_id: "dan".to_owned(), credential };
        principals.unbind_credential(with(&bank.bob, &format!("unbind-{number}"), unbind)).await.unwrap();
    }
    let mut commit = database.acquire().await.unwrap();
    assert_eq!(hands_of(&mut commit, "acme", "dan").await.unwrap(), ["ann", "ann-desk", "bob"]);
    let credential = Some(Credential {
        kind: Some(Kind::SpiffeId("spiffe://dalp.dev/tenants/acme/clerk".to_owned())),
        managed: false,
    });
    let bind = BindCredentialRequest { principal_id: "clerk".to_owned(), credential };
    principals.bind_credential(with(&bank.bob, "bind-clerk", bind)).await.unwrap();
    // As the configuration does that names it for somebody else.
    sqlx::raw_sql(
        "BEGIN; SELECT set_config('dalp.configuration', 'on', true);
         UPDATE gateway.certificates SET principal_id = 'ann', managed = true, hands = '{}' WHERE principal_id = 'clerk'; COMMIT",
    )
    .execute(&database)
    .await
    .unwrap();
    assert_eq!(hands_of(&mut commit, "acme", "clerk").await.unwrap(), ["bob"]);
    for statement in ["DELETE FROM gateway.unbound_hands", "UPDATE gateway.unbound_hands SET hand = 'nobody'"] {
        assert!(sqlx::query(statement).execute(&database).await.is_err(), "they stay");
    }
}

#[tokio::test]
async fn through_whose_hands_a_key_went_is_written_once() {
    let bank = Bank::open().await;
    bank.key_for(&bank.ann_desk, "k1", "bob").await;
    let database = bank.world.database().await;
    let hands: Vec<String> =
        sqlx::query_scalar("SELECT hands FROM gateway.api_keys WHERE NOT managed").fetch_one(&database).await.unwrap();
    assert_eq!(hands, ["ann", "ann-desk"], "the machine and who answers for it");
    let washed = sqlx::query("UPDATE gateway.api_keys SET hands = '{}' WHERE NOT managed").execute(&database).await;
    assert!(washed.is_err(), "they stay");
}
