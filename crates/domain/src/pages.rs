//! Sizes and tokens of lists.

use dalp_service::{Reason, Refusal};

/// The most entries of a page.
const MAX_PAGE: u32 = 500;
/// The entries of a page when the caller does not say.
const DEFAULT_PAGE: u32 = 50;

/// A page size within bounds.
pub fn page_size(asked: u32) -> Result<u32, Refusal> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        1..=MAX_PAGE => Ok(asked),
        _ => Err(Refusal::new(Reason::InvalidField, "page_size is out of range")
            .field("page_size", format!("must be at most {MAX_PAGE}"))),
    }
}

/// A page token that is none.
#[must_use]
pub fn bad_page_token() -> Refusal {
    Refusal::new(Reason::PageTokenInvalid, "the page token is not one of ours")
        .field("page_token", "give back next_page_token of the page before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!((page_size(0).unwrap(), page_size(500).unwrap()), (DEFAULT_PAGE, 500));
        assert_eq!(page_size(501).unwrap_err().reason(), Reason::InvalidField);
        assert_eq!(bad_page_token().reason(), Reason::PageTokenInvalid);
    }
}
