//! A PKCS#11 module for tests: SoftHSM behind the manners of a Luna quorum partition.
//!
//! SoftHSM has no activation, no lockout, no vendor codes and never hangs; this module adds them and passes everything else on. What it does is told by
//! [`device::Device`], a file that stands for the appliance: it outlives every process that loads the module, as the appliance does, and a test writes into it what
//! people and faults do to one. Facts about Luna stand where they are used; which code a firmware answers with is a setting, because it is not public.
//!
//! Strictly a test tool. Nothing in production links or loads it, and it holds no secret: keys and PINs are those of a SoftHSM token made for a test.

pub mod device;
mod module;
