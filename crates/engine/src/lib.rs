//! Durable operations: flows, lanes, transactions, outbox and audit leaves.
#![forbid(unsafe_code)]
