//! Parameters of the rules, in the encoding that each rule's `validate` accepts.
use std::collections::BTreeMap;

use alloy::primitives::{Address, Bytes, U256, aliases::U48};
use alloy::sol_types::{SolType, SolValue, sol_data};

use crate::bindings::{ClaimRule::Group, IssuanceRule, ListRule::ListEntry, TransferLimitRule};

/// Whose claims or listing a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Sides {
    /// Only the recipient.
    Recipient = 1,
    /// Only the sender.
    Sender = 2,
    /// Both.
    Both = 3,
}

/// How `HoldingPeriodRule` treats tokens held before it was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EarlierBalance {
    /// They may go at once.
    Free = 1,
    /// They count as received on the day of binding.
    AsNew = 2,
}

/// A stretch of time over which a rule adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Begins again every `length_s` seconds from `start_s` (unix) on; the start lies in the past.
    Fixed {
        /// Length in seconds, not zero.
        length_s: u32,
        /// When the first window began, unix seconds.
        start_s: u32,
    },
    /// Looks back from now.
    Rolling {
        /// Length in seconds, not zero.
        length_s: u32,
    },
}

impl Window {
    /// Kind, length and start as the contracts write them.
    const fn parts(self) -> (u8, u32, u32) {
        match self {
            Self::Fixed { length_s, start_s } => (1, length_s, start_s),
            Self::Rolling { length_s } => (2, length_s, 0),
        }
    }
}

/// At most this much within a window, in the token's smallest units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeLimit {
    /// The window.
    pub window: Window,
    /// Not zero.
    pub max: u128,
}

/// What a limit of `IssuanceRule` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// What was issued within a window; burning gives no room back.
    Within(Window),
    /// Everything ever issued; burning gives no room back.
    Ever {
        /// What was issued before the rule was bound, in the limit's units.
        issued_before: u128,
    },
    /// The supply at any time; burning gives room back.
    Supply,
}

/// Where the price of one whole token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceSource {
    /// An `AggregatorV3Interface`.
    pub feed: Address,
    /// A price older than this refuses mints. Not zero.
    pub max_age_s: u32,
}

/// One of up to four limits of `IssuanceRule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuanceLimit {
    /// What is measured.
    pub measure: Issued,
    /// Not zero: in the token's smallest units, with a price in fiat with 18 decimals.
    pub max: u128,
    /// Present for a limit in fiat: at the price of issue, for [`Issued::Supply`] at the price of now.
    pub price: Option<PriceSource>,
}

/// Parameters of `CountryRule`; countries are ISO 3166 numeric, 1 to 999.
pub fn country_rule_params(allow: bool, countries: &[u16]) -> Bytes {
    type Params = (sol_data::Bool, sol_data::Array<sol_data::Uint<16>>);
    Params::abi_encode_params(&(allow, countries)).into()
}

/// Parameters of `ClaimRule`: an OR of groups; in a group all of `allOf` and none of `noneOf` must be attested.
pub fn claim_rule_params(sides: Sides, any_of: Vec<Group>) -> Bytes {
    (word(sides as u8), any_of).abi_encode_params().into()
}

/// Parameters of `ListRule`: whom the allow list and the block list are asked about (one at least), and first entries, whose `lists`
/// is 1 for allowed, 2 for blocked, 3 for both.
pub fn list_rule_params(allow: Option<Sides>, block: Option<Sides>, entries: Vec<ListEntry>) -> Bytes {
    let side = |sides: Option<Sides>| word(sides.map_or(0, |sides| sides as u8));
    (side(allow), side(block), entries).abi_encode_params().into()
}

/// Parameters of `HolderLimitRule`: holders in all, and by country (ISO 3166 numeric); one limit at least.
pub fn holder_limit_rule_params(max: Option<u32>, countries: &BTreeMap<u16, u32>) -> Bytes {
    let countries: Vec<_> = countries.iter().map(|(&country, &max)| (word(country), word(max))).collect();
    (word(max.unwrap_or(0)), countries).abi_encode_params().into()
}

/// Parameters of `HoldingPeriodRule`: whole days, 1 to 10,950.
pub fn holding_period_rule_params(days: u16, earlier: EarlierBalance) -> Bytes {
    (word(days), word(earlier as u8)).abi_encode_params().into()
}

/// Parameters of `ApprovalRule`: 1 to 16 approvers, the longest an approval may last, and whether mints need one.
pub fn approval_rule_params(approvers: Vec<Address>, max_validity_s: u32, mints: bool) -> Bytes {
    (approvers, word(max_validity_s), mints).abi_encode_params().into()
}

/// Parameters of `TransferLimitRule`, in the token's smallest units; one limit at least.
pub fn transfer_limit_rule_params(
    max_amount: Option<u128>,
    per_holder: Option<VolumeLimit>,
    per_token: Option<VolumeLimit>,
) -> Bytes {
    let volume = |limit: Option<VolumeLimit>| {
        let (kind, length_s, start_s) = limit.map_or((0, 0, 0), |limit| limit.window.parts());
        TransferLimitRule::VolumeLimit {
            kind,
            lengthSeconds: length_s,
            start: U48::from(start_s),
            max: limit.map_or(0, |limit| limit.max),
        }
    };
    (word(max_amount.unwrap_or(0)), volume(per_holder), volume(per_token)).abi_encode_params().into()
}

/// Parameters of `IssuanceRule`: one to four limits that measure different things.
pub fn issuance_rule_params(limits: &[IssuanceLimit]) -> Bytes {
    let limits: Vec<_> = limits
        .iter()
        .map(|limit| {
            let ((kind, length_s, start_s), issued_before) = match limit.measure {
                Issued::Within(window) => (window.parts(), 0),
                Issued::Ever { issued_before } => ((3, 0, 0), issued_before),
                Issued::Supply => ((4, 0, 0), 0),
            };
            IssuanceRule::IssuanceLimit {
                kind,
                max: limit.max,
                lengthSeconds: length_s,
                start: U48::from(start_s),
                feed: limit.price.map_or(Address::ZERO, |price| price.feed),
                maxAgeSeconds: limit.price.map_or(0, |price| price.max_age_s),
                issuedBefore: issued_before,
            }
        })
        .collect();
    (limits,).abi_encode_params().into()
}

/// Parameters of `CollateralRule`: the topic of the claim on the asset's identity, how much collateral a unit needs (10,000 is one to
/// one), and for collateral in fiat the price of a whole token.
pub fn collateral_rule_params(topic: U256, ratio_bps: u32, price: Option<PriceSource>) -> Bytes {
    let (feed, max_age_s) = price.map_or_else(Default::default, |price| (price.feed, price.max_age_s));
    (topic, word(ratio_bps), feed, word(max_age_s)).abi_encode_params().into()
}

/// A number as the contracts read every width of it.
fn word(number: impl Into<u128>) -> U256 {
    U256::from(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::hex;

    /// The words of an encoding, in short hex.
    fn words(params: &Bytes) -> Vec<String> {
        assert_eq!(params.len() % 32, 0);
        params.chunks(32).map(|chunk| hex::encode(chunk).trim_start_matches('0').to_owned()).collect()
    }

    #[test]
    fn lists_of_structs_follow_their_offset() {
        let entry = ListEntry { account: Address::repeat_byte(0xaa), lists: 2 };
        let listed = list_rule_params(None, Some(Sides::Both), vec![entry]);
        assert_eq!(words(&listed), ["", "3", "60", "1", &"aa".repeat(20), "2"]);
        let holders = holder_limit_rule_params(Some(99), &BTreeMap::from([(840, 5), (276, 7)]));
        assert_eq!(words(&holders), ["63", "40", "2", "114", "7", "348", "5"], "countries ascend");
    }

    #[test]
    fn plain_values_are_words_in_a_row() {
        assert_eq!(words(&holding_period_rule_params(30, EarlierBalance::AsNew)), ["1e", "2"]);
        assert_eq!(words(&collateral_rule_params(U256::from(7), 15_000, None)), ["7", "3a98", "", ""]);
        let price = PriceSource { feed: Address::repeat_byte(0xfe), max_age_s: 60 };
        let in_fiat = collateral_rule_params(U256::from(7), 15_000, Some(price));
        assert_eq!(words(&in_fiat)[2..], ["fe".repeat(20).as_str(), "3c"]);
        let volume = VolumeLimit { window: Window::Fixed { length_s: 60, start_s: 5 }, max: 9 };
        let limits = transfer_limit_rule_params(Some(1), Some(volume), None);
        assert_eq!(words(&limits), ["1", "1", "3c", "5", "9", "", "", "", ""]);
        let approvals = approval_rule_params(vec![Address::repeat_byte(0x11)], 60, true);
        assert_eq!(words(&approvals), ["60", "3c", "1", "1", &"11".repeat(20)]);
    }

    #[test]
    fn issuance_limits_say_what_they_measure() {
        let feed = Address::repeat_byte(0xfe);
        let params = issuance_rule_params(&[
            IssuanceLimit {
                measure: Issued::Within(Window::Rolling { length_s: 10 }),
                max: 5,
                price: Some(PriceSource { feed, max_age_s: 60 }),
            },
            IssuanceLimit { measure: Issued::Ever { issued_before: 3 }, max: 8, price: None },
            IssuanceLimit { measure: Issued::Supply, max: 9, price: None },
        ]);
        let all = words(&params);
        assert_eq!(all[..2], ["20", "3"]);
        assert_eq!(all[2..9], ["2", "5", "a", "", &"fe".repeat(20), "3c", ""]);
        assert_eq!(all[9..16], ["3", "8", "", "", "", "", "3"]);
        assert_eq!(all[16..], ["4", "9", "", "", "", "", ""]);
    }
}
