//! Parsing of wire fields: every `TryFrom<proto>` of the platform is written with these.
//!
//! Each function names the field path it was given, so that a client can find what is wrong in a nested request.
//! [`Violations`] collects all of them into one refusal:
//!
//! ```
//! use dalp_service::fields::{self, Violations};
//! let mut violations = Violations::new();
//! let to = violations.check(fields::address("to", "0x12"));
//! let amount = violations.check(fields::amount("amount", "-5"));
//! let refusal = violations.finish().unwrap_err();
//! assert_eq!(refusal.violations().len(), 2);
//! # let _ = (to, amount);
//! ```

use alloy::primitives::{Address, B256, Bytes, U256};

use crate::errors::{Reason, Refusal};

/// One violated field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {description}")]
pub struct Violation {
    /// The path as in the request, for example `legs[2].amount`.
    pub path: String,
    /// What is wrong and what is expected.
    pub description: String,
}

/// The result of parsing one field.
pub type FieldResult<T> = Result<T, Violation>;

/// Collects the violations of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    found: Vec<Violation>,
}

/// An Ethereum address: `0x` and 40 hex digits. All-lower and all-upper digits pass; mixed case must be the EIP-55 checksum.
pub fn address(path: &str, text: &str) -> FieldResult<Address> {
    let digits = hex_digits(path, text, 40)?;
    let parsed: Address = text.parse().map_err(|_| violation(path, "not an address: expected 0x and 40 hex digits"))?;
    let has = |check: fn(&u8) -> bool| digits.as_bytes().iter().any(check);
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    if mixed && parsed.to_checksum(None) != text {
        return Err(violation(path, "wrong EIP-55 checksum: a digit was mistyped, or the case was changed"));
    }
    Ok(parsed)
}

/// As [`address`], and not the zero address.
pub fn nonzero_address(path: &str, text: &str) -> FieldResult<Address> {
    let parsed = address(path, text)?;
    if parsed.is_zero() {
        return Err(violation(path, "must not be the zero address"));
    }
    Ok(parsed)
}

/// An amount in base units: decimal digits without sign, leading zeros or separators, below 2^256.
pub fn amount(path: &str, text: &str) -> FieldResult<U256> {
    if text.is_empty() {
        return Err(violation(path, "is missing: expected a decimal number of base units"));
    }
    if text.starts_with('-') {
        return Err(violation(path, "must not be negative"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(violation(path, "not an amount: expected a whole decimal number of base units, digits only"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(violation(path, "must not have leading zeros"));
    }
    // 2^256 - 1 has 78 digits: longer input is not even parsed.
    if text.len() > 78 {
        return Err(violation(path, "is too large: the largest amount is 2^256 - 1"));
    }
    U256::from_str_radix(text, 10).map_err(|_| violation(path, "is too large: the largest amount is 2^256 - 1"))
}

/// As [`amount`], and not zero.
pub fn nonzero_amount(path: &str, text: &str) -> FieldResult<U256> {
    let parsed = amount(path, text)?;
    if parsed.is_zero() {
        return Err(violation(path, "must be greater than zero"));
    }
    Ok(parsed)
}

/// Thirty-two bytes: `0x` and 64 hex digits.
pub fn bytes32(path: &str, text: &str) -> FieldResult<B256> {
    hex_digits(path, text, 64)?;
    text.parse().map_err(|_| violation(path, "not 32 bytes: expected 0x and 64 hex digits"))
}

/// Any bytes up to a length: `0x` and an even number of hex digits.
pub fn hex_bytes(path: &str, text: &str, max_bytes: usize) -> FieldResult<Bytes> {
    let digits = text.strip_prefix("0x").ok_or_else(|| violation(path, "must begin with 0x"))?;
    if digits.len() / 2 > max_bytes {
        return Err(violation(path, format!("is longer than {max_bytes} bytes")));
    }
    text.parse().map_err(|_| violation(path, "not bytes: expected 0x and an even number of hex digits"))
}

/// A proto3 enum: known and not `_UNSPECIFIED` (zero).
pub fn enum_value<E: TryFrom<i32>>(path: &str, value: i32) -> FieldResult<E> {
    if value == 0 {
        return Err(violation(path, "is missing: choose a value"));
    }
    E::try_from(value).map_err(|_| violation(path, format!("unknown value {value}: this server does not know it")))
}

/// A text of `min..=max` characters, not blank when `min > 0`, without control characters or blanks at its ends.
pub fn bounded_string(path: &str, text: &str, min: usize, max: usize) -> FieldResult<String> {
    let length = text.chars().count();
    if min > 0 && text.trim().is_empty() {
        return Err(violation(path, "must not be blank"));
    }
    if length < min || length > max {
        return Err(violation(path, format!("has {length} characters: expected {min} to {max}")));
    }
    if text.chars().any(char::is_control) {
        return Err(violation(path, "must not hold control characters"));
    }
    if text.trim().len() != text.len() {
        return Err(violation(path, "must not begin or end with a blank"));
    }
    Ok(text.to_owned())
}

/// A number within inclusive bounds.
pub fn in_range<N: PartialOrd + std::fmt::Display>(path: &str, value: N, min: N, max: N) -> FieldResult<N> {
    if value < min || value > max {
        return Err(violation(path, format!("is {value}: expected {min} to {max}")));
    }
    Ok(value)
}

/// A violation of the field at `path`.
pub fn violation(path: &str, description: impl Into<String>) -> Violation {
    Violation { path: path.to_owned(), description: description.into() }
}

fn hex_digits<'t>(path: &str, text: &'t str, expected: usize) -> FieldResult<&'t str> {
    if text.is_empty() {
        return Err(violation(path, format!("is missing: expected 0x and {expected} hex digits")));
    }
    let digits = text.strip_prefix("0x").ok_or_else(|| violation(path, "must begin with 0x"))?;
    if digits.len() != expected || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(violation(path, format!("expected 0x and {expected} hex digits")));
    }
    Ok(digits)
}

// === impl Violations ===

impl Violations {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the value of a parsed field, or notes its violation. Holds a value whenever [`Violations::finish`] succeeds.
    pub fn check<T>(&mut self, result: FieldResult<T>) -> Option<T> {
        result.map_err(|violation| self.found.push(violation)).ok()
    }

    /// Notes a violation.
    pub fn push(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.found.push(Violation { path: path.into(), description: description.into() });
    }

    /// Succeeds when no field was violated; else one `INVALID_FIELD` refusal with all of them.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.found.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

impl From<Violations> for Refusal {
    fn from(violations: Violations) -> Self {
        let message = match violations.found.as_slice() {
            [one] => one.to_string(),
            many => format!("{} fields are not valid", many.len()),
        };
        violations
            .found
            .into_iter()
            .fold(Self::new(Reason::InvalidField, message), |refusal, one| refusal.field(one.path, one.description))
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Violations { found: vec![violation] }.into()
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { found: vec![violation] }
    }
}

impl From<Violation> for tonic::Status {
    fn from(violation: Violation) -> Self {
        Refusal::from(violation).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHECKSUMMED: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    #[test]
    fn addresses_follow_eip_55() {
        assert!(address("to", CHECKSUMMED).is_ok());
        assert!(address("to", &CHECKSUMMED.to_lowercase()).is_ok());
        assert!(address("to", &format!("0x{}", CHECKSUMMED[2..].to_uppercase())).is_ok());
        let swapped = CHECKSUMMED.replace("5aAeb", "5AAeb");
        assert!(address("to", &swapped).unwrap_err().description.contains("checksum"));
        for text in [
            "",
            "0x",
            "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
            "0x5aaeb6",
            "0xzzzzb6053f3e94c9b9a09f33669435e7ef1beaed",
        ] {
            assert!(address("to", text).is_err(), "{text}");
        }
        assert!(nonzero_address("to", "0x0000000000000000000000000000000000000000").is_err());
    }

    #[test]
    fn amounts_are_plain_decimals_within_u256() {
        assert_eq!(amount("a", "0").unwrap(), U256::ZERO);
        assert_eq!(amount("a", &U256::MAX.to_string()).unwrap(), U256::MAX);
        let above = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        for text in ["", "-1", "+1", "1.5", "1e18", "0x10", "01", " 1", "1_000", above, &"9".repeat(100)] {
            assert!(amount("a", text).is_err(), "{text}");
        }
        assert!(nonzero_amount("a", "0").is_err());
    }

    #[test]
    fn texts_are_bounded_and_not_blank() {
        assert!(bounded_string("name", "Bond 2030", 1, 50).is_ok());
        for text in ["", "  ", " x", "x ", "a\nb", &"x".repeat(51)] {
            assert!(bounded_string("name", text, 1, 50).is_err(), "{text:?}");
        }
        assert!(bounded_string("note", "", 0, 10).is_ok());
    }

    #[test]
    fn hex_is_strict() {
        assert!(bytes32("hash", &format!("0x{}", "ab".repeat(32))).is_ok());
        assert!(bytes32("hash", &format!("0x{}", "ab".repeat(31))).is_err());
        assert_eq!(hex_bytes("data", "0x0102", 2).unwrap().len(), 2);
        assert!(hex_bytes("data", "0x010203", 2).is_err());
        assert!(hex_bytes("data", "0x012", 2).is_err());
    }

    #[test]
    fn all_violations_reach_the_refusal() {
        let mut violations = Violations::new();
        violations.check(address("to", "0x12"));
        violations.check(amount("legs[2].amount", "-5"));
        let refusal = violations.finish().unwrap_err();
        let paths: Vec<_> = refusal.violations().iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["to", "legs[2].amount"]);
        assert_eq!(refusal.reason(), Reason::InvalidField);
    }

    proptest! {
        #[test]
        fn no_text_brings_a_field_down(text in "(0x)?\\PC{0,90}", min in 0_usize..3, max in 0_usize..100) {
            if let Ok(read) = amount("f", &text) {
                prop_assert_eq!(read.to_string(), text.clone());
            }
            if let Ok(read) = address("f", &text) {
                prop_assert_eq!(read.to_string().to_lowercase(), text.to_lowercase());
            }
            if let Ok(read) = bytes32("f", &text) {
                prop_assert_eq!(read.to_string(), text.to_lowercase());
            }
            if let Ok(read) = hex_bytes("f", &text, 20) {
                prop_assert!(read.len() <= 20);
                prop_assert_eq!(read.to_string(), text.to_lowercase());
            }
            if let Ok(read) = bounded_string("f", &text, min, max) {
                prop_assert!((min..=max).contains(&read.chars().count()));
            }
        }

        #[test]
        fn every_amount_that_fits_is_read(limbs in any::<[u64; 4]>()) {
            let meant = U256::from_limbs(limbs);
            prop_assert_eq!(amount("f", &meant.to_string()), Ok(meant));
        }
    }
}
