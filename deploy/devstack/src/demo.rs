//! `demo`: the stack, the scenario, a table and a report.

use std::path::Path;

use anyhow::Context as _;
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use crate::report::{Report, StepRow};
use crate::scenario::{self, ChainView, say};
use crate::stack::{Options, Stack};

/// Runs the scenario and writes the report. `Ok(false)`: a step differed from what was expected.
///
/// # Errors
/// When the stack does not start or the report cannot be written.
pub fn run(path: &Path) -> anyhow::Result<bool> {
    crate::up::until_signal(scenario(path))?.context("interrupted; the stack was ended")
}

async fn scenario(path: &Path) -> anyhow::Result<bool> {
    say("starting PostgreSQL, SoftHSM, two development chains and seven processes ...");
    let stack = Stack::start(&Options { second_chain: true, ..Options::default() }).await?;
    let mut report = Report::begin("demo");
    let second = ChainView::new(stack.second_chain_url().context("a second chain was asked for")?)?;
    report.steps = scenario::run(&stack.client()?, &ChainView::new(stack.chain_url())?, &second).await;
    say(&table(&report.steps).to_string());
    let ok = report.steps.iter().all(|step| step.ok);
    report.write(path)?;
    say(&format!("report: {}", path.display()));
    if !ok {
        let kept = path.with_file_name("logs");
        std::fs::create_dir_all(&kept)?;
        for service in stack.services() {
            std::fs::copy(service.log(), kept.join(format!("{}.log", service.name())))?;
        }
        say(&format!("a step differed from what was expected; the services' logs are in {}", kept.display()));
    }
    Ok(ok)
}

fn table(steps: &[StepRow]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    table.set_header(["step", "outcome", "transaction", "gas", "ms"]);
    for step in steps {
        let transaction = step.tx_hash.as_deref().map(|hash| hash.get(..12).unwrap_or(hash).to_owned() + "...");
        let gas = step.gas_used.map(|gas| gas.to_string()).unwrap_or_default();
        let outcome = if step.ok { step.got.clone() } else { format!("FAIL: {}", step.got) };
        table.add_row([
            Cell::new(&step.name),
            Cell::new(outcome),
            Cell::new(transaction.unwrap_or_default()),
            Cell::new(gas).set_alignment(CellAlignment::Right),
            Cell::new(step.elapsed_ms).set_alignment(CellAlignment::Right),
        ]);
    }
    table
}
