//! What every answer of the page has in common, and the files it is made of.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request};
use tonic::body::Body;

use crate::rest::problem::full;

/// Only to this host, only over TLS, for every path, not from other sites, and not for scripts.
const COOKIE: &str = "__Host-dalp-status";
const COOKIE_RULES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// Nothing but our own files, and nobody around us.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
const GUARDS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not "no-referrer": by that browsers keep the origin of our own forms to themselves as well.
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The files of the page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asset {
    Status,
    Script,
    Style,
}

// === impl Asset ===

impl Asset {
    pub(super) fn response(self) -> Response<Body> {
        match self {
            Self::Status => html(include_str!("page/status.html")),
            Self::Script => document("text/javascript; charset=utf-8", include_str!("page/page.js")),
            Self::Style => document("text/css; charset=utf-8", include_str!("page/style.css")),
        }
    }
}

/// An answer with what guards every one.
pub(super) fn guarded(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn document(media_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

pub(super) fn html(text: impl Into<Bytes>) -> Response<Body> {
    document("text/html; charset=utf-8", text)
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = match text {
        "" => Response::new(Body::empty()),
        text => document("text/plain; charset=utf-8", text),
    };
    *response.status_mut() = status;
    response
}

pub(super) fn only(methods: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "There is no such method here.");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

pub(super) fn see_other(path: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(path));
    response
}

/// What our cookie holds. With two of the name nobody can say which is ours.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE);
    match (ours.next(), ours.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// Signs a browser in. The token is hex, so that it always reads as a header.
pub(super) fn with_cookie(mut response: Response<Body>, token: &str) -> Response<Body> {
    if let Ok(mut value) = HeaderValue::from_str(&format!("{COOKIE}={token}; {COOKIE_RULES}")) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

pub(super) fn without_cookie(mut response: Response<Body>) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(&format!("{COOKIE}=; {COOKIE_RULES}; Max-Age=0")) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// Whether a form comes from a page of this host: browsers say so with every one, and no other page can say it.
pub(super) fn from_our_page(head: &request::Parts) -> bool {
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    let said = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
    matches!((host, said), (Some(host), Some(said)) if !host.is_empty() && host.eq_ignore_ascii_case(said))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn our_cookie_is_found_among_others_and_only_once() {
        let of = |lines: &[&str]| {
            let headers: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            cookie(&head("/", &headers).headers).map(str::to_owned)
        };
        assert_eq!(of(&["a=b; __Host-dalp-status=t1; c=d"]).as_deref(), Some("t1"));
        assert_eq!(of(&["a=b", "__Host-dalp-status=t1"]).as_deref(), Some("t1"));
        for none in
            [&["dalp-status=t1"][..], &["__Host-dalp-status=a; __Host-dalp-status=b"], &["__Host-dalp-statust1"], &[]]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_form_comes_from_this_host_or_is_not_ours() {
        let of = |uri, headers: &[(&str, &str)]| from_our_page(&head(uri, headers));
        assert!(of("/login", &[("host", "bank:7443"), ("origin", "https://bank:7443")]), "HTTP/1.1");
        assert!(of("https://bank:7443/login", &[("origin", "https://bank:7443")]), "HTTP/2");
        for headers in [
            &[("host", "bank:7443")][..],
            &[("host", "bank:7443"), ("origin", "null")],
            &[("host", "bank:7443"), ("origin", "http://bank:7443")],
            &[("host", "bank:7443"), ("origin", "https://bank")],
            &[("host", "bank:7443"), ("origin", "https://evil.example")],
            &[("host", "bank:7443"), ("origin", "https://bank:7443.evil.example")],
            &[("host", "bank:7443"), ("origin", "https://bank:7443"), ("origin", "https://evil.example")],
            &[("origin", "https://")],
        ] {
            assert!(!of("/login", headers), "{headers:?}");
        }
    }
}
