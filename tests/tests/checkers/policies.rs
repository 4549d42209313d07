//! Policies are changed under policies, and protect what there is.

use dalp_devstack::client::{Client, keyed};
use dalp_proto::apikey::api_key_service_client::ApiKeyServiceClient;
use dalp_proto::apikey::{CreateApiKeyRequest, Scope};
use dalp_proto::checker::checker_service_client::CheckerServiceClient;
use dalp_proto::checker::{ListPoliciesRequest, Policy};
use dalp_proto::operation::OperationState;
use dalp_proto::principal::principal_service_client::PrincipalServiceClient;
use dalp_proto::principal::{CreatePrincipalRequest, PrincipalKind};
use dalp_tests::airdrops::key;
use tonic::Request;

use crate::support::{LARGE, World, is_held, refused};

/// A new person, and its client.
pub(crate) async fn principal(world: &World, id: &str) -> Client {
    let create = CreatePrincipalRequest {
        principal_id: id.to_owned(),
        kind: PrincipalKind::Person.into(),
        display_name: id.to_owned(),
        owner: String::new(),
    };
    let created = PrincipalServiceClient::new(world.ann.gateway()).create_principal(keyed(create, &key())).await;
    created.expect("created");
    let issue =
        CreateApiKeyRequest { principal_id: id.to_owned(), scope: Scope::ReadWrite.into(), ..Default::default() };
    let issued = ApiKeyServiceClient::new(world.ann.gateway()).create_api_key(keyed(issue, &key())).await;
    let secret = issued.expect("issued").into_inner().secret;
    Client::new(world.stack.channel().expect("a channel"), &secret).expect("a key")
}

async fn names(world: &World) -> Vec<String> {
    let answer =
        CheckerServiceClient::new(world.bob.gateway()).list_policies(Request::new(ListPoliciesRequest {})).await;
    answer.expect("a list").into_inner().policies.into_iter().map(|policy| policy.policy_id).collect()
}

pub(crate) async fn a_change_of_policies_waits_too(world: &World) {
    let guard = Policy { policy_id: "guard".into(), kinds: vec!["policy.change".into()], ..Policy::default() };
    let set = world.set(&world.ann, guard).await.expect("set");
    assert_eq!(set.state(), OperationState::Completed, "nothing held it yet: {set:?}");
    let removing = world.remove(&world.ann, "mints").await.expect("accepted");
    is_held(&removing);
    assert_eq!((removing.kind.as_str(), names(world).await.contains(&"mints".to_owned())), ("policy.change", true));
    is_held(&world.mint(&world.operator, LARGE).await.expect("accepted"));
    assert_eq!(refused(world.approve(&world.ann, &removing).await), "MAKER_IS_CHECKER");
    let removed = world.approve(&world.bob, &removing).await.expect("approved");
    assert_eq!(removed.state(), OperationState::Completed, "{removed:?}");
    assert!(!names(world).await.contains(&"mints".to_owned()));
    let free = world.mint(&world.operator, LARGE).await.expect("accepted");
    let free = world.operator.finished(Some(free)).await.expect("final");
    assert_eq!(free.state(), OperationState::Completed, "{free:?}");
    // The guard guards itself, and a refused change changes nothing.
    let opening = world.remove(&world.bob, "guard").await.expect("accepted");
    is_held(&opening);
    let ended = world.reject(&world.ann, &opening).await.expect("refused");
    assert_eq!(ended.state(), OperationState::Failed);
    assert!(names(world).await.contains(&"guard".to_owned()));
    let opening = world.remove(&world.bob, "guard").await.expect("accepted");
    assert_eq!(world.approve(&world.ann, &opening).await.expect("approved").state(), OperationState::Completed);
    assert!(!names(world).await.contains(&"guard".to_owned()));
}

pub(crate) async fn a_policy_that_protects_nothing_is_refused(world: &World) {
    let unknown = Policy { policy_id: "typo".into(), kinds: vec!["asset.mnt".into()], ..Policy::default() };
    assert_eq!(refused(world.set(&world.ann, unknown).await), "INVALID_FIELD");
    assert_eq!(refused(world.remove(&world.ann, "typo").await), "NOT_FOUND");
    assert!(!names(world).await.contains(&"typo".to_owned()), "a refusal leaves nothing");
}
