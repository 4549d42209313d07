//! The pure core: what a request means, whether it may be signed, and what leaves. No I/O, no clock of its own.

pub mod digest;
pub mod document;
pub mod grants;
pub mod moving;
pub mod payload;
pub mod policy;
pub mod reveal;
pub mod signature;
pub mod watermark;
