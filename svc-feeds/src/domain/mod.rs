//! What callers ask for, checked and typed. Nothing here knows of protobuf, SQL or the network.

pub mod feed;
pub mod fields;
pub mod update;
