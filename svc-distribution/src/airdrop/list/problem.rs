//! What can be wrong with a list of recipients.

use std::fmt;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not two columns, or not an object with the two fields.
    #[error("is not a recipient: {expected}")]
    Shape {
        /// What a line looks like.
        expected: &'static str,
    },
    /// Longer than any recipient.
    #[error("is longer than {max} bytes")]
    TooLong {
        /// The longest line.
        max: usize,
    },
    /// The account is no address.
    #[error("has no address: expected 0x and 40 hex digits")]
    Address,
    /// Mixed case that is not the checksum of the address.
    #[error("has a wrong EIP-55 checksum: a digit was mistyped, or the case was changed")]
    Checksum,
    /// The zero address.
    #[error("pays the zero address")]
    ZeroAddress,
    /// The amount is no decimal number.
    #[error("has no amount: expected a decimal number of tokens such as 12.5")]
    Amount,
    /// Nothing to pay.
    #[error("pays nothing")]
    ZeroAmount,
    /// Digits that the token does not have.
    #[error("has {given} decimals, the token has {decimals}")]
    TooPrecise {
        /// Digits behind the point.
        given: usize,
        /// Those of the token.
        decimals: u8,
    },
    /// The amount, or the sum up to this line, passes 128 bits.
    #[error("leads to more than 2^128 - 1 base units")]
    TooMuch,
    /// The account stands in an earlier line.
    #[error("names the recipient of line {first} again")]
    Duplicate {
        /// That line.
        first: u32,
    },
    /// The token would not take the account as a holder now.
    #[error("names an account that is not verified for the asset: {reason}")]
    NotVerified {
        /// What the registry says.
        reason: String,
    },
}

/// A line that names nobody who can be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1, blank lines counted.
    pub line: u32,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why a list as a whole is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It names more recipients than an airdrop may have.
    #[error("the list has more than {max} recipients")]
    TooMany {
        /// The most.
        max: u32,
        /// The line of the first one too many.
        line: u32,
    },
    /// The stream ended before the list did.
    #[error("the list was cut off: {read} recipients arrived, {declared} were announced")]
    CutOff {
        /// What the sender announced; none when the stream ended without its last message.
        declared: Announced,
        /// Recipients that arrived.
        read: u32,
        /// The last line of which something arrived; the first, when nothing did.
        line: u32,
    },
    /// Nobody to pay.
    #[error("the list has no recipient")]
    Empty,
    /// Lines are wrong, and the caller did not ask for them to be left out.
    #[error("{count} lines are wrong")]
    BadLines {
        /// How many.
        count: u32,
        /// The first of them.
        first: Vec<BadLine>,
    },
}

/// How many recipients a list was said to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced(pub Option<u64>);

// === impl Problem ===

impl Problem {
    /// Its name for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Shape { .. } => "SHAPE",
            Self::TooLong { .. } => "TOO_LONG",
            Self::Address => "ADDRESS",
            Self::Checksum => "CHECKSUM",
            Self::ZeroAddress => "ZERO_ADDRESS",
            Self::Amount => "AMOUNT",
            Self::ZeroAmount => "ZERO_AMOUNT",
            Self::TooPrecise { .. } => "TOO_PRECISE",
            Self::TooMuch => "TOO_MUCH",
            Self::Duplicate { .. } => "DUPLICATE",
            Self::NotVerified { .. } => "NOT_VERIFIED",
        }
    }
}

// === impl ListError ===

impl ListError {
    /// Its name for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "TOO_MANY",
            Self::CutOff { .. } => "CUT_OFF",
            Self::Empty => "EMPTY",
            Self::BadLines { .. } => "BAD_LINES",
        }
    }
}

// === impl Announced ===

impl fmt::Display for Announced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => count.fmt(formatter),
            None => formatter.write_str("an end that never came"),
        }
    }
}
