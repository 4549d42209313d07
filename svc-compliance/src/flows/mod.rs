//! What happens on chain, one flow per file. Pure: asked again at every wake-up, they decide from what has happened.
//!
//! Step names are stored; they are never renamed.

pub mod asset;
pub mod batch_transfer;
pub mod bootstrap;
pub mod claims;
pub mod create_asset;
pub mod features;
pub mod identities;
pub mod recovery;
pub mod rules;
pub mod system_roles;
pub mod trust;

pub use dalp_domain::flows::{Sent, call};

use dalp_engine::{Amounts, Flows, Priority};

/// What an order moves of which assets, for maker-checker policies. Nothing, unless it says so.
pub(crate) trait Moves {
    /// In base units; of an asset that it is about and moves nothing of, zero.
    fn moves(&self) -> Amounts {
        Amounts::default()
    }
}

/// Flows of one transaction, which end with its hash and block: name, kind, order, step, and the call that the order makes.
macro_rules! single_transaction {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, $order:ty, $step:literal, |$given:ident| $call:expr;)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl dalp_engine::Flow for $name {
            const KIND: &'static str = $kind;
            type Order = $order;
            type Outcome = $crate::flows::Sent;

            fn amounts(order: &$order) -> dalp_engine::Amounts {
                $crate::flows::Moves::moves(order)
            }

            fn run(cx: &mut dalp_engine::Cx<'_, $order>) -> dalp_engine::Step<$crate::flows::Sent> {
                let $given = cx.order();
                let mined = cx.transact($step, || $call)?;
                cx.done(mined.into())
            }
        }
    )+};
}
pub(crate) use single_transaction;

/// What stops harm goes before the rest of its lane. What undoes it has the same place, or a lift ordered before a stop would be
/// carried out behind it.
const URGENT: &[&str] =
    &["asset.pause", "asset.unpause", "asset.set_address_frozen", "asset.freeze_partial", "asset.unfreeze_partial"];
/// What takes long and may wait for the rest of its lane.
const BULK: &[&str] = &["asset.batch_transfer"];

/// Every flow of this service.
#[must_use]
pub fn all() -> Flows {
    let flows = Flows::new()
        .with::<bootstrap::BootstrapFlow>()
        .with::<system_roles::GrantSystemRoleFlow>()
        .with::<system_roles::RevokeSystemRoleFlow>()
        .with::<identities::RegisterIdentityFlow>()
        .with::<identities::AddKeyFlow>()
        .with::<identities::RemoveKeyFlow>()
        .with::<recovery::RecoverWalletFlow>()
        .with::<claims::IssueClaimFlow>()
        .with::<claims::RevokeClaimFlow>()
        .with::<trust::RegisterTopicFlow>()
        .with::<trust::AddTrustedIssuerFlow>()
        .with::<trust::RemoveTrustedIssuerFlow>()
        .with::<create_asset::CreateAssetFlow>()
        .with::<batch_transfer::BatchTransferFlow>()
        .with::<features::AttachFeatureFlow>()
        .with::<features::DetachFeatureFlow>();
    crate::wallet::flows::add(asset::register(flows))
        .with_priority(Priority::Urgent, URGENT)
        .with_priority(Priority::Bulk, BULK)
}

#[cfg(test)]
pub(crate) mod replay {
    //! Drives a flow without a database: everything it orders is carried out at once.

    use alloy::primitives::{Address, B256, Bytes};
    use dalp_engine::{
        Call, Failure, Flow, Flows, Mined, OperationId, SignDocument, Signature,
        flow::{History, RecordedStep, StepInput, StepOutcome, Verdict},
    };

    /// What the flow ordered, by step name in order, and how it ended.
    pub(crate) struct Played {
        pub(crate) calls: Vec<(String, Call)>,
        pub(crate) documents: Vec<(String, SignDocument)>,
        pub(crate) verdict: Verdict,
    }

    pub(crate) fn play<F: Flow>(
        order: &F::Order,
        logs: impl Fn(&str) -> Result<Vec<dalp_chain::Log>, Failure>,
    ) -> Played {
        let flows = Flows::new().with::<F>();
        let order = serde_json::to_value(order).expect("orders serialise");
        let (mut history, mut calls, mut documents) = (History::default(), Vec::new(), Vec::new());
        for _ in 0..100 {
            // Histories are stored as JSON: what does not survive that would not survive a restart.
            let stored = serde_json::to_string(&history).expect("serialises");
            history = serde_json::from_str(&stored).expect("parses");
            let decision = flows.ask(F::KIND, F::VERSION, OperationId(uuid::Uuid::from_u128(7)), &order, &history);
            if decision.verdict != Verdict::Waiting {
                return Played { calls, documents, verdict: decision.verdict };
            }
            assert!(!decision.new_steps.is_empty(), "the flow waits for nothing");
            for (name, input) in decision.new_steps {
                let outcome = match &input {
                    StepInput::Transaction { call } => {
                        calls.push((name.clone(), call.clone()));
                        Some(match logs(&name) {
                            Ok(logs) => StepOutcome::Mined { mined: mined(call, logs) },
                            Err(failure) => StepOutcome::Failed { failure },
                        })
                    }
                    StepInput::Signature { document } => {
                        documents.push((name.clone(), document.clone()));
                        Some(StepOutcome::Signed { signature: Signature(Bytes::from(vec![1; 65])) })
                    }
                    StepInput::Group { .. } | StepInput::Value { .. } => None,
                };
                history.steps.insert(name, RecordedStep { input, outcome });
            }
        }
        panic!("the flow never ends");
    }

    fn mined(call: &Call, logs: Vec<dalp_chain::Log>) -> Mined {
        Mined {
            tx_hash: B256::repeat_byte(1),
            block_number: 9,
            block_hash: B256::repeat_byte(2),
            gas_used: 21_000,
            contract_address: call.target.is_none().then(|| Address::repeat_byte(0xcc)),
            logs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_given_to_flows_that_exist_and_to_their_opposites() {
        let flows = all();
        for kind in URGENT.iter().chain(BULK) {
            assert!(flows.contains(kind, 1), "{kind}");
        }
        for kind in ["asset.pause", "asset.unpause", "asset.freeze_partial", "asset.unfreeze_partial"] {
            assert_eq!(flows.priority(kind), Priority::Urgent, "{kind}");
        }
        assert_eq!(flows.priority("asset.transfer"), Priority::Normal);
    }
}
