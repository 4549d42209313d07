//! Payments by the calendar: every so many months from a first date on, in a time zone that is named, with days counted by a convention.

use super::{
    daycount::{DayCount, YearFraction},
    entitlement::{EntitlementError, Fraction},
    terms::ONE,
};
use crate::offering::price::Price;
use alloy::primitives::U256;
use jiff::{Span, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// The most periods of a calendar: as many record dates as an asset has ahead.
pub const MAX_PERIODS: usize = 32;

/// A calendar of payments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Where the first period begins.
    pub first_date: Date,
    /// Where the last one ends.
    pub last_date: Date,
    /// Months of a period, 1 to 12.
    pub months: u8,
    /// IANA name of the zone whose midnights count.
    pub time_zone: String,
    /// How days are counted.
    pub day_count: DayCount,
    /// Of a whole token and a whole year.
    pub annual_rate: Price,
    /// How many days before its end the holders of a period are recorded.
    pub lead_days: u8,
}

/// A period of a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CalendarPeriod {
    /// Its first day.
    pub from: Date,
    /// The day on which it is paid.
    pub to: Date,
    /// Unix seconds whose holders are paid.
    pub record_date: u64,
    /// Unix seconds from which it is paid.
    pub due_at: u64,
    /// Its part of a year.
    pub year: YearFraction,
}

/// Why there is no calendar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// No such zone.
    #[error("{0} is not the IANA name of a time zone")]
    TimeZone(String),
    /// Nothing lies between its dates.
    #[error("must be later than the first date")]
    Empty,
    /// Too many periods.
    #[error("makes more than {MAX_PERIODS} periods")]
    TooLong,
    /// The holders of a period would be recorded before it begins.
    #[error("must be shorter than every period")]
    Lead,
    /// A date beyond what can be counted.
    #[error("lies outside of the calendar")]
    Range,
}

// === impl Calendar ===

impl Calendar {
    /// Its periods, in order. A month that is too short ends the period on its last day; the day of the first date counts for every period.
    pub fn periods(&self) -> Result<Vec<CalendarPeriod>, CalendarError> {
        let zone = TimeZone::get(&self.time_zone).map_err(|_| CalendarError::TimeZone(self.time_zone.clone()))?;
        if self.last_date <= self.first_date {
            return Err(CalendarError::Empty);
        }
        let (mut periods, mut from) = (Vec::new(), self.first_date);
        while from < self.last_date {
            if periods.len() == MAX_PERIODS {
                return Err(CalendarError::TooLong);
            }
            let months = (periods.len() as i64 + 1) * i64::from(self.months.max(1));
            let whole = self.first_date.checked_add(Span::new().months(months)).map_err(|_| CalendarError::Range)?;
            let to = whole.min(self.last_date);
            let record =
                to.checked_sub(Span::new().days(i64::from(self.lead_days))).map_err(|_| CalendarError::Range)?;
            if record <= from {
                return Err(CalendarError::Lead);
            }
            let year = self.day_count.fraction(from, to);
            periods.push(CalendarPeriod {
                from,
                to,
                record_date: midnight(record, &zone)?,
                due_at: midnight(to, &zone)?,
                year,
            });
            from = to;
        }
        Ok(periods)
    }
}

/// What a supply is due for a part of a year, for a rate of a year in the contract's units; rounded down. A
/// dividend divides this sum, so a holder may get a base unit less than by their own units and the rate, never more; what is cut off stays
/// in the treasury.
pub fn due_for(supply: U256, annual_ratio: U256, year: YearFraction) -> Result<u128, EntitlementError> {
    let numerator = annual_ratio.checked_mul(U256::from(year.days)).ok_or(EntitlementError::TooMuch)?;
    Fraction { numerator, denominator: U256::from(ONE) * U256::from(year.year) }.due(supply)
}

/// The beginning of a day, which in some zones is not at midnight on some days.
fn midnight(date: Date, zone: &TimeZone) -> Result<u64, CalendarError> {
    let begins = date.to_zoned(zone.clone()).map_err(|_| CalendarError::Range)?;
    u64::try_from(begins.timestamp().as_second()).map_err(|_| CalendarError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calendar(first: &str, last: &str, months: u8, time_zone: &str) -> Calendar {
        Calendar {
            first_date: first.parse().unwrap(),
            last_date: last.parse().unwrap(),
            months,
            time_zone: time_zone.into(),
            day_count: DayCount::Act365,
            annual_rate: "50".parse().unwrap(),
            lead_days: 1,
        }
    }

    fn ends(calendar: &Calendar) -> Vec<String> {
        calendar.periods().unwrap().iter().map(|period| period.to.to_string()).collect()
    }

    #[test]
    fn the_day_of_the_first_date_counts_for_every_period() {
        let quarters = calendar("2026-08-31", "2027-08-31", 3, "Europe/Zurich");
        assert_eq!(ends(&quarters), ["2026-11-30", "2027-02-28", "2027-05-31", "2027-08-31"], "no drift to the 28th");
        let stub = calendar("2026-01-15", "2026-08-01", 3, "UTC");
        assert_eq!(ends(&stub), ["2026-04-15", "2026-07-15", "2026-08-01"]);
    }

    #[test]
    fn midnights_are_those_of_the_zone_that_is_named() {
        let due = |zone| calendar("2026-01-15", "2026-07-15", 6, zone).periods().unwrap()[0].due_at;
        let utc = 1_784_073_600; // 2026-07-15T00:00:00Z
        assert_eq!(due("UTC"), utc);
        assert_eq!(due("Europe/Zurich"), utc - 2 * 3_600, "summer time");
        assert_eq!(due("America/New_York"), utc + 4 * 3_600);
        // Midnight does not exist on that day there: the clocks go from 0:00 to 1:00.
        let gap = calendar("2025-09-01", "2026-09-06", 12, "America/Santiago").periods().unwrap();
        assert_eq!(gap.last().map(|period| period.due_at), Some(1_788_667_200), "the day begins at 1:00, 4:00 UTC");
    }

    #[test]
    fn a_calendar_that_cannot_be_kept_says_why() {
        let of = |calendar: Calendar| calendar.periods().unwrap_err();
        assert!(matches!(of(calendar("2026-01-01", "2027-01-01", 3, "Mars/Olympus")), CalendarError::TimeZone(_)));
        assert_eq!(of(calendar("2026-01-01", "2026-01-01", 3, "UTC")), CalendarError::Empty);
        assert_eq!(of(calendar("2026-01-01", "2030-01-01", 1, "UTC")), CalendarError::TooLong);
        let long = Calendar { lead_days: 31, ..calendar("2026-01-01", "2026-06-01", 1, "UTC") };
        assert_eq!(of(long), CalendarError::Lead);
    }

    #[test]
    fn a_year_is_paid_by_its_days() {
        // 5 percent of 1,000 for 182 days of 365, for 7 bonds in cents: 50.00 * 182 / 365 * 7 = 174.52 (rounded down).
        let ratio = U256::from(5_000) * U256::from(ONE);
        let year = YearFraction { days: 182, year: 365 };
        assert_eq!(due_for(U256::from(7), ratio, year), Ok(17_452));
        assert_eq!(due_for(U256::from(7), ratio, YearFraction { days: 360, year: 360 }), Ok(35_000));
        assert_eq!(due_for(U256::MAX, U256::MAX, year), Err(EntitlementError::TooMuch));
    }

    proptest! {
        #[test]
        fn periods_follow_each_other_without_gap_or_overlap(start in 0..9_000_i32, days in 1..900_i32, months in 1..12_u8) {
            let at = |days: i32| jiff::civil::date(2024, 1, 1).checked_add(Span::new().days(days)).unwrap();
            let asked = Calendar { lead_days: 0, first_date: at(start), last_date: at(start + days), ..calendar("2026-01-01", "2026-02-01", months, "Europe/Zurich") };
            let periods = asked.periods().unwrap();
            prop_assert_eq!(periods[0].from, asked.first_date);
            prop_assert_eq!(periods[periods.len() - 1].to, asked.last_date);
            for pair in periods.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
                prop_assert!(pair[0].due_at < pair[1].due_at);
            }
            let counted: u32 = periods.iter().map(|period| period.year.days).sum();
            prop_assert_eq!(i64::from(counted), i64::from(days));
        }
    }
}
