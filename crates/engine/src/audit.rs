//! The audit chain: each leaf of a tenant, in commit order, hashed onto the one before it.

use sha2::{Digest as _, Sha256};

/// What stands before the first leaf.
pub const GENESIS: [u8; 32] = [0; 32];

/// One audit leaf.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Number of the leaf, unique in the database.
    pub sequence: i64,
    /// Tenant.
    pub tenant: String,
    /// What was done.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// Content.
    pub body: serde_json::Value,
}

/// Hash of a leaf on top of the one before it. Every field is length-prefixed, so that no two leaves write the same bytes.
pub fn chain_hash(previous: &[u8; 32], leaf: &Leaf) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"dalp.audit.v1");
    hasher.update(previous);
    hasher.update(leaf.sequence.to_be_bytes());
    let body = leaf.body.to_string();
    for field in [&leaf.tenant, &leaf.action, &leaf.actor, &leaf.subject, &body] {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().into()
}

/// SHA-256 over the canonical JSON of a command: keys in order, no spaces.
pub fn command_hash(order: &serde_json::Value) -> [u8; 32] {
    let mut canonical = String::new();
    write_canonical(order, &mut canonical);
    Sha256::digest(canonical.as_bytes()).into()
}

fn write_canonical(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(fields) => {
            // Sorted here, because another crate may switch serde_json to insertion order for the whole build.
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(&fields[key], out);
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn command_hash_ignores_the_order_of_keys_only() {
        assert_eq!(command_hash(&json!({"a": 1, "b": [1, 2]})), command_hash(&json!({"b": [1, 2], "a": 1})));
        assert_ne!(command_hash(&json!({"a": 1, "b": [1, 2]})), command_hash(&json!({"a": 1, "b": [2, 1]})));
    }

    #[test]
    fn a_changed_leaf_changes_every_later_hash() {
        let leaf = |action: &str| Leaf {
            sequence: 1,
            tenant: "t".into(),
            action: action.into(),
            actor: "a".into(),
            subject: "s".into(),
            body: json!({}),
        };
        let after = |first: &str| chain_hash(&chain_hash(&GENESIS, &leaf(first)), &leaf("second"));
        assert_ne!(after("first"), after("forged"));
    }
}
