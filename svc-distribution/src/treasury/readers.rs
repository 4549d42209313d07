//! The chain as typed reads.

use super::{
    cap_table::{CapTable, Moved},
    entitlement::Holding,
    terms::{Terms, Units},
};
use crate::readers::{currency_decimals, decimals, ratio_of};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::{SolCall, SolEvent as _},
};
use dalp_chain::{
    BlockHeader, BlockId, BlockNumberOrTag, CallError, ChainError, Filter, NodeErrorKind, TransactionRequest,
};
use dalp_contracts::{
    bindings::{
        AddonFactory, AssetToken,
        Servicing::{self, Payout},
        ServicingLifecycle::{self, CouponPlan},
        TokenCompliance,
    },
    decode_revert, roles,
};
use dalp_domain::{ChainReader, Head, ReadError, refusals::failure_of};
use dalp_service::{Reason, Refusal};
use serde_json::json;
use std::collections::BTreeSet;

/// Blocks whose movements are asked for at once; less where a node refuses so many.
const BLOCKS_AT_ONCE: u64 = 5_000;
/// Reads that are under way at once, in requests of a hundred each.
const READS_AT_ONCE: usize = 4_000;

/// What a treasury's contract says at a block.
#[derive(Debug, Clone)]
pub struct OnChain {
    /// The block.
    pub at: Head,
    /// The coupons; `None`: none are fixed.
    pub plan: Option<CouponPlan>,
    /// Periods whose money is reserved.
    pub opened: u32,
    /// Periods that are over.
    pub completed: u32,
    /// Periods in all.
    pub periods: u32,
    /// Whether redemption is open.
    pub matured: bool,
    /// Base units of the terms' currency that it holds.
    pub balance: U256,
    /// Base units of it that it owes.
    pub owed: U256,
    /// Whether it holds FUNDS on the asset.
    pub funds: bool,
    /// Whether it holds SUPPLY on the asset.
    pub supply: bool,
    /// Whether it is one of the asset's rules.
    pub rule: bool,
}

/// The last block that counts for a record date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBlock {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Unix seconds.
    pub timestamp_s: u64,
}

/// What the numbers of terms come to. A currency that does not tell its decimals has no amounts.
pub async fn units(chain: &ChainReader, terms: &Terms) -> Result<Units, Refusal> {
    let asset_decimals = decimals(chain, terms.asset).await?;
    let currency_decimals = currency_decimals(chain, terms.currency, "terms.currency").await?;
    let redemption_ratio = match terms.maturity {
        None => U256::ZERO,
        Some(maturity) => {
            let path = "terms.redemption_price";
            ratio_of(maturity.redemption_price, currency_decimals, asset_decimals, path)?
        }
    };
    Ok(Units { asset_decimals, currency_decimals, redemption_ratio })
}

/// Where a creation would put a treasury; what the factory refuses is the refusal.
pub async fn dry_create(
    chain: &ChainReader,
    factory: Address,
    (sender, salt): (Address, B256),
    terms: &Terms,
    units: &Units,
) -> Result<Address, ReadError> {
    let create = AddonFactory::createServicingCall { salt, terms: terms.on_chain(units) };
    chain.read_as(sender, factory, create, BlockId::latest()).await
}

/// What a treasury's contract says at the latest block; `None` where it does not stand.
pub async fn on_chain(chain: &ChainReader, terms: &Terms, treasury: Address) -> Result<Option<OnChain>, Refusal> {
    let at = chain.latest().await?;
    let plan = match chain.read_at(treasury, Servicing::planCall {}, at.id()).await {
        // The two parts of the contract have a type each for the same plan.
        Ok(plan) => {
            CouponPlan { start: plan.start, end: plan.end, interval: plan.interval, lead: plan.lead, rate: plan.rate }
        }
        Err(ReadError::NotThere(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let role = |mask| AssetToken::hasCall { account: treasury, roleMask: mask };
    let (periods, coverage, matured, funds, supply, compliance) = futures::try_join!(
        chain.read_at(treasury, Servicing::periodsCall {}, at.id()),
        chain.read_at(treasury, Servicing::coverageCall { currency: terms.currency }, at.id()),
        chain.read_at(treasury, ServicingLifecycle::isMaturedCall {}, at.id()),
        chain.read_at(terms.asset, role(roles::asset::FUNDS), at.id()),
        chain.read_at(terms.asset, role(roles::asset::SUPPLY), at.id()),
        chain.read_at(terms.asset, AssetToken::complianceCall {}, at.id()),
    )?;
    let rule = chain.read_at(compliance, TokenCompliance::isModuleBoundCall { module: treasury }, at.id()).await?;
    Ok(Some(OnChain {
        at,
        plan: (plan.interval != 0).then_some(plan),
        opened: periods.opened.saturating_to(),
        completed: periods.completed.saturating_to(),
        periods: periods.count.saturating_to(),
        matured,
        balance: coverage.balance,
        owed: coverage.owed,
        funds,
        supply,
        rule,
    }))
}

/// What the contract that an asset asks about its rules is.
pub async fn compliance_of(chain: &ChainReader, asset: Address) -> Result<Address, ReadError> {
    chain.read(asset, AssetToken::complianceCall {}).await
}

/// A payout as the contract keeps it.
pub async fn payout(chain: &ChainReader, treasury: Address, id: u64) -> Result<Payout, ReadError> {
    chain.read(treasury, Servicing::payoutOfCall { id: U256::from(id) }).await
}

/// Refuses an address that has no code at a block.
pub async fn require_code(chain: &ChainReader, treasury: Address, block: BlockId) -> Result<(), Refusal> {
    match chain.upstreams().code(treasury, block).await.map_err(unreadable)?.is_empty() {
        true => Err(not_standing()),
        false => Ok(()),
    }
}

/// The refusal of a treasury that was ordered and is not there.
pub fn not_standing() -> Refusal {
    Refusal::new(Reason::FailedPrecondition, "the treasury's contract does not stand yet")
}

/// Tries a call as its sender; what the contract refuses is the refusal, with its arguments.
pub async fn try_as(chain: &ChainReader, sender: Address, target: Address, data: Bytes) -> Result<(), Refusal> {
    let request = TransactionRequest::default().from(sender).to(target).input(data.into());
    match chain.upstreams().call(&request, BlockId::latest()).await {
        Ok(_) => Ok(()),
        Err(CallError::Revert(data)) => {
            let failure = failure_of(&decode_revert(&data));
            let refusal = Refusal::new(failure.reason.parse().unwrap_or(Reason::SimulationReverted), failure.message);
            Err(failure.metadata.into_iter().fold(refusal, |refusal, (key, value)| refusal.meta(key, value)))
        }
        Err(error) => Err(ReadError::Chain(error).into()),
    }
}

/// The last final block whose time is not above a date. A date has passed when a final block is later.
pub async fn record_block(chain: &ChainReader, date: u64) -> Result<RecordBlock, Refusal> {
    let last = final_block(chain).await?;
    if last.timestamp_s <= date {
        return Err(Refusal::new(Reason::RecordBlockNotFinal, "the record date has not passed in a final block")
            .meta("at", date)
            .meta("final_block_time", last.timestamp_s));
    }
    let (mut below, mut above) = (0, last.number);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        match block(chain, middle).await?.timestamp_s <= date {
            true => below = middle,
            false => above = middle,
        }
    }
    Ok(record(&block(chain, below).await?))
}

/// The latest final block, as one whose balances are recorded.
pub async fn latest_final(chain: &ChainReader) -> Result<RecordBlock, Refusal> {
    Ok(record(&final_block(chain).await?))
}

fn record(header: &BlockHeader) -> RecordBlock {
    RecordBlock { number: header.number, hash: header.hash, timestamp_s: header.timestamp_s }
}

/// The last final block, to read at.
pub async fn last_final(chain: &ChainReader) -> Result<BlockId, Refusal> {
    Ok(BlockId::number(final_block(chain).await?.number))
}

async fn final_block(chain: &ChainReader) -> Result<BlockHeader, Refusal> {
    let height = chain.upstreams().final_height().await.map_err(unreadable)?;
    let height = height.ok_or_else(|| Refusal::new(Reason::RecordBlockNotFinal, "no block is final yet"))?;
    block(chain, height).await
}

async fn block(chain: &ChainReader, number: u64) -> Result<BlockHeader, Refusal> {
    let found = chain.upstreams().block(BlockNumberOrTag::Number(number)).await.map_err(unreadable)?;
    found.ok_or_else(|| {
        Refusal::new(Reason::ChainUnavailable, "a node does not have a final block").meta("block", number)
    })
}

fn unreadable(error: ChainError) -> Refusal {
    Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error)
}

/// Who holds what of an asset after a final block, out of all its movements from a block on.
pub async fn cap_table(chain: &ChainReader, asset: Address, from: u64, to: u64) -> Result<CapTable, Refusal> {
    let filter = Filter::new().address(asset).event_signature(AssetToken::Transfer::SIGNATURE_HASH);
    let (mut table, mut next, mut at_once) = (CapTable::default(), from, BLOCKS_AT_ONCE);
    while next <= to {
        let last = to.min(next + at_once - 1);
        let mut logs = match chain.upstreams().logs(&filter.clone().from_block(next).to_block(last)).await {
            Err(ChainError::Node(error)) if error.kind == NodeErrorKind::RangeTooLarge && at_once > 1 => {
                at_once /= 2;
                continue;
            }
            other => other.map_err(unreadable)?,
        };
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        for log in logs {
            let event = AssetToken::Transfer::decode_log(&log.inner).map_err(Refusal::internal)?;
            let moved = Moved { from: event.from, to: event.to, amount: event.value };
            table.apply(moved).map_err(|hole| disagree("movements are missing").source(hole))?;
        }
        next = last + 1;
    }
    Ok(table)
}

/// Refuses a list that is not what the chain's own records say.
pub fn disagree(how: &str) -> Refusal {
    let text = "the asset's movements and its records at the record date disagree";
    Refusal::new(Reason::FailedPrecondition, text).meta("problem", how)
}

/// Balances at a record date, as the asset's own records have them, in the order of the holders; and the supply.
pub async fn recorded(
    chain: &ChainReader,
    asset: Address,
    holders: &[Address],
    date: u64,
) -> Result<(Vec<Holding>, U256), Refusal> {
    let at = chain.latest().await?;
    let date = U256::from(date);
    let supply = chain.read_at(asset, AssetToken::supplyAtCall { date }, at.id()).await?;
    let asks = holders.iter().map(|holder| AssetToken::balanceAtCall { account: *holder, date });
    let balances = many(chain, asset, asks.collect(), at.id()).await?;
    let holdings = holders.iter().zip(balances).map(|(holder, units)| Holding { holder: *holder, units });
    Ok((holdings.collect(), supply))
}

/// Balances at a block, in the order of the holders; and the supply.
pub async fn balances(
    chain: &ChainReader,
    asset: Address,
    holders: &[Address],
    block: BlockId,
) -> Result<(Vec<Holding>, U256), Refusal> {
    let supply = chain.read_at(asset, AssetToken::totalSupplyCall {}, block).await?;
    let asks = holders.iter().map(|holder| AssetToken::balanceOfCall { account: *holder });
    let balances = many(chain, asset, asks.collect(), block).await?;
    let holdings = holders.iter().zip(balances).map(|(holder, units)| Holding { holder: *holder, units });
    Ok((holdings.collect(), supply))
}

/// Those of some dates that an asset records already.
pub async fn announced(chain: &ChainReader, asset: Address, dates: &[u64]) -> Result<BTreeSet<u64>, Refusal> {
    let at = chain.latest().await?;
    let asks = dates.iter().map(|date| AssetToken::isRecordDateCall { date: U256::from(*date) });
    let known = many(chain, asset, asks.collect(), at.id()).await?;
    Ok(dates.iter().zip(known).filter_map(|(date, known)| known.then_some(*date)).collect())
}

/// Asks one contract many questions, in few requests.
async fn many<C: SolCall>(
    chain: &ChainReader,
    target: Address,
    asks: Vec<C>,
    block: BlockId,
) -> Result<Vec<C::Return>, Refusal> {
    let mut answers = Vec::with_capacity(asks.len());
    for some in asks.chunks(READS_AT_ONCE) {
        let calls = some.iter().map(|ask| {
            let request = TransactionRequest::default().to(target).input(ask.abi_encode().into());
            ("eth_call", json!([request, block]))
        });
        let unavailable = |error| Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error);
        for answer in chain.upstreams().batch(calls.collect()).await.map_err(unavailable)? {
            let raw = answer
                .map_err(|error| Refusal::new(Reason::ChainUnavailable, "a balance cannot be read").source(error))?;
            let bytes: Bytes = serde_json::from_str(raw.get()).map_err(Refusal::internal)?;
            answers.push(C::abi_decode_returns(&bytes).map_err(|_| ReadError::NotThere(target))?);
        }
    }
    Ok(answers)
}
