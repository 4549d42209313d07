//! The development stack: everything on one machine, and the demo scenario.
#![forbid(unsafe_code)]
