//! Offerings, airdrops and treasury payouts.
#![forbid(unsafe_code)]
