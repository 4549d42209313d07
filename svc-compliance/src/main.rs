//! Systems, identities, assets, compliance and holders.
#![forbid(unsafe_code)]
fn main() {}
