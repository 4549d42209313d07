//! Running steps: a progress line each, and a row of the report.

use std::time::Instant;

use dalp_proto::operation::{Operation, OperationState};

use crate::report::StepRow;

/// What a step came to.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// In the words that `expected` uses, for instance `completed` or `refused COMPLIANCE_REFUSED CountryRule`.
    pub got: String,
    /// Hash of the last transaction.
    pub tx_hash: Option<String>,
    /// Gas of all transactions.
    pub gas_used: Option<u64>,
}

/// The rows so far.
#[derive(Debug, Default)]
pub struct Steps {
    rows: Vec<StepRow>,
}

// === impl Outcome ===

impl Outcome {
    /// An outcome without a transaction.
    #[must_use]
    pub fn said(got: impl Into<String>) -> Self {
        Self { got: got.into(), ..Self::default() }
    }

    /// The outcome of an operation that is final.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        let got = match operation.state() {
            OperationState::Completed => "completed".to_owned(),
            OperationState::Cancelled => "cancelled".to_owned(),
            OperationState::Failed => refusal(operation),
            OperationState::AwaitingChecker => "held for a second person".to_owned(),
            OperationState::Running | OperationState::Unspecified => "still running".to_owned(),
        };
        let gas: u64 = operation.transactions.iter().filter_map(|transaction| transaction.gas_used).sum();
        Self {
            got,
            tx_hash: operation
                .transactions
                .iter()
                .rev()
                .map(|transaction| transaction.tx_hash.clone())
                .find(|hash| !hash.is_empty()),
            gas_used: (gas > 0).then_some(gas),
        }
    }
}

/// `refused <REASON> <module> <module reason>`, and whether anything was signed for it.
fn refusal(operation: &Operation) -> String {
    let error = operation.error.clone().unwrap_or_default();
    let mut words = vec!["refused".to_owned(), error.reason.clone()];
    words.extend(["module", "module_reason"].iter().filter_map(|key| error.metadata.get(*key).cloned()));
    if operation.transactions.iter().any(|transaction| transaction.nonce.is_some() || !transaction.tx_hash.is_empty()) {
        words.push("(but a nonce was used)".to_owned());
    }
    words.join(" ")
}

// === impl Steps ===

impl Steps {
    /// Runs one step and says on standard output how it went. A step that errs is a row like the others; the scenario goes on as far as it can.
    pub async fn run<F>(&mut self, name: &str, expected: &str, step: F) -> bool
    where
        F: Future<Output = anyhow::Result<Outcome>>,
    {
        let begun = Instant::now();
        let outcome = step.await.unwrap_or_else(|error| Outcome::said(format!("error: {error:#}")));
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ok = outcome.got == expected;
        say(&format!("{} {name} ({elapsed_ms} ms)", if ok { "ok  " } else { "FAIL" }));
        if !ok {
            say(&format!("     expected: {expected}\n     got:      {}", outcome.got));
        }
        self.rows.push(StepRow {
            name: name.to_owned(),
            expected: expected.to_owned(),
            got: outcome.got,
            ok,
            tx_hash: outcome.tx_hash,
            gas_used: outcome.gas_used,
            elapsed_ms,
        });
        ok
    }

    /// The rows, at the end.
    #[must_use]
    pub fn into_rows(self) -> Vec<StepRow> {
        self.rows
    }
}

/// A line for the person who watches.
#[allow(clippy::print_stdout)] // a command-line tool talks on standard output
pub(crate) fn say(line: &str) {
    println!("{line}");
}
