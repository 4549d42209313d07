//! Recovery of a lost wallet: first the registry, so that from then on nothing can be sent to the lost wallet, then what every asset
//! holds for it. Each is a step, so a stopped recovery goes on where it stood.

use super::{Sent, call};
use crate::domain::identity::RecoverWallet;
use alloy::primitives::{Address, B256};
use dalp_contracts::bindings::{AssetTokenCustody, RegistryRecords};
use dalp_engine::{Cx, Flow, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `identity.recover_wallet`.
pub struct RecoverWalletFlow;

/// A recovery with what was found when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverWalletOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's identity registry.
    pub registry: Address,
    /// The identity that moves.
    pub identity: Address,
    /// Whether the registry still names the lost wallet; else it knows the successor already.
    pub registered: bool,
    /// The assets in which the lost wallet has something.
    pub assets: Vec<Address>,
    /// What was asked for.
    pub command: RecoverWallet,
}

/// A wallet that was recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredWallet {
    /// The identity, which now belongs to the new wallet.
    pub identity: Address,
    /// The registry's transaction; none: it knew the successor already.
    pub registry: Option<Sent>,
    /// What became of each asset.
    pub assets: Vec<RecoveredAsset>,
}

/// An asset that was recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredAsset {
    /// Token.
    pub asset: Address,
    /// Its transaction; none: nothing was left to move.
    pub sent: Option<Sent>,
}

impl Flow for RecoverWalletFlow {
    const KIND: &'static str = "identity.recover_wallet";
    type Order = RecoverWalletOrder;
    type Outcome = RecoveredWallet;

    fn run(cx: &mut Cx<'_, RecoverWalletOrder>) -> Step<RecoveredWallet> {
        let order = cx.order();
        let RecoverWallet { sender, lost_wallet, new_wallet, .. } = order.command;
        let registry = match order.registered {
            true => {
                let recover = RegistryRecords::recoverCall { lostWallet: lost_wallet, newWallet: new_wallet };
                Some(cx.transact("registry", || call(order.chain_id, sender, order.registry, &recover))?.into())
            }
            false => None,
        };
        let outcomes = cx.try_all("assets", || {
            let recover = AssetTokenCustody::recoveryAddressCall {
                lostWallet: lost_wallet,
                newWallet: new_wallet,
                investorOnchainID: order.identity,
            };
            order.assets.iter().map(|asset| call(order.chain_id, sender, *asset, &recover)).collect::<Vec<_>>()
        })?;
        let (mut assets, mut refused) = (Vec::with_capacity(outcomes.len()), Vec::new());
        for (index, (asset, outcome)) in order.assets.iter().zip(outcomes).enumerate() {
            match outcome {
                Ok(mined) => assets.push(RecoveredAsset { asset: *asset, sent: Some(mined.into()) }),
                // Somebody moved it between the look and the step: then there is nothing to do.
                Err(failure) if failure.is_for(Reason::NothingToRecover.as_str()) => {
                    assets.push(RecoveredAsset { asset: *asset, sent: None });
                }
                Err(failure) => refused.push((index, *asset, failure)),
            }
        }
        match refused.first() {
            None => cx.done(RecoveredWallet { identity: order.identity, registry, assets }),
            Some((index, asset, failure)) => cx.fail(
                failure
                    .clone()
                    .with("step", format!("assets[{index}]"))
                    .with("asset", asset.to_checksum(None))
                    .with("recovered", assets.len())
                    .with("left", refused.len()),
            ),
        }
    }
}

impl RecoveredWallet {
    /// Hashes of its transactions, in order.
    #[must_use]
    pub fn transactions(&self) -> Vec<B256> {
        let assets = self.assets.iter().filter_map(|one| one.sent.as_ref());
        self.registry.iter().chain(assets).map(|sent| sent.tx_hash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::replay::play;
    use alloy::sol_types::SolCall as _;
    use dalp_engine::{Failure, flow::Verdict};

    fn order(registered: bool, assets: u8) -> RecoverWalletOrder {
        RecoverWalletOrder {
            chain_id: 1,
            registry: Address::repeat_byte(0x10),
            identity: Address::repeat_byte(0x11),
            registered,
            assets: (1..=assets).map(|n| Address::repeat_byte(0x20 + n)).collect(),
            command: RecoverWallet {
                sender: Address::repeat_byte(1),
                lost_wallet: Address::repeat_byte(2),
                new_wallet: Address::repeat_byte(3),
                assets: Vec::new(),
                reason: "phone in the lake".into(),
            },
        }
    }

    #[test]
    fn the_registry_comes_first_and_each_asset_is_a_step() {
        let played = play::<RecoverWalletFlow>(&order(true, 2), |_| Ok(vec![]));
        let steps: Vec<_> = played.calls.iter().map(|(name, call)| (name.as_str(), call.target)).collect();
        let target = |byte| Some(Address::repeat_byte(byte));
        assert_eq!(steps, [("registry", target(0x10)), ("assets[0]", target(0x21)), ("assets[1]", target(0x22))]);
        let sent =
            AssetTokenCustody::recoveryAddressCall::abi_decode(&played.calls[1].1.data).expect("recoveryAddress");
        assert_eq!((sent.lostWallet, sent.investorOnchainID), (Address::repeat_byte(2), Address::repeat_byte(0x11)));
        let Verdict::Done(outcome) = played.verdict else { panic!("{:?}", played.verdict) };
        let recovered: RecoveredWallet = serde_json::from_value(outcome).expect("a recovered wallet");
        assert_eq!(recovered.transactions().len(), 3);
    }

    #[test]
    fn what_the_registry_did_before_is_not_done_again() {
        let played = play::<RecoverWalletFlow>(&order(false, 1), |_| Ok(vec![]));
        assert_eq!(played.calls.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["assets[0]"]);
        let played = play::<RecoverWalletFlow>(&order(true, 0), |_| Ok(vec![]));
        assert!(matches!(played.verdict, Verdict::Done(_)), "an identity without assets is recovered as well");
    }

    #[test]
    fn a_refused_asset_fails_the_operation_and_holds_up_no_other() {
        let refusal = Failure::new("ASSET_ROLE_MISSING", "no");
        let played = play::<RecoverWalletFlow>(&order(true, 3), |name| match name {
            "assets[1]" => Err(refusal.clone()),
            "assets[2]" => Err(Failure::new("NOTHING_TO_RECOVER", "moved away")),
            _ => Ok(vec![]),
        });
        assert_eq!(played.calls.len(), 4);
        let Verdict::Failed(failure) = played.verdict else { panic!("{:?}", played.verdict) };
        let said = |key: &str| failure.metadata[key].clone();
        assert_eq!(
            (failure.reason.as_str(), said("step"), said("recovered")),
            ("ASSET_ROLE_MISSING", "assets[1]".into(), "2".into())
        );
        assert_eq!((said("left"), said("asset")), ("1".into(), Address::repeat_byte(0x22).to_checksum(None)));
    }
}
