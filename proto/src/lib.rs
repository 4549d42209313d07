//! The wire: generated messages, clients and servers of every `dalp.<area>.v1` package, the descriptor set they come from,
//! and the method options as a typed table. The comments in `proto/dalp/**.proto` are the reference documentation.
#![forbid(unsafe_code)]

mod http;
mod methods;

pub use http::{HttpRule, Verb};
pub use methods::{Exposure, IdempotencyClass, Method, Methods, RateClass};

/// The compiled contracts with comments and method options, for reflection and routing.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dalp.bin"));

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/dalp.rs"));
}

/// The compiled contracts as descriptors that can be walked.
///
/// # Panics
/// Never in a build that passed its tests: the set is compiled into the binary.
#[must_use]
pub fn descriptors() -> prost_reflect::DescriptorPool {
    prost_reflect::DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set is compiled into the binary")
}

/// A time on the wire.
#[must_use]
pub fn timestamp(at: time::OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

pub use generated::dalp::{
    apikey::v1 as apikey, asset::v1 as asset, attestation::v1 as attestation, audit::v1 as audit,
    checker::v1 as checker, compliance::v1 as compliance, distribution::v1 as distribution, event::v1 as event,
    feeds::v1 as feeds, holder::v1 as holder, identity::v1 as identity, operation::v1 as operation,
    operator::v1 as operator, principal::v1 as principal, settlement::v1 as settlement, signer::v1 as signer,
    system::v1 as system, tenant::v1 as tenant, transaction::v1 as transaction, verification::v1 as verification,
    wallet::v1 as wallet, webhook::v1 as webhook,
};
