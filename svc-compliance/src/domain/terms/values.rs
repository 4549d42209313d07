//! Values that terms are made of.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::Month;

/// A day of the calendar, written `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(time::Date);

/// An amount of money or a quantity: digits, and up to 18 behind a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimal(String);

/// A currency of ISO 4217, three capitals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(String);

// === impl Date ===

impl Date {
    /// A day that the calendar has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return None;
        }
        let month: u8 = text[5..7].parse().ok()?;
        let (year, day) = (text[..4].parse().ok()?, text[8..].parse().ok()?);
        time::Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok().map(Self)
    }

    /// Unix seconds at which the day begins in UTC.
    #[must_use]
    pub fn begins_at_s(self) -> i64 {
        self.0.midnight().assume_utc().unix_timestamp()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or(text)
    }
}

// === impl Decimal ===

impl Decimal {
    /// A number of at most 24 digits and 18 behind the point, without sign and leading zeros.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let leading = whole.len() > 1 && whole.starts_with('0');
        let valid = digits(whole, 24) && !leading && fraction.is_none_or(|fraction| digits(fraction, 18));
        valid.then(|| Self(text.to_owned()))
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|byte| matches!(byte, b'0' | b'.'))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Currency ===

impl Currency {
    /// Three capitals.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())).then(|| Self(text.to_owned()))
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for good in ["2031-05-01", "2028-02-29", "1999-12-31"] {
            assert_eq!(Date::parse(good).map(|date| date.to_string()).as_deref(), Some(good));
        }
        assert_eq!(Date::parse("1970-01-02").map(Date::begins_at_s), Some(86_400));
        for bad in
            ["", "2031-5-1", "2031-13-01", "2027-02-29", "2031-04-31", "01.05.2031", "2031-05-01T00:00", "20é1-05-1"]
        {
            assert_eq!(Date::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn decimals_and_currencies_are_plain() {
        for good in ["0", "1000", "0.01", "123456789012345678901234.123456789012345678"] {
            assert!(Decimal::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".5", "5.", "01", "-1", "+1", "1e3", "1,5", "1.2.3", "1234567890123456789012345"] {
            assert!(Decimal::parse(bad).is_none(), "{bad}");
        }
        assert!(Decimal::parse("0.000").is_some_and(|zero| zero.is_zero()));
        assert!(Currency::parse("CHF").is_some());
        for bad in ["", "chf", "CH", "CHFX", "C1F"] {
            assert!(Currency::parse(bad).is_none(), "{bad}");
        }
    }
}
