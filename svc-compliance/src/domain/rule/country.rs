//! Allows or blocks countries.

use super::Fields;
use serde::{Deserialize, Serialize};

/// The most countries of one rule.
pub const MAX_COUNTRIES: usize = 250;

/// Parameters of `CountryRule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountryRule {
    /// True: only these may receive. False: these may not.
    pub allow: bool,
    /// ISO 3166-1 numeric, ascending, without repeats.
    pub countries: Vec<u16>,
}

impl CountryRule {
    /// A rule of the fields of its message.
    pub fn new(fields: &mut Fields<'_>, allow: bool, countries: &[u32]) -> Self {
        if countries.is_empty() {
            fields.refuse("countries", "needs at least one country");
        }
        if countries.len() > MAX_COUNTRIES {
            fields.refuse("countries", format!("holds at most {MAX_COUNTRIES} countries"));
        }
        let before = fields.problems();
        let mut codes: Vec<u16> = countries
            .iter()
            .take(MAX_COUNTRIES)
            .enumerate()
            .map(|(index, code)| fields.country(&format!("countries[{index}]"), *code))
            .collect();
        codes.sort_unstable();
        let given = codes.len();
        codes.dedup();
        if codes.len() != given && fields.problems() == before {
            fields.refuse("countries", "names a country twice");
        }
        Self { allow, countries: codes }
    }
}
