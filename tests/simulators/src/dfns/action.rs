//! User actions: whatever changes something is signed by a credential, over the very bytes, and its token is good for one call.

use std::collections::HashMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use uuid::Uuid;

use super::refused;
use crate::http::{Reply, Request};

/// The service account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its token.
    pub token: String,
    /// When that ends, in seconds since 1970, as it says itself.
    pub token_ends_s: i64,
    /// Id of its credential.
    pub credential_id: String,
    /// The credential's public key, an uncompressed point.
    pub public_key: Vec<u8>,
}

/// What was announced, and is allowed once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announced {
    method: String,
    path: String,
    payload: String,
}

/// Challenges and tokens under way.
#[derive(Debug, Default)]
pub struct Actions {
    challenges: HashMap<String, (String, Announced)>,
    tokens: HashMap<String, Announced>,
    used: std::collections::HashSet<String>,
}

/// What every request needs: a client that says who it is, and the account's token before its end.
pub fn authorised(request: &Request, account: &Account, now_s: i64) -> Result<(), Reply> {
    if request.header("user-agent").is_none_or(|agent| agent.trim().is_empty()) {
        return Err(refused(403, "User-Agent is missing"));
    }
    match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if token == account.token && now_s < account.token_ends_s => Ok(()),
        _ => Err(refused(401, "Not Authorized.")),
    }
}

// === impl Actions ===

impl Actions {
    /// `POST /auth/action/init`.
    pub fn init(&mut self, body: &Value, account: &Account) -> Reply {
        let text = |field: &str| body[field].as_str().map(str::to_owned);
        let (Some(method), Some(path), Some(payload)) =
            (text("userActionHttpMethod"), text("userActionHttpPath"), text("userActionPayload"))
        else {
            return refused(400, "userActionHttpMethod, userActionHttpPath and userActionPayload are required");
        };
        if body["userActionServerKind"] != "Api" || path.contains('?') || !path.starts_with('/') {
            return refused(400, "userActionServerKind must be Api, userActionHttpPath a path without query");
        }
        let (identifier, challenge) = (Uuid::new_v4().to_string(), format!("ch-{}", Uuid::new_v4()));
        self.challenges.insert(identifier.clone(), (challenge.clone(), Announced { method, path, payload }));
        Reply::ok(json!({
            "challenge": challenge,
            "challengeIdentifier": identifier,
            "allowCredentials": {"key": [{"type": "public-key", "id": account.credential_id}], "webauthn": []},
            "supportedCredentialKinds": [{"kind": "Key", "factor": "first", "requiresSecondFactor": false}],
            "userVerification": "required",
            "attestation": "direct",
            "externalAuthenticationUrl": "",
        }))
    }

    /// `POST /auth/action`.
    pub fn complete(&mut self, body: &Value, account: &Account) -> Reply {
        let Some((challenge, announced)) =
            body["challengeIdentifier"].as_str().and_then(|identifier| self.challenges.remove(identifier))
        else {
            return refused(401, "the challenge is not known, or was answered");
        };
        let factor = &body["firstFactor"];
        let assertion = &factor["credentialAssertion"];
        if factor["kind"] != "Key" || assertion["credId"] != account.credential_id.as_str() {
            return refused(401, "the credential is not allowed");
        }
        let bytes = |field: &str| assertion[field].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (Some(data), Some(signature)) = (bytes("clientData"), bytes("signature")) else {
            return refused(400, "clientData and signature must be base64url without padding");
        };
        let read: Value = serde_json::from_slice(&data).unwrap_or_default();
        if read["type"] != "key.get" || read["challenge"] != challenge.as_str() || read["crossOrigin"] == true {
            return refused(401, "the client data is not that of the challenge");
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &account.public_key);
        if key.verify(&data, &signature).is_err() {
            return refused(401, "the signature of the challenge is not valid");
        }
        let token = Uuid::new_v4().to_string();
        self.tokens.insert(token.clone(), announced);
        Reply::ok(json!({"userAction": token}))
    }

    /// Takes the token of a call that changes something.
    pub fn spend(&mut self, request: &Request) -> Result<(), Reply> {
        let missing = || refused(403, "user action signature is missing or invalid");
        let token = request.header("x-dfns-useraction").ok_or_else(missing)?;
        if self.used.contains(token) {
            return Err(refused(400, "user action has already been used"));
        }
        let announced = self.tokens.remove(token).ok_or_else(missing)?;
        self.used.insert(token.to_owned());
        let same = announced.method == request.method.as_str()
            && announced.path == request.path
            && announced.payload.as_bytes() == request.body.as_ref();
        if same { Ok(()) } else { Err(missing()) }
    }
}
