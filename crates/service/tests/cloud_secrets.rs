//! A configuration whose secrets AWS Secrets Manager keeps.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on stops where it stands

use dalp_service::config::{self, DatabaseConfig, ExposeSecret as _, MapEnvironment, Problems, SecretRef, Validate};
use dalp_simulators::aws::Aws;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    database: DatabaseConfig,
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        // As the process itself would: here it has no region, and is told so without asking anybody.
        problems.section("database", |problems| self.database.validate(problems));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_cloud_is_one_of_the_configuration() {
    let aws = Aws::start().await.unwrap();
    aws.store_secret("dalp/svc-feeds/database", r#"{"url":"postgres://feeds\n"}"#).await.unwrap();
    aws.store_secret("dalp/svc-feeds/blank", " ").await.unwrap();
    let keys = aws.signer();
    let environment = MapEnvironment::new([
        ("AWS_REGION", aws.region()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &aws.endpoint()),
        ("AWS_ACCESS_KEY_ID", &keys.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key),
    ]);
    let resolve = |text: &str| text.parse::<SecretRef>().unwrap().resolve_in(&environment);
    let reference = "aws-secret:dalp/svc-feeds/database#url";
    assert_eq!(resolve(reference).unwrap().expose_secret(), "postgres://feeds", "without its line's end");
    assert_eq!(reference.parse::<SecretRef>().unwrap().to_string(), reference);
    assert!(resolve("aws-secret:dalp/svc-feeds/blank").unwrap_err().to_string().contains("blank"));
    let absent = resolve("aws-secret:dalp/svc-feeds/none").unwrap_err().to_string();
    assert!(absent.contains("aws-secret:dalp/svc-feeds/none") && absent.contains("ResourceNotFound"), "{absent}");
    for literal in ["aws-secret:", "aws-secret:hunter2 hunter2", "aws-secret:name?version=hunter2"] {
        let refused = literal.parse::<SecretRef>().unwrap_err().to_string();
        assert!(refused.contains("by reference") && !refused.contains("hunter2"), "{refused}");
    }
}

/// One that cannot be had is a problem of its key, like every other.
#[test]
fn a_secret_that_cannot_be_had_is_listed_with_its_key() {
    let variables = MapEnvironment::new([("DALP_TEST__DATABASE__URL", "aws-secret:arn:aws:secretsmanager:nowhere")]);
    let problems = config::load::<Config>(None, &variables, "DALP_TEST").unwrap_err().problems;
    assert!(
        problems.iter().any(|one| one.key == "database.url" && one.message.contains("by reference")),
        "{problems:?}"
    );
}
