//! The same calls with HTTP and JSON, and with gRPC-Web, on the same port: no second implementation of anything.
//!
//! A request in another form becomes the gRPC call that the `google.api.http` annotation of the contracts names, goes through the
//! listener's pipeline and the gateway's admission like every other, and what comes back is written in the form of the request.
//! In reading order:
//! - [`template`], [`routes`]: which call a method and a path name. Pure.
//! - [`query`], [`message`]: a request message from path, query and body, and a message as JSON. Pure.
//! - [`frames`], [`lines`]: messages in gRPC bodies and in newline-delimited JSON. Pure but for the bodies.
//! - [`body`]: the body of a request, within limits.
//! - [`problem`]: refusals as `google.rpc.Status` in JSON, with the HTTP status that fits.
//! - [`prefer`]: `Prefer: wait=n`.
//! - [`front`]: what the listener asks.
//! - [`openapi`]: the description of all of it.

pub mod body;
pub mod config;
pub mod frames;
mod front;
pub mod lines;
pub mod message;
pub mod openapi;
pub mod prefer;
pub mod problem;
pub mod query;
pub mod routes;
mod schemas;
pub mod template;
mod transcode;

pub use config::HttpConfig;
pub use front::Rest;
