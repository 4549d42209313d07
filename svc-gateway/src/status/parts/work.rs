//! Operations by state; lanes, and what holds them.

use dalp_proto::{
    operation::{
        ListOperationsRequest, ListOperationsResponse, Operation, OperationState,
        operation_service_client::OperationServiceClient,
    },
    operator::{
        BehindApproval, DeadLetter, ExplainLaneRequest, Hold, Lane, LanePolicy, ListDeadLettersRequest,
        ListLanesRequest, ListLanesResponse, operator_service_client::OperatorServiceClient,
    },
    transaction::{ProviderHold, ProviderHoldCause},
};
use dalp_service::Reason;
use futures::{StreamExt as _, stream};
use tonic::Status;

use super::{AT_ONCE, Cell, Mark, Shown, Table, count};
use crate::status::{gathering::said, inside::Calls};

/// Open operations that are counted.
const COUNTED: u32 = 200;
/// Among so many of the latest are those looked for that have ended.
const LATEST: u32 = 200;
/// Rows of a list.
const ROWS: usize = 20;
const LANES: u32 = 500;
/// Lanes that are explained: a node is asked about each.
const EXPLAINED: usize = 10;

pub(super) async fn operations(calls: Calls) -> Result<Shown, Status> {
    let list = async |state: OperationState, page_size: u32| {
        let mut client = OperationServiceClient::new(calls.clone());
        let request = ListOperationsRequest { page_size, state: state.into(), ..ListOperationsRequest::default() };
        client.list_operations(request).await.map(tonic::Response::into_inner)
    };
    let (running, awaiting, latest) = tokio::try_join!(
        list(OperationState::Running, COUNTED),
        list(OperationState::AwaitingChecker, COUNTED),
        list(OperationState::Unspecified, LATEST),
    )?;
    Ok(of_operations(&running, &awaiting, &latest.operations))
}

fn of_operations(running: &ListOperationsResponse, awaiting: &ListOperationsResponse, latest: &[Operation]) -> Shown {
    let open = |name: &str, list: &ListOperationsResponse| {
        let more = !list.next_page_token.is_empty();
        vec![Cell::text(name), count(list.operations.len(), more), Cell::text("all that are open")]
    };
    let ended = |name: &str, state: OperationState| {
        let found = latest.iter().filter(|one| one.state() == state).count();
        vec![Cell::text(name), Cell::text(found), Cell::text(format!("the latest {}", latest.len()))]
    };
    let by_state = vec![
        open("Running", running),
        open("Awaiting a checker", awaiting),
        ended("Completed", OperationState::Completed),
        ended("Failed", OperationState::Failed),
        ended("Cancelled", OperationState::Cancelled),
    ];
    let held = awaiting.operations.iter().take(ROWS).map(|one| {
        let check = one.check.as_ref();
        let policies = check.map(|check| check.policies.join(", ")).unwrap_or_default();
        vec![
            Cell::text(&one.operation_id),
            Cell::text(&one.kind),
            Cell::text(&one.principal),
            Cell::text(policies),
            Cell::since(one.created_at.as_ref()),
            Cell::since(check.and_then(|check| check.expires_at.as_ref())),
        ]
    });
    let failed = latest.iter().filter(|one| one.state() == OperationState::Failed).take(ROWS).map(|one| {
        let reason = one.error.as_ref().map(|error| error.reason.as_str()).unwrap_or_default();
        vec![
            Cell::text(&one.operation_id),
            Cell::text(&one.kind),
            Cell::marked(Mark::Bad, reason),
            Cell::since(one.updated_at.as_ref()),
        ]
    });
    Shown {
        alert: String::new(),
        tables: vec![
            Table {
                caption: "Operations by state",
                columns: &["State", "How many", "Among"],
                rows: by_state,
                empty: "",
                note: "",
            },
            Table {
                caption: "Held for a second person",
                columns: &["Operation", "Kind", "Asked by", "Policies", "Since", "Until"],
                rows: held.collect(),
                empty: "No policy holds an operation.",
                note: if awaiting.operations.len() > ROWS { "The newest 20 are shown." } else { "" },
            },
            Table {
                caption: "Latest failures",
                columns: &["Operation", "Kind", "Reason", "When"],
                rows: failed.collect(),
                empty: "None of the latest operations has failed.",
                note: "",
            },
        ],
    }
}

async fn list(calls: &Calls, busy_only: bool) -> Result<ListLanesResponse, Status> {
    let mut client = OperatorServiceClient::new(calls.clone());
    let request = ListLanesRequest { page_size: LANES, busy_only, ..ListLanesRequest::default() };
    Ok(client.list_lanes(request).await?.into_inner())
}

/// The lanes with work; where a tenant has few lanes, all that do not rest.
pub(super) async fn busy_lanes(calls: &Calls) -> Result<(Vec<Lane>, bool), Status> {
    let all = list(calls, false).await?;
    let found = if all.next_page_token.is_empty() { all } else { list(calls, true).await? };
    let more = !found.next_page_token.is_empty();
    Ok((found.lanes.into_iter().filter(|lane| !rests(lane)).collect(), more))
}

pub(super) async fn lanes(calls: Calls) -> Result<Shown, Status> {
    let (lanes, more) = busy_lanes(&calls).await?;
    Ok(of_lanes(&lanes, more))
}

fn of_lanes(lanes: &[Lane], more: bool) -> Shown {
    let waiting = lanes.iter().filter(|lane| lane.provider_hold.is_some()).count();
    let paused = lanes.iter().filter(|lane| lane.pause.is_some()).count();
    let told =
        [(waiting, "held at a custody provider"), (paused, "paused")].into_iter().filter_map(
            |(count, what)| match count {
                0 => None,
                1 => Some(format!("1 lane is {what}")),
                _ => Some(format!("{count} lanes are {what}")),
            },
        );
    let rows = lanes.iter().map(|lane| {
        let (held, since) = held_by(lane);
        vec![
            Cell::text(name(lane.chain_id, &lane.sender)),
            held,
            since,
            Cell::text(lane.queued),
            Cell::text(lane.in_flight),
            Cell::text(lane.confirming),
            Cell::since(lane.oldest_at.as_ref()),
            Cell::text(behind_approval(lane)),
        ]
    });
    Shown {
        alert: told.collect::<Vec<_>>().join(", "),
        tables: vec![Table {
            caption: "Lanes that do not rest",
            columns: &[
                "Lane",
                "Held by",
                "Held since",
                "Waiting",
                "In flight",
                "Confirming",
                "Oldest since",
                "Behind an approval",
            ],
            rows: rows.collect(),
            empty: "Every lane rests: nothing waits, nothing is paused.",
            note: if more { "There are more lanes with work than the first 500." } else { "" },
        }],
    }
}

/// What becomes of requests while an approval holds the lane.
fn behind_approval(lane: &Lane) -> &'static str {
    match lane.policy.as_ref().map(LanePolicy::behind_approval) {
        Some(BehindApproval::Refuse) => "refused",
        Some(BehindApproval::Queue | BehindApproval::Unspecified) | None => "queued",
    }
}

fn rests(lane: &Lane) -> bool {
    lane.queued + lane.in_flight + lane.confirming == 0 && lane.pause.is_none() && lane.provider_hold.is_none()
}

pub(super) fn name(chain_id: u64, sender: &str) -> String {
    format!("{chain_id}/{sender}")
}

/// What holds a lane as far as the database tells, and since when.
fn held_by(lane: &Lane) -> (Cell, Cell) {
    if let Some(hold) = &lane.provider_hold {
        return (Cell::marked(Mark::Warning, at_provider(hold)), Cell::since(hold.since.as_ref()));
    }
    match &lane.pause {
        Some(pause) => {
            let why = format!("paused by {}: {}", pause.by, pause.reason);
            (Cell::marked(Mark::Warning, why), Cell::since(pause.at.as_ref()))
        }
        None => (Cell::none(), Cell::none()),
    }
}

/// Of what waits at a provider: for what, at which.
pub(super) fn at_provider(hold: &ProviderHold) -> String {
    let provider = provider(hold);
    match hold.cause() {
        ProviderHoldCause::Blocked => format!("blocked at {provider} until an operator acts there"),
        ProviderHoldCause::Approval | ProviderHoldCause::Unspecified => {
            format!("{} at {provider}", Reason::CustodyApprovalPending.as_str())
        }
    }
}

/// The name of the provider that something waits at.
pub(super) fn provider(hold: &ProviderHold) -> String {
    hold.provider().as_str_name().trim_start_matches("KEY_PROVIDER_").to_ascii_lowercase()
}

/// What holds the lanes that wait longest, as ExplainLane tells it, and what waits for an operator's decision.
pub(super) async fn holds(calls: Calls) -> Result<Shown, Status> {
    let client = OperatorServiceClient::new(calls.clone());
    let (mut lanes, _) = busy_lanes(&calls).await?;
    lanes.retain(|lane| lane.queued + lane.in_flight > 0 || lane.pause.is_some());
    let left_out = lanes.len() > EXPLAINED;
    lanes.sort_by_key(|lane| lane.oldest_at.as_ref().map_or(i64::MAX, |at| at.seconds));
    lanes.truncate(EXPLAINED);
    let explained = lanes.into_iter().map(|lane| {
        let mut client = client.clone();
        async move {
            let request = ExplainLaneRequest { chain_id: lane.chain_id, sender: lane.sender.clone() };
            let answer = client.explain_lane(request).await.map(|answer| answer.into_inner().holds);
            of_lane(&name(lane.chain_id, &lane.sender), answer)
        }
    });
    let explained: Vec<_> = stream::iter(explained).buffered(AT_ONCE).collect().await;
    let request = ListDeadLettersRequest { page_size: ROWS as u32, ..ListDeadLettersRequest::default() };
    let letters = client.clone().list_dead_letters(request).await?.into_inner().dead_letters;
    Ok(Shown {
        alert: String::new(),
        tables: vec![
            Table {
                caption: "What holds lanes",
                columns: &["Lane", "Held by", "What", "What to do"],
                rows: explained.into_iter().flatten().collect(),
                empty: "Nothing holds a lane.",
                note: if left_out { "Of the lanes with work, the 10 that wait longest are looked at." } else { "" },
            },
            of_letters(&letters),
        ],
    })
}

fn of_lane(name: &str, answer: Result<Vec<Hold>, Status>) -> Vec<Vec<Cell>> {
    match answer {
        Ok(holds) => holds
            .iter()
            .map(|hold| {
                let kind = hold.kind().as_str_name().trim_start_matches("HOLD_KIND_");
                let what = Cell::marked(Mark::Warning, kind);
                vec![Cell::text(name), what, Cell::text(&hold.message), Cell::text(&hold.remedy)]
            })
            .collect(),
        // It went to rest meanwhile, or cannot be told of; the others can.
        Err(status) => vec![vec![Cell::text(name), Cell::none(), Cell::text(said(&status)), Cell::none()]],
    }
}

fn of_letters(letters: &[DeadLetter]) -> Table {
    let rows = letters.iter().map(|letter| {
        let reason = letter.error.as_ref().map_or(letter.sub_status.as_str(), |error| error.reason.as_str());
        vec![
            Cell::text(&letter.id),
            Cell::text(&letter.operation_kind),
            Cell::marked(Mark::Bad, reason),
            Cell::since(letter.parked_at.as_ref()),
        ]
    });
    Table {
        caption: "Parked until somebody decides",
        columns: &["Dead letter", "Kind", "Reason", "Since"],
        rows: rows.collect(),
        empty: "Nothing is parked.",
        note: if letters.len() == ROWS { "The latest 20 are shown." } else { "" },
    }
}

#[cfg(test)]
mod tests {
    use dalp_proto::{operator::Pause, signer::KeyProvider};
    use prost_types::Timestamp;

    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn held(cause: ProviderHoldCause) -> Lane {
        let hold = ProviderHold {
            provider: KeyProvider::Dfns.into(),
            cause: cause.into(),
            since: at(7),
            ..ProviderHold::default()
        };
        Lane { chain_id: 5, sender: "0xab".to_owned(), in_flight: 1, provider_hold: Some(hold), ..Lane::default() }
    }

    #[test]
    fn a_held_lane_says_at_which_provider_it_waits_and_since_when() {
        let shown = of_lanes(&[held(ProviderHoldCause::Approval)], false);
        assert_eq!(shown.alert, "1 lane is held at a custody provider");
        let row = &shown.tables[0].rows[0];
        assert_eq!(row[0], Cell::text("5/0xab"));
        assert_eq!(row[1], Cell::marked(Mark::Warning, "CUSTODY_APPROVAL_PENDING at dfns"));
        assert_eq!(row[2], Cell::At { at: 7 });
        assert_eq!(row[7], Cell::text("queued"));
        let policy = LanePolicy { behind_approval: BehindApproval::Refuse.into(), ..LanePolicy::default() };
        let refusing = Lane { policy: Some(policy), ..held(ProviderHoldCause::Approval) };
        assert_eq!(of_lanes(&[refusing], false).tables[0].rows[0][7], Cell::text("refused"));
        let blocked = of_lanes(&[held(ProviderHoldCause::Blocked)], false);
        assert_eq!(
            blocked.tables[0].rows[0][1],
            Cell::marked(Mark::Warning, "blocked at dfns until an operator acts there")
        );
    }

    #[test]
    fn a_paused_lane_does_not_rest_and_others_do() {
        let pause = Pause { by: "anna".to_owned(), reason: "audit".to_owned(), at: at(3) };
        let paused = Lane { pause: Some(pause), ..Lane::default() };
        assert!(!rests(&paused) && rests(&Lane::default()) && !rests(&held(ProviderHoldCause::Approval)));
        let shown = of_lanes(&[paused.clone(), paused], true);
        assert_eq!(shown.alert, "2 lanes are paused");
        assert_eq!(shown.tables[0].rows[0][1], Cell::marked(Mark::Warning, "paused by anna: audit"));
        assert!(!shown.tables[0].note.is_empty(), "there are more");
    }

    #[test]
    fn operations_are_counted_by_state() {
        let of = |state: OperationState| Operation { state: state.into(), ..Operation::default() };
        let running = ListOperationsResponse {
            operations: vec![of(OperationState::Running); 3],
            next_page_token: "more".to_owned(),
        };
        let latest = [of(OperationState::Completed), of(OperationState::Failed), of(OperationState::Completed)];
        let shown = of_operations(&running, &ListOperationsResponse::default(), &latest);
        let counts: Vec<_> = shown.tables[0].rows.iter().map(|row| &row[1]).collect();
        let expected = ["3 or more", "0", "2", "1", "0"].map(Cell::text);
        assert_eq!(counts, expected.iter().collect::<Vec<_>>());
        assert_eq!((shown.tables[1].rows.len(), shown.tables[2].rows.len()), (0, 1));
    }

    #[test]
    fn a_lane_that_cannot_be_explained_says_why() {
        let rows = of_lane("5/0xab", Err(Status::not_found("the tenant has no such lane")));
        assert_eq!(rows[0][2], Cell::text("the tenant has no such lane"));
        assert!(of_lane("5/0xab", Ok(Vec::new())).is_empty());
    }
}
