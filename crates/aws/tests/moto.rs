//! At moto: who we are by each way that AWS tells it, calls as they go out without anything between, and secrets.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on stops where it stands

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dalp_aws::{AwsError, Class, Client, Credentials, KMS, SecretId, client::Settings};
use dalp_simulators::{
    aws::{Aws, GET_SECRET},
    fault::Fault,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

type Variables = BTreeMap<&'static str, String>;

fn credentials(variables: &Variables) -> Result<Arc<Credentials>, AwsError> {
    Credentials::of_environment(&|name| variables.get(name).cloned(), "eu-central-1").map(Arc::new)
}

fn kms(aws: &Aws, endpoint: &str, credentials: Arc<Credentials>) -> Client {
    let settings = Settings {
        region: aws.region().to_owned(),
        endpoint: Some(dalp_aws::endpoint(endpoint).unwrap()),
        call_timeout: Duration::from_secs(10),
        calls_at_once: 4,
    };
    Client::new(KMS, settings, credentials).unwrap()
}

async fn lists_aliases(aws: &Aws, variables: &Variables) -> Result<Value, AwsError> {
    kms(aws, aws.moto(), credentials(variables)?).call("ListAliases", &json!({ "Limit": 1 })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_place_tells_who_we_are_and_a_wrong_word_is_nobody() {
    let aws = Aws::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let keys = aws.signer();
    let given = Variables::from([
        ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
    ]);
    let cluster = |token: &str| {
        Variables::from([
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file(token, &format!("{token}\n"))),
            ("AWS_ROLE_ARN", aws.role().to_owned()),
            ("AWS_ENDPOINT_URL_STS", aws.moto().to_owned()),
        ])
    };
    let agent = aws.agent("token-of-the-agent");
    let container = |token: &str| {
        Variables::from([
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.clone()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file("agent-token", token)),
        ])
    };
    let machine = Variables::from([("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.moto().to_owned())]);
    for good in [&given, &cluster(aws.cluster_token()), &container("token-of-the-agent"), &machine] {
        let listed = lists_aliases(&aws, good).await.unwrap_or_else(|error| panic!("{good:?}: {error}"));
        assert!(listed["Aliases"].is_array(), "{listed}");
    }
    let wrong = Variables::from([("AWS_SECRET_ACCESS_KEY", "w".repeat(40))]);
    let wrong = given.clone().into_iter().chain(wrong).collect();
    let gone = Variables::from([
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/at/all".to_owned()),
        ("AWS_ROLE_ARN", aws.role().to_owned()),
        ("AWS_ENDPOINT_URL_STS", aws.moto().to_owned()),
    ]);
    for bad in [&wrong, &cluster("token-of-another"), &container("token-of-another"), &gone] {
        let refused = lists_aliases(&aws, bad).await.unwrap_err();
        assert_eq!(refused.class(), Class::Credentials, "{bad:?}: {refused}");
        assert!(!refused.to_string().contains("token-of-another"), "{refused}");
    }
    let away = Variables::from([("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9".to_owned())]);
    assert_eq!(lists_aliases(&aws, &away).await.unwrap_err().class(), Class::Unavailable);
}

/// Nothing between us and moto, which verifies each signature as AWS's own Python library makes it.
#[tokio::test(flavor = "multi_thread")]
async fn only_thirty_two_bytes_are_signed() {
    let aws = Aws::start().await.unwrap();
    let keys = aws.signer();
    let credentials = Arc::new(Credentials::of_keys(&keys.access_key_id, &keys.secret_access_key));
    let kms = kms(&aws, aws.moto(), credentials);
    let ask = json!({ "KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY", "Tags": [{ "TagKey": "a", "TagValue": "ü b" }] });
    let made: Value = kms.call("CreateKey", &ask).await.unwrap();
    let arn = made["KeyMetadata"]["Arn"].as_str().unwrap();
    let named = json!({ "AliasName": "alias/dalp/bank/desk", "TargetKeyId": arn });
    let nothing: Value = kms.call("CreateAlias", &named).await.unwrap();
    assert_eq!(nothing, json!({}), "it answers with nothing at all");
    let again = kms.call::<_, Value>("CreateAlias", &named).await.unwrap_err();
    assert_eq!(again.class(), Class::Exists, "{again}");
    for (bytes, signed) in [(31, false), (32, true), (33, false)] {
        use base64::Engine as _;
        let message = base64::engine::general_purpose::STANDARD.encode(vec![7; bytes]);
        let ask =
            json!({ "KeyId": arn, "Message": message, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256" });
        match kms.call::<_, Value>("Sign", &ask).await {
            Ok(answer) => assert!(signed && answer["KeyId"] == arn, "{answer}"),
            Err(refused) => assert!(!signed && refused.to_string().contains("invalid length"), "{refused}"),
        }
    }
    let absent = kms.call::<_, Value>("GetPublicKey", &json!({ "KeyId": "alias/dalp/bank/none" })).await.unwrap_err();
    assert_eq!(absent.class(), Class::NotFound, "{absent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_in_its_version_and_kept_for_a_moment() {
    let aws = Aws::start().await.unwrap();
    let keys = aws.signer();
    let variables = Variables::from([
        ("AWS_REGION", aws.region().to_owned()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.endpoint()),
        ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
    ]);
    let resolve = |reference: &str| {
        let secret = reference.parse::<SecretId>().unwrap();
        secret.resolve(&|name| variables.get(name).cloned()).map(|text| text.expose_secret().to_owned())
    };
    let name = "dalp/svc-signer/database";
    let first = aws.store_secret(name, r#"{"url":"postgres://one","port":5432}"#).await.unwrap();
    assert_eq!(resolve(&format!("{name}#url")).unwrap(), "postgres://one");
    assert_eq!(resolve(&format!("{name}#url")).unwrap(), "postgres://one");
    assert_eq!(aws.asked(GET_SECRET), 1, "a moment ago");
    assert_eq!(resolve(&format!("{name}#port")).unwrap(), "5432");

    // Rotated: a label moves, a version stays.
    aws.store_secret(name, r#"{"url":"postgres://two"}"#).await.unwrap();
    for (version, wanted) in [
        ("?version-stage=AWSCURRENT", "postgres://two"),
        ("?version-stage=AWSPREVIOUS", "postgres://one"),
        (format!("?version-id={first}").as_str(), "postgres://one"),
    ] {
        assert_eq!(resolve(&format!("{name}{version}#url")).unwrap(), wanted, "{version}");
    }
    aws.order(json!({ "do": "secret", "name": "dalp/svc-signer/binary", "text": "bytes", "binary": true }))
        .await
        .unwrap();
    assert_eq!(resolve("dalp/svc-signer/binary").unwrap(), "bytes");

    let throttled = Fault::Answer(400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }));
    aws.store_secret("dalp/svc-signer/busy", "text").await.unwrap();
    aws.faults().inject(GET_SECRET, throttled, 2);
    assert_eq!(resolve("dalp/svc-signer/busy").unwrap(), "text", "asked again");

    let absent = resolve("dalp/svc-signer/none").unwrap_err().to_string();
    assert!(absent.contains("ResourceNotFoundException"), "{absent}");
    aws.deny(&["secretsmanager:GetSecretValue"]).await.unwrap();
    let denied = resolve("dalp/svc-signer/busy#field").unwrap_err().to_string();
    assert!(denied.contains("not authorized to perform: secretsmanager:GetSecretValue"), "{denied}");
}

/// A check of the configuration has no runtime around it, a login has one with a single thread, or many.
#[test]
fn a_secret_is_read_whatever_the_thread_has_to_do() {
    let outer = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let aws = outer.block_on(Aws::start()).unwrap();
    outer.block_on(aws.store_secret("dalp/svc-signer/pin", "4711")).unwrap();
    let keys = aws.signer().clone();
    let (region, endpoint) = (aws.region().to_owned(), aws.endpoint());
    let resolve = move |reference: &str| {
        let lookup = |name: &str| match name {
            "AWS_DEFAULT_REGION" => Some(region.clone()),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER" => Some(endpoint.clone()),
            "AWS_ACCESS_KEY_ID" => Some(keys.access_key_id.clone()),
            "AWS_SECRET_ACCESS_KEY" => Some(keys.secret_access_key.clone()),
            _ => None,
        };
        reference.parse::<SecretId>().unwrap().resolve(&lookup).unwrap().expose_secret().to_owned()
    };
    assert_eq!(resolve("dalp/svc-signer/pin"), "4711");
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(single.block_on(async { resolve("dalp/svc-signer/pin?version-stage=AWSCURRENT") }), "4711");
    // The one thread of this runtime also serves the door that is asked.
    let arn = format!("arn:aws:secretsmanager:{}:{}:secret:dalp/svc-signer/pin", aws.region(), aws.account());
    let asked = outer.spawn(async move { resolve(&arn) });
    assert_eq!(outer.block_on(asked).unwrap(), "4711");
}
