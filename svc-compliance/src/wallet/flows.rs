//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Collecting approvals is no flow: it blocks no lane and waits for no step. Step names are stored; they are never renamed.

use super::{
    commands::{Approve, DeployWallet, Propose, WalletCall, WalletConfig},
    operation::{Signed, UserOperation},
};
use crate::attest::acts::{Act, act_of};
use alloy::primitives::{Address, B256, Bytes, U256};
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
    /// What was asked for.
    pub command: Approve,
}

/// An approval that is there. Its signature is no part of it: results of operations are read by many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Who signs.
    pub signer: Address,
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
    /// The signatures that go with it; under this name no view of an order shows them.
    #[serde(rename = "secret")]
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

    /// What the calls move, promise or let others take, for maker-checker policies.
    fn amounts(order: &ProposeOrder) -> Amounts {
        order.command.calls.iter().fold(Amounts::default(), |all, call| all.merged(amounts(order.command.wallet, call)))
    }

    fn run(cx: &mut Cx<'_, ProposeOrder>) -> Step<Proposed> {
        let order = cx.order();
        cx.done(Proposed { wallet: order.command.wallet, hash: order.user_operation.hash() })
    }
}

/// What a call of a wallet moves, promises or lets others take, for maker-checker policies. Whatever it does, it is about its target; what cannot be read
/// counts as any amount of it, so that no threshold is slipped under by a function that is not known here.
fn amounts(wallet: Address, call: &WalletCall) -> Amounts {
    let all = Amounts::about(call.to).merged(match call.value_wei.is_zero() {
        true => Amounts::default(),
        false => Amounts::of(Address::ZERO, call.value_wei),
    });
    match act_of(wallet, &call.data) {
        Act::Pays | Act::States => all,
        Act::Moves(moved) => moved.into_iter().fold(all, |all, moved| all.and(call.to, moved.amount)),
        Act::Lets { amount, .. } => all.and(call.to, amount),
        Act::Promises(promised) => promised.into_iter().fold(all, |all, one| all.and(one.asset, one.moved.amount)),
        Act::Executes { .. } | Act::Trusts(_) | Act::Hides(_) | Act::Other => all.and(call.to, U256::MAX),
    }
}

impl Flow for ApproveFlow {
    const KIND: &'static str = "wallet.approve";
    type Order = ApproveOrder;
    type Outcome = Approved;

    fn run(cx: &mut Cx<'_, ApproveOrder>) -> Step<Approved> {
        let ApproveOrder { user_operation, command } = cx.order();
        let signer = command.signer;
        if command.by_platform_key() {
            cx.sign(SIGN_STEP, || SignDocument::Eip712 { signer, document: user_operation.document() })?;
        }
        cx.done(Approved { signer })
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

/// The step of an approval in which the platform's key signs.
pub const SIGN_STEP: &str = "sign";
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
        wallet::operation::tests::some,
    };
    use alloy::{
        primitives::{Log as PrimitiveLog, LogData},
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
            command: Approve::new(Uuid::from_u128(1), SIGNER, signature),
        };
        let bringing = order(Some(Bytes::from(vec![7; 65])));
        assert!(!serde_json::to_string(&bringing).unwrap().contains("0707"), "an order is shown to people");
        let brought = play::<ApproveFlow>(&bringing, |_| Ok(vec![]));
        assert!(brought.documents.is_empty() && brought.calls.is_empty());
        let Verdict::Done(outcome) = brought.verdict else { panic!("done") };
        assert_eq!(outcome, serde_json::json!({"signer": SIGNER}), "a result is read by many");
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
        let moves = |data: Vec<u8>, value_wei: u64| {
            let call = WalletCall { to: asset, value_wei: U256::from(value_wei), data: data.into() };
            amounts(order.command.wallet, &call)
        };
        let lets = AssetToken::approveCall { spender: SIGNER, value: U256::from(9) }.abi_encode();
        assert_eq!(moves(lets, 0), Amounts::of(asset, U256::from(9)), "an allowance counts as what may be taken");
        assert_eq!(
            moves(vec![], 5),
            Amounts::about(asset).and(Address::ZERO, U256::from(5)),
            "the chain's own currency"
        );
        assert_eq!(
            moves(vec![1, 2, 3, 4], 0),
            Amounts::of(asset, U256::MAX),
            "what is not known is under no threshold"
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
