//! The wire: protobuf contracts, generated code, descriptor set and method options.
#![forbid(unsafe_code)]
