//! The token of a request, checked as the real service checks it: signature, path, body, times, and that it is used once.

use std::collections::HashSet;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::{Reply, Request};

/// SHA-256 of nothing, and of two quote characters: official clients send either where there is no body.
const EMPTY: [&str; 2] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "12ae32cb1ec02d01eda3581b127c1fee3b0dc53572ed6baf239721a03d82e126",
];
/// How much earlier than our clock a token may be issued in the future of it.
const AHEAD_S: i64 = 5;
/// Longest life of a token. The documentation says 30 seconds, every official client takes 55.
const LIFE_S: i64 = 60;

/// An API user: its key, and the public half of its RSA key.
#[derive(Debug, Clone)]
pub struct User {
    /// The API key.
    pub api_key: String,
    /// DER of the public key.
    pub public_key: Vec<u8>,
}

/// Tokens seen.
#[derive(Debug, Default)]
pub struct Seen(HashSet<String>);

fn refused(code: i64, message: &str) -> Reply {
    Reply::new(401, json!({"message": message, "code": code}))
}

/// Checks the token of a request; answers with what the service would say.
pub fn check(request: &Request, user: &User, seen: &mut Seen, now_s: i64) -> Result<(), Reply> {
    let api_key = request.header("x-api-key").unwrap_or_default();
    let token = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| refused(-3, "JWT is missing"))?;
    let format = || refused(-5, "Invalid token format");
    let (input, signature) = token.rsplit_once('.').ok_or_else(format)?;
    let (header, claims) = input.split_once('.').ok_or_else(format)?;
    let part = |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let (header, claims) = (part(header).ok_or_else(format)?, part(claims).ok_or_else(format)?);
    if header["alg"] != "RS256" {
        return Err(format());
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| format())?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &user.public_key)
        .verify(input.as_bytes(), &signature)
        .map_err(|_| refused(-1, "Invalid signature"))?;
    let sub = claims["sub"].as_str().ok_or_else(|| refused(-2, "No API key in JWT"))?;
    if sub != api_key || sub != user.api_key {
        return Err(refused(-6, "Wrong user"));
    }
    if claims["uri"] != request.target.as_str() {
        return Err(refused(-4, "Wrong URL in JWT"));
    }
    let body_hash = claims["bodyHash"].as_str().unwrap_or_default();
    let fits = match request.body.is_empty() {
        true => EMPTY.contains(&body_hash),
        false => body_hash == hex::encode(Sha256::digest(&request.body)),
    };
    if !fits {
        return Err(refused(-7, "Token was not accepted: bodyHash"));
    }
    let (Some(iat), Some(exp)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
        return Err(refused(-7, "Token was not accepted: times"));
    };
    if iat > now_s + AHEAD_S {
        return Err(refused(-12, "Token was issued in the future"));
    }
    if exp <= now_s {
        return Err(refused(-10, "Request expired"));
    }
    if exp <= iat || exp - iat > LIFE_S {
        return Err(refused(-7, "Token was not accepted: life"));
    }
    // Official clients send text or a number.
    let nonce = match &claims["nonce"] {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(refused(-7, "Token was not accepted: nonce")),
    };
    if !seen.0.insert(nonce) {
        return Err(refused(-7, "Token was not accepted: nonce was used"));
    }
    Ok(())
}
