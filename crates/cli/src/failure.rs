//! What went wrong, in words that say what to do, and as an exit code.

use std::{fmt, process::ExitCode};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or a file it names.
    Usage(String),
    /// There is no connection to the gateway.
    Unreachable {
        /// Where it should be.
        gateway: String,
        /// Why not.
        why: String,
    },
    /// The platform refused, or did not answer.
    Refused {
        /// What it said.
        status: Box<Status>,
        /// The idempotency key of a write, to repeat it with.
        idempotency_key: Option<String>,
    },
    /// An operation that was waited for came to nothing.
    CameToNothing(String),
    /// The wait ended first.
    StillRunning(String),
    /// A defect of this program or its machine.
    Broken(String),
}

// === impl Failure ===

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 6,
            Self::CameToNothing(_) => 7,
            Self::StillRunning(_) => 8,
            Self::Refused { status, .. } => match status.code() {
                Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange => 3,
                Code::Unauthenticated | Code::PermissionDenied => 4,
                Code::NotFound => 5,
                _ if may_repeat(status) => 6,
                _ => 1,
            },
        }
    }
}

/// Whether the same call may succeed later.
fn may_repeat(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled
    )
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problem) => write!(formatter, "{problem}"),
            Self::Unreachable { gateway, why } => {
                write!(formatter, "the gateway at {gateway} cannot be reached: {why}")
            }
            Self::CameToNothing(told) | Self::StillRunning(told) => write!(formatter, "{told}"),
            Self::Broken(problem) => write!(formatter, "defect: {problem}"),
            Self::Refused { status, idempotency_key } => tell(formatter, status, idempotency_key.as_deref()),
        }
    }
}

fn tell(formatter: &mut fmt::Formatter<'_>, status: &Status, idempotency_key: Option<&str>) -> fmt::Result {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    write!(formatter, "{}: {}", reason.unwrap_or(status.code().description()), status.message())?;
    for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
        write!(formatter, "\n  {}: {}", violation.field, violation.description)?;
    }
    if let Some(info) = details.error_info() {
        let mut metadata: Vec<_> = info.metadata.iter().collect();
        metadata.sort();
        for (name, value) in metadata {
            write!(formatter, "\n  {name} = {value}")?;
        }
        write!(formatter, "\n  more: docs/errors/{}.md", info.reason)?;
    }
    let after = details.retry_info().and_then(|info| info.retry_delay);
    if let Some(after) = after {
        write!(formatter, "\n  try again after {} s", after.as_secs_f64())?;
    }
    if let Some(key) = idempotency_key.filter(|_| may_repeat(status)) {
        write!(formatter, "\n  it may have been carried out: repeat the call with --idempotency-key {key}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic_types::ErrorDetails;

    fn refused(code: Code, details: ErrorDetails, key: Option<&str>) -> Failure {
        let status = Status::with_error_details(code, "no", details);
        Failure::Refused { status: Box::new(status), idempotency_key: key.map(str::to_owned) }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", "dalp", [("asset".to_owned(), "0x1".to_owned())]);
        details.add_bad_request_violation("amount", "not a number");
        let told = refused(Code::InvalidArgument, details, Some("k")).to_string();
        let expected = "INVALID_FIELD: no\n  amount: not a number\n  asset = 0x1\n  more: docs/errors/INVALID_FIELD.md";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_write_without_an_answer_is_repeated_with_its_key() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_secs(2)));
        let failure = refused(Code::Unavailable, details, Some("k-1"));
        let told = failure.to_string();
        assert!(told.contains("after 2 s") && told.contains("--idempotency-key k-1"), "{told}");
        assert_eq!(failure.code(), 6);
    }

    #[test]
    fn exit_codes_tell_causes_apart() {
        let of = |code| refused(code, ErrorDetails::new(), None).code();
        let codes =
            [Code::InvalidArgument, Code::PermissionDenied, Code::NotFound, Code::Aborted, Code::Internal].map(of);
        assert_eq!(codes, [3, 4, 5, 6, 1]);
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::CameToNothing(String::new()).code(), 7);
        assert_eq!(Failure::StillRunning(String::new()).code(), 8);
    }
}
