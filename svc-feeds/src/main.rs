//! Issuer-signed scalar feeds.
#![forbid(unsafe_code)]
fn main() {}
