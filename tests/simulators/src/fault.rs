//! What goes wrong when asked to.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::watch;

use crate::http::{Broken, Reply};

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Answers so without doing anything.
    Answer(u16, Value),
    /// Does what was asked, and breaks the connection before the answer.
    LoseAnswer,
    /// Waits until [`Faults::release`], then does what was asked.
    Hang,
}

/// The faults to come, and the ceiling of the rate.
#[derive(Debug)]
pub struct Faults {
    queue: Mutex<Vec<(String, Fault, usize)>>,
    gate: watch::Sender<bool>,
    hanging: watch::Sender<usize>,
    per_minute: Mutex<Option<usize>>,
    asked: Mutex<HashMap<String, VecDeque<Instant>>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            gate: watch::Sender::new(false),
            hanging: watch::Sender::new(0),
            per_minute: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

// === impl Faults ===

impl Faults {
    /// The next `times` requests whose "METHOD /path" begins with `route` go wrong.
    pub fn inject(&self, route: &str, fault: Fault, times: usize) {
        if fault == Fault::Hang {
            self.gate.send_replace(true);
        }
        locked(&self.queue).push((route.to_owned(), fault, times));
    }

    /// Lets go of everything that hangs; nothing hangs from here on.
    pub fn release(&self) {
        locked(&self.queue).retain(|(_, fault, _)| *fault != Fault::Hang);
        self.gate.send_replace(false);
    }

    /// Waits until so many requests hang.
    pub async fn hanging(&self, at_least: usize) {
        // The sender lives as long as this.
        let _ = self.hanging.subscribe().wait_for(|hanging| *hanging >= at_least).await;
    }

    /// At most so many requests of each route in a minute.
    pub fn limit_per_minute(&self, most: Option<usize>) {
        *locked(&self.per_minute) = most;
        locked(&self.asked).clear();
    }

    /// Whether the route's rate is used up; counts this request.
    pub fn is_over_limit(&self, route: &str) -> bool {
        let Some(most) = *locked(&self.per_minute) else { return false };
        let mut asked = locked(&self.asked);
        let times = asked.entry(route.to_owned()).or_default();
        while times.front().is_some_and(|at| at.elapsed() > Duration::from_secs(60)) {
            times.pop_front();
        }
        if times.len() >= most {
            return true;
        }
        times.push_back(Instant::now());
        false
    }

    /// What goes wrong with a request, before it is done; hangs where it has to.
    pub async fn before(&self, request: &str) -> Result<Option<Reply>, Broken> {
        match self.take(request, |fault| *fault != Fault::LoseAnswer) {
            Some(Fault::Answer(status, body)) => Ok(Some(Reply::new(status, body))),
            Some(Fault::Hang) => {
                self.hanging.send_modify(|hanging| *hanging += 1);
                let _ = self.gate.subscribe().wait_for(|closed| !*closed).await;
                self.hanging.send_modify(|hanging| *hanging -= 1);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether the answer of a request that was done gets lost.
    pub fn after(&self, request: &str) -> Result<(), Broken> {
        match self.take(request, |fault| *fault == Fault::LoseAnswer) {
            Some(_) => Err(Broken),
            None => Ok(()),
        }
    }

    fn take(&self, request: &str, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut queue = locked(&self.queue);
        let at = queue.iter().position(|(route, fault, _)| request.starts_with(route.as_str()) && wanted(fault))?;
        let (_, fault, times) = &mut queue[at];
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            queue.remove(at);
        }
        Some(fault)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
