//! Limits how many people hold an asset.

use super::{Fields, country::MAX_COUNTRIES};
use serde::{Deserialize, Serialize};

/// Parameters of `HolderLimitRule`: one limit at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderLimitRule {
    /// Holders in all.
    pub max_holders: Option<u32>,
    /// Holders by country, ascending by country; zero admits none.
    pub countries: Vec<(u16, u32)>,
}

impl HolderLimitRule {
    /// A rule of the fields of its message; `max_holders` zero is no limit in all.
    pub fn new(fields: &mut Fields<'_>, max_holders: u32, countries: &[(u32, u32)]) -> Self {
        if max_holders == 0 && countries.is_empty() {
            fields.refuse("max_holders", "is missing, and so are limits by country: one limit at least");
        }
        if countries.len() > MAX_COUNTRIES {
            fields.refuse("countries", format!("holds at most {MAX_COUNTRIES} limits"));
        }
        let before = fields.problems();
        let mut limits: Vec<(u16, u32)> = countries
            .iter()
            .take(MAX_COUNTRIES)
            .enumerate()
            .map(|(index, (code, max))| (fields.country(&format!("countries[{index}].country"), *code), *max))
            .collect();
        limits.sort_unstable();
        if fields.problems() == before && limits.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            fields.refuse("countries", "limits a country twice");
        }
        Self { max_holders: (max_holders != 0).then_some(max_holders), countries: limits }
    }
}
