//! XvP settlement.
#![forbid(unsafe_code)]
fn main() {}
