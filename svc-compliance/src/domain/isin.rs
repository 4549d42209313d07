//! ISIN of ISO 6166: country prefix, nine characters, and a check digit over the letters written as numbers.

use serde::{Deserialize, Serialize};

/// An ISIN with a correct check digit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Isin(String);

/// Why a text is not an ISIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IsinError {
    /// Not two letters, nine letters or digits, one digit.
    #[error("must be 12 characters: two letters, nine letters or digits, one check digit")]
    Shape,
    /// The last digit does not follow from the others.
    #[error("check digit is {found}, expected {expected}")]
    CheckDigit {
        /// What it should be.
        expected: u32,
        /// What it is.
        found: u32,
    },
}

// === impl Isin ===

impl Isin {
    /// Parses and checks an ISIN.
    pub fn parse(text: &str) -> Result<Self, IsinError> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 12
            && bytes[..2].iter().all(u8::is_ascii_uppercase)
            && bytes[2..11].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            && bytes[11].is_ascii_digit();
        if !shaped {
            return Err(IsinError::Shape);
        }
        let (expected, found) = (check_digit(&text[..11]), u32::from(bytes[11] - b'0'));
        if expected != found {
            return Err(IsinError::CheckDigit { expected, found });
        }
        Ok(Self(text.to_owned()))
    }

    /// The twelve characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Luhn over the characters with letters as 10 to 35.
fn check_digit(body: &str) -> u32 {
    let digits: Vec<u32> = body
        .chars()
        .filter_map(|char| char.to_digit(36))
        .flat_map(|value| if value >= 10 { vec![value / 10, value % 10] } else { vec![value] })
        .collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, digit)| if position % 2 == 0 { (digit * 2) / 10 + (digit * 2) % 10 } else { *digit })
        .sum();
    (10 - sum % 10) % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_isins_pass() {
        for isin in ["US0378331005", "DE0001102580", "GB0002634946", "AU0000XVGZA3", "CH0012032048"] {
            assert_eq!(Isin::parse(isin).map(|isin| isin.as_str().to_owned()), Ok(isin.to_owned()));
        }
    }

    #[test]
    fn wrong_ones_do_not() {
        assert_eq!(Isin::parse("US0378331004"), Err(IsinError::CheckDigit { expected: 5, found: 4 }));
        for isin in
            ["", "US037833100", "US03783310055", "us0378331005", "U10378331005", "US03783310O5X", "US037833100A"]
        {
            assert_eq!(Isin::parse(isin), Err(IsinError::Shape), "{isin}");
        }
    }
}
