//! Parts of a year between two dates, as bonds count them. A fraction, so that nothing is rounded before the amount is.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// How the days of a period are counted (2006 ISDA Definitions, section 4.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayCount {
    /// Actual days over 365, leap year or not ("Actual/365 (Fixed)").
    Act365,
    /// Actual days over 360.
    Act360,
    /// Months of 30 days over 360 ("30/360", "Bond Basis").
    Thirty360,
}

/// A part of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YearFraction {
    /// Days by the convention.
    pub days: u32,
    /// Days of a year by the convention.
    pub year: u32,
}

// === impl DayCount ===

impl DayCount {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Act365, Self::Act360, Self::Thirty360];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Act365 => "act/365",
            Self::Act360 => "act/360",
            Self::Thirty360 => "30/360",
        }
    }

    /// The part of a year from a date to a later one. No days when it is not later.
    #[must_use]
    pub fn fraction(self, from: Date, to: Date) -> YearFraction {
        let days = match self {
            Self::Act365 | Self::Act360 => (to - from).get_days(),
            Self::Thirty360 => thirty_360(from, to),
        };
        let year = if self == Self::Act365 { 365 } else { 360 };
        YearFraction { days: u32::try_from(days).unwrap_or(0), year }
    }
}

/// Days between two dates where every month has 30.
fn thirty_360(from: Date, to: Date) -> i32 {
    let first = i32::from(from.day()).min(30);
    let last = if to.day() == 31 && first == 30 { 30 } else { i32::from(to.day()) };
    let (years, months) = (to.year() - from.year(), to.month() - from.month());
    360 * i32::from(years) + 30 * i32::from(months) + last - first
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    /// The worked examples that ISDA publishes with its 2006 definitions: `30-360-2006ISDADefs.xls`, sheet "30/360 Bond Basis", linked from
    /// <https://www.isda.org/2008/12/22/30-360-day-count-conventions/>.
    const BOND_BASIS: &[(&str, &str, u32)] = &[
        // Example 1: end dates do not involve the last day of February.
        ("2006-08-20", "2007-02-20", 180),
        ("2007-02-20", "2007-08-20", 180),
        ("2007-08-20", "2008-02-20", 180),
        ("2008-02-20", "2008-08-20", 180),
        ("2008-08-20", "2009-02-20", 180),
        ("2009-02-20", "2009-08-20", 180),
        // Example 2: end dates include some ends of February.
        ("2006-08-31", "2007-02-28", 178),
        ("2007-02-28", "2007-08-31", 183),
        ("2007-08-31", "2008-02-29", 179),
        ("2008-02-29", "2008-08-31", 182),
        ("2008-08-31", "2009-02-28", 178),
        ("2009-02-28", "2009-08-31", 183),
        // Example 3: miscellaneous.
        ("2006-01-31", "2006-02-28", 28),
        ("2006-01-30", "2006-02-28", 28),
        ("2006-02-28", "2006-03-03", 5),
        ("2006-02-14", "2006-02-28", 14),
        ("2006-09-30", "2006-10-31", 30),
        ("2006-10-31", "2006-11-28", 28),
        ("2007-08-31", "2008-02-28", 178),
        ("2008-02-28", "2008-08-28", 180),
        ("2008-02-28", "2008-08-30", 182),
        ("2008-02-28", "2008-08-31", 183),
        ("2007-02-26", "2008-02-28", 362),
        ("2007-02-26", "2008-02-29", 363),
        ("2008-02-29", "2009-02-28", 359),
        ("2008-02-28", "2008-03-30", 32),
        ("2008-02-28", "2008-03-31", 33),
    ];

    /// The sheet "Comparison" of the same file: the days of "ACT/360", and of "30/360 Bond Basis".
    const COMPARISON: &[(&str, &str, u32, u32)] = &[
        ("2007-01-15", "2007-01-30", 15, 15),
        ("2007-01-15", "2007-02-15", 31, 30),
        ("2007-01-15", "2007-07-15", 181, 180),
        ("2007-09-30", "2008-03-31", 183, 180),
        ("2007-09-30", "2007-10-31", 31, 30),
        ("2007-09-30", "2008-09-30", 366, 360),
        ("2007-01-15", "2007-01-31", 16, 16),
        ("2007-01-31", "2007-02-28", 28, 28),
        ("2007-02-28", "2007-03-31", 31, 33),
        ("2006-08-31", "2007-02-28", 181, 178),
        ("2007-02-28", "2007-08-31", 184, 183),
        ("2007-02-14", "2007-02-28", 14, 14),
        ("2007-02-26", "2008-02-29", 368, 363),
        ("2008-02-29", "2009-02-28", 365, 359),
        ("2008-02-29", "2008-03-30", 30, 31),
        ("2008-02-29", "2008-03-31", 31, 32),
        ("2007-02-28", "2007-03-05", 5, 7),
        ("2007-10-31", "2007-11-28", 28, 28),
        ("2007-08-31", "2008-02-29", 182, 179),
        ("2008-02-29", "2008-08-31", 184, 182),
        ("2008-08-31", "2009-02-28", 181, 178),
        ("2009-02-28", "2009-08-31", 184, 183),
    ];

    /// The calculation periods of ISDA's paper on day counts, "EMU and market conventions: recent developments" (1998,
    /// <https://www.isda.org/a/pIJEE/The-Actual-Actual-Day-Count-Fraction-1999.pdf>), with the actual days in them.
    const ACTUAL: &[(&str, &str, u32)] = &[
        ("2003-11-01", "2004-05-01", 182),
        ("1999-02-01", "1999-07-01", 150),
        ("1999-07-01", "2000-07-01", 366),
        ("2002-08-15", "2003-07-15", 334),
        ("2003-07-15", "2004-01-15", 184),
        ("1999-07-30", "2000-01-30", 184),
        ("2000-01-30", "2000-06-30", 152),
        ("1999-11-30", "2000-04-30", 152),
    ];

    #[test]
    fn thirty_360_counts_as_isda_publishes() {
        for (from, to, days) in BOND_BASIS {
            let counted = DayCount::Thirty360.fraction(date(from), date(to));
            assert_eq!(counted, YearFraction { days: *days, year: 360 }, "{from} to {to}");
        }
    }

    #[test]
    fn conventions_compare_as_isda_publishes() {
        for (from, to, actual, thirty) in COMPARISON {
            let (start, end) = (date(from), date(to));
            let days = |count: DayCount| count.fraction(start, end).days;
            assert_eq!((days(DayCount::Act360), days(DayCount::Thirty360)), (*actual, *thirty), "{from} to {to}");
        }
    }

    #[test]
    fn actual_days_count_as_isda_publishes() {
        // Section 4.16 (d) and (e) of the definitions: the same days over 365 and over 360.
        let compared = COMPARISON.iter().map(|(from, to, actual, _)| (*from, *to, *actual));
        for (from, to, days) in ACTUAL.iter().copied().chain(compared) {
            let (from, to) = (date(from), date(to));
            assert_eq!(DayCount::Act365.fraction(from, to), YearFraction { days, year: 365 }, "{from} to {to}");
            assert_eq!(DayCount::Act360.fraction(from, to), YearFraction { days, year: 360 }, "{from} to {to}");
        }
    }

    proptest! {
        #[test]
        fn periods_that_follow_each_other_count_as_one(first in 0..20_000_i32, one in 0..4_000_i32, other in 0..4_000_i32) {
            let at = |days: i32| date("1990-01-01").checked_add(jiff::Span::new().days(days)).unwrap();
            let (from, middle, to) = (at(first), at(first + one), at(first + one + other));
            for count in [DayCount::Act365, DayCount::Act360] {
                let whole = count.fraction(from, to).days;
                prop_assert_eq!(count.fraction(from, middle).days + count.fraction(middle, to).days, whole);
            }
            // Months of 30 days lose or gain what the ends of months hide: at most a day where they meet.
            let sum = DayCount::Thirty360.fraction(from, middle).days + DayCount::Thirty360.fraction(middle, to).days;
            prop_assert!(sum.abs_diff(DayCount::Thirty360.fraction(from, to).days) <= 1);
        }

        #[test]
        fn nothing_is_counted_backwards(first in 0..20_000_i32, back in 1..4_000_i32) {
            let at = |days: i32| date("1990-01-01").checked_add(jiff::Span::new().days(days)).unwrap();
            for count in DayCount::ALL {
                prop_assert_eq!(count.fraction(at(first + back), at(first)).days, 0);
            }
        }
    }
}
