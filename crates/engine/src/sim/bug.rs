//! Defects that are known from other engines or from our own past, put back on purpose: the simulator must find each.

/// A defect to put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The lane is locked and numbered in one statement: the number comes from a snapshot older than the lock.
    NumberedFromAStaleSnapshot,
    /// Signed bytes are sent before the commit that stores them.
    SentBeforeStored,
    /// A request that the signer never answered gives its nonce back.
    ReleasedOnOurOwnTimeout,
    /// A repeated request gets a new id.
    NewRequestIdOnRetry,
    /// What stood in a block that disappeared stays included.
    NoRetraction,
    /// Only the newest hash of a nonce is looked for in blocks.
    OnlyTheNewestHashIsWatched,
    /// A transaction ends without waking its flow.
    LostWakeUp,
    /// A key that was used before is accepted again.
    ForgottenIdempotencyKey,
    /// A refused nonce in the middle of a lane is given back and not filled.
    UnfilledGap,
    /// What was overtaken at its nonce goes on being sent.
    OvertakenGoesOn,
    /// What the simulation refused after a hold is sent all the same.
    SealedIsSent,
    /// A nonce is given back although a request for it has no answer yet.
    GivenBackUndecided,
    /// The same bytes are ordered a second time, as another attempt.
    SameBytesTwice,
    /// A replacement names a request that may never have reached the signer.
    ReplacesTheUnknown,
    /// Finality is told by one node and the block by another.
    FinalByTwoNodes,
    /// A final nonce is told by one node and the missing receipt by another.
    UsedOutsideByTwoNodes,
    /// A worker that comes late puts back into the queue what has another nonce by now.
    RequeuedWithAnotherNonce,
    /// What is in a block already is replaced.
    ReplacedOnceIncluded,
    /// A replacement without an answer counts as refused.
    UnansweredIsRefused,
    /// The signer is waited for as long as it takes.
    NoTimeout,
    /// A handover that was not answered is taken for refused, and handed over as another request.
    HandedOverAgain,
    /// What a provider says has failed has failed, whatever the chain may still do.
    FailedAtTheProvidersWord,
    /// A reservation is moved at the word of a signer that goes on with the request.
    MovedAndStillAsked,
}

impl Bug {
    /// Every one of them.
    pub const ALL: &[Self] = &[
        Self::NumberedFromAStaleSnapshot,
        Self::SentBeforeStored,
        Self::ReleasedOnOurOwnTimeout,
        Self::NewRequestIdOnRetry,
        Self::NoRetraction,
        Self::OnlyTheNewestHashIsWatched,
        Self::LostWakeUp,
        Self::ForgottenIdempotencyKey,
        Self::UnfilledGap,
        Self::OvertakenGoesOn,
        Self::SealedIsSent,
        Self::GivenBackUndecided,
        Self::SameBytesTwice,
        Self::ReplacesTheUnknown,
        Self::FinalByTwoNodes,
        Self::UsedOutsideByTwoNodes,
        Self::RequeuedWithAnotherNonce,
        Self::ReplacedOnceIncluded,
        Self::UnansweredIsRefused,
        Self::NoTimeout,
        Self::HandedOverAgain,
        Self::FailedAtTheProvidersWord,
        Self::MovedAndStillAsked,
    ];
}
