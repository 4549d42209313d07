//! AWS by the few calls that are made of it.
//!
//! Requests are signed by AWS's own crate. The rest of its SDK is left out: five calls of JSON over one `POST` would bring some hundred thousand generated
//! lines into the process that holds the keys. What stands here instead is who we are there ([`credentials`]), one signed call with a deadline and a queue of
//! its own ([`client`]), and secrets by reference ([`secrets`]).
#![forbid(unsafe_code)]

pub mod client;
pub mod credentials;
pub mod error;
pub mod secrets;

use std::time::Duration;

use reqwest::Url;

pub use client::{Client, KMS, SECRETS_MANAGER, Service};
pub use credentials::Credentials;
pub use error::{AwsError, Class};
pub use secrets::SecretId;

/// A variable of the environment by its name. What says where and who we are is read through it, so that tests can say something else.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A region's name, as it may stand in a host name.
#[must_use]
pub fn is_region(name: &str) -> bool {
    (4..=32).contains(&name.len())
        && name.contains('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Reads the address of a service that is configured: https, or on this machine; a host without a path.
///
/// # Errors
/// What is wrong with it.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() != "https" && !is_loopback(&url) {
        return Err("must be https; plain http is accepted of this machine only".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("must be a host without a path".to_owned());
    }
    Ok(url)
}

/// Where AWS has a service in a region.
fn public_endpoint(service: &str, region: &str) -> Result<Url, AwsError> {
    if !is_region(region) {
        return Err(AwsError::Unconfigured(format!("{region} is no region of AWS")));
    }
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    Url::parse(&format!("https://{service}.{region}.{domain}/"))
        .map_err(|error| AwsError::Unconfigured(format!("{region} is no region of AWS: {error}")))
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| matches!(host, "127.0.0.1" | "localhost" | "[::1]"))
}

/// How calls are made. Nothing follows a redirection: what is signed is for one host.
fn http(timeout: Duration) -> Result<reqwest::ClientBuilder, AwsError> {
    Ok(reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("dalp/", env!("CARGO_PKG_VERSION"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_https_or_here() {
        for good in [
            "https://kms.eu-central-1.amazonaws.com",
            "http://127.0.0.1:5000",
            "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com/",
        ] {
            endpoint(good).unwrap();
        }
        for bad in [
            "http://kms.eu-central-1.amazonaws.com",
            "https://host/path",
            "https://host/?a",
            "https://me@host",
            "host",
            "ftp://host",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_region_says_where_a_service_is() {
        assert_eq!(public_endpoint("kms", "eu-central-1").unwrap().as_str(), "https://kms.eu-central-1.amazonaws.com/");
        assert_eq!(public_endpoint("kms", "cn-north-1").unwrap().as_str(), "https://kms.cn-north-1.amazonaws.com.cn/");
        for bad in ["", "eu", "eu-central-1.evil.example/", "EU-CENTRAL-1", "eu central-1"] {
            assert!(public_endpoint("kms", bad).is_err(), "{bad}");
        }
    }
}
