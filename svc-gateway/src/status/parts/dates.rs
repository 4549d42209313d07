//! What is due: coupons and redemptions, and the cutoffs of settlements.

use dalp_proto::{
    distribution::{
        DuePayment, DueState, ListDuePaymentsRequest, ListTreasuriesRequest, PayoutKind,
        treasury_service_client::TreasuryServiceClient,
    },
    settlement::{
        Attention, ListAttentionRequest, ListSettlementsRequest, ListedSettlement, SettlementState,
        settlement_service_client::SettlementServiceClient,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::Status;

use super::{AT_ONCE, Cell, Mark, Shown, Table};
use crate::status::inside::Calls;

const TREASURIES: u32 = 200;
const PAYMENTS: u32 = 500;
/// Pages of a treasury's payments that are looked through: those that were paid come first.
const PAGES: usize = 4;
const SETTLEMENTS: u32 = 500;
const ROWS: usize = 20;

pub(super) async fn coupons(calls: Calls) -> Result<Shown, Status> {
    let client = TreasuryServiceClient::new(calls);
    let request = ListTreasuriesRequest { page_size: TREASURIES, ..ListTreasuriesRequest::default() };
    let found = client.clone().list_treasuries(request).await?.into_inner();
    let more = !found.next_page_token.is_empty();
    let asked = found.treasuries.into_iter().map(|one| due(client.clone(), one.treasury));
    let due: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(of_payments(due.into_iter().flatten().collect(), more))
}

/// What of a treasury waits to be paid.
async fn due(mut client: TreasuryServiceClient<Calls>, treasury: String) -> Result<Vec<(String, DuePayment)>, Status> {
    let (mut due, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        let request = ListDuePaymentsRequest { treasury: treasury.clone(), page_size: PAYMENTS, page_token: token };
        let page = client.list_due_payments(request).await?.into_inner();
        let waiting = page.payments.into_iter().filter(|one| one.state() == DueState::Waiting);
        due.extend(waiting.map(|one| (treasury.clone(), one)));
        token = page.next_page_token;
        // By the time at which they are due: those behind are later.
        if token.is_empty() || due.len() >= ROWS {
            break;
        }
    }
    Ok(due)
}

fn of_payments(mut due: Vec<(String, DuePayment)>, more: bool) -> Shown {
    due.sort_by_key(|(_, one)| one.due_at);
    let short = due.iter().filter(|(_, one)| one.short).count();
    let rows = due.iter().take(ROWS).map(|(treasury, one)| {
        let what = match one.kind() {
            PayoutKind::Coupon | PayoutKind::Unspecified => format!("coupon {}", one.period),
            PayoutKind::Dividend => format!("dividend {}", one.period),
            PayoutKind::Redemption => "redemption".to_owned(),
        };
        let stands = match (one.short, one.error_reason.as_str()) {
            (true, _) => Cell::marked(Mark::Bad, "the treasury could not make it"),
            (false, "") => Cell::marked(Mark::Good, "starts when it is due"),
            (false, reason) => Cell::marked(Mark::Warning, reason),
        };
        vec![Cell::text(treasury), Cell::text(what), Cell::at(one.due_at), Cell::at(one.record_date), stands]
    });
    Shown {
        alert: if short > 0 { "a treasury lacks money for a payment".to_owned() } else { String::new() },
        tables: vec![Table {
            caption: "Upcoming payments",
            columns: &["Treasury", "What", "Due", "Record date", "Stands"],
            rows: rows.collect(),
            empty: "No schedule has a payment ahead.",
            note: match (more, due.len() > ROWS) {
                (true, _) => "The newest 200 treasuries are looked at.",
                (false, true) => "The soonest 20 are shown.",
                (false, false) => "",
            },
        }],
    }
}

pub(super) async fn cutoffs(calls: Calls) -> Result<Shown, Status> {
    let client = SettlementServiceClient::new(calls);
    let list = async |state: SettlementState| {
        let request =
            ListSettlementsRequest { state: state.into(), page_size: SETTLEMENTS, ..ListSettlementsRequest::default() };
        client.clone().list_settlements(request).await.map(tonic::Response::into_inner)
    };
    let attention = async {
        let request = ListAttentionRequest { page_size: ROWS as u32, ..ListAttentionRequest::default() };
        client.clone().list_attention(request).await.map(|answer| answer.into_inner().attention)
    };
    let (active, approved, attention) =
        tokio::try_join!(list(SettlementState::Active), list(SettlementState::Approved), attention)?;
    let more = [&active, &approved].iter().any(|page| !page.next_page_token.is_empty());
    let open = active.settlements.into_iter().chain(approved.settlements).collect();
    Ok(of_settlements(open, more, &attention))
}

fn of_settlements(mut open: Vec<ListedSettlement>, more: bool, attention: &[Attention]) -> Shown {
    let cutoff = |one: &ListedSettlement| {
        one.settlement.as_ref().and_then(|one| one.terms.as_ref()).map_or(0, |terms| terms.cutoff)
    };
    open.sort_by_key(cutoff);
    let rows = open.iter().take(ROWS).map(|one| {
        let settlement = one.settlement.clone().unwrap_or_default();
        let stands = match one.state() {
            SettlementState::Approved => Cell::marked(Mark::Good, "approved"),
            _ => Cell::marked(Mark::Warning, "approvals are missing"),
        };
        let name = settlement.terms.map(|terms| terms.name).unwrap_or_default();
        vec![Cell::text(settlement.settlement_id), Cell::text(name), Cell::at(cutoff(one)), stands]
    });
    let attention = attention.iter().map(|one| {
        let kind = one.kind().as_str_name().trim_start_matches("ATTENTION_KIND_");
        vec![Cell::text(&one.pair_id), Cell::marked(Mark::Warning, kind), Cell::text(&one.detail)]
    });
    Shown {
        alert: String::new(),
        tables: vec![
            Table {
                caption: "Upcoming cutoffs",
                columns: &["Settlement", "Name", "Cutoff", "Stands"],
                rows: rows.collect(),
                empty: "No settlement is open.",
                note: match (more, open.len() > ROWS) {
                    (true, _) => "The newest 500 open settlements of a state are looked at.",
                    (false, true) => "The soonest 20 are shown.",
                    (false, false) => "",
                },
            },
            Table {
                caption: "Exchanges that need attention",
                columns: &["Exchange", "What", "Detail"],
                rows: attention.collect(),
                empty: "No exchange needs attention.",
                note: "",
            },
        ],
    }
}

#[cfg(test)]
mod tests {
    use dalp_proto::settlement::{Settlement, SettlementTerms};

    use super::*;

    #[test]
    fn what_is_due_sooner_stands_first_and_says_what_is_wrong() {
        let payment = |due_at, short, reason: &str| {
            let one = DuePayment { due_at, short, error_reason: reason.to_owned(), ..DuePayment::default() };
            ("0xt".to_owned(), one)
        };
        let shown =
            of_payments(vec![payment(9, false, ""), payment(5, true, ""), payment(7, false, "NOT_FUNDED")], false);
        let stands: Vec<_> = shown.tables[0].rows.iter().map(|row| (&row[2], &row[4])).collect();
        let expected = [
            (Cell::At { at: 5 }, Cell::marked(Mark::Bad, "the treasury could not make it")),
            (Cell::At { at: 7 }, Cell::marked(Mark::Warning, "NOT_FUNDED")),
            (Cell::At { at: 9 }, Cell::marked(Mark::Good, "starts when it is due")),
        ];
        assert_eq!(stands, expected.iter().map(|(at, stands)| (at, stands)).collect::<Vec<_>>());
        assert_eq!(shown.alert, "a treasury lacks money for a payment");
    }

    #[test]
    fn of_many_cutoffs_the_soonest_are_shown() {
        let open = |cutoff| ListedSettlement {
            settlement: Some(Settlement {
                terms: Some(SettlementTerms { cutoff, ..SettlementTerms::default() }),
                ..Settlement::default()
            }),
            ..ListedSettlement::default()
        };
        let shown = of_settlements((1..=30).rev().map(open).collect(), false, &[]);
        let table = &shown.tables[0];
        assert_eq!(
            (table.rows.len(), &table.rows[0][2], &table.rows[19][2]),
            (20, &Cell::At { at: 1 }, &Cell::At { at: 20 })
        );
        assert_eq!(table.note, "The soonest 20 are shown.");
    }
}
