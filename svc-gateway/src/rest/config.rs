//! What an operator writes down about HTTP.

use dalp_service::config::{Problems, Validate};
use http::{HeaderValue, Uri};
use serde::Deserialize;

/// `[http]`: HTTP/JSON and gRPC-Web, on the same port as gRPC.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Origins whose pages may call from a browser, for instance `https://console.bank.example`. None: no page may.
    pub cors_origins: Vec<String>,
}

impl HttpConfig {
    /// The origins as they stand in a request.
    pub(crate) fn origins(&self) -> Vec<HeaderValue> {
        self.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect()
    }
}

/// Scheme, host and perhaps a port, exactly as a browser sends it: no wildcard, no path.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    !authority.as_str().contains(['@', '*']) && text == format!("{scheme}://{authority}")
}

impl Validate for HttpConfig {
    fn validate(&self, problems: &mut Problems) {
        for (index, origin) in self.cors_origins.iter().enumerate() {
            if !is_origin(origin) {
                problems.push(
                    format!("cors_origins[{index}]"),
                    "an origin is scheme, host and perhaps a port, such as https://console.bank.example",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_exact() {
        for good in ["https://console.bank.example", "http://localhost:3000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["*", "https://*", "https://a/", "https://a/b", "a.example", "ftp://a", "https://u@a", "", "null"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
