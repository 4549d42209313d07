//! One line: who, and how much.

use super::problem::Problem;
use alloy::primitives::Address;
use serde::Deserialize;
use std::borrow::Cow;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `account,amount`, with or without these names as the first line.
    Csv,
    /// `{"account": "0x...", "amount": "12.5"}` on each line.
    JsonLines,
}

/// Borrowed where the text has no escapes, owned where it has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow)]
    account: Cow<'a, str>,
    #[serde(borrow)]
    amount: Cow<'a, str>,
}

// === impl Format ===

impl Format {
    const fn expected(self) -> &'static str {
        match self {
            Self::Csv => "expected account,amount",
            Self::JsonLines => r#"expected {"account": "0x...", "amount": "12.5"}, the amount in quotes"#,
        }
    }

    /// Whether the first line only names the columns.
    pub(super) fn is_heading(self, line: &str) -> bool {
        self == Self::Csv && line.replace(' ', "").eq_ignore_ascii_case("account,amount")
    }

    /// Account and amount in base units of a token with so many decimals.
    pub(super) fn read(self, line: &str, decimals: u8) -> Result<(Address, u128), Problem> {
        let shape = || Problem::Shape { expected: self.expected() };
        let (account, amount) = match self {
            Self::Csv => {
                let (account, amount) = line.split_once(',').ok_or_else(shape)?;
                if amount.contains(',') {
                    return Err(shape());
                }
                (Cow::Borrowed(account.trim()), Cow::Borrowed(amount.trim()))
            }
            Self::JsonLines => {
                let object: Object<'_> = serde_json::from_str(line).map_err(|_| shape())?;
                (object.account, object.amount)
            }
        };
        Ok((address(&account)?, base_units(&amount, decimals)?))
    }
}

/// Digits of one case pass; mixed case must be the EIP-55 checksum.
fn address(text: &str) -> Result<Address, Problem> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40).ok_or(Problem::Address)?;
    let account: Address = text.parse().map_err(|_| Problem::Address)?;
    let has = |check: fn(&u8) -> bool| digits.as_bytes().iter().any(check);
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    if mixed && account.to_checksum_buffer(None).as_str() != text {
        return Err(Problem::Checksum);
    }
    if account.is_zero() { Err(Problem::ZeroAddress) } else { Ok(account) }
}

/// A decimal number of tokens, without sign, exponent, separators or leading zeros.
fn base_units(text: &str, decimals: u8) -> Result<u128, Problem> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return Err(Problem::Amount),
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if whole.is_empty() || leading_zero || !digits(whole) || !digits(fraction) {
        return Err(Problem::Amount);
    }
    if fraction.len() > usize::from(decimals) {
        return Err(Problem::TooPrecise { given: fraction.len(), decimals });
    }
    let padding = std::iter::repeat_n(b'0', usize::from(decimals) - fraction.len());
    let amount = whole
        .bytes()
        .chain(fraction.bytes())
        .chain(padding)
        .try_fold(0u128, |sum, digit| sum.checked_mul(10)?.checked_add(u128::from(digit - b'0')));
    match amount {
        None => Err(Problem::TooMuch),
        Some(0) => Err(Problem::ZeroAmount),
        Some(amount) => Ok(amount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    #[test]
    fn both_formats_say_the_same() {
        let expected = Ok((ACCOUNT.parse().unwrap(), 1_250));
        assert_eq!(Format::Csv.read(&format!("{ACCOUNT},12.5"), 2), expected);
        assert_eq!(Format::Csv.read(&format!("{ACCOUNT} , 12.50 "), 2), expected);
        let json = format!(r#"{{"account": "{ACCOUNT}", "amount": "12.5"}}"#);
        assert_eq!(Format::JsonLines.read(&json, 2), expected);
        let escaped = format!(r#"{{"amount": "\u00312.5", "account": "{ACCOUNT}"}}"#);
        assert_eq!(Format::JsonLines.read(&escaped, 2), expected);
    }

    #[test]
    fn lines_of_another_shape_are_told_apart_from_wrong_values() {
        for (format, line) in [
            (Format::Csv, ACCOUNT.to_owned()),
            (Format::Csv, format!("{ACCOUNT},1,2")),
            (Format::JsonLines, format!("{ACCOUNT},1")),
            (Format::JsonLines, format!(r#"{{"account": "{ACCOUNT}", "amount": 1}}"#)),
            (Format::JsonLines, format!(r#"{{"account": "{ACCOUNT}", "amount": "1", "note": ""}}"#)),
            (Format::JsonLines, format!(r#"{{"account": "{ACCOUNT}", "amount": "1""#)),
        ] {
            assert!(matches!(format.read(&line, 0), Err(Problem::Shape { .. })), "{line}");
        }
    }

    #[test]
    fn addresses_follow_eip_55() {
        assert!(address(ACCOUNT).is_ok() && address(&ACCOUNT.to_lowercase()).is_ok());
        assert!(address(&format!("0x{}", ACCOUNT[2..].to_uppercase())).is_ok());
        assert_eq!(address(&ACCOUNT.replace("5aAeb", "5AAeb")), Err(Problem::Checksum));
        assert_eq!(address("0x0000000000000000000000000000000000000000"), Err(Problem::ZeroAddress));
        for text in ["", "0x", &ACCOUNT[2..], "0x5aaeb6", &format!("0y{}", &ACCOUNT[2..]), &ACCOUNT.replace('5', "g")] {
            assert_eq!(address(text), Err(Problem::Address), "{text}");
        }
    }

    #[test]
    fn amounts_are_tokens_with_at_most_the_token_s_decimals() {
        for (text, decimals, expected) in
            [("1", 0, 1), ("1", 18, 10u128.pow(18)), ("0.01", 2, 1), ("7.50", 2, 750), ("10", 1, 100)]
        {
            assert_eq!(base_units(text, decimals), Ok(expected), "{text}");
        }
        assert_eq!(base_units("1.0", 0), Err(Problem::TooPrecise { given: 1, decimals: 0 }));
        assert_eq!(base_units("1.234", 2), Err(Problem::TooPrecise { given: 3, decimals: 2 }));
        for text in ["0", "0.00"] {
            assert_eq!(base_units(text, 2), Err(Problem::ZeroAmount), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "01", "1_000", "1,5", " 1", "0x1", "٣", "1.5.0"] {
            assert_eq!(base_units(text, 18), Err(Problem::Amount), "{text}");
        }
        assert_eq!(base_units(&u128::MAX.to_string(), 0), Ok(u128::MAX));
        assert_eq!(base_units(&u128::MAX.to_string(), 1), Err(Problem::TooMuch));
        assert_eq!(base_units(&"9".repeat(500), 0), Err(Problem::TooMuch));
    }
}
