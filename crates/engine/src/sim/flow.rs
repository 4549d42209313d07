//! What the operations of a schedule do.

use super::ledger::{MOODY, PAYEE, REVERTER};
use crate::flow::{Call, Cx, Decoder, Failure, Flow, SignDocument, Step};
use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    /// Which operation of the schedule.
    pub(super) number: u64,
    pub(super) chain_id: u64,
    pub(super) sender: Address,
    /// Calls sent together, by what they call.
    pub(super) together: Vec<Callee>,
    /// Calls sent one after the other.
    pub(super) in_turn: Vec<Callee>,
    pub(super) signs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Callee {
    Payee,
    Reverter,
    Moody,
}

/// Sends some calls together, then some in turn, and may sign a document. Ends with how many succeeded.
pub(super) struct Errand;

impl Flow for Errand {
    const KIND: &'static str = "sim.errand";
    type Order = Order;
    type Outcome = u64;

    fn run(cx: &mut Cx<'_, Order>) -> Step<u64> {
        let order = cx.order();
        let call = |place: usize, callee: &Callee| {
            let target = match callee {
                Callee::Payee => PAYEE,
                Callee::Reverter => REVERTER,
                Callee::Moody => MOODY,
            };
            let data = format!("call {} {place}", order.number).into_bytes();
            Call { value: U256::from(1), ..Call::new(order.chain_id, order.sender, target, data) }
        };
        if order.signs {
            let document = serde_json::json!({"number": order.number});
            cx.sign("document", || SignDocument::Eip712 { signer: order.sender, document })?;
        }
        let together = cx.try_all("together", || {
            order.together.iter().enumerate().map(|(place, callee)| call(place, callee)).collect::<Vec<_>>()
        })?;
        let mut succeeded = together.iter().filter(|one| one.is_ok()).count() as u64;
        for (place, callee) in order.in_turn.iter().enumerate() {
            cx.transact(&format!("turn{place}"), || call(100 + place, callee))?;
            succeeded += 1;
        }
        cx.done(succeeded)
    }
}

pub(super) struct Plain;

impl Decoder for Plain {
    fn decode_revert(&self, _: &[u8]) -> Failure {
        Failure::new("REVERTED", "simulated")
    }
    fn judge(&self, _: &str, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}
