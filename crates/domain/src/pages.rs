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

/// After which number a page of a list begins that counts upwards; its token is the number of the last entry before.
///
/// # Errors
/// `PAGE_TOKEN_INVALID` for what is no such number.
pub fn after_number(page_token: &str) -> Result<i64, Refusal> {
    match page_token {
        "" => Ok(0),
        token => token.parse::<i64>().ok().filter(|after| *after > 0).ok_or_else(bad_page_token),
    }
}

/// A page of what was read one entry beyond it, and the token of the next page; empty where this is the last.
#[must_use]
pub fn paged<T>(mut entries: Vec<T>, limit: u32, token: impl FnOnce(&T) -> String) -> (Vec<T>, String) {
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| more).map(token).unwrap_or_default();
    (entries, next)
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
        assert_eq!(paged(vec![1, 2, 3], 2, i32::to_string), (vec![1, 2], "2".to_owned()));
        assert_eq!(paged(vec![1, 2], 2, i32::to_string), (vec![1, 2], String::new()));
        assert_eq!(paged(Vec::new(), 2, i32::to_string), (vec![], String::new()));
        assert_eq!((after_number("").unwrap(), after_number("7").unwrap()), (0, 7));
        for wrong in ["0", "-1", "x", "7 ", "9223372036854775808"] {
            assert_eq!(after_number(wrong).unwrap_err().reason(), Reason::PageTokenInvalid, "{wrong}");
        }
    }
}
