//! Lists of recipients as they arrive: in pieces of any size, checked line by line, and taken whole or not at all.

mod line;
mod problem;

pub use line::Format;
pub use problem::{Announced, BadLine, ListError, Problem};

use alloy::primitives::{Address, B256, Keccak256};
use std::collections::HashMap;

/// The most recipients of an airdrop.
pub const MAX_RECIPIENTS: u32 = 1_000_000;
/// Bad lines that are kept; all are counted.
pub const KEPT_BAD_LINES: usize = 1_000;
/// The longest line; the longest recipient takes half of it.
const MAX_LINE: usize = 512;
const BOM: char = '\u{feff}';

/// Who gets how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// The account.
    pub account: Address,
    /// Base units.
    pub amount: u128,
}

/// A list that can be paid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipients {
    /// In the order of the list; the place is the row's index in the tree.
    pub rows: Vec<Recipient>,
    /// The line each row came from.
    pub lines: Vec<u32>,
    /// Sum in base units.
    pub total: u128,
    /// Lines that were left out because the caller asked for it.
    pub left_out: u32,
    /// The first of them.
    pub bad_lines: Vec<BadLine>,
}

/// Takes a list in.
#[derive(Debug)]
pub struct ListReader {
    format: Format,
    decimals: u8,
    max: u32,
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The rest of the present line is dropped: it is too long.
    overlong: bool,
    line: u32,
    /// Lines that name somebody, good or bad.
    read: u32,
    first_lines: HashMap<Address, u32>,
    list: Recipients,
}

// === impl ListReader ===

impl ListReader {
    /// A reader of amounts of a token with so many decimals.
    #[must_use]
    pub fn new(format: Format, decimals: u8) -> Self {
        Self::with_max(format, decimals, MAX_RECIPIENTS)
    }

    fn with_max(format: Format, decimals: u8, max: u32) -> Self {
        let (partial, first_lines, list) = (Vec::new(), HashMap::new(), Recipients::default());
        Self { format, decimals, max, partial, overlong: false, line: 0, read: 0, first_lines, list }
    }

    /// Takes the next piece. An error is final: the rest of the list need not be sent.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), ListError> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = piece.split_at(end);
            piece = &tail[1..];
            if self.partial.is_empty() && !self.overlong {
                self.take(head)?;
            } else {
                self.keep(head);
                self.end_line()?;
            }
        }
        self.keep(piece);
        Ok(())
    }

    /// The list, if all of it arrived and is good. `announced` is how many recipients the sender says it has sent; with
    /// `leave_out`, bad lines are left out instead of refused.
    pub fn finish(mut self, announced: Announced, leave_out: bool) -> Result<Recipients, ListError> {
        if !self.partial.is_empty() || self.overlong {
            self.end_line()?;
        }
        if announced.0 != Some(u64::from(self.read)) {
            return Err(ListError::CutOff { declared: announced, read: self.read, line: self.reached() });
        }
        self.list.settle(leave_out)
    }

    /// The last line of which something arrived; the first, when nothing did.
    #[must_use]
    pub fn reached(&self) -> u32 {
        let begun = !self.partial.is_empty() || self.overlong;
        (self.line + u32::from(begun)).max(1)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.partial.len() + bytes.len() > MAX_LINE {
            self.overlong = true;
            self.partial.clear();
        }
        if !self.overlong {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) -> Result<(), ListError> {
        let partial = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.overlong) {
            self.line += 1;
            self.count()?;
            self.list.bad(self.line, Problem::TooLong { max: MAX_LINE });
            return Ok(());
        }
        self.take(&partial)
    }

    /// A whole line without its end.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ListError> {
        self.line += 1;
        if bytes.len() > MAX_LINE {
            self.count()?;
            self.list.bad(self.line, Problem::TooLong { max: MAX_LINE });
            return Ok(());
        }
        // What is not UTF-8 is no recipient either, and is refused as what it looks like.
        let text = String::from_utf8_lossy(bytes);
        let text = if self.line == 1 { text.trim_start_matches(BOM) } else { &text }.trim();
        if text.is_empty() || (self.line == 1 && self.format.is_heading(text)) {
            return Ok(());
        }
        self.count()?;
        match self.recipient(text) {
            Ok(recipient) => {
                self.list.rows.push(recipient);
                self.list.lines.push(self.line);
            }
            Err(problem) => self.list.bad(self.line, problem),
        }
        Ok(())
    }

    fn recipient(&mut self, text: &str) -> Result<Recipient, Problem> {
        let (account, amount) = self.format.read(text, self.decimals)?;
        let total = self.list.total.checked_add(amount).ok_or(Problem::TooMuch)?;
        let first = *self.first_lines.entry(account).or_insert(self.line);
        if first != self.line {
            return Err(Problem::Duplicate { first });
        }
        self.list.total = total;
        Ok(Recipient { account, amount })
    }

    fn count(&mut self) -> Result<(), ListError> {
        self.read += 1;
        if self.read > self.max { Err(ListError::TooMany { max: self.max, line: self.line }) } else { Ok(()) }
    }
}

// === impl Recipients ===

impl Recipients {
    /// What the list says, whatever it was written in: the hash of its rows in order.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let mut hasher = Keccak256::new();
        for row in &self.rows {
            hasher.update(row.account);
            hasher.update(row.amount.to_be_bytes());
        }
        hasher.finalize()
    }

    /// Takes rows out that turned out to be bad, by their place.
    pub fn reject(&mut self, rejected: Vec<(usize, Problem)>, leave_out: bool) -> Result<(), ListError> {
        let mut by_place: HashMap<usize, Problem> = rejected.into_iter().collect();
        let (rows, lines) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.lines));
        for (place, (row, line)) in rows.into_iter().zip(lines).enumerate() {
            match by_place.remove(&place) {
                Some(problem) => {
                    self.total -= row.amount;
                    self.bad(line, problem);
                }
                None => {
                    self.rows.push(row);
                    self.lines.push(line);
                }
            }
        }
        *self = std::mem::take(self).settle(leave_out)?;
        Ok(())
    }

    fn bad(&mut self, line: u32, problem: Problem) {
        self.left_out += 1;
        if self.bad_lines.len() < KEPT_BAD_LINES {
            self.bad_lines.push(BadLine { line, problem });
        }
    }

    fn settle(mut self, leave_out: bool) -> Result<Self, ListError> {
        self.bad_lines.sort_by_key(|bad| bad.line);
        if self.left_out > 0 && !leave_out {
            return Err(ListError::BadLines { count: self.left_out, first: self.bad_lines });
        }
        if self.rows.is_empty() { Err(ListError::Empty) } else { Ok(self) }
    }
}

#[cfg(test)]
mod tests;
