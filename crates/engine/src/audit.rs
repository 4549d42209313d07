//! What a command is known by: the hash over its canonical form, in idempotency rows and audit leaves.

use sha2::{Digest as _, Sha256};

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
}
