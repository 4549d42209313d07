//! The public edge: who are you, may you, is this a repeat?
#![forbid(unsafe_code)]
