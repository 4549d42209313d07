//! How the things are that work depends on: what was seen becomes a verdict with what to do about it. Pure.

use dalp_chain::UpstreamStatus;
use std::time::Duration;
use time::OffsetDateTime;

/// A node this far behind the best one is of little use.
const LAG_BLOCKS: u64 = 5;
/// A chain whose latest block is older than this many block times, and than [`OLD_HEAD`], stands still.
const OLD_HEAD_BLOCKS: u32 = 20;
const OLD_HEAD: Duration = Duration::from_secs(60);
/// Clocks that differ by more make deadlines and leases unreliable.
const SKEW_WARNING: Duration = Duration::from_secs(2);
const SKEW_FAILING: Duration = Duration::from_secs(10);

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Work goes on; somebody should look at it.
    Warning,
    /// Work waits because of it, or soon will.
    Failing,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was examined.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

/// What the database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseReport {
    /// How long it took.
    pub answered_in: Duration,
    /// Its clock.
    pub now: OffsetDateTime,
    /// Our own clock at the same moment.
    pub our_now: OffsetDateTime,
    /// Migrations of this build that it does not have.
    pub missing: Vec<i64>,
    /// Migrations that it has and this build does not know.
    pub unknown: Vec<i64>,
    /// Migrations that have another text here.
    pub changed: Vec<i64>,
}

/// The database of the engine, its schema and its clock.
pub fn database(report: Result<&DatabaseReport, String>) -> Vec<Finding> {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let remedy = "start the database, or see why this service cannot reach it; accepted work is safe and waits";
            return vec![Finding::failing("database", error, remedy)];
        }
    };
    let DatabaseReport { missing, unknown, changed, .. } = report;
    let schema = if !changed.is_empty() {
        let detail = format!("migrations {changed:?} were applied with another text than this build's");
        Finding::failing("database migrations", detail, "run the build that this database belongs to")
    } else if !missing.is_empty() {
        let detail = format!("migrations {missing:?} are missing");
        Finding::failing("database migrations", detail, "restart a service of this build: it applies them at its start")
    } else if !unknown.is_empty() {
        let detail = format!("migrations {unknown:?} are newer than this build");
        Finding::warning("database migrations", detail, "finish the update of the services")
    } else {
        Finding::ok("database migrations", "all applied")
    };
    vec![
        Finding::ok("database", format!("answers in {} ms", report.answered_in.as_millis())),
        schema,
        clock("clock of the database", report.now, report.our_now),
    ]
}

/// A clock, compared with our own.
pub fn clock(subject: &str, theirs: OffsetDateTime, ours: OffsetDateTime) -> Finding {
    let skew = (theirs - ours).unsigned_abs();
    let detail = format!("differs by {} ms", skew.as_millis());
    let remedy = "synchronise the clocks of the hosts (NTP)";
    match skew {
        skew if skew > SKEW_FAILING => Finding::failing(subject, detail, remedy),
        skew if skew > SKEW_WARNING => Finding::warning(subject, detail, remedy),
        _ => Finding::ok(subject, detail),
    }
}

/// The nodes of a chain. Several that fail are worse than one of several.
pub fn nodes(chain_id: u64, nodes: &[UpstreamStatus]) -> Vec<Finding> {
    let highest = nodes.iter().filter(|node| node.is_in_use()).map(|node| node.head).max();
    let alone = nodes.iter().filter(|node| node.is_in_use()).count() == 0;
    nodes.iter().map(|node| of_node(chain_id, node, highest, alone)).collect()
}

fn of_node(chain_id: u64, node: &UpstreamStatus, highest: Option<u64>, none_answers: bool) -> Finding {
    let subject = format!("chain {chain_id} node {}", node.name);
    if let Some(found) = node.wrong_chain {
        let detail = format!("serves chain {found}, so it is out of use");
        return Finding::failing(subject, detail, "correct its url, or the chain_id, in the service's configuration");
    }
    if !node.is_in_use() {
        let detail = format!("does not answer: {} failures in a row", node.consecutive_errors);
        return if none_answers {
            Finding::failing(subject, detail, "start the node or add another: writes wait in QUEUED until one answers")
        } else {
            Finding::warning(subject, detail, "start the node; the others carry on")
        };
    }
    let lag = highest.unwrap_or(node.head).saturating_sub(node.head);
    let detail = format!("chain id is right, head {}, {lag} behind the best, {:.0} ms", node.head, node.latency_ms);
    if lag > LAG_BLOCKS {
        return Finding::warning(subject, detail, "see whether the node still synchronises");
    }
    Finding::ok(subject, detail)
}

/// The age of a chain's latest block.
pub fn head(chain_id: u64, head_at: OffsetDateTime, block_time: Duration, now: OffsetDateTime) -> Finding {
    let subject = format!("chain {chain_id} latest block");
    let age = now - head_at;
    if age.is_negative() && age.unsigned_abs() > SKEW_FAILING {
        let detail = format!("lies {} s ahead of this host's clock", -age.whole_seconds());
        return Finding::failing(subject, detail, "synchronise the clocks of the hosts (NTP)");
    }
    let detail = format!("{} s old", age.whole_seconds().max(0));
    if age > OLD_HEAD.max(block_time * OLD_HEAD_BLOCKS) {
        return Finding::warning(subject, detail, "see whether the chain makes blocks, and the nodes have peers");
    }
    Finding::ok(subject, detail)
}

/// What asking the signer came to.
pub fn signer(answer: Result<Duration, String>) -> Finding {
    match answer {
        Ok(took) => Finding::ok("signer", format!("answers in {} ms", took.as_millis())),
        Err(error) => Finding::failing(
            "signer",
            error,
            "start the signer or see its log; transactions wait in SIGNING until it answers",
        ),
    }
}

// === impl Finding ===

impl Finding {
    /// As it should be.
    pub fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Ok, detail: detail.into(), remedy: String::new() }
    }

    /// Somebody should look at it.
    pub fn warning(subject: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (subject, detail, remedy) = (subject.into(), detail.into(), remedy.into());
        Self { subject, verdict: Verdict::Warning, detail, remedy }
    }

    /// Work waits because of it.
    pub fn failing(subject: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (subject, detail, remedy) = (subject.into(), detail.into(), remedy.into());
        Self { subject, verdict: Verdict::Failing, detail, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn report() -> DatabaseReport {
        DatabaseReport {
            answered_in: Duration::from_millis(2),
            now: NOW,
            our_now: NOW,
            missing: vec![],
            unknown: vec![],
            changed: vec![],
        }
    }

    fn node(name: &str, head: u64) -> UpstreamStatus {
        let name = name.to_owned();
        UpstreamStatus { name, head, consecutive_errors: 0, latency_ms: 3.0, wrong_chain: None, verified: true }
    }

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn whatever_is_not_well_says_what_to_do() {
        let down = UpstreamStatus { verified: false, consecutive_errors: 4, ..node("a", 9) };
        let wrong = UpstreamStatus { wrong_chain: Some(1), ..node("b", 9) };
        let all = [
            database(Err("refused".into())),
            database(Ok(&DatabaseReport { missing: vec![10], ..report() })),
            nodes(5, &[down, wrong]),
            vec![signer(Err("refused".into())), clock("c", NOW + Duration::from_secs(60), NOW)],
        ]
        .concat();
        for finding in all.iter().filter(|finding| finding.verdict != Verdict::Ok) {
            assert!(!finding.remedy.is_empty() && !finding.detail.is_empty(), "{finding:?}");
        }
        assert!(all.iter().filter(|finding| finding.verdict == Verdict::Failing).count() >= 5, "{all:#?}");
    }

    #[test]
    fn a_database_is_judged_by_answer_schema_and_clock() {
        use Verdict::{Failing, Ok as Well, Warning};
        assert_eq!(verdicts(&database(Ok(&report()))), [Well, Well, Well]);
        let newer = DatabaseReport { unknown: vec![99], now: NOW + Duration::from_secs(3), ..report() };
        assert_eq!(verdicts(&database(Ok(&newer))), [Well, Warning, Warning]);
        let older = DatabaseReport { missing: vec![2], unknown: vec![99], ..report() };
        assert_eq!(verdicts(&database(Ok(&older))), [Well, Failing, Well]);
        let other = DatabaseReport { changed: vec![1], missing: vec![2], ..report() };
        assert!(database(Ok(&other))[1].detail.contains("another text"));
    }

    #[test]
    fn one_node_of_several_may_fail() {
        use Verdict::{Failing, Ok as Well, Warning};
        let down = |name| UpstreamStatus { verified: false, consecutive_errors: 1, ..node(name, 3) };
        assert_eq!(verdicts(&nodes(5, &[node("a", 9), down("b")])), [Well, Warning]);
        assert_eq!(verdicts(&nodes(5, &[down("a"), down("b")])), [Failing, Failing]);
        let wrong = UpstreamStatus { wrong_chain: Some(1), ..node("b", 100) };
        assert_eq!(verdicts(&nodes(5, &[node("a", 9), wrong])), [Well, Failing], "its head counts for nothing");
    }

    #[test]
    fn a_node_may_lag_a_little() {
        let behind = |head| verdicts(&nodes(5, &[node("a", 100), node("b", head)]))[1];
        assert_eq!((behind(95), behind(94)), (Verdict::Ok, Verdict::Warning));
    }

    #[test]
    fn a_chain_that_stands_still_is_seen_by_its_clock() {
        let verdict = |age: i64| head(5, NOW, Duration::from_secs(12), NOW + time::Duration::seconds(age)).verdict;
        assert_eq!((verdict(0), verdict(240), verdict(241)), (Verdict::Ok, Verdict::Ok, Verdict::Warning));
        assert_eq!((verdict(-10), verdict(-11)), (Verdict::Ok, Verdict::Failing));
    }
}
