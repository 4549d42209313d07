//! On-chain contracts: committed artifacts, alloy bindings, typed reverts and the deployment plan.
//!
//! Everything here is pure: bindings and byte strings in, transactions and addresses out. Nothing talks to a node; callers
//! simulate, sign and send. The Solidity lives beside this crate in `src/`, its build in `artifacts/`
//! (`tools/artifacts.sh check` proves that they belong together), so building this crate needs neither Node nor solc.
#![forbid(unsafe_code)]

pub mod bindings;
pub mod deployer;
pub mod eip712;
pub mod encode;
pub mod erc4337;
pub mod reasons;
pub mod revert;
pub mod roles;

pub use deployer::{DeploymentPlan, DeploymentStep, Done, SystemAddresses, TenantParams};
pub use revert::{Refusal, decode_revert};
