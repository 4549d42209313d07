//! How large an EIP-712 document may be before anything is made of it.
//!
//! Its types come from the caller and are expanded recursively by the library that hashes it: types nested without end would overflow the stack of
//! the signer, types that double at each level its memory. Both are measured here first, without expanding anything.

use std::collections::HashMap;

use serde::Deserialize;

use super::payload::PayloadError;

/// Struct types of one document.
const TYPES_MAX: usize = 64;
/// Fields that the primary type has once every struct stands in place of its name.
const FIELDS_MAX: usize = 4_096;
/// Characters of a type's name with its array brackets; two brackets are an array, so this bounds their nesting, too.
const TYPE_NAME_MAX: usize = 128;
/// Array brackets of one field.
const ARRAYS_MAX: usize = 8;

/// The parts of a document that say how it is built. A document wrapped into a JSON string has none, and is refused.
#[derive(Deserialize)]
struct Shape {
    types: HashMap<String, Vec<Field>>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(rename = "type")]
    of: String,
}

/// Refuses a document whose types nest or multiply beyond any honest use.
pub fn check_size(json: &str) -> Result<(), PayloadError> {
    let refused = |why: &str| PayloadError::Document(why.to_owned());
    let shape: Shape = serde_json::from_str(json).map_err(|error| PayloadError::Document(error.to_string()))?;
    if shape.types.len() > TYPES_MAX {
        return Err(refused("it has too many types (at most 64)"));
    }
    for field in shape.types.values().flatten() {
        if field.of.len() > TYPE_NAME_MAX || field.of.matches('[').count() > ARRAYS_MAX {
            return Err(refused("the name of a type is too long, or its arrays nest too deep"));
        }
    }
    let mut sizes = HashMap::new();
    for name in shape.types.keys() {
        match expanded(&shape.types, name, &mut sizes) {
            Some(size) if size <= FIELDS_MAX => {}
            Some(_) => return Err(refused("its types multiply to too many fields (at most 4096)")),
            None => return Err(refused("its types contain each other in a circle")),
        }
    }
    Ok(())
}

/// Fields of a type once every struct stands in place of its name; `None` when it contains itself. The recursion is as deep as there are types.
fn expanded<'t>(
    types: &'t HashMap<String, Vec<Field>>,
    name: &'t str,
    sizes: &mut HashMap<&'t str, Option<usize>>,
) -> Option<usize> {
    if let Some(known) = sizes.get(name) {
        return *known;
    }
    // Met again before it is known, it contains itself.
    sizes.insert(name, None);
    let mut size = 0usize;
    for field in types.get(name)? {
        let base = field.of.split('[').next().unwrap_or_default();
        let nested = if types.contains_key(base) { expanded(types, base, sizes)? } else { 0 };
        size = size.saturating_add(1).saturating_add(nested);
    }
    sizes.insert(name, Some(size));
    Some(size)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn document(types: Value) -> String {
        json!({"types": types, "primaryType": "T0", "domain": {"chainId": 1}, "message": {}}).to_string()
    }

    fn chain(levels: usize, width: usize) -> String {
        let mut types = Map::new();
        for level in 0..levels {
            let fields: Vec<_> =
                (0..width).map(|at| json!({"name": format!("f{at}"), "type": format!("T{}", level + 1)})).collect();
            types.insert(format!("T{level}"), Value::Array(fields));
        }
        types.insert(format!("T{levels}"), json!([{"name": "n", "type": "uint256"}]));
        document(Value::Object(types))
    }

    #[test]
    fn what_banks_sign_passes() {
        assert_eq!(check_size(&chain(10, 1)), Ok(()));
        assert_eq!(check_size(&document(json!({"T0": [{"name": "a", "type": "uint256[][4]"}]}))), Ok(()));
    }

    #[test]
    fn types_that_nest_or_multiply_without_end_are_refused() {
        let refused = |json: &str, why: &str| match check_size(json) {
            Err(PayloadError::Document(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?}"),
        };
        refused(&chain(5_000, 1), "too many types");
        refused(&chain(30, 10), "multiply");
        let arrays = format!("uint256{}", "[]".repeat(9));
        refused(&document(json!({"T0": [{"name": "a", "type": arrays}]})), "nest too deep");
        refused(&document(json!({"T0": [{"name": "a", "type": "x".repeat(129)}]})), "too long");
        refused(
            &document(json!({"T0": [{"name": "a", "type": "T1"}], "T1": [{"name": "a", "type": "T0[]"}]})),
            "circle",
        );
        refused(&json!(document(json!({}))).to_string(), "expected struct");
    }
}
