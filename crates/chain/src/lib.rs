//! Talking to EVM chains: upstream pool, fees, node errors, receipts, log follower.
#![forbid(unsafe_code)]
