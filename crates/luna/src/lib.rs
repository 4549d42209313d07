//! The calls of Luna's library that PKCS#11 does not have: a key's own authorisation, and how the members of an HA group are.
//!
//! The library exports them beside the standard's table, so no PKCS#11 crate knows them. A module without them, such as SoftHSM, answers [`Missing`]
//! and nothing else changes. This crate is one of two in the workspace with `unsafe` code; it does nothing but these calls.
//!
//! [`Missing`]: CallError::Missing
#![allow(clippy::unnecessary_cast)] // C's long is as wide as ours on the platforms that are built for now, not on all

use std::{
    ffi::{c_ulong, c_void},
    path::Path,
};

/// Members that the vendor's answer has room for.
const MEMBERS_MAX: usize = 32;
/// Bytes of a serial number in it.
const SERIAL_LEN: usize = 20;
/// Room behind the answer, should a client's be longer than the one that this was written after.
const SLACK_LEN: usize = 4096;

/// A module that is loaded by this path already.
pub struct Luna(libloading::Library);

/// The module could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the module cannot be opened for its vendor's calls")]
pub struct OpenError(#[source] libloading::Error);

/// A call that did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The module has no such function.
    #[error("the module does not have {0}")]
    Missing(&'static str),
    /// It answered with a return code.
    #[error("{0} returned {1:#010x}")]
    Code(&'static str, u64),
}

/// A member of an HA group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its serial number.
    pub serial: String,
    /// Its status as a return code; 0: it answers.
    pub status: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawMember {
    serial: [u8; SERIAL_LEN],
    status: c_ulong,
}

/// The layout of the vendor's clients since version 6; those before had numbers for serials.
#[repr(C)]
struct RawState {
    group: [u8; SERIAL_LEN],
    members: [RawMember; MEMBERS_MAX],
    len: c_ulong,
    slack: [u8; SLACK_LEN],
}

type AuthorizeKey = unsafe extern "C" fn(c_ulong, c_ulong, *mut u8, c_ulong) -> c_ulong;
type GetHaState = unsafe extern "C" fn(c_ulong, *mut c_void) -> c_ulong;

// === impl Luna ===

impl Luna {
    /// Opens the module once more. Call it only after the module was loaded for PKCS#11 in this process: the operating system then answers with the same copy, which
    /// is initialised and logged in.
    pub fn open(module: &Path) -> Result<Self, OpenError> {
        // SAFETY: initialisers have run already when the module was loaded for PKCS#11; who configures a module trusts it with the process. The process that
        // does so holds nothing but one partition.
        unsafe { libloading::Library::new(module) }.map(Self).map_err(OpenError)
    }

    /// Opens a key with its own authorisation data (`CA_AuthorizeKey`), for all that this process does with it.
    pub fn authorize_key(&self, session: u64, key: u64, data: &[u8]) -> Result<(), CallError> {
        const NAME: &str = "CA_AuthorizeKey";
        // SAFETY: the vendor's header gives the function this type.
        let function =
            unsafe { self.0.get::<AuthorizeKey>(b"CA_AuthorizeKey") }.map_err(|_| CallError::Missing(NAME))?;
        // SAFETY: the function reads `data.len()` bytes and writes none, whatever its type says; handles that are not valid are refused by it.
        code(NAME, unsafe {
            function(session as c_ulong, key as c_ulong, data.as_ptr().cast_mut(), data.len() as c_ulong)
        })
    }

    /// The members of the HA group that a slot stands for (`CA_GetHAState`). A slot that stands for none is refused with a return code.
    pub fn ha_members(&self, slot: u64) -> Result<Vec<Member>, CallError> {
        const NAME: &str = "CA_GetHAState";
        // SAFETY: the vendor's header gives the function this type.
        let function = unsafe { self.0.get::<GetHaState>(b"CA_GetHAState") }.map_err(|_| CallError::Missing(NAME))?;
        let mut state = Box::new(RawState {
            group: [0; SERIAL_LEN],
            members: [RawMember { serial: [0; SERIAL_LEN], status: 0 }; MEMBERS_MAX],
            len: 0,
            slack: [0; SLACK_LEN],
        });
        // SAFETY: the function writes its answer to what the pointer leads to, which is as large as the answer and has room besides.
        code(NAME, unsafe { function(slot as c_ulong, (&raw mut *state).cast()) })?;
        let len = usize::try_from(state.len).unwrap_or(MEMBERS_MAX).min(MEMBERS_MAX);
        Ok(state.members[..len]
            .iter()
            .map(|member| Member {
                serial: String::from_utf8_lossy(member.serial.split(|byte| *byte == 0).next().unwrap_or_default())
                    .trim()
                    .to_owned(),
                status: member.status as u64,
            })
            .collect())
    }
}

fn code(name: &'static str, answer: c_ulong) -> Result<(), CallError> {
    match answer {
        0 => Ok(()),
        code => Err(CallError::Code(name, code as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_vendors_header() {
        assert_eq!(size_of::<RawMember>(), 32);
        assert_eq!(std::mem::offset_of!(RawState, members), 24);
        assert_eq!(std::mem::offset_of!(RawState, len), 24 + 32 * MEMBERS_MAX);
    }

    #[test]
    fn a_module_without_the_calls_says_so() {
        // Any library that every machine has.
        let Ok(library) = Luna::open(Path::new("libc.so.6")) else { panic!("no C library") };
        assert_eq!(library.ha_members(0), Err(CallError::Missing("CA_GetHAState")));
        assert_eq!(library.authorize_key(0, 0, b"x"), Err(CallError::Missing("CA_AuthorizeKey")));
    }
}
