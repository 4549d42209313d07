//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Collecting approvals is no flow: it blocks no lane and waits for no step. Step names are stored; they are never renamed.

use super::{
    commands::{Approve, DeployWallet, Propose, WalletConfig},
    operation::{Signed, UserOperation},
};
use crate::attest::acts::{Act, act_of};
use alloy::primitives::{Address, B256, Bytes};
use dalp_contracts::{
    bindings::SmartAccountFactory::{AccountCreated, createAccountCall},
    decode_revert,
    erc4337::interface::EntryPoint::{UserOperationEvent, UserOperationRevertReason},
};
use dalp_domain::{
    flows::{Sent, call, events},
    refusals::failure_of,
};
use dalp_engine::{Amounts, Cx, Failure, Flow, Flows, Mined, SignDocument, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `wallet.deploy`.
pub struct DeployFlow;
/// `wallet.propose`.
pub struct ProposeFlow;
/// `wallet.approve`.
pub struct ApproveFlow;
/// `wallet.submit`.
pub struct SubmitFlow;

/// A wallet to deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployOrder {
    /// Where.
    pub chain_id: u64,
    /// The factory of the tenant's system.
    pub factory: Address,
    /// Its settings.
    pub config: WalletConfig,
    /// Tells wallets of the same settings apart.
    pub salt: B256,
    /// What was asked for.
    pub command: DeployWallet,
}

/// A wallet that is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// It.
    pub wallet: Address,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

/// A user operation to collect approvals for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposeOrder {
    /// What is signed.
    pub user_operation: UserOperation,
    /// What was asked for.
    pub command: Propose,
}

/// A user operation whose approvals are collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The wallet.
    pub wallet: Address,
    /// What its signers sign.
    pub hash: B256,
}

/// An approval to note, or to sign first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveOrder {
    /// What is signed.
    pub user_operation: UserOperation,
    /// The signature that was made elsewhere, in the form that the account takes.
    pub signature: Option<Bytes>,
    /// What was asked for.
    pub command: Approve,
}

/// A user operation to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitOrder {
    /// Which.
    pub user_operation_id: Uuid,
    /// It.
    pub user_operation: UserOperation,
    /// Who sends.
    pub sender: Address,
    /// The signatures that go with it.
    pub signed: Vec<Signed>,
}

/// A user operation that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Which.
    pub user_operation_id: Uuid,
    /// Its hash.
    pub hash: B256,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

/// Adds the flows of smart wallets.
#[must_use]
pub fn add(flows: Flows) -> Flows {
    flows.with::<DeployFlow>().with::<ProposeFlow>().with::<ApproveFlow>().with::<SubmitFlow>()
}

impl Flow for DeployFlow {
    const KIND: &'static str = "wallet.deploy";
    type Order = DeployOrder;
    type Outcome = Deployed;

    fn run(cx: &mut Cx<'_, DeployOrder>) -> Step<Deployed> {
        let DeployOrder { chain_id, factory, config, salt, command } = cx.order();
        let mined = cx.transact("deploy", || {
            let create = createAccountCall { config: config.on_chain(), salt: *salt };
            call(*chain_id, command.sender, *factory, &create)
        })?;
        // The factory tells nothing where somebody else was faster: the account is there all the same.
        let made = events::<AccountCreated>(&mined, *factory).map(|event| event.account).next();
        match made {
            Some(account) if account != command.wallet => {
                cx.fail(Failure::new(Reason::Internal.as_str(), format!("the factory made {account}")))
            }
            _ => cx.done(Deployed { wallet: command.wallet, sent: mined.into() }),
        }
    }
}

impl Flow for ProposeFlow {
    const KIND: &'static str = "wallet.propose";
    type Order = ProposeOrder;
    type Outcome = Proposed;

    /// What the calls move of tokens, for maker-checker policies.
    fn amounts(order: &ProposeOrder) -> Amounts {
        order.command.calls.iter().fold(Amounts::default(), |all, one| match act_of(order.command.wallet, &one.data) {
            Act::Moves(moved) => moved.into_iter().fold(all, |all, moved| all.and(one.to, moved.amount)),
            _ => all,
        })
    }

    fn run(cx: &mut Cx<'_, ProposeOrder>) -> Step<Proposed> {
        let order = cx.order();
        cx.done(Proposed { wallet: order.command.wallet, hash: order.user_operation.hash() })
    }
}

impl Flow for ApproveFlow {
    const KIND: &'static str = "wallet.approve";
    type Order = ApproveOrder;
    type Outcome = Signed;

    fn run(cx: &mut Cx<'_, ApproveOrder>) -> Step<Signed> {
        let ApproveOrder { user_operation, signature, command } = cx.order();
        let signer = command.signer;
        let signature = match signature {
            Some(signature) => signature.clone(),
            None => cx.sign("sign", || SignDocument::Eip712 { signer, document: user_operation.document() })?.0,
        };
        cx.done(Signed { signer, signature })
    }
}

impl Flow for SubmitFlow {
    const KIND: &'static str = "wallet.submit";
    type Order = SubmitOrder;
    type Outcome = Executed;

    fn run(cx: &mut Cx<'_, SubmitOrder>) -> Step<Executed> {
        let SubmitOrder { user_operation_id, user_operation, sender, signed } = cx.order();
        let mined = cx.transact("submit", || {
            let handle = user_operation.handle(signed.clone(), *sender);
            call(user_operation.chain_id, *sender, user_operation.entry_point, &handle)
        })?;
        let hash = user_operation.hash();
        match told(&mined, user_operation.entry_point, hash) {
            Some(Ok(())) => cx.done(Executed { user_operation_id: *user_operation_id, hash, sent: mined.into() }),
            Some(Err(failure)) => cx.fail(failure.with(TX_HASH, mined.tx_hash).with(BLOCK_NUMBER, mined.block_number)),
            None => cx.fail(Failure::new(Reason::Internal.as_str(), "the entry point told of no user operation")),
        }
    }
}

/// Where a failure says in which transaction a call was refused; without it nothing was carried out.
pub const TX_HASH: &str = "tx_hash";
/// Where a failure says in which block that was.
pub const BLOCK_NUMBER: &str = "block_number";

/// What the entry point told of a user operation in a transaction: whether its calls were made. `None`: nothing.
#[must_use]
pub fn told(mined: &Mined, entry_point: Address, hash: B256) -> Option<Result<(), Failure>> {
    let event = events::<UserOperationEvent>(mined, entry_point).find(|event| event.userOpHash == hash)?;
    if event.success {
        return Some(Ok(()));
    }
    let reverted = events::<UserOperationRevertReason>(mined, entry_point).find(|event| event.userOpHash == hash);
    Some(Err(refused(&reverted.map(|event| event.revertReason).unwrap_or_default())))
}

/// What a call of a user operation was refused with.
#[must_use]
pub fn refused(data: &Bytes) -> Failure {
    failure_of(&decode_revert(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flows::replay::{Played, play},
        wallet::{commands::WalletCall, operation::tests::some},
    };
    use alloy::{
        primitives::{Log as PrimitiveLog, LogData, U256},
        sol_types::{SolCall as _, SolError as _, SolEvent},
    };
    use dalp_contracts::{
        bindings::AssetToken::{self, NotPaused},
        erc4337::interface::EntryPoint::handleOpsCall,
    };
    use dalp_engine::flow::Verdict;

    const SENDER: Address = Address::repeat_byte(5);
    const SIGNER: Address = Address::repeat_byte(6);

    fn log(of: Address, event: &impl SolEvent) -> dalp_chain::Log {
        let data: LogData = event.encode_log_data();
        dalp_chain::Log { inner: PrimitiveLog { address: of, data }, ..Default::default() }
    }

    fn submit(event: Option<bool>, reason: Option<Vec<u8>>) -> Played {
        let user_operation = some(Bytes::from_static(&[1]));
        let (entry_point, hash) = (user_operation.entry_point, user_operation.hash());
        let signed = vec![Signed { signer: SIGNER, signature: Bytes::from(vec![1; 65]) }];
        let order = SubmitOrder { user_operation_id: Uuid::from_u128(1), user_operation, sender: SENDER, signed };
        play::<SubmitFlow>(&order, |_| {
            let mut logs = Vec::new();
            if let Some(revert) = &reason {
                let event = UserOperationRevertReason {
                    userOpHash: hash,
                    sender: order.user_operation.wallet,
                    nonce: U256::ZERO,
                    revertReason: revert.clone().into(),
                };
                logs.push(log(entry_point, &event));
            }
            if let Some(success) = event {
                let event = UserOperationEvent {
                    userOpHash: hash,
                    sender: order.user_operation.wallet,
                    paymaster: Address::ZERO,
                    nonce: U256::ZERO,
                    success,
                    actualGasCost: U256::ZERO,
                    actualGasUsed: U256::ZERO,
                };
                logs.push(log(entry_point, &event));
            }
            Ok(logs)
        })
    }

    #[test]
    fn what_reached_the_threshold_goes_to_the_entry_point_as_one_operation() {
        let played = submit(Some(true), None);
        let [(name, call)] = &played.calls[..] else { panic!("one transaction") };
        assert_eq!((name.as_str(), call.sender, call.target), ("submit", SENDER, Some(some(Bytes::new()).entry_point)));
        let handle = handleOpsCall::abi_decode(&call.data).unwrap();
        assert_eq!((handle.ops.len(), handle.beneficiary), (1, SENDER));
        assert!(matches!(played.verdict, Verdict::Done(_)), "{:?}", played.verdict);
    }

    #[test]
    fn a_refused_call_fails_in_its_own_words_and_says_where() {
        let played = submit(Some(false), Some(NotPaused {}.abi_encode()));
        let Verdict::Failed(failure) = played.verdict else { panic!("{:?}", played.verdict) };
        assert_eq!(failure.metadata["contract_error"], "NotPaused");
        assert!(failure.metadata.contains_key(TX_HASH) && failure.metadata.contains_key(BLOCK_NUMBER));
        let silent = submit(Some(false), None);
        assert!(matches!(silent.verdict, Verdict::Failed(failure) if failure.reason == "SIMULATION_REVERTED"));
        let nothing = submit(None, None);
        assert!(matches!(nothing.verdict, Verdict::Failed(failure) if !failure.metadata.contains_key(TX_HASH)));
    }

    #[test]
    fn an_approval_is_signed_only_where_it_brings_no_signature() {
        let order = |signature: Option<Bytes>| ApproveOrder {
            user_operation: some(Bytes::new()),
            signature: signature.clone(),
            command: Approve { user_operation_id: Uuid::from_u128(1), signer: SIGNER, signature },
        };
        let brought = play::<ApproveFlow>(&order(Some(Bytes::from(vec![7; 65]))), |_| Ok(vec![]));
        assert!(brought.documents.is_empty() && brought.calls.is_empty());
        let Verdict::Done(outcome) = brought.verdict else { panic!("done") };
        assert_eq!(serde_json::from_value::<Signed>(outcome).unwrap().signature, Bytes::from(vec![7; 65]));
        let ours = play::<ApproveFlow>(&order(None), |_| Ok(vec![]));
        let [(name, SignDocument::Eip712 { signer, document })] = &ours.documents[..] else { panic!("one document") };
        assert_eq!((name.as_str(), *signer), ("sign", SIGNER));
        assert_eq!(*document, some(Bytes::new()).document());
        assert!(ours.calls.is_empty(), "an approval sends nothing");
    }

    #[test]
    fn a_proposal_says_what_it_moves() {
        let asset = Address::repeat_byte(8);
        let transfer = AssetToken::transferCall { to: SIGNER, amount: U256::from(40) }.abi_encode();
        let one = WalletCall { to: asset, value_wei: U256::ZERO, data: transfer.into() };
        let command = Propose {
            sender: SENDER,
            wallet: Address::repeat_byte(0xaa),
            calls: vec![one.clone(), one],
            deadline_s: 1,
            call_gas_limit: None,
            verification_gas_limit: None,
            note: String::new(),
        };
        let order = ProposeOrder { user_operation: some(command.call_data()), command };
        assert_eq!(
            ProposeFlow::amounts(&order),
            Amounts::default().and(asset, U256::from(40)).and(asset, U256::from(40))
        );
        let played = play::<ProposeFlow>(&order, |_| Ok(vec![]));
        assert!(matches!(played.verdict, Verdict::Done(_)) && played.calls.is_empty() && played.documents.is_empty());
    }

    #[test]
    fn a_wallet_that_somebody_else_deployed_is_deployed() {
        let config = WalletConfig { signers: vec![(SIGNER, 1)], threshold: 1, guardian: None, recovery_delay_s: 0 };
        let wallet = Address::repeat_byte(0xaa);
        let order = DeployOrder {
            chain_id: 1,
            factory: Address::repeat_byte(0xfa),
            config,
            salt: B256::ZERO,
            command: DeployWallet { sender: SENDER, wallet },
        };
        assert!(matches!(play::<DeployFlow>(&order, |_| Ok(vec![])).verdict, Verdict::Done(_)));
        let other = AccountCreated { account: SIGNER, salt: B256::ZERO };
        let wrong = play::<DeployFlow>(&order, |_| Ok(vec![log(order.factory, &other)]));
        assert!(matches!(wrong.verdict, Verdict::Failed(_)));
    }
}
