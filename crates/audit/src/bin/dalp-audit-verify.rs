//! `dalp-audit-verify --public-key 0x04... export.jsonl`: whether an export of the audit log is what was sealed.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command-line tool answers on its standard output")]

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use dalp_audit::{
    export::{Line, LineError, SignedRoot},
    root::AuditKey,
    verify::Verifier,
};

/// Something is not as it was sealed.
const FOUND: u8 = 1;
/// The input cannot be read. (2 is the usage of the command.)
const UNREADABLE: u8 = 3;

/// Verifies an export of the audit log against the public key of the signer's audit key. It needs no network and no database.
///
/// Finds rows that were changed, dropped or reordered since they were sealed, roots that are not signed by the key, an export that was cut,
/// and, with --roots, a log that does not continue what was kept from earlier.
///
/// Exit codes: 0 everything holds, 1 something does not (each finding is a line), 2 wrong usage, 3 the input cannot be read.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The public key of the audit key (0x and 130 hex digits, as KeyService.GetKey tells it), or its address. May be given several times:
    /// the log of a tenant whose key was replaced has roots of each.
    #[arg(long = "public-key", required = true)]
    public_keys: Vec<AuditKey>,
    /// Roots that were kept from earlier: an earlier export, or lines of it. The log must continue each of them.
    #[arg(long)]
    roots: Option<PathBuf>,
    /// Answers with one JSON document.
    #[arg(long)]
    json: bool,
    /// The export, one JSON document a line, as `dalp audit export-leaves --json` or GET /v1/audit/leaves:export writes it. `-`: standard input.
    export: PathBuf,
}

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path}: holds no root to compare with")]
    NoRoots { path: String },
    #[error("{path}, line {number}: {source}")]
    Line { path: String, number: usize, source: LineError },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("dalp-audit-verify: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, Unreadable> {
    let mut kept = Vec::new();
    if let Some(path) = &arguments.roots {
        each_line(path, |line| {
            if let Line::Root(root) = line {
                kept.push(root);
            }
        })?;
        if kept.is_empty() {
            return Err(Unreadable::NoRoots { path: path.display().to_string() });
        }
    }
    let summary = verified(arguments, &kept)?;
    let holds = summary.findings.is_empty();
    if arguments.json {
        let findings: Vec<String> = summary.findings.iter().map(ToString::to_string).collect();
        let answer = serde_json::json!({
            "holds": holds, "tenant": summary.tenant, "first_position": summary.first_position, "size": summary.size,
            "leaves": summary.leaves, "roots": summary.roots, "root": format!("0x{}", summary.root), "findings": findings,
        });
        println!("{answer}");
        return Ok(holds);
    }
    summary.findings.iter().for_each(|finding| println!("{finding}"));
    let (leaves, roots, tenant, first) = (summary.leaves, summary.roots, &summary.tenant, summary.first_position);
    match holds {
        true => println!(
            "holds: {leaves} leaves of {tenant} from position {first} on under {roots} signed roots, the last 0x{}",
            summary.root
        ),
        false => println!("DOES NOT HOLD: {} findings in {leaves} leaves of {tenant}", summary.findings.len()),
    }
    Ok(holds)
}

fn verified(arguments: &Arguments, kept: &[SignedRoot]) -> Result<dalp_audit::verify::Summary, Unreadable> {
    let mut verifier = Verifier::new(arguments.public_keys.clone(), kept);
    each_line(&arguments.export, |line| verifier.line(line))?;
    Ok(verifier.finish())
}

fn each_line(path: &Path, mut take: impl FnMut(Line)) -> Result<(), Unreadable> {
    let name = path.display().to_string();
    let unread = |source| Unreadable::File { path: name.clone(), source };
    let input: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(File::open(path).map_err(unread)?)),
    };
    for (index, line) in input.lines().enumerate() {
        let line = line.map_err(unread)?;
        if line.trim().is_empty() {
            continue;
        }
        let read = Line::parse(&line);
        take(read.map_err(|source| Unreadable::Line { path: name.clone(), number: index + 1, source })?);
    }
    Ok(())
}
