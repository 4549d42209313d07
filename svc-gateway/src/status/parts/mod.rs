//! The parts of the page: what each asks, how often, and what it shows of the answers. Everything is asked by the calls of the API.

mod custody;
mod dates;
mod health;
mod work;

use std::time::Duration;

use prost_types::Timestamp;
use serde::Serialize;
use tonic::Status;

use super::inside::Calls;

/// The year 10000: what a contract says beyond it no browser shows as a time.
const END_OF_TIME: i64 = 253_402_300_800;
/// Calls of one part that are under way at once.
const AT_ONCE: usize = 8;

/// A section of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Operations,
    Lanes,
    Holds,
    Custody,
    Feeds,
    Coupons,
    Cutoffs,
    Health,
}

/// All of them. Each has the section of its name in `page/status.html`.
pub(super) const PARTS: [Part; 8] = [
    Part::Operations,
    Part::Lanes,
    Part::Holds,
    Part::Custody,
    Part::Feeds,
    Part::Coupons,
    Part::Cutoffs,
    Part::Health,
];

/// What a part shows.
#[derive(Debug, Default, Serialize)]
pub(super) struct Shown {
    /// In one line, told also to who does not see it; empty: nothing is worth that.
    #[serde(skip_serializing_if = "String::is_empty")]
    alert: String,
    tables: Vec<Table>,
}

/// A table. Its first column names the row.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    caption: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    /// Stands in place of rows that are none.
    empty: &'static str,
    /// What is left out; empty: nothing.
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'static str,
}

#[derive(Debug, Serialize, PartialEq)]
#[serde(untagged)]
pub(super) enum Cell {
    Text(String),
    /// Unix seconds, told in the reader's own time.
    At {
        at: i64,
    },
    Marked {
        mark: Mark,
        text: String,
    },
}

/// How something stands. The text says it as well: no colour says anything alone.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Good,
    Warning,
    Bad,
}

// === impl Part ===

impl Part {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Lanes => "lanes",
            Self::Holds => "holds",
            Self::Custody => "custody",
            Self::Feeds => "feeds",
            Self::Coupons => "coupons",
            Self::Cutoffs => "cutoffs",
            Self::Health => "health",
        }
    }

    /// Between two looks: soon where people wait for it, seldom where much is asked or little changes.
    pub(super) const fn every(self) -> Duration {
        Duration::from_secs(match self {
            Self::Operations | Self::Lanes => 1,
            Self::Holds | Self::Custody => 5,
            Self::Feeds | Self::Cutoffs | Self::Health => 10,
            Self::Coupons => 30,
        })
    }

    pub(super) async fn gather(self, calls: Calls) -> Result<Shown, Status> {
        match self {
            Self::Operations => work::operations(calls).await,
            Self::Lanes => work::lanes(calls).await,
            Self::Holds => work::holds(calls).await,
            Self::Custody => custody::custody(calls).await,
            Self::Feeds => health::feeds(calls).await,
            Self::Coupons => dates::coupons(calls).await,
            Self::Cutoffs => dates::cutoffs(calls).await,
            Self::Health => health::health(calls).await,
        }
    }
}

// === impl Cell ===

impl Cell {
    fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    fn marked(mark: Mark, text: impl ToString) -> Self {
        Self::Marked { mark, text: text.to_string() }
    }

    /// Unix seconds; nothing for zero.
    fn at(seconds: u64) -> Self {
        match i64::try_from(seconds) {
            Ok(0) => Self::none(),
            Ok(at) if at < END_OF_TIME => Self::At { at },
            _ => Self::Text(format!("second {seconds}")),
        }
    }

    fn since(at: Option<&Timestamp>) -> Self {
        at.map_or_else(Self::none, |at| Self::at(at.seconds.unsigned_abs()))
    }

    fn none() -> Self {
        Self::Text("–".to_owned())
    }
}

/// A count, of which no more than `most` are looked at.
fn count(found: usize, more: bool) -> Cell {
    Cell::text(if more { format!("{found} or more") } else { found.to_string() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_time_is_one_that_a_browser_can_tell() {
        assert_eq!(Cell::at(0), Cell::none());
        assert_eq!(Cell::at(253_402_300_799), Cell::At { at: 253_402_300_799 });
        assert_eq!(Cell::at(253_402_300_800), Cell::text("second 253402300800"));
        assert_eq!(Cell::at(u64::MAX), Cell::text(format!("second {}", u64::MAX)));
    }

    #[test]
    fn each_part_has_its_section_on_the_page() {
        let page = include_str!("../page/status.html");
        let sections: BTreeSet<_> =
            page.split("data-part=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(sections, PARTS.into_iter().map(Part::name).collect());
    }

    #[test]
    fn cells_are_told_apart_by_what_they_hold() {
        let cells = [Cell::text(7), Cell::at(9), Cell::at(0), Cell::marked(Mark::Bad, "away")];
        let told = serde_json::to_string(&cells).unwrap();
        assert_eq!(told, r#"["7",{"at":9},"–",{"mark":"bad","text":"away"}]"#);
    }
}
