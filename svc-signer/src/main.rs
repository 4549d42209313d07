//! The isolated signer: the only component with key access.
#![forbid(unsafe_code)]
fn main() {}
