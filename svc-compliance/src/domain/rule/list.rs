//! An allow list and a block list of wallets and identities.

use super::{Fields, Sides};
use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

/// The most entries of one transaction.
pub const MAX_ENTRIES: usize = 500;

/// Parameters of `ListRule`: one of the lists is asked at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRule {
    /// Whom the allow list is asked about.
    pub allow: Option<Sides>,
    /// Whom the block list is asked about.
    pub block: Option<Sides>,
    /// First entries.
    pub entries: Vec<ListEntry>,
}

/// On which lists an account stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// A wallet or an identity.
    pub account: Address,
    /// Whether it is on the allow list.
    pub allowed: bool,
    /// Whether it is on the block list.
    pub blocked: bool,
}

impl ListRule {
    /// A rule of the fields of its message.
    pub fn new(
        fields: &mut Fields<'_>,
        allow: Option<Sides>,
        block: Option<Sides>,
        entries: &[(&str, bool, bool)],
    ) -> Self {
        if allow.is_none() && block.is_none() {
            fields.refuse("block", "is missing, and so is allow: one of the lists at least is asked about somebody");
        }
        Self { allow, block, entries: ListEntry::all(fields, entries) }
    }
}

impl ListEntry {
    /// Entries of the fields of their messages, none twice.
    pub fn all(fields: &mut Fields<'_>, entries: &[(&str, bool, bool)]) -> Vec<Self> {
        if entries.len() > MAX_ENTRIES {
            fields.refuse("entries", format!("holds at most {MAX_ENTRIES} entries"));
            return Vec::new();
        }
        let mut parsed: Vec<Self> = Vec::with_capacity(entries.len());
        for (index, (account, allowed, blocked)) in entries.iter().enumerate() {
            let before = fields.problems();
            let account = fields.address(&format!("entries[{index}].account"), account);
            if fields.problems() == before && parsed.iter().any(|entry| entry.account == account) {
                fields.refuse(&format!("entries[{index}].account"), "is named twice");
            }
            parsed.push(Self { account, allowed: *allowed, blocked: *blocked });
        }
        parsed
    }
}
