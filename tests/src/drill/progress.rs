//! How far a long drill is, told on standard error.
#![allow(clippy::print_stderr)] // the drill is run by hand, and takes long

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::Killed;

/// Parts of a wait that are told.
const PARTS: usize = 20;

/// How far a drill is.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    /// What is drilled, how many stages it has, and how many are behind.
    drill: (&'static str, usize, usize),
}

/// How many of many are done, whoever did them.
#[derive(Debug)]
pub(crate) struct Counter {
    what: &'static str,
    of: usize,
    done: AtomicUsize,
    begun: Instant,
}

// === impl Progress ===

impl Default for Progress {
    fn default() -> Self {
        Self { begun: Instant::now(), drill: ("", 0, 0) }
    }
}

impl Progress {
    /// Tells of a drill that begins.
    pub(super) fn begin(&mut self, name: &'static str, stages: usize) {
        self.drill = (name, stages, 0);
        eprintln!("{} {name}: {stages} stages", self.at());
    }

    /// Tells of a kill.
    pub(super) fn killed(&mut self, kill: &Killed, recipients: usize) {
        self.drill.2 += 1;
        let (name, stages, behind) = self.drill;
        eprintln!(
            "{} {name}: stage {behind} of {stages}, {}: killed with {} of {recipients} known as paid; waited {:.1} s for it, served again after {:.1} s",
            self.at(),
            kill.stage,
            kill.paid,
            kill.reached_s,
            kill.recovery_s
        );
    }

    /// Tells of what is done beside the stages.
    pub(super) fn tell(&self, what: &str) {
        eprintln!("{} {}: {what}", self.at(), self.drill.0);
    }

    fn at(&self) -> String {
        format!("[{:>6.1} s]", self.begun.elapsed().as_secs_f64())
    }
}

// === impl Counter ===

impl Counter {
    /// Nothing is done yet.
    pub(crate) fn of(what: &'static str, of: usize) -> Self {
        Self { what, of, done: AtomicUsize::new(0), begun: Instant::now() }
    }

    /// Another one is done.
    pub(crate) fn one(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done == self.of || done.is_multiple_of((self.of / PARTS).max(1)) {
            eprintln!("[{:>6.1} s] {done} of {} {}", self.begun.elapsed().as_secs_f64(), self.of, self.what);
        }
    }
}
