//! What the chain does wrong when asked to.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// One thing that goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call is refused with this JSON-RPC error, and has no effect.
    Refuse {
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The answer comes this much later; the call has its effect at once.
    Delay(Duration),
    /// A sent transaction is acknowledged and forgotten, as by a pool that overflows.
    Drop,
    /// The call has its effect, and the connection breaks before the answer.
    Break,
}

#[derive(Default)]
pub(super) struct Faults {
    of_method: HashMap<String, VecDeque<(Fault, usize)>>,
}

// === impl Faults ===

impl Faults {
    pub(super) fn add(&mut self, method: &str, fault: Fault, times: usize) {
        if times > 0 {
            self.of_method.entry(method.to_owned()).or_default().push_back((fault, times));
        }
    }

    /// What goes wrong with this call; counted as done.
    pub(super) fn next(&mut self, method: &str) -> Option<Fault> {
        if self.of_method.is_empty() {
            return None;
        }
        let queue = self.of_method.get_mut(method)?;
        let (fault, left) = queue.front_mut()?;
        let fault = fault.clone();
        *left -= 1;
        if *left == 0 {
            queue.pop_front();
        }
        Some(fault)
    }
}
