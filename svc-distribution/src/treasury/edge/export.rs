//! The reconciliation of a run as a file.

use super::{answers, run_of};
use crate::{
    app::AppHandle,
    treasury::store::{outcomes::StoredEntitlement, runs::StoredRun},
};
use dalp_proto::distribution as proto;
use dalp_service::{Refusal, fields};
use futures::{Stream, TryStreamExt as _, stream};
use serde_json::json;
use std::{fmt::Write as _, pin::Pin};
use tonic::Status;

/// Holders of a piece.
const AT_ONCE: u32 = 500;

/// A stream of pieces.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<proto::ExportRunResponse, Status>> + Send>>;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

struct Position {
    app: AppHandle,
    run: StoredRun,
    format: Format,
    head: Option<String>,
    from: u32,
    done: bool,
}

/// Opens a stream.
pub(super) async fn open(app: &AppHandle, tenant: &str, request: &proto::ExportRunRequest) -> Result<Pieces, Refusal> {
    let format = match fields::enum_value("format", request.format)? {
        proto::ExportFormat::Json => Format::Json,
        proto::ExportFormat::Csv | proto::ExportFormat::Unspecified => Format::Csv,
    };
    let (_, run) = run_of(app.get()?, tenant, &request.treasury, request.run).await?;
    let counts = app.get()?.store.run_counts(app.get()?.chain.chain_id(), &run).await?;
    let head = match format {
        Format::Csv => CSV_HEAD.to_owned(),
        Format::Json => json_head(&run, &answers::reconciliation(&run, &counts)),
    };
    let position = Position { app: app.clone(), run, format, head: Some(head), from: 0, done: false };
    let pieces = stream::try_unfold(position, |mut position| async move {
        if position.done {
            return Ok::<_, Refusal>(None);
        }
        let app = position.app.get()?;
        let page = app.store.entitlements(app.chain.chain_id(), &position.run, position.from, None, AT_ONCE).await?;
        let mut text = position.head.take().unwrap_or_default();
        for one in &page {
            match position.format {
                Format::Csv => csv_row(&mut text, one),
                Format::Json => json_row(&mut text, one),
            }
        }
        match page.last() {
            Some(last) => position.from = last.place + 1,
            None => position.done = true,
        }
        if position.done && position.format == Format::Json {
            text.push_str("\n]}\n");
        }
        Ok(Some((proto::ExportRunResponse { data: text.into_bytes() }, position)))
    });
    Ok(Box::pin(pieces.map_err(Status::from)))
}

const CSV_HEAD: &str = "place,holder,units,amount,outcome,reason,paid_to,paid_amount,tx_hash,block_number\n";

/// Nothing in a row needs quotes: numbers, hex and names of ours.
fn csv_row(text: &mut String, one: &StoredEntitlement) {
    let wire = answers::entitlement(one.clone());
    let outcome = answers::outcome_name(one.outcome);
    let _ = writeln!(
        text,
        "{},{},{},{},{outcome},{},{},{},{},{}",
        wire.place,
        wire.holder,
        wire.units,
        wire.amount,
        wire.reason,
        wire.paid_to,
        wire.paid_amount,
        wire.tx_hash,
        wire.block_number
    );
}

fn json_head(run: &StoredRun, sums: &proto::Reconciliation) -> String {
    let reconciliation = json!({
        "total": sums.total, "paid": sums.paid, "unpaid": sums.unpaid, "rounding": sums.rounding, "difference": sums.difference,
        "deviating": sums.deviating,
    });
    let about = json!({
        "treasury": answers::text(run.treasury), "run": run.run, "kind": run.payout.kind(), "currency": answers::text(run.currency),
        "record_date": run.record_date, "record_block": run.record_block, "record_block_hash": run.record_hash,
        "supply": run.supply.to_string(), "numerator": run.fraction.numerator.to_string(),
        "denominator": run.fraction.denominator.to_string(), "root": run.root,
    });
    format!("{{\"run\":{about},\n\"reconciliation\":{reconciliation},\n\"entitlements\":[")
}

fn json_row(text: &mut String, one: &StoredEntitlement) {
    let wire = answers::entitlement(one.clone());
    let row = json!({
        "place": wire.place, "holder": wire.holder, "units": wire.units, "amount": wire.amount,
        "outcome": answers::outcome_name(one.outcome), "reason": wire.reason, "paid_to": wire.paid_to,
        "paid_amount": wire.paid_amount, "tx_hash": wire.tx_hash, "block_number": wire.block_number,
    });
    let comma = if one.place == 0 { "" } else { "," };
    let _ = write!(text, "{comma}\n{row}");
}
