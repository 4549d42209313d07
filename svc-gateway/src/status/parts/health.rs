//! Whether everything is well, as the doctor tells it, and which feeds are stale.

use dalp_proto::{
    feeds::{
        DirectoryEntry, GetLatestRequest, GetLatestResponse, ListFeedsRequest,
        feed_directory_service_client::FeedDirectoryServiceClient, feed_service_client::FeedServiceClient,
    },
    operator::{DoctorRequest, DoctorResponse, Verdict, operator_service_client::OperatorServiceClient},
};
use dalp_service::{Reason, Refusal};
use futures::{StreamExt as _, stream};
use tonic::Status;

use super::{AT_ONCE, Cell, Mark, Shown, Table};
use crate::status::{gathering::said, inside::Calls};

/// Feeds that are looked at: each is a call.
const FEEDS: u32 = 50;

pub(super) async fn health(calls: Calls) -> Result<Shown, Status> {
    Ok(of_findings(&OperatorServiceClient::new(calls).doctor(DoctorRequest {}).await?.into_inner()))
}

fn of_findings(answer: &DoctorResponse) -> Shown {
    let rows = answer.findings.iter().map(|finding| {
        vec![
            Cell::text(format!("{}: {}", finding.service, finding.subject)),
            verdict(finding.verdict()),
            Cell::text(&finding.detail),
            Cell::text(&finding.remedy),
        ]
    });
    let failing = answer.findings.iter().filter(|one| one.verdict() == Verdict::Failing).count();
    Shown {
        alert: match failing {
            0 => String::new(),
            1 => "1 finding is failing".to_owned(),
            _ => format!("{failing} findings are failing"),
        },
        tables: vec![Table {
            caption: "Services, nodes, certificates and keys",
            columns: &["Subject", "Verdict", "Detail", "What to do"],
            rows: rows.collect(),
            empty: "Nothing was examined.",
            note: "",
        }],
    }
}

fn verdict(verdict: Verdict) -> Cell {
    match verdict {
        Verdict::Ok => Cell::marked(Mark::Good, "ok"),
        Verdict::Warning => Cell::marked(Mark::Warning, "warning"),
        Verdict::Failing | Verdict::Unspecified => Cell::marked(Mark::Bad, "failing"),
    }
}

pub(super) async fn feeds(calls: Calls) -> Result<Shown, Status> {
    let request = ListFeedsRequest { page_size: FEEDS, ..ListFeedsRequest::default() };
    let found = FeedDirectoryServiceClient::new(calls.clone()).list_feeds(request).await?.into_inner();
    let client = FeedServiceClient::new(calls);
    let asked = found.entries.into_iter().map(|entry| {
        let mut client = client.clone();
        async move {
            let feed = entry.feed.as_ref().map(|feed| feed.feed.clone()).unwrap_or_default();
            let latest = client.get_latest(GetLatestRequest { feed, max_age_s: 0 }).await;
            of_feed(&entry, latest.map(tonic::Response::into_inner))
        }
    });
    let rows: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    Ok(Shown {
        alert: String::new(),
        tables: vec![Table {
            caption: "Feeds",
            columns: &["Feed", "About", "State", "Observed", "Stale after"],
            rows,
            empty: "No pair has a feed.",
            note: if found.next_page_token.is_empty() { "" } else { "The first 50 feeds are looked at." },
        }],
    })
}

fn of_feed(entry: &DirectoryEntry, latest: Result<GetLatestResponse, Status>) -> Vec<Cell> {
    let feed = entry.feed.clone().unwrap_or_default();
    let name = if feed.description.is_empty() { feed.feed } else { feed.description };
    let about = if feed.subject.is_empty() { "everything".to_owned() } else { feed.subject };
    let (state, observed) = match latest {
        Ok(latest) if latest.stale => (Cell::marked(Mark::Bad, "stale"), Cell::at(latest.observed_at)),
        Ok(latest) if latest.max_age_s == 0 => (Cell::text("not watched"), Cell::at(latest.observed_at)),
        Ok(latest) => (Cell::marked(Mark::Good, "fresh"), Cell::at(latest.observed_at)),
        Err(status) => match Refusal::details(&status) {
            Some(details) if details.reason == Reason::FeedRoundUnavailable.as_str() => {
                (Cell::marked(Mark::Warning, "has no value yet"), Cell::none())
            }
            _ => (Cell::marked(Mark::Bad, said(&status)), Cell::none()),
        },
    };
    let threshold = match feed.stale_after_s {
        0 => Cell::none(),
        seconds => Cell::text(format!("{seconds} s")),
    };
    vec![Cell::text(name), Cell::text(about), state, observed, threshold]
}

#[cfg(test)]
mod tests {
    use dalp_proto::{feeds::Feed, operator::Finding};

    use super::*;

    #[test]
    fn a_feed_says_how_it_stands() {
        let entry = DirectoryEntry {
            feed: Some(Feed { description: "EUR/USD".to_owned(), stale_after_s: 60, ..Feed::default() }),
            ..DirectoryEntry::default()
        };
        let state = |latest| of_feed(&entry, latest).swap_remove(2);
        let latest = GetLatestResponse { observed_at: 5, max_age_s: 60, ..GetLatestResponse::default() };
        assert_eq!(state(Ok(latest.clone())), Cell::marked(Mark::Good, "fresh"));
        assert_eq!(state(Ok(GetLatestResponse { stale: true, ..latest.clone() })), Cell::marked(Mark::Bad, "stale"));
        assert_eq!(state(Ok(GetLatestResponse { max_age_s: 0, ..latest })), Cell::text("not watched"));
        let none = Refusal::new(Reason::FeedRoundUnavailable, "none").to_status();
        assert_eq!(state(Err(none)), Cell::marked(Mark::Warning, "has no value yet"));
        assert_eq!(state(Err(Status::unavailable("away"))), Cell::marked(Mark::Bad, "away"));
    }

    #[test]
    fn what_fails_is_told() {
        let finding = |verdict: Verdict| Finding { verdict: verdict.into(), ..Finding::default() };
        let of = |verdicts: &[Verdict]| {
            let findings = verdicts.iter().map(|verdict| finding(*verdict)).collect();
            of_findings(&DoctorResponse { findings, ..DoctorResponse::default() })
        };
        assert_eq!(of(&[Verdict::Ok, Verdict::Warning]).alert, "");
        assert_eq!(of(&[Verdict::Failing]).alert, "1 finding is failing");
        let shown = of(&[Verdict::Failing, Verdict::Failing, Verdict::Ok]);
        assert_eq!((shown.alert.as_str(), shown.tables[0].rows.len()), ("2 findings are failing", 3));
    }
}
