//! Who we are at AWS: what the environment gives, a role by a token of the cluster, the container's or the machine's own role.
//!
//! The first of these that is there is the one that counts, in AWS's own order. One that then fails is an error and never another identity: a signer that
//! silently went on as its machine would be somebody whom nobody gave the keys to.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials as Keys;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::Mutex;

use crate::{AwsError, Lookup, client::unreachable, endpoint, http, is_loopback, public_endpoint};

/// Longest wait for one answer of who tells us.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions that one fetch takes at most: a token, a role, its keys.
const QUESTIONS_MAX: u32 = 3;
/// So long before their end credentials are asked for anew.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
const CONTAINER_HOST: &str = "http://169.254.170.2";
const INSTANCE_HOST: &str = "http://169.254.169.254";
const PROVIDER: &str = "dalp";

/// One identity, whose keys are kept until shortly before they end.
pub struct Credentials {
    origin: Origin,
    http: reqwest::Client,
    known: Mutex<Option<Arc<Keys>>>,
}

/// Who tells.
enum Origin {
    /// They were given and do not end.
    Given(Arc<Keys>),
    /// The token service, for a token in a file that the cluster keeps fresh.
    WebIdentity { sts: Url, role: String, session: String, token_file: PathBuf },
    /// An agent beside the container.
    Container { url: Url, authorization: Authorization },
    /// The machine's metadata service, in its second version.
    Instance { base: Url },
}

enum Authorization {
    None,
    Token(String),
    File(PathBuf),
}

/// As agents and machines tell it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("origin", &self.origin.name()).finish_non_exhaustive()
    }
}

// === impl Origin ===

impl Origin {
    const fn name(&self) -> &'static str {
        match self {
            Self::Given(_) => "given",
            Self::WebIdentity { .. } => "web identity",
            Self::Container { .. } => "container",
            Self::Instance { .. } => "instance",
        }
    }

    fn of_environment(lookup: Lookup<'_>, region: &str) -> Result<Self, AwsError> {
        let set = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let lacks = |name: &str| AwsError::Unconfigured(format!("the environment variable {name} is not set"));
        if let Some(id) = set("AWS_ACCESS_KEY_ID") {
            let secret = set("AWS_SECRET_ACCESS_KEY").ok_or_else(|| lacks("AWS_SECRET_ACCESS_KEY"))?;
            let keys = Keys::new(id, secret, set("AWS_SESSION_TOKEN"), None, PROVIDER);
            return Ok(Self::Given(Arc::new(keys)));
        }
        if let Some(token_file) = set("AWS_WEB_IDENTITY_TOKEN_FILE") {
            let role = set("AWS_ROLE_ARN").ok_or_else(|| lacks("AWS_ROLE_ARN"))?;
            let sts = match set("AWS_ENDPOINT_URL_STS") {
                Some(text) => endpoint(&text)
                    .map_err(|problem| AwsError::Unconfigured(format!("AWS_ENDPOINT_URL_STS: {problem}")))?,
                None => public_endpoint("sts", region)?,
            };
            let session = set("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| format!("dalp-{}", std::process::id()));
            return Ok(Self::WebIdentity { sts, role, session, token_file: token_file.into() });
        }
        let container = match (set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), set("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
        {
            (Some(path), _) if path.starts_with('/') => Some(format!("{CONTAINER_HOST}{path}")),
            (Some(_), _) => {
                return Err(AwsError::Unconfigured(
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with /".to_owned(),
                ));
            }
            (None, full) => full,
        };
        if let Some(text) = container {
            let url = Url::parse(&text).ok().filter(is_agent).ok_or_else(|| {
                AwsError::Unconfigured(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an agent of the platform on a link-local address".to_owned(),
                )
            })?;
            let file = set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| Authorization::File(path.into()));
            let token = || set("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Authorization::Token);
            let authorization = file.or_else(token).unwrap_or(Authorization::None);
            return Ok(Self::Container { url, authorization });
        }
        if set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            let nobody =
                "neither keys, nor a web identity, nor a container's role, and AWS_EC2_METADATA_DISABLED is true";
            return Err(AwsError::NoCredentials(nobody.to_owned()));
        }
        let base = set("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE_HOST.to_owned());
        let base = Url::parse(&base)
            .ok()
            .filter(|url| url.has_host())
            .ok_or_else(|| AwsError::Unconfigured("AWS_EC2_METADATA_SERVICE_ENDPOINT is no address".to_owned()))?;
        Ok(Self::Instance { base })
    }
}

// === impl Credentials ===

impl Credentials {
    /// Keys that do not end.
    #[must_use]
    pub fn given(keys: Keys) -> Self {
        Self { origin: Origin::Given(Arc::new(keys)), http: reqwest::Client::new(), known: Mutex::default() }
    }

    /// An access key and its secret.
    #[must_use]
    pub fn of_keys(access_key_id: &str, secret_access_key: &str) -> Self {
        Self::given(Keys::new(access_key_id, secret_access_key, None, None, PROVIDER))
    }

    /// What the place where we run gives us. Nothing is asked yet.
    ///
    /// # Errors
    /// When what is set does not go together.
    pub fn of_environment(lookup: Lookup<'_>, region: &str) -> Result<Self, AwsError> {
        let origin = Origin::of_environment(lookup, region)?;
        let mut client = http(FETCH_TIMEOUT)?;
        if matches!(origin, Origin::Container { .. } | Origin::Instance { .. }) {
            // They are on this machine; a proxy would be asked for its own role.
            client = client.no_proxy();
        }
        let http = client.build().map_err(|error| AwsError::Unconfigured(format!("no HTTPS client: {error}")))?;
        Ok(Self { origin, http, known: Mutex::default() })
    }

    /// The longest that fresh keys take.
    #[must_use]
    pub fn longest_fetch(&self) -> Duration {
        match self.origin {
            Origin::Given(_) => Duration::ZERO,
            _ => FETCH_TIMEOUT * QUESTIONS_MAX,
        }
    }

    /// The keys that hold now. One asks for fresh ones while the others wait for it.
    ///
    /// # Errors
    /// When nobody tells them.
    pub async fn get(&self) -> Result<Arc<Keys>, AwsError> {
        if let Origin::Given(keys) = &self.origin {
            return Ok(Arc::clone(keys));
        }
        let mut known = self.known.lock().await;
        if let Some(keys) = known.as_ref().filter(|keys| lasts(keys, RENEW_BEFORE)) {
            return Ok(Arc::clone(keys));
        }
        match self.fetch().await {
            Ok(keys) => Ok(Arc::clone(known.insert(Arc::new(keys)))),
            // What holds a little longer is better than nothing.
            Err(error) => match known.as_ref().filter(|keys| lasts(keys, Duration::from_secs(5))) {
                Some(keys) => {
                    tracing::warn!(origin = self.origin.name(), %error, "credentials not renewed");
                    Ok(Arc::clone(keys))
                }
                None => Err(error),
            },
        }
    }

    /// Keys that were refused are not used again, unless they are all that there is.
    pub(crate) async fn forget(&self, refused: &Arc<Keys>) {
        let mut known = self.known.lock().await;
        if known.as_ref().is_some_and(|keys| Arc::ptr_eq(keys, refused)) {
            *known = None;
        }
    }

    async fn fetch(&self) -> Result<Keys, AwsError> {
        match &self.origin {
            Origin::Given(keys) => Ok(keys.as_ref().clone()),
            Origin::WebIdentity { sts, role, session, token_file } => {
                let token = read(token_file)?;
                let field = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
                let form = format!(
                    "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}&WebIdentityToken={}",
                    field(role),
                    field(session),
                    field(&token),
                );
                let request = self.http.post(sts.clone()).header("content-type", "application/x-www-form-urlencoded");
                let (status, answer) = send(request.body(form)).await?;
                of_sts(status, &answer)
            }
            Origin::Container { url, authorization } => {
                let mut request = self.http.get(url.clone());
                match authorization {
                    Authorization::None => {}
                    Authorization::Token(token) => request = request.header("authorization", token),
                    Authorization::File(path) => request = request.header("authorization", read(path)?),
                }
                told(send(request).await?)
            }
            Origin::Instance { base } => {
                let at = |path: &str| format!("{}{path}", base.as_str().trim_end_matches('/'));
                let token =
                    self.http.put(at("/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
                let token = text(send(token).await?)?;
                let ask = |path: &str| self.http.get(at(path)).header("x-aws-ec2-metadata-token", &token);
                let roles = text(send(ask("/latest/meta-data/iam/security-credentials/")).await?)?;
                let role = roles.lines().next().unwrap_or_default().trim().to_owned();
                if role.is_empty() {
                    return Err(AwsError::NoCredentials("this machine has no role".to_owned()));
                }
                told(send(ask(&format!("/latest/meta-data/iam/security-credentials/{role}"))).await?)
            }
        }
    }
}

fn lasts(keys: &Keys, at_least: Duration) -> bool {
    keys.expiry().is_none_or(|end| end > SystemTime::now() + at_least)
}

/// Whom a container's token may be shown: over TLS anybody that is configured, else this machine and the agents of ECS and EKS.
fn is_agent(url: &Url) -> bool {
    let near = || matches!(url.host_str(), Some("169.254.170.2" | "169.254.170.23" | "[fd00:ec2::23]"));
    url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && (is_loopback(url) || near()))
}

fn read(path: &PathBuf) -> Result<String, AwsError> {
    let content = std::fs::read_to_string(path)
        .map_err(|error| AwsError::NoCredentials(format!("cannot read {}: {error}", path.display())))?;
    Ok(content.trim().to_owned())
}

async fn send(request: reqwest::RequestBuilder) -> Result<(u16, String), AwsError> {
    let away = |error: reqwest::Error| AwsError::CredentialsUnreachable(unreachable(&error).to_string());
    let response = request.send().await.map_err(away)?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.map_err(away)?))
}

fn text((status, answer): (u16, String)) -> Result<String, AwsError> {
    match status {
        200 => Ok(answer),
        500.. | 429 => Err(AwsError::CredentialsUnreachable(format!("the metadata service answers {status}"))),
        _ => Err(AwsError::NoCredentials(format!("the metadata service answers {status}"))),
    }
}

fn told(answer: (u16, String)) -> Result<Keys, AwsError> {
    // Not the parser's words: they may quote what it read.
    let told: Told = serde_json::from_str(&text(answer)?)
        .map_err(|_| AwsError::NoCredentials("the metadata service tells no keys".to_owned()))?;
    let end = told.expiration.as_deref().map(end).transpose()?;
    Ok(Keys::new(told.access_key_id, told.secret_access_key, told.token, end, PROVIDER))
}

/// The token service answers in XML, whose elements hold plain text.
fn of_sts(status: u16, answer: &str) -> Result<Keys, AwsError> {
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim().to_owned())
    };
    if status != 200 {
        let kind = element("Code").unwrap_or_else(|| format!("status {status}"));
        let message = element("Message").unwrap_or_default();
        // A token that is refused is quoted by none of its refusals.
        return Err(AwsError::Refused { status, kind, message });
    }
    let lacks = || AwsError::NoCredentials("the token service tells no keys".to_owned());
    let end = end(&element("Expiration").ok_or_else(lacks)?)?;
    let (id, secret) = (element("AccessKeyId").ok_or_else(lacks)?, element("SecretAccessKey").ok_or_else(lacks)?);
    Ok(Keys::new(id, secret, Some(element("SessionToken").ok_or_else(lacks)?), Some(end), PROVIDER))
}

fn end(text: &str) -> Result<SystemTime, AwsError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(SystemTime::from)
        .map_err(|_| AwsError::NoCredentials("the keys' end is no time".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn origin(variables: &[(&str, &str)]) -> Result<Origin, AwsError> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Origin::of_environment(&|name| variables.get(name).map(|value| (*value).to_owned()), "eu-central-1")
    }

    #[test]
    fn what_is_set_says_who_tells() {
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
        let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x");
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(origin(&[]).unwrap().name(), "instance");
        assert_eq!(origin(&[container]).unwrap().name(), "container");
        assert_eq!(origin(&[web[0], web[1], container]).unwrap().name(), "web identity");
        assert_eq!(origin(&[keys[0], keys[1], web[0], web[1]]).unwrap().name(), "given");
    }

    #[test]
    fn what_does_not_go_together_is_refused_and_is_nobody_else() {
        for variables in [
            vec![("AWS_ACCESS_KEY_ID", "a")],
            vec![("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")],
            vec![("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "x")],
            vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/")],
            vec![("AWS_EC2_METADATA_DISABLED", "true")],
        ] {
            assert!(origin(&variables).is_err(), "{variables:?}");
        }
        for agent in ["http://169.254.170.23/v1/credentials", "https://agent.example/", "http://127.0.0.1:9/"] {
            assert_eq!(origin(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)]).unwrap().name(), "container");
        }
    }

    #[test]
    fn answers_are_read_and_refusals_named() {
        let told = told((
            200,
            r#"{"Code":"Success","AccessKeyId":"a","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-23T10:00:00Z"}"#.to_owned(),
        ));
        let keys = told.unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key(), keys.session_token()), ("a", "s", Some("t")));
        assert!(!lasts(&Keys::new("a", "s", None, Some(SystemTime::UNIX_EPOCH), "test"), Duration::ZERO));
        let xml = "<R><Credentials><AccessKeyId>a</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                   <SessionToken>t</SessionToken><Expiration>2026-11-23T10:00:00Z</Expiration></Credentials></R>";
        assert_eq!(of_sts(200, xml).unwrap().session_token(), Some("t"));
        let refused = of_sts(400, "<E><Code>InvalidIdentityToken</Code><Message>No</Message></E>").unwrap_err();
        assert_eq!(refused.class(), crate::Class::Credentials);
        assert!(super::told((200, "secret".to_owned())).unwrap_err().to_string().contains("tells no keys"));
        assert_eq!(super::told((503, String::new())).unwrap_err().class(), crate::Class::Unavailable);
    }
}
