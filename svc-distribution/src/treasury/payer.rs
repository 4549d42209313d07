//! Payments: the passes over the lists of runs. First the money is reserved, then holders are paid in batches.

use super::{
    flows::{BatchOrder, OpenFlow, OpenOrder, Opened, Opening as Reserve, PassOf, PayBatchFlow},
    readers,
    store::runs::StoredRun,
    terms::Payout,
};
use crate::{
    metric_definitions as metric,
    passes::{Driver, OpenBatch, Opening, PassError, Passes, ended},
    store::Store,
};
use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolCall as _,
};
use dalp_contracts::bindings::{Servicing::claimManyCall, ServicingLifecycle::redeemForCall};
use dalp_domain::{ChainReader, store::StoreError};
use dalp_engine::{Admission, Amounts, Engine, Failure, OperationView, Question, TenantId};
use dalp_service::Reason;
use uuid::Uuid;

/// The RPC that reservations and batches are accepted under.
pub const METHOD: &str = "dalp.distribution.v1.TreasuryService/StartRun";
/// Holders that are measured before a run is paid.
pub const SAMPLE: u32 = 50;
/// The least that a payment costs.
pub const LEAST_ROW_GAS: u64 = 40_000;

/// Hands batches of payments over.
pub type Payer = Driver<Runs>;

/// Runs of every tenant on a chain.
#[derive(Clone)]
pub struct Runs {
    store: Store,
    engine: Engine,
    chain: ChainReader,
}

/// What reserves the money of a run; `None`: a redemption, for which `mature` did.
#[must_use]
pub fn reserve_of(payout: &Payout) -> Option<Reserve> {
    match payout {
        Payout::Coupon { period } => Some(Reserve::Coupons { through: *period }),
        Payout::Dividend { currency, record_date, total, .. } => {
            Some(Reserve::Dividend { currency: *currency, record_date: *record_date, total: U256::from(*total) })
        }
        Payout::Redemption => None,
    }
}

/// The call that pays holders of a run; `None`: its payout has no number yet.
#[must_use]
pub fn pay_call(run: &StoredRun, holders: Vec<Address>) -> Option<Bytes> {
    let data = match run.payout {
        Payout::Redemption => redeemForCall { holders }.abi_encode(),
        Payout::Coupon { .. } | Payout::Dividend { .. } => {
            claimManyCall { id: U256::from(run.payout_id?), holders }.abi_encode()
        }
    };
    Some(data.into())
}

// === impl Runs ===

impl Runs {
    /// Those of a chain.
    #[must_use]
    pub fn new(store: Store, engine: Engine, chain: ChainReader) -> Self {
        Self { store, engine, chain }
    }

    /// Whether the money of a run is reserved already.
    async fn is_reserved(&self, run: &StoredRun) -> Result<Option<bool>, Failure> {
        match run.payout {
            Payout::Redemption => Ok(Some(true)),
            Payout::Dividend { .. } => Ok(Some(run.payout_id.is_some())),
            Payout::Coupon { period } => match readers::payout(&self.chain, run.treasury, period.into()).await {
                Ok(payout) => Ok(Some(!payout.currency.is_zero())),
                Err(error) if error.is_unavailable() => Ok(None),
                Err(error) => Err(Failure::new(Reason::Internal.as_str(), error.to_string())),
            },
        }
    }

    async fn note_reserved(&self, run: &mut StoredRun, payout_id: Option<u64>) -> Result<(), StoreError> {
        if !run.reserved {
            self.store.note_reserved(self.chain.chain_id(), run, payout_id).await?;
            run.payout_id = run.payout_id.or(payout_id);
            run.reserved = true;
        }
        Ok(())
    }

    async fn reserve(&self, run: &StoredRun, opening: Reserve) -> Result<OperationView, PassError> {
        let command = PassOf { sender: run.sender, treasury: run.treasury, run: run.run, pass: run.pass };
        let order = OpenOrder { chain_id: self.chain.chain_id(), opening, command };
        let key = format!("open-{:#x}-{}-{}", run.treasury, run.run, run.pass);
        let mut admission = Admission::<OpenFlow>::new(TenantId::new(&run.tenant), &run.principal, METHOD, key, order);
        // What StartRun asks for begins here: a policy that holds it holds the whole run, before any money is reserved.
        let amounts = Amounts::of(run.currency, U256::from(run.total));
        admission.question = Some(Question { amounts, ..Question::default() });
        Ok(self.engine.accept(admission).await?.operation)
    }
}

#[async_trait::async_trait]
impl Passes for Runs {
    type Pass = StoredRun;

    async fn running(&self) -> Result<Vec<StoredRun>, StoreError> {
        self.store.paying_runs(self.chain.chain_id()).await
    }

    fn tenant<'a>(&self, run: &'a StoredRun) -> &'a str {
        &run.tenant
    }

    fn name(&self, run: &StoredRun) -> String {
        format!("pass {} of run {} of treasury {}", run.pass, run.run, run.treasury)
    }

    async fn open(&self, run: &mut StoredRun) -> Result<Opening, PassError> {
        let Some(opening) = reserve_of(&run.payout) else { return Ok(Opening::Done) };
        let chain_id = self.chain.chain_id();
        let id = match run.open_operation {
            Some(id) => id,
            None => {
                match self.is_reserved(run).await {
                    Ok(Some(true)) => {
                        self.note_reserved(run, None).await?;
                        return Ok(Opening::Done);
                    }
                    Ok(Some(false)) => {}
                    Ok(None) => return Ok(Opening::Waits),
                    Err(failure) => return Ok(Opening::Failed(failure)),
                }
                let id = self.reserve(run, opening).await?.operation_id.0;
                self.store.note_opening(chain_id, run, id).await?;
                id
            }
        };
        match ended(&self.engine, &run.tenant, id).await? {
            None => Ok(Opening::Waits),
            Some(Err(failure)) => Ok(Opening::Failed(failure)),
            Some(Ok(operation)) => {
                let opened: Option<Opened> = operation.result.and_then(|result| serde_json::from_value(result).ok());
                let Some(opened) = opened else {
                    let text = "a reservation that does not tell its payout";
                    return Ok(Opening::Failed(Failure::new(Reason::Internal.as_str(), text)));
                };
                self.note_reserved(run, Some(opened.payout_id)).await?;
                Ok(Opening::Done)
            }
        }
    }

    async fn open_batches(&self, run: &StoredRun) -> Result<Vec<OpenBatch>, StoreError> {
        self.store.open_payments(self.chain.chain_id(), run).await
    }

    async fn plan(&self, run: &StoredRun) -> Result<Option<OpenBatch>, StoreError> {
        self.store.plan_payments(self.chain.chain_id(), run).await
    }

    async fn hand_over(&self, run: &StoredRun, batch: &OpenBatch) -> Result<OperationView, PassError> {
        let chain_id = self.chain.chain_id();
        let holders = self.store.holders_of_batch(chain_id, run, batch.batch).await?;
        let command = PassOf { sender: run.sender, treasury: run.treasury, run: run.run, pass: run.pass };
        let data = pay_call(run, holders)
            .ok_or_else(|| StoreError::Malformed { what: "number of a payout", value: String::new() })?;
        let order = BatchOrder { chain_id, data, batch: batch.batch, command };
        let key = format!("pay-{:#x}-{}-{}-{}", run.treasury, run.run, run.pass, batch.batch);
        let admission = Admission::<PayBatchFlow>::new(TenantId::new(&run.tenant), &run.principal, METHOD, key, order);
        Ok(self.engine.accept(admission).await?.operation)
    }

    async fn note(&self, run: &StoredRun, batch: u32, id: Uuid) -> Result<(), StoreError> {
        self.store.note_payments(self.chain.chain_id(), run, batch, id).await
    }

    async fn settle(&self, run: &StoredRun, batch: u32) -> Result<(), StoreError> {
        self.store.settle_payments(self.chain.chain_id(), run, batch).await
    }

    async fn end(&self, run: &StoredRun, failure: Option<&Failure>) -> Result<(), StoreError> {
        self.store.end_pass(self.chain.chain_id(), run, failure).await
    }

    fn measure(&self, running: usize) {
        metric::runs_paying(running);
    }

    fn stopped(&self) {
        metric::run_stopped();
    }
}
