//! Reading the fields below one path, mostly those of a rule: every problem carries the path of its field.

use crate::domain::{MAX_AMOUNT, ViolationKind, Violations, claim::TopicName};
use alloy::primitives::{Address, U256};
use dalp_service::fields::{self, FieldResult};

/// The fields below one path.
pub struct Fields<'v> {
    violations: &'v mut Violations,
    kind: ViolationKind,
    path: String,
}

// === impl Fields ===

impl<'v> Fields<'v> {
    /// Parameters of a module below a path.
    pub fn new(violations: &'v mut Violations, path: impl Into<String>) -> Self {
        Self::of_kind(violations, ViolationKind::ModuleParameters, path)
    }

    /// Fields below a path whose problems are of a kind.
    pub fn of_kind(violations: &'v mut Violations, kind: ViolationKind, path: impl Into<String>) -> Self {
        Self { violations, kind, path: path.into() }
    }

    /// The fields of the request itself.
    pub fn root(violations: &'v mut Violations) -> Self {
        Self::new(violations, "")
    }

    /// The fields below a field.
    pub fn below(&mut self, field: &str) -> Fields<'_> {
        let (kind, path) = (self.kind, self.path_of(field));
        Fields { violations: &mut *self.violations, kind, path }
    }

    /// How many problems there are so far, of the whole request.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.violations.0.len()
    }

    /// Notes what is wrong with a field; the empty name is the path itself.
    pub fn refuse(&mut self, field: &str, description: impl Into<String>) {
        let path = self.path_of(field);
        self.violations.push_kind(self.kind, path, description);
    }

    /// A number within bounds.
    pub fn number(&mut self, field: &str, value: u32, min: u32, max: u32) -> u32 {
        match (min..=max).contains(&value) {
            true => value,
            false => {
                self.refuse(field, format!("is {value}: expected {min} to {max}"));
                min
            }
        }
    }

    /// An address other than zero.
    pub fn address(&mut self, field: &str, text: &str) -> Address {
        let parsed = fields::nonzero_address("", text);
        self.keep(field, parsed, Address::ZERO)
    }

    /// A text of 1 to `max_chars` characters.
    pub fn text(&mut self, field: &str, text: &str, max_chars: usize) -> String {
        let parsed = fields::bounded_string("", text, 1, max_chars);
        self.keep(field, parsed, text.to_owned())
    }

    /// A positive amount within what a token can hold.
    pub fn amount(&mut self, field: &str, text: &str) -> U256 {
        let parsed = fields::nonzero_amount("", text).and_then(within_supply);
        self.keep(field, parsed, U256::ZERO)
    }

    /// As [`Self::amount`]; empty or zero is none.
    pub fn optional_amount(&mut self, field: &str, text: &str) -> Option<U256> {
        if text.is_empty() {
            return None;
        }
        let parsed = fields::amount("", text).and_then(within_supply);
        Some(self.keep(field, parsed, U256::ZERO)).filter(|amount| !amount.is_zero())
    }

    /// An ISO 3166-1 numeric country code.
    pub fn country(&mut self, field: &str, code: u32) -> u16 {
        let path = self.path_of(field);
        self.violations.country(self.kind, &path, code)
    }

    /// The name of a claim topic.
    pub fn topic(&mut self, field: &str, name: &str) -> TopicName {
        let path = self.path_of(field);
        self.violations.topic(self.kind, &path, name)
    }

    fn keep<T>(&mut self, field: &str, result: FieldResult<T>, instead: T) -> T {
        result.unwrap_or_else(|violation| {
            self.refuse(field, violation.description);
            instead
        })
    }

    fn path_of(&self, field: &str) -> String {
        match (self.path.as_str(), field) {
            ("", field) => field.to_owned(),
            (path, "") => path.to_owned(),
            (path, field) => format!("{path}.{field}"),
        }
    }
}

fn within_supply(amount: U256) -> FieldResult<U256> {
    match amount > MAX_AMOUNT {
        true => Err(fields::violation("", format!("is too large: a token holds at most {MAX_AMOUNT}"))),
        false => Ok(amount),
    }
}
