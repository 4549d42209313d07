//! Ports that are free for the listeners of a stack.

use std::net::TcpListener;

use anyhow::{Context as _, bail};

use crate::configuration::Listeners;
use crate::route::Replica;

/// Gateway listeners take ports below the range the system gives to outgoing connections, so that a restarted service finds its port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// So many each test has that nextest runs.
const PORTS_EACH: u16 = 1_000;

/// Where so many replicas of each service listen, and with several of them what leads there.
pub(crate) fn listeners(services: &[&str], replicas: usize) -> anyhow::Result<Vec<Listeners>> {
    let mut ports = free_ports(services.len() * (1 + 2 * replicas))?.into_iter();
    let mut next = || ports.next().map(|port| format!("127.0.0.1:{port}")).context("as many ports as were asked for");
    let mut all = Vec::new();
    for service in services {
        let mut own = Vec::new();
        for _ in 0..replicas {
            own.push(Replica { address: next()?, metrics: next()? });
        }
        let address = match own.as_slice() {
            [only] => only.address.clone(),
            _ => next()?,
        };
        all.push(Listeners { service: (*service).to_owned(), address, replicas: own });
    }
    Ok(all)
}

/// Those of this test alone among the tests that nextest runs at once: what is free may be another's that has yet to bind it, or is being restarted.
fn ports() -> std::ops::Range<u16> {
    let slots = (PORTS.end - PORTS.start) / PORTS_EACH;
    match std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse::<u16>().ok()) {
        None => PORTS,
        Some(slot) => {
            let start = PORTS.start + slot % slots * PORTS_EACH;
            start..start + PORTS_EACH
        }
    }
}

/// Ports that nothing listens on now.
///
/// # Errors
/// When there are too few.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let range = ports();
    let mut held = Vec::new();
    let mut tries = 0;
    while held.len() < count {
        tries += 1;
        if tries > 10_000 {
            bail!("no free ports between {} and {}", range.start, range.end);
        }
        let port = rand::random_range(range.clone());
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}
