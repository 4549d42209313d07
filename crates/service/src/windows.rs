//! Flow control of HTTP/2, alike on both sides of a connection.
//!
//! The windows do not adapt: an adaptive one begins with 64 KiB, and half of the connection's window is also what small DATA frames may cost
//! before `h2` takes them for a flood and ends the connection. That is reached by some two hundred small messages at once.

/// What one message stream may send ahead of its reader.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// What a connection may send ahead of all readers: thousands of small messages, and the most memory that a slow reader can cost.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
