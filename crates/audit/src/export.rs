//! The export of a log, line by line: what `AuditService.ExportLeaves` streams, as the command line and the HTTP interface write it down.
//!
//! Names may be as in the contract or in camel case, numbers may be texts, and a line may be wrapped as `{"result": ...}`: all three
//! are ways in which the same message is written as JSON.

use serde::{Deserialize, Deserializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    leaf::{Decision, Leaf},
    root::Root,
    tree::Hash,
};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The first one.
    Header(Header),
    /// A leaf.
    Leaf(ExportedLeaf),
    /// A signed root.
    Root(SignedRoot),
    /// The last one.
    End(End),
}

/// Where an export begins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Whose log.
    pub tenant: String,
    /// Position of the first leaf that follows.
    #[serde(default, alias = "firstPosition", deserialize_with = "number")]
    pub first_position: u64,
    /// Hashes of the complete subtrees over the leaves before it, from the largest to the smallest.
    #[serde(default, deserialize_with = "hashes")]
    pub edge: Vec<Hash>,
}

/// A leaf of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedLeaf {
    /// Its place in the log, from 0.
    pub position: u64,
    /// Its hash, as the tree has it.
    pub hash: Hash,
    /// What it says; `None`: the row is gone.
    pub leaf: Option<Leaf>,
}

/// A root with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoot {
    /// What is signed.
    pub root: Root,
    /// The signature, r || s || v.
    pub signature: Vec<u8>,
}

/// How an export ends; without it, it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct End {
    /// How many leaves the log had where the export ends.
    #[serde(default, deserialize_with = "number")]
    pub size: u64,
}

/// A line is none of an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It is no JSON, or lacks something.
    #[error("it does not read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is none of what an export consists of.
    #[error("it is neither a header, a leaf, a root nor an end")]
    Other,
    /// The export broke off with a refusal.
    #[error("the export broke off: {0}")]
    BrokenOff(String),
}

#[derive(Deserialize)]
struct Wire {
    header: Option<Header>,
    leaf: Option<WireLeaf>,
    root: Option<WireRoot>,
    end: Option<End>,
}

#[derive(Deserialize)]
struct WireLeaf {
    #[serde(default, deserialize_with = "number")]
    position: u64,
    #[serde(alias = "leafHash", deserialize_with = "hash")]
    leaf_hash: Hash,
    #[serde(default)]
    missing: bool,
    #[serde(default, deserialize_with = "number")]
    sequence: u64,
    #[serde(default, alias = "recordedAt")]
    recorded_at: Option<String>,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    reason: String,
    #[serde(default, alias = "payloadHash")]
    payload_hash: String,
    #[serde(default, alias = "bodyJson")]
    body_json: String,
}

#[derive(Deserialize)]
struct WireRoot {
    tenant: String,
    #[serde(default, deserialize_with = "number")]
    size: u64,
    #[serde(alias = "rootHash", deserialize_with = "hash")]
    root_hash: Hash,
    #[serde(alias = "sealedAt")]
    sealed_at: String,
    #[serde(default)]
    signature: String,
}

// === impl Line ===

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is none of an export.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut value: serde_json::Value = serde_json::from_str(text)?;
        if let Some(error) = value.get("error") {
            return Err(LineError::BrokenOff(error.to_string()));
        }
        if let Some(result) = value.get_mut("result") {
            value = result.take();
        }
        let wire: Wire = serde_json::from_value(value)?;
        match (wire.header, wire.leaf, wire.root, wire.end) {
            (Some(header), None, None, None) => Ok(Self::Header(header)),
            (None, Some(leaf), None, None) => Ok(Self::Leaf(leaf.try_into()?)),
            (None, None, Some(root), None) => Ok(Self::Root(root.try_into()?)),
            (None, None, None, Some(end)) => Ok(Self::End(end)),
            _ => Err(LineError::Other),
        }
    }
}

impl TryFrom<WireLeaf> for ExportedLeaf {
    type Error = serde_json::Error;

    fn try_from(wire: WireLeaf) -> Result<Self, serde_json::Error> {
        if wire.missing {
            return Ok(Self { position: wire.position, hash: wire.leaf_hash, leaf: None });
        }
        let payload_hash = match wire.payload_hash.as_str() {
            "" => None,
            text => Some(hash_of(text).ok_or_else(|| wrong("payload_hash is no hash"))?),
        };
        let decision = wire.decision.trim_start_matches("AUDIT_DECISION_");
        let leaf = Leaf {
            sequence: wire.sequence,
            recorded_at_us: microseconds(&wire.recorded_at.unwrap_or_default())?,
            tenant: wire.tenant,
            actor: wire.actor,
            action: wire.action,
            subject: wire.subject,
            decision: decision.parse::<Decision>().map_err(|()| wrong("there is no such decision"))?,
            reason: wire.reason,
            payload_hash,
            body: wire.body_json,
        };
        Ok(Self { position: wire.position, hash: wire.leaf_hash, leaf: Some(leaf) })
    }
}

impl TryFrom<WireRoot> for SignedRoot {
    type Error = serde_json::Error;

    fn try_from(wire: WireRoot) -> Result<Self, serde_json::Error> {
        let sealed_at_us =
            u64::try_from(microseconds(&wire.sealed_at)?).map_err(|_| wrong("sealed_at is before 1970"))?;
        let signature =
            hex::decode(wire.signature.trim_start_matches("0x")).map_err(|_| wrong("signature is no hex"))?;
        Ok(Self { root: Root { tenant: wire.tenant, size: wire.size, root: wire.root_hash, sealed_at_us }, signature })
    }
}

fn wrong(why: &str) -> serde_json::Error {
    serde::de::Error::custom(why)
}

fn microseconds(text: &str) -> Result<i64, serde_json::Error> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong("a time is no RFC 3339"))?;
    // The database counts microseconds; anything finer was never written by it.
    if at.nanosecond() % 1_000 != 0 {
        return Err(wrong("a time is finer than a microsecond"));
    }
    i64::try_from(at.unix_timestamp_nanos() / 1_000).map_err(|_| wrong("a time is out of range"))
}

/// A number, or the text of one.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn hash_of(text: &str) -> Option<Hash> {
    hex::decode(text.strip_prefix("0x")?).ok()?.try_into().ok()
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    let text = String::deserialize(deserializer)?;
    hash_of(&text).ok_or_else(|| serde::de::Error::custom("not a hash: expected 0x and 64 hex digits"))
}

fn hashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hash>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read = texts.iter().map(|text| hash_of(text)).collect::<Option<Vec<_>>>();
    read.ok_or_else(|| serde::de::Error::custom("not hashes: expected 0x and 64 hex digits each"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0x0101010101010101010101010101010101010101010101010101010101010101";

    #[test]
    fn the_same_line_reads_however_it_was_written() {
        let contract = format!(
            r#"{{"leaf":{{"position":"7","leaf_hash":"{HASH}","sequence":"9","recorded_at":"2026-11-22T23:43:00.000001Z","tenant":"acme","actor":"a","action":"b","subject":"c","decision":"AUDIT_DECISION_REFUSED","reason":"PERMISSION_DENIED","payload_hash":"{HASH}","body_json":"{{\"a\": 1}}"}}}}"#
        );
        let camel = contract
            .replace("leaf_hash", "leafHash")
            .replace("recorded_at", "recordedAt")
            .replace("payload_hash", "payloadHash")
            .replace("body_json", "bodyJson")
            .replace("\"7\"", "7");
        let wrapped = format!("{{\"result\":{camel}}}");
        let line = Line::parse(&contract).unwrap();
        assert_eq!(Line::parse(&camel).unwrap(), line);
        assert_eq!(Line::parse(&wrapped).unwrap(), line);
        let Line::Leaf(leaf) = line else { panic!("a leaf") };
        let said = leaf.leaf.unwrap();
        assert_eq!((leaf.position, said.sequence, said.decision), (7, 9, Decision::Refused));
        assert_eq!(said.recorded_at_us % 1_000_000, 1);
        assert_eq!(said.body, r#"{"a": 1}"#);
    }

    #[test]
    fn what_is_no_line_of_an_export_is_told() {
        assert!(matches!(Line::parse("{}"), Err(LineError::Other)));
        assert!(matches!(Line::parse(r#"{"error":{"message":"away"}}"#), Err(LineError::BrokenOff(_))));
        for wrong in
            ["", "[]x", r#"{"leaf":{}}"#, r#"{"end":{"size":"x"}}"#, r#"{"header":{"tenant":"a","edge":["0x01"]}}"#]
        {
            assert!(matches!(Line::parse(wrong), Err(LineError::Json(_))), "{wrong}");
        }
        let finer = format!(
            r#"{{"leaf":{{"leaf_hash":"{HASH}","recorded_at":"2026-11-22T23:43:00.0000001Z","decision":"ALLOWED"}}}}"#
        );
        assert!(Line::parse(&finer).is_err());
    }

    proptest! {
        #[test]
        fn no_line_panics(text in "\\PC{0,200}") {
            let _read = Line::parse(&text);
        }
    }
}
