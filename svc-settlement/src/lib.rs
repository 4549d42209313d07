//! XvP settlement.
#![forbid(unsafe_code)]
