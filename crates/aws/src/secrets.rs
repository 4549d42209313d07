//! Secrets of AWS Secrets Manager by reference: `aws-secret:<name or ARN>[?version-stage=...|?version-id=...][#field]`.
//!
//! References are read where no asynchronous work can be done (in a check of the configuration, before a login), so one thread of its own asks, and the caller
//! waits for it with a deadline. What was read is kept for [`KEPT_FOR`], so that a rotation is seen soon and a partition that is logged into again and again
//! costs no call each time.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    str::FromStr,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use zeroize::Zeroizing;

use crate::{AwsError, Class, Client, Credentials, Lookup, SECRETS_MANAGER, client::Settings, endpoint};

/// How long a secret that was read is used without asking again.
pub const KEPT_FOR: Duration = Duration::from_secs(30);
/// Longest call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one secret, and the pause after the first, which doubles.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// What decides whom we ask, and as whom.
const CONSULTED: [&str; 13] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_DISABLED",
];

/// Which secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretId {
    /// Its name or ARN.
    id: String,
    version: Version,
    /// The key whose value is meant, where the secret is a JSON object.
    field: Option<String>,
}

/// Which version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Version {
    /// The one that a label points at; `AWSCURRENT` unless another is given.
    Stage(Option<String>),
    /// This one, for ever.
    Id(String),
}

/// Why a secret could not be had. Names its place, never what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFault {
    /// AWS did not give it.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// It is no JSON object, or has no such key with a text or number.
    #[error("it is no JSON object with the key {0}")]
    NoField(String),
    /// It is neither text nor UTF-8.
    #[error("it is not text")]
    NotText,
}

/// What is not the name of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not <name or ARN>[?version-stage=STAGE or ?version-id=ID][#field]")]
pub struct NotASecretId;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue<'a> {
    secret_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretValue {
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

/// Clients and what was read, by a fingerprint of whom and as whom.
#[derive(Default)]
struct Known {
    clients: HashMap<(u64, String), Arc<Client>>,
    secrets: HashMap<(u64, SecretId), (Instant, SecretString)>,
}

// === impl SecretId ===

impl SecretId {
    /// Reads it, from memory if that was a moment ago. Blocks the thread, with a deadline.
    ///
    /// # Errors
    /// When AWS does not give it, or it is not what the reference says.
    pub fn resolve(&self, lookup: Lookup<'_>) -> Result<SecretString, SecretFault> {
        let who = fingerprint(lookup);
        let place = (who, self.clone());
        if let Some((read, secret)) = known().secrets.get(&place)
            && read.elapsed() < KEPT_FOR
        {
            return Ok(secret.clone());
        }
        let client = self.client(who, lookup)?;
        let secret = wait(self.clone(), client)?;
        let mut known = known();
        known.secrets.retain(|_, (read, _)| read.elapsed() < KEPT_FOR);
        known.secrets.insert(place, (Instant::now(), secret.clone()));
        Ok(secret)
    }

    /// The region in an ARN, as in `arn:aws:secretsmanager:eu-central-1:123456789012:secret:name-AbCdEf`.
    fn region(&self) -> Option<&str> {
        let mut parts = self.id.split(':');
        (parts.next() == Some("arn")).then(|| parts.nth(2)).flatten()
    }

    fn client(&self, who: u64, lookup: Lookup<'_>) -> Result<Arc<Client>, AwsError> {
        let region = self.region().map(str::to_owned).or_else(|| lookup("AWS_REGION"));
        let region = region.or_else(|| lookup("AWS_DEFAULT_REGION")).ok_or_else(|| {
            AwsError::Unconfigured("no region: set AWS_REGION, or name the secret by its ARN".to_owned())
        })?;
        let place = (who, region.clone());
        if let Some(client) = known().clients.get(&place) {
            return Ok(Arc::clone(client));
        }
        let endpoint = lookup("AWS_ENDPOINT_URL_SECRETS_MANAGER").map(|text| endpoint(&text)).transpose();
        let endpoint = endpoint
            .map_err(|problem| AwsError::Unconfigured(format!("AWS_ENDPOINT_URL_SECRETS_MANAGER: {problem}")))?;
        let credentials = Arc::new(Credentials::of_environment(lookup, &region)?);
        let settings = Settings { region, endpoint, call_timeout: CALL_TIMEOUT, calls_at_once: 4 };
        let client = Arc::new(Client::new(SECRETS_MANAGER, settings, credentials)?);
        known().clients.insert(place, Arc::clone(&client));
        Ok(client)
    }

    async fn fetch(&self, client: &Client) -> Result<SecretString, SecretFault> {
        let (version_stage, version_id) = match &self.version {
            Version::Stage(stage) => (stage.as_deref(), None),
            Version::Id(id) => (None, Some(id.as_str())),
        };
        let ask = GetSecretValue { secret_id: &self.id, version_stage, version_id };
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match client.call("GetSecretValue", &ask).await {
                Err(error) if matches!(error.class(), Class::Throttled | Class::Unavailable) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answer => return self.read(answer?),
            }
        }
        self.read(client.call("GetSecretValue", &ask).await?)
    }

    fn read(&self, value: SecretValue) -> Result<SecretString, SecretFault> {
        let text = match (value.secret_string, value.secret_binary) {
            (Some(text), _) => SecretString::from(text),
            (None, Some(binary)) => {
                let bytes = Zeroizing::new(STANDARD.decode(&binary).map_err(|_| SecretFault::NotText)?);
                let text = std::str::from_utf8(&bytes).map_err(|_| SecretFault::NotText)?;
                SecretString::from(text.to_owned())
            }
            (None, None) => return Err(SecretFault::NotText),
        };
        let Some(field) = &self.field else { return Ok(text) };
        let lacks = || SecretFault::NoField(field.clone());
        let object: HashMap<String, serde_json::Value> =
            serde_json::from_str(text.expose_secret()).map_err(|_| lacks())?;
        match object.get(field) {
            Some(serde_json::Value::String(text)) => Ok(SecretString::from(text.clone())),
            Some(serde_json::Value::Number(number)) => Ok(SecretString::from(number.to_string())),
            _ => Err(lacks()),
        }
    }
}

impl FromStr for SecretId {
    type Err = NotASecretId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, field) = match text.split_once('#') {
            Some((_, "")) => return Err(NotASecretId),
            Some((text, field)) => (text, Some(field)),
            None => (text, None),
        };
        let (id, version) = match text.split_once('?') {
            Some((id, version)) => match version.split_once('=') {
                Some(("version-stage", stage)) if is_name(stage) => (id, Version::Stage(Some(stage.to_owned()))),
                Some(("version-id", version)) if is_name(version) => (id, Version::Id(version.to_owned())),
                _ => return Err(NotASecretId),
            },
            None => (text, Version::Stage(None)),
        };
        let named = match id.starts_with("arn:") {
            true => id.split(':').count() == 7 && id.split(':').all(|part| !part.is_empty() && is_name(part)),
            false => is_name(id),
        };
        if !named || id.len() > 2048 {
            return Err(NotASecretId);
        }
        Ok(Self { id: id.to_owned(), version, field: field.map(str::to_owned) })
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.id)?;
        match &self.version {
            Version::Stage(None) => {}
            Version::Stage(Some(stage)) => write!(formatter, "?version-stage={stage}")?,
            Version::Id(id) => write!(formatter, "?version-id={id}")?,
        }
        match &self.field {
            Some(field) => write!(formatter, "#{field}"),
            None => Ok(()),
        }
    }
}

/// As AWS has them.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte))
}

fn fingerprint(lookup: Lookup<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in CONSULTED {
        lookup(name).hash(&mut hasher);
    }
    hasher.finish()
}

fn known() -> std::sync::MutexGuard<'static, Known> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that asks. It lives as long as the process, so that connections do.
fn asking() -> Result<&'static Runtime, AwsError> {
    static ASKING: OnceLock<Option<Runtime>> = OnceLock::new();
    let start = || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name("aws-secrets").enable_all().build().ok()
    };
    let none = || AwsError::Unconfigured("no thread can be started".to_owned());
    ASKING.get_or_init(start).as_ref().ok_or_else(none)
}

/// Waits for the thread that asks; where the caller's thread has other work to do, that goes on elsewhere.
fn wait(secret: SecretId, client: Arc<Client>) -> Result<SecretString, SecretFault> {
    let longest = (client.longest_call() + FIRST_PAUSE * 4) * TRIES;
    let (answer, answered) = mpsc::sync_channel(1);
    asking()?.spawn(async move {
        // Nobody listens any more once the deadline has passed.
        let _ = answer.send(secret.fetch(&client).await);
    });
    let wait =
        || answered.recv_timeout(longest).unwrap_or(Err(AwsError::Unreachable("it did not answer in time").into()));
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_and_written_back() {
        for text in [
            "prod/dalp/kek",
            "prod/dalp/kek#key",
            "prod/dalp/kek?version-stage=AWSPREVIOUS",
            "prod/dalp/kek?version-id=a1b2c3d4-0000-0000-0000-000000000000#db.password",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/kek-AbCdEf#key",
        ] {
            assert_eq!(text.parse::<SecretId>().unwrap().to_string(), text);
        }
        for text in ["", "#key", "a#", "a?b", "a?version-id=", "a b", "arn:aws:x", "hunter2!", "a?version-stage=x y"] {
            assert!(text.parse::<SecretId>().is_err(), "{text}");
        }
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/kek-AbCdEf";
        assert_eq!(arn.parse::<SecretId>().unwrap().region(), Some("eu-central-1"));
        assert_eq!("prod/kek".parse::<SecretId>().unwrap().region(), None);
    }

    #[test]
    fn a_field_of_a_json_object_is_taken_out() {
        let value = |text: &str| SecretValue { secret_string: Some(text.to_owned()), secret_binary: None };
        let read = |reference: &str, value| reference.parse::<SecretId>().unwrap().read(value);
        let text = r#"{"key":"abc","port":5432,"nested":{}}"#;
        assert_eq!(read("a#key", value(text)).unwrap().expose_secret(), "abc");
        assert_eq!(read("a#port", value(text)).unwrap().expose_secret(), "5432");
        assert_eq!(read("a", value(text)).unwrap().expose_secret(), text);
        for (reference, text) in [("a#none", text), ("a#nested", text), ("a#key", "planted"), ("a#key", "[1]")] {
            let fault = read(reference, value(text)).unwrap_err().to_string();
            assert!(fault.contains("no JSON object") && !fault.contains("planted"), "{fault}");
        }
        let binary = SecretValue { secret_string: None, secret_binary: Some(STANDARD.encode("bytes")) };
        assert_eq!(read("a", binary).unwrap().expose_secret(), "bytes");
        let neither = SecretValue { secret_string: None, secret_binary: Some(STANDARD.encode([0xff, 0xfe])) };
        assert_eq!(read("a", neither).unwrap_err(), SecretFault::NotText);
    }

    #[test]
    fn without_a_region_nobody_is_asked() {
        let fault = "prod/kek".parse::<SecretId>().unwrap().resolve(&|_| None).unwrap_err();
        assert!(fault.to_string().contains("AWS_REGION"), "{fault}");
    }
}
