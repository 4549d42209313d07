//! The development stack: everything on one machine, and the demo scenario.
//!
//! In reading order: [`stack`] starts the platform, [`trial`] with whoever holds its keys for people to try, [`configuration`] writes what each service reads, [`client`] is an
//! ordinary client of it, [`route`] leads to replicas, [`scenario`] is the main job, [`report`] the shape in which every measuring target reports.
#![forbid(unsafe_code)]

pub mod client;
pub mod commands;
pub mod configuration;
pub mod demo;
pub mod pki;
pub mod ports;
pub mod process;
pub mod report;
pub mod route;
pub mod scenario;
pub mod stack;
pub mod trial;
pub mod up;
