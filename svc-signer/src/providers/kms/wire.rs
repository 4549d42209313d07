//! What is asked of AWS KMS and what it answers, without I/O. Digests only: there is no message here that could carry anything else.

use alloy::primitives::B256;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k256::pkcs8::DecodePublicKey as _;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use crate::{
    core::signature::RawSignature,
    providers::{KeyName, ProviderError},
};

const SPEC: &str = "ECC_SECG_P256K1";
const USAGE: &str = "SIGN_VERIFY";
const ALGORITHM: &str = "ECDSA_SHA_256";

/// Looks a key up, by its ARN or an alias.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WhichKey<'a> {
    pub(super) key_id: &'a str,
}

/// Makes a key. It can be used once it has its alias.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateKey<'a> {
    key_spec: &'static str,
    key_usage: &'static str,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    tags: [Tag<'a>; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag<'a> {
    tag_key: &'static str,
    tag_value: &'a str,
}

/// Gives a key its alias.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateAlias<'a> {
    pub(super) alias_name: &'a str,
    pub(super) target_key_id: &'a str,
}

/// Asks whether anything is answered.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListAliases {
    pub(super) limit: u8,
}

/// Signs a digest as it is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sign<'a> {
    key_id: &'a str,
    message: String,
    message_type: &'static str,
    signing_algorithm: &'static str,
}

/// What was made.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) key_metadata: KeyMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyMetadata {
    pub(super) arn: String,
}

/// A public key with what it is for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PublicKeyOf {
    /// The ARN, whatever it was asked for by.
    pub(super) key_id: String,
    public_key: String,
    key_usage: Option<String>,
    key_spec: Option<String>,
    customer_master_key_spec: Option<String>,
}

/// A signature.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Signed {
    key_id: String,
    signature: String,
}

/// An answer without anything to read.
#[derive(Deserialize)]
pub(super) struct Nothing {}

// === impl CreateKey ===

impl<'a> CreateKey<'a> {
    pub(super) fn of(name: &'a KeyName, policy: Option<&'a str>) -> Self {
        Self {
            key_spec: SPEC,
            key_usage: USAGE,
            description: format!("wallet {} of {}", name.wallet, name.tenant),
            policy,
            tags: [
                Tag { tag_key: "dalp:tenant", tag_value: &name.tenant },
                Tag { tag_key: "dalp:wallet", tag_value: &name.wallet },
            ],
        }
    }
}

// === impl Sign ===

impl<'a> Sign<'a> {
    pub(super) fn of(key: &'a str, digest: B256) -> Self {
        Self { key_id: key, message: STANDARD.encode(digest), message_type: "DIGEST", signing_algorithm: ALGORITHM }
    }
}

// === impl PublicKeyOf ===

impl PublicKeyOf {
    /// Reads the key, if it is one that signs for chains.
    pub(super) fn read(&self) -> Result<PublicKey, ProviderError> {
        let spec = self.key_spec.as_deref().or(self.customer_master_key_spec.as_deref()).unwrap_or_default();
        let usage = self.key_usage.as_deref().unwrap_or_default();
        if (spec, usage) != (SPEC, USAGE) {
            return Err(ProviderError::Blocked(format!(
                "the alias stands for a key of another kind: {spec} for {usage}; it must be {SPEC} for {USAGE}"
            )));
        }
        let unreadable = || ProviderError::Failed("the public key is not one on secp256k1".to_owned());
        let der = STANDARD.decode(&self.public_key).map_err(|_| unreadable())?;
        let key = k256::PublicKey::from_public_key_der(&der).map_err(|_| unreadable())?;
        PublicKey::from_slice(&key.to_sec1_bytes()).map_err(|_| unreadable())
    }
}

// === impl Signed ===

impl Signed {
    /// Takes the signature out of its DER, if it is of the key that was asked.
    pub(super) fn read(&self, asked: &str) -> Result<RawSignature, ProviderError> {
        if self.key_id != asked {
            return Err(ProviderError::Failed("the signature is said to be of another key".to_owned()));
        }
        let unreadable = || ProviderError::Failed("the signature is not DER of one on secp256k1".to_owned());
        let der = STANDARD.decode(&self.signature).map_err(|_| unreadable())?;
        let compact = secp256k1::ecdsa::Signature::from_der(&der).map_err(|_| unreadable())?.serialize_compact();
        Ok(RawSignature { r: compact[..32].to_vec(), s: compact[32..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::signature::{address_of, context};

    /// The generator's point, as OpenSSL and AWS encode it.
    const SPKI: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEeb5mfvncu6xVoGKVzocLBwKb/NstzijZWfKBWxb4F5hIOtp3JqPEZV2k+/wOEQio/Re0SKaFVBmcR9CP+xDUuA==";

    fn public(change: impl FnOnce(&mut PublicKeyOf)) -> PublicKeyOf {
        let mut key = PublicKeyOf {
            key_id: "arn:aws:kms:eu-central-1:123456789012:key/a".to_owned(),
            public_key: SPKI.to_owned(),
            key_usage: Some(USAGE.to_owned()),
            key_spec: None,
            customer_master_key_spec: Some(SPEC.to_owned()),
        };
        change(&mut key);
        key
    }

    #[test]
    fn a_public_key_is_read_only_where_it_is_of_the_right_kind() {
        let key = public(|_| ()).read().unwrap();
        assert_eq!(address_of(&key).to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
        for (wrong, what) in [
            (public(|key| key.customer_master_key_spec = Some("ECC_NIST_P256".to_owned())), "another curve"),
            (public(|key| key.key_usage = Some("KEY_AGREEMENT".to_owned())), "another usage"),
        ] {
            assert!(matches!(wrong.read(), Err(ProviderError::Blocked(_))), "{what}");
        }
        for (wrong, what) in [
            (public(|key| key.public_key = SPKI.replace("EEAAoDQ", "EEAAkDQ")), "another curve's name"),
            (public(|key| key.public_key = SPKI[..80].to_owned()), "cut off"),
            (public(|key| key.public_key = "%".to_owned()), "not base64"),
        ] {
            assert!(matches!(wrong.read(), Err(ProviderError::Failed(_))), "{what}");
        }
    }

    #[test]
    fn a_digest_goes_out_as_such_and_the_signature_comes_back_from_its_der() {
        let digest = B256::repeat_byte(7);
        let asked = serde_json::to_value(Sign::of("arn", digest)).unwrap();
        assert_eq!(
            asked,
            serde_json::json!({ "KeyId": "arn", "Message": STANDARD.encode([7; 32]), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256" })
        );
        let secret = secp256k1::SecretKey::from_byte_array([3; 32]).unwrap();
        let made = context().sign_ecdsa(secp256k1::Message::from_digest(digest.0), &secret);
        let answer = |der: &[u8]| Signed { key_id: "arn".to_owned(), signature: STANDARD.encode(der) };
        let der = made.serialize_der();
        let raw = answer(&der).read("arn").unwrap();
        raw.normalise(digest, &secret.public_key(context())).unwrap();
        assert!(answer(&der).read("another").is_err());
        for wrong in [&der[..der.len() - 1], &[], b"text"] {
            assert!(answer(wrong).read("arn").is_err());
        }
    }
}
