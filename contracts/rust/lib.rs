//! On-chain contracts: committed artifacts, alloy bindings, deployer.
#![forbid(unsafe_code)]
