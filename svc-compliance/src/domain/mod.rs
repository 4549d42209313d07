//! What callers ask for, checked and typed. Nothing here knows of protobuf, SQL or the network.
//!
//! Every value that names something on chain is parsed once, here; every problem carries the path of the field it is about, and
//! all problems of a request are reported together.

pub mod advice;
pub mod asset;
pub mod claim;
pub mod compliance;
pub mod expression;
pub mod feature;
pub mod identity;
pub mod isin;
pub mod rule;
pub mod system;
pub mod template;
pub mod terms;

use alloy::primitives::{Address, Bytes, U256};
use dalp_service::fields::{self, FieldResult};

/// The largest total supply of a token: the contract keeps balances in 128 bits.
pub const MAX_AMOUNT: U256 = U256::from_limbs([u64::MAX, u64::MAX, 0, 0]);

/// What kind of mistake a violation is; decides the reason of the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViolationKind {
    /// A field is malformed or out of range.
    Field,
    /// The parameters of a rule make no sense.
    ModuleParameters,
    /// The template does not exist.
    Template,
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for instance `rules[0].country.countries[1]`.
    pub field: String,
    /// What is expected.
    pub description: String,
    /// What kind of mistake it is.
    pub kind: ViolationKind,
}

/// Everything wrong with a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{} field(s) invalid", .0.len())]
pub struct Violations(pub Vec<Violation>);

// === impl Violations ===

impl Violations {
    /// An empty list, to be filled while fields are parsed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a problem with a field.
    pub fn push(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.push_kind(ViolationKind::Field, field, description);
    }

    /// Notes a problem of a given kind.
    pub fn push_kind(&mut self, kind: ViolationKind, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into(), kind });
    }

    /// The value if nothing was wrong.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The kind all problems share, [`ViolationKind::Field`] when they differ.
    #[must_use]
    pub fn kind(&self) -> ViolationKind {
        match self.0.first() {
            Some(first) if self.0.iter().all(|violation| violation.kind == first.kind) => first.kind,
            _ => ViolationKind::Field,
        }
    }

    /// The value of a parsed field, or what stands in for it while the rest of the request is checked.
    fn keep<T>(&mut self, result: FieldResult<T>, instead: T) -> T {
        result.unwrap_or_else(|violation| {
            self.push(violation.path, violation.description);
            instead
        })
    }

    /// An address other than zero.
    pub fn address(&mut self, field: &str, text: &str) -> Address {
        self.keep(fields::nonzero_address(field, text), Address::ZERO)
    }

    /// As [`Self::address`], with empty meaning none.
    pub fn optional_address(&mut self, field: &str, text: &str) -> Option<Address> {
        (!text.is_empty()).then(|| self.address(field, text))
    }

    /// A positive amount of base units within what a token can hold.
    pub fn amount(&mut self, field: &str, text: &str) -> U256 {
        let parsed = fields::nonzero_amount(field, text).and_then(|amount| within_supply(field, amount));
        self.keep(parsed, U256::ZERO)
    }

    /// As [`Self::amount`], or zero.
    pub fn amount_or_zero(&mut self, field: &str, text: &str) -> U256 {
        let parsed = fields::amount(field, text).and_then(|amount| within_supply(field, amount));
        self.keep(parsed, U256::ZERO)
    }

    /// Bytes as 0x hex; empty text means no bytes.
    pub fn bytes(&mut self, field: &str, text: &str, max_bytes: usize) -> Bytes {
        match text {
            "" => Bytes::new(),
            text => self.keep(fields::hex_bytes(field, text, max_bytes), Bytes::new()),
        }
    }

    /// Text of 1 to `max_chars` characters.
    pub fn text(&mut self, field: &str, text: &str, max_chars: usize) -> String {
        self.keep(fields::bounded_string(field, text, 1, max_chars), text.to_owned())
    }

    /// An ISO 3166-1 numeric country code.
    pub fn country(&mut self, kind: ViolationKind, field: &str, code: u32) -> u16 {
        match u16::try_from(code) {
            Ok(code @ 1..=999) => code,
            _ => {
                self.push_kind(kind, field, "must be an ISO 3166-1 numeric code, 1 to 999");
                0
            }
        }
    }

    /// The name of a claim topic.
    pub fn topic(&mut self, kind: ViolationKind, field: &str, name: &str) -> claim::TopicName {
        match claim::TopicName::new(name) {
            Some(topic) => topic,
            None => {
                self.push_kind(kind, field, "must be 1 to 64 of [a-z0-9._-]");
                claim::TopicName::unchecked(name)
            }
        }
    }
}

fn within_supply(field: &str, amount: U256) -> FieldResult<U256> {
    if amount > MAX_AMOUNT {
        return Err(fields::violation(field, format!("is too large: a token holds at most {MAX_AMOUNT}")));
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_bounded_decimal_and_positive() {
        for text in
            ["", "-1", "0", "1.5", "0x10", "01", "+1", "340282366920938463463374607431768211456", &"9".repeat(400)]
        {
            let mut violations = Violations::new();
            violations.amount("amount", text);
            assert_eq!(violations.0.len(), 1, "{text}: {violations:?}");
        }
        let mut violations = Violations::new();
        assert_eq!(violations.amount("amount", "340282366920938463463374607431768211455"), MAX_AMOUNT);
        assert!(violations.0.is_empty());
    }

    #[test]
    fn an_address_needs_its_checksum() {
        let good = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
        let mut violations = Violations::new();
        assert_eq!(violations.address("to", good).to_checksum(None), good);
        assert!(violations.0.is_empty());
        for bad in [
            "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046",
            &good[2..],
            "0x1",
            "",
            "0x0000000000000000000000000000000000000000",
        ] {
            let mut violations = Violations::new();
            violations.address("to", bad);
            assert_eq!(violations.0.len(), 1, "{bad}");
            assert_eq!(violations.0[0].field, "to");
        }
    }

    #[test]
    fn countries_bytes_and_text_are_checked() {
        for code in [0, 1000, 70_000] {
            let mut violations = Violations::new();
            violations.country(ViolationKind::Field, "country", code);
            assert_eq!(violations.0.len(), 1, "{code}");
        }
        for bad in ["12", "0x1", "0xzz"] {
            let mut violations = Violations::new();
            violations.bytes("data", bad, 10);
            assert_eq!(violations.0.len(), 1, "{bad}");
        }
        for bad in ["", "  ", " a", "a\n", "toolong"] {
            let mut violations = Violations::new();
            violations.text("name", bad, 5);
            assert_eq!(violations.0.len(), 1, "{bad:?}");
        }
    }
}
