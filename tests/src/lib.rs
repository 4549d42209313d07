//! End-to-end, fault, shape and bench targets.
#![forbid(unsafe_code)]
