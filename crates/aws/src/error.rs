//! What goes wrong at AWS, by what it means for what was asked.

/// A call that did not succeed. Its words never hold a secret of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// Something that has to be configured is not.
    #[error("{0}")]
    Unconfigured(String),
    /// Nobody told us who we are, or the place that does could not.
    #[error("no credentials: {0}")]
    NoCredentials(String),
    /// The place that tells us who we are cannot be reached now.
    #[error("no credentials now: {0}")]
    CredentialsUnreachable(String),
    /// It refused.
    #[error("{kind}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its name for the failure, for instance `ThrottlingException`.
        kind: String,
        /// The first line of its words.
        message: String,
    },
    /// No answer came. Nothing is known of what was done.
    #[error("{0}")]
    Unreachable(&'static str),
    /// Its answer is not what its documentation says.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// Too much was asked: later, and with growing pauses. Nothing was done.
    Throttled,
    /// It cannot answer now: later.
    Unavailable,
    /// We are not who we say, or nobody says who we are.
    Credentials,
    /// We may not.
    AccessDenied,
    /// Its clock and ours differ.
    Clock,
    /// What was asked for is not there.
    NotFound,
    /// What was asked for is switched off, or about to be deleted.
    Disabled,
    /// It is there already.
    Exists,
    /// Anything else, which repeating does not mend.
    Other,
}

// === impl AwsError ===

impl AwsError {
    /// What it means.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unconfigured(_) | Self::NoCredentials(_) => Class::Credentials,
            Self::CredentialsUnreachable(_) | Self::Unreachable(_) => Class::Unavailable,
            Self::Unreadable(_) => Class::Other,
            Self::Refused { status, kind, message } => class_of(*status, kind, message),
        }
    }
}

fn class_of(status: u16, kind: &str, message: &str) -> Class {
    match kind {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottledException"
        | "SlowDown" => Class::Throttled,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Class::Clock,
        // The one name for a wrong key and for a wrong clock.
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_about_time(message) => Class::Clock,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidIdentityToken"
        | "InvalidIdentityTokenException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidToken" => Class::Credentials,
        "AccessDeniedException"
        | "AccessDenied"
        | "NotAuthorizedException"
        | "UnauthorizedOperation"
        | "OptInRequired" => Class::AccessDenied,
        "NotFoundException" | "ResourceNotFoundException" => Class::NotFound,
        "DisabledException" | "KMSInvalidStateException" => Class::Disabled,
        "AlreadyExistsException" | "ResourceExistsException" => Class::Exists,
        "KeyUnavailableException"
        | "DependencyTimeoutException"
        | "KMSInternalException"
        | "InternalFailure"
        | "InternalServiceError"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Class::Unavailable,
        _ if status == 429 => Class::Throttled,
        _ if status >= 500 => Class::Unavailable,
        _ => Class::Other,
    }
}

/// As in "Signature expired: 20261123T100000Z is now earlier than ..." and "Signature not yet current: ...".
fn is_about_time(message: &str) -> bool {
    message.starts_with("Signature expired") || message.starts_with("Signature not yet current")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_means_what_its_name_says() {
        for (status, kind, message, wanted) in [
            (400, "ThrottlingException", "Rate exceeded", Class::Throttled),
            (429, "Unheard", "", Class::Throttled),
            (503, "Unheard", "", Class::Unavailable),
            (500, "KMSInternalException", "", Class::Unavailable),
            (400, "AccessDeniedException", "User: x is not authorized", Class::AccessDenied),
            (400, "UnrecognizedClientException", "The security token is invalid", Class::Credentials),
            (
                400,
                "InvalidSignatureException",
                "The request signature we calculated does not match",
                Class::Credentials,
            ),
            (400, "InvalidSignatureException", "Signature expired: a is now earlier than b", Class::Clock),
            (403, "InvalidSignatureException", "Signature not yet current: a is still later than b", Class::Clock),
            (400, "NotFoundException", "Alias x is not found", Class::NotFound),
            (409, "DisabledException", "x is disabled", Class::Disabled),
            (400, "KMSInvalidStateException", "x is pending deletion", Class::Disabled),
            (400, "ValidationException", "Digest is invalid length", Class::Other),
        ] {
            let refused = AwsError::Refused { status, kind: kind.to_owned(), message: message.to_owned() };
            assert_eq!(refused.class(), wanted, "{kind}: {message}");
        }
        assert_eq!(AwsError::Unreachable("no connection").class(), Class::Unavailable);
        assert_eq!(AwsError::NoCredentials(String::new()).class(), Class::Credentials);
    }
}
