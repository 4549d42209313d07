//! Refusals: one catalogue of reasons, one shape on the wire.
//!
//! Every refusal is a gRPC status with `google.rpc.ErrorInfo{reason, domain: "dalp", metadata}`, `BadRequest` for fields and
//! `RetryInfo` where a retry helps. Each reason has a page in `docs/errors/`.

mod catalogue;
mod refusal;

pub use catalogue::{Next, Reason};
pub use refusal::{DOMAIN, Refusal, RefusalDetails, RefusalResult};
