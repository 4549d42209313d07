//! Who is who to a tenant on one chain, read from that chain: its systems, their address books and factories. No table that a service writes is asked.
//!
//! A system is the tenant's when an operator pinned it, or when it stands where the deterministic deployer puts the system of this tenant and of the
//! administrator that it names: then it has our code and was configured by that administrator alone. Whether the administrator is a key of the tenant
//! only the signer knows, so the verdict says that it presumes it.

use super::{config::JudgedChain, ruling::Standing};
use alloy::{
    primitives::{Address, B256, Bytes, address, keccak256},
    sol_types::{Eip712Domain, SolCall, SolConstructor as _, SolEvent as _, eip712_domain},
};
use dalp_chain::TransactionRequest;
use dalp_contracts::{
    DeploymentPlan, TenantParams,
    bindings::{
        AssetFactory, AssetToken, Bootstrap, Create2Deployer, IdentityFactory, IdentityRegistry, SmartAccount,
        SmartAccountFactory::AccountCreated, System, VotingPower,
    },
    deployer,
    roles::{self, names},
};
use dalp_domain::{ChainReader, Head, ReadError};
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is believed. What a registry has said once stays true of contracts; books may change.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// How soon systems are looked for again when somebody is not found in those known.
const ANEW_AFTER: Duration = Duration::from_secs(1);
/// Answers remembered.
const REMEMBERED: usize = 65_536;

/// An account that never sends anything, so that what it would create stands where its nonce zero says.
const CREATOR: Address = address!("0x00000000000000000000000000000000da1ba77e");

/// The names under which a system holds its contracts.
const BOOK: [B256; 21] = [
    names::IDENTITY_REGISTRY,
    names::IDENTITY_FACTORY,
    names::TOPIC_SCHEMES,
    names::ASSET_FACTORY,
    names::ADDON_FACTORY,
    names::SETTLEMENT,
    names::MANAGEMENT_FEE,
    names::TRANSACTION_FEE,
    names::COUNTRY_RULE,
    names::CLAIM_RULE,
    names::LIST_RULE,
    names::HOLDER_LIMIT_RULE,
    names::ISSUANCE_RULE,
    names::HOLDING_PERIOD_RULE,
    names::APPROVAL_RULE,
    names::TRANSFER_LIMIT_RULE,
    names::COLLATERAL_RULE,
    names::FEEDS_DIRECTORY,
    names::SCALAR_FEED_FACTORY,
    names::FEED_BATCH,
    names::SMART_ACCOUNT_FACTORY,
];

/// The chain could not be asked. Nothing is decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAsked(pub String);

/// Somebody's standing, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The standing.
    pub standing: Standing,
    /// The administrator of the system that vouches, where no operator pinned it.
    pub presumes: Option<Address>,
}

/// One system of a tenant.
#[derive(Debug, Clone)]
struct Known {
    /// Everything in its book, itself, and the implementations of its factories.
    contracts: HashSet<Address>,
    book: HashMap<B256, Address>,
    presumes: Option<Address>,
}

struct Aged<V> {
    value: V,
    since: Instant,
}

/// Who is who.
pub struct Directory {
    chain: ChainReader,
    judged: JudgedChain,
    systems: Mutex<HashMap<String, Aged<Arc<Vec<Known>>>>>,
    standings: Mutex<HashMap<(String, Address), Aged<Found>>>,
    wallets: Mutex<HashMap<(String, Address), Aged<Found>>>,
}

// === impl Directory ===

impl Directory {
    /// A directory read through these nodes.
    #[must_use]
    pub fn new(chain: ChainReader, judged: JudgedChain) -> Self {
        Self { chain, judged, systems: Mutex::default(), standings: Mutex::default(), wallets: Mutex::default() }
    }

    /// Who an account is to a tenant.
    pub async fn find(&self, tenant: &str, account: Address, head: Head) -> Result<Found, NotAsked> {
        if self.judged.rules.lists(tenant, account) {
            return Ok(Found { standing: Standing::Listed, presumes: None });
        }
        let id = (tenant.to_owned(), account);
        if let Some(found) = remembered(&self.standings, &id, REMEMBERED_FOR) {
            return Ok(found);
        }
        let mut found = self.find_in(&self.systems_of(tenant, head, REMEMBERED_FOR).await?, account, head).await?;
        if found.standing == Standing::Unknown {
            found = self.find_in(&self.systems_of(tenant, head, ANEW_AFTER).await?, account, head).await?;
        }
        if !matches!(found.standing, Standing::Unknown | Standing::Investor) {
            remember(&self.standings, id, found);
        }
        Ok(found)
    }

    /// Whether an account is a smart wallet of the tenant's system: then its code is ours, and what it is told is what it does. It says nothing of whose it
    /// is, for anybody may have that factory make one; so it is no party to anything by that alone.
    pub async fn smart_wallet(&self, tenant: &str, account: Address, head: Head) -> Result<Option<Found>, NotAsked> {
        let id = (tenant.to_owned(), account);
        if let Some(found) = remembered(&self.wallets, &id, REMEMBERED_FOR) {
            return Ok(Some(found));
        }
        for at_most in [REMEMBERED_FOR, ANEW_AFTER] {
            for system in self.systems_of(tenant, head, at_most).await?.iter() {
                let Some(factory) = system.book.get(&names::SMART_ACCOUNT_FACTORY) else { continue };
                let filter = self.since(head).address(*factory).event_signature(AccountCreated::SIGNATURE_HASH);
                let filter = filter.topic1(account.into_word());
                let logs = self.chain.upstreams().logs(&filter).await.map_err(|error| NotAsked(error.to_string()))?;
                if !logs.is_empty() {
                    let found = Found { standing: Standing::Contract, presumes: system.presumes };
                    remember(&self.wallets, id, found);
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Who signs for a smart wallet now.
    pub async fn signers(&self, wallet: Address, head: Head) -> Result<Vec<Bytes>, NotAsked> {
        let asked = SmartAccount::getSignersCall { start: 0, end: u64::MAX };
        Ok(self.ask(wallet, asked, head).await?.unwrap_or_default())
    }

    async fn find_in(&self, systems: &[Known], account: Address, head: Head) -> Result<Found, NotAsked> {
        for system in systems {
            let standing = self.standing(system, account, head).await?;
            if standing != Standing::Unknown {
                return Ok(Found { standing, presumes: system.presumes });
            }
        }
        Ok(Found { standing: Standing::Unknown, presumes: None })
    }

    async fn standing(&self, system: &Known, account: Address, head: Head) -> Result<Standing, NotAsked> {
        if system.contracts.contains(&account) {
            return Ok(Standing::Contract);
        }
        if self.is_asset(system, account, head).await? {
            return Ok(Standing::Asset);
        }
        if let Some(factory) = system.book.get(&names::IDENTITY_FACTORY)
            && self.ask(*factory, IdentityFactory::isNativeCall { identity: account }, head).await? == Some(true)
        {
            return Ok(Standing::Contract);
        }
        if let Some(registry) = system.book.get(&names::IDENTITY_REGISTRY)
            && self.ask(*registry, IdentityRegistry::containsCall { wallet: account }, head).await? == Some(true)
        {
            return Ok(Standing::Investor);
        }
        if self.is_made_by_a_factory(system, account, head).await? || self.counts_votes(system, account, head).await? {
            return Ok(Standing::Contract);
        }
        Ok(Standing::Unknown)
    }

    async fn is_asset(&self, system: &Known, token: Address, head: Head) -> Result<bool, NotAsked> {
        let Some(factory) = system.book.get(&names::ASSET_FACTORY) else { return Ok(false) };
        Ok(self.ask(*factory, AssetFactory::isAssetCall { token }, head).await? == Some(true))
    }

    /// Factories without a register say in an event what they have made; an event of a factory comes from it alone.
    async fn is_made_by_a_factory(&self, system: &Known, account: Address, head: Head) -> Result<bool, NotAsked> {
        let made_by = [names::ASSET_FACTORY, names::ADDON_FACTORY, names::SCALAR_FEED_FACTORY];
        let factories: Vec<Address> = made_by.iter().filter_map(|name| system.book.get(name).copied()).collect();
        if factories.is_empty() {
            return Ok(false);
        }
        let events = [
            (dalp_contracts::bindings::AddonFactory::DistributionCreated::SIGNATURE_HASH, 1),
            (dalp_contracts::bindings::AddonFactory::OfferingCreated::SIGNATURE_HASH, 1),
            (dalp_contracts::bindings::AddonFactory::ServicingCreated::SIGNATURE_HASH, 1),
            (dalp_contracts::bindings::IssuerSignedScalarFeedFactory::FeedCreated::SIGNATURE_HASH, 1),
            (AssetFactory::ComplianceCreated::SIGNATURE_HASH, 2),
            (AssetFactory::AssetCreated::SIGNATURE_HASH, 3),
        ];
        let word = account.into_word();
        for place in 1..=3 {
            let kinds: Vec<B256> = events.iter().filter(|(_, at)| *at == place).map(|(kind, _)| *kind).collect();
            let filter = self.since(head).address(factories.clone()).event_signature(kinds);
            let filter = match place {
                1 => filter.topic1(word),
                2 => filter.topic2(word),
                _ => filter.topic3(word),
            };
            let logs = self.chain.upstreams().logs(&filter).await.map_err(|error| NotAsked(error.to_string()))?;
            if !logs.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The contract that counts an asset's votes is created for it by nobody in particular: it is one when creating it now gives the same code.
    async fn counts_votes(&self, system: &Known, account: Address, head: Head) -> Result<bool, NotAsked> {
        let Some(token) = self.ask(account, VotingPower::TOKENCall {}, head).await? else { return Ok(false) };
        if !self.is_asset(system, token, head).await? {
            return Ok(false);
        }
        let creation = TransactionRequest::default().from(CREATOR).input(voting_power(token).into());
        let made = self.chain.upstreams().call(&creation, head.id()).await;
        let there = self.chain.upstreams().code(account, head.id()).await;
        match (made, there) {
            (Ok(made), Ok(there)) => {
                let made = moved_to(&made, CREATOR.create(0), account, self.chain.chain_id());
                Ok(!made.is_empty() && made == there)
            }
            (Err(error), _) if error.is_retryable() => Err(NotAsked(error.to_string())),
            (Err(_), _) => Ok(false),
            (_, Err(error)) => Err(NotAsked(error.to_string())),
        }
    }

    /// Whether creation code is that of a contract which the platform creates without a factory.
    pub async fn creates(&self, tenant: &str, code: &Bytes, head: Head) -> Result<Option<Found>, NotAsked> {
        if *code == Create2Deployer::BYTECODE {
            return Ok(Some(Found { standing: Standing::Contract, presumes: None }));
        }
        let Some(argument) = code.strip_prefix(&VotingPower::BYTECODE[..]) else { return Ok(None) };
        let Ok(argument) = B256::try_from(argument) else { return Ok(None) };
        let token = Address::from_word(argument);
        let found = self.find(tenant, token, head).await?;
        Ok((found.standing == Standing::Asset && *code == voting_power(token)).then_some(found))
    }

    /// Whether a call is a step of the deployment of this tenant's system by this administrator, to the letter.
    pub async fn deploys(
        &self,
        tenant: &str,
        admin: Address,
        target: Address,
        data: &Bytes,
        head: Head,
    ) -> Result<bool, NotAsked> {
        let selector = data.first_chunk::<4>().copied();
        if selector == Some(Create2Deployer::deployCall::SELECTOR) {
            let code = self.chain.upstreams().code(target, head.id()).await;
            if code.map_err(|error| NotAsked(error.to_string()))? != Create2Deployer::DEPLOYED_BYTECODE {
                return Ok(false);
            }
            return Ok(plan(tenant, target, admin)
                .steps
                .iter()
                .any(|step| step.to == Some(target) && step.data == *data));
        }
        if selector != Some(Bootstrap::runCall::SELECTOR) {
            return Ok(false);
        }
        // Who made it is the deployer that the plan follows from.
        let filter = self.since(head).event_signature(Create2Deployer::Deployed::SIGNATURE_HASH);
        let filter = filter.topic1(target.into_word()).topic2(salt(tenant));
        let logs = self.chain.upstreams().logs(&filter).await.map_err(|error| NotAsked(error.to_string()))?;
        Ok(logs.iter().any(|log| {
            let plan = plan(tenant, log.address(), admin);
            plan.addresses.bootstrap == target && plan.steps.last().is_some_and(|step| step.data == *data)
        }))
    }

    async fn systems_of(&self, tenant: &str, head: Head, at_most: Duration) -> Result<Arc<Vec<Known>>, NotAsked> {
        if let Some(known) = remembered(&self.systems, &tenant.to_owned(), at_most) {
            return Ok(known);
        }
        let pinned = self.judged.rules.of(tenant).map(|rules| rules.systems.clone()).unwrap_or_default();
        let places: Vec<(Address, Option<Address>)> = if pinned.is_empty() {
            self.look_for_systems(tenant, head).await?
        } else {
            pinned.into_iter().map(|system| (system, None)).collect()
        };
        let mut known = Vec::with_capacity(places.len());
        for (system, presumes) in places {
            known.push(self.read_system(system, presumes, head).await?);
        }
        let known = Arc::new(known);
        remember(&self.systems, tenant.to_owned(), known.clone());
        Ok(known)
    }

    /// Systems of the tenant by the deployers' events, with the administrator each of them stands for.
    async fn look_for_systems(&self, tenant: &str, head: Head) -> Result<Vec<(Address, Option<Address>)>, NotAsked> {
        let filter = self.since(head).event_signature(Create2Deployer::Deployed::SIGNATURE_HASH).topic2(salt(tenant));
        let logs = self.chain.upstreams().logs(&filter).await.map_err(|error| NotAsked(error.to_string()))?;
        let mut found = Vec::new();
        for log in &logs {
            let Ok(event) = log.log_decode::<Create2Deployer::Deployed>() else { continue };
            let deployed = event.inner.data.deployed;
            let Some(admin) = self.ask(deployed, System::adminCall {}, head).await? else { continue };
            if plan(tenant, log.address(), admin).addresses.system == deployed {
                found.push((deployed, Some(admin)));
            }
        }
        Ok(found)
    }

    async fn read_system(&self, system: Address, presumes: Option<Address>, head: Head) -> Result<Known, NotAsked> {
        let calls: Vec<TransactionRequest> =
            BOOK.iter().map(|name| request(system, &System::getCall { name: *name })).collect();
        let answers = self.chain.upstreams().calls(&calls, head.id()).await;
        let mut book = HashMap::new();
        for (name, answer) in BOOK.iter().zip(answers.map_err(|error| NotAsked(error.to_string()))?) {
            match answer {
                Err(error) if error.is_retryable() => return Err(NotAsked(error.to_string())),
                Err(_) => {}
                Ok(answer) => {
                    if let Ok(account) = System::getCall::abi_decode_returns(&answer)
                        && !account.is_zero()
                    {
                        book.insert(*name, account);
                    }
                }
            }
        }
        let mut contracts: HashSet<Address> = book.values().copied().chain([system]).collect();
        if let Some(factory) = book.get(&names::ASSET_FACTORY) {
            contracts.extend(self.ask(*factory, AssetFactory::TOKEN_IMPLEMENTATIONCall {}, head).await?);
            contracts.extend(self.ask(*factory, AssetFactory::COMPLIANCE_IMPLEMENTATIONCall {}, head).await?);
        }
        Ok(Known { contracts, book, presumes })
    }

    /// `None`: nothing there answers so.
    async fn ask<C: SolCall>(&self, target: Address, call: C, head: Head) -> Result<Option<C::Return>, NotAsked> {
        match self.chain.read_at(target, call, head.id()).await {
            Ok(answer) => Ok(Some(answer)),
            Err(ReadError::Chain(error)) if error.is_retryable() => Err(NotAsked(error.to_string())),
            Err(_) => Ok(None),
        }
    }

    fn since(&self, head: Head) -> dalp_chain::Filter {
        dalp_chain::Filter::new().from_block(self.judged.from_block).to_block(head.number)
    }
}

/// Asks a token, at a block, what its compliance says of a movement.
#[must_use]
pub fn preview(token: Address, moved: &super::acts::Moved) -> TransactionRequest {
    let call = AssetToken::previewCall { from: moved.from.unwrap_or_default(), to: moved.to, amount: moved.amount };
    request(token, &call)
}

fn request<C: SolCall>(target: Address, call: &C) -> TransactionRequest {
    TransactionRequest::default().to(target).input(call.abi_encode().into())
}

fn voting_power(token: Address) -> Bytes {
    [VotingPower::BYTECODE.as_ref(), &VotingPower::constructorCall { token }.abi_encode()].concat().into()
}

/// The code that a contract with an EIP-712 domain would have elsewhere: it keeps its own address and its domain's separator.
fn moved_to(code: &[u8], from: Address, to: Address, chain_id: u64) -> Vec<u8> {
    let separator = |at: Address| votes_domain(chain_id, at).separator();
    let code = replaced(code, separator(from).as_slice(), separator(to).as_slice());
    replaced(&code, from.as_slice(), to.as_slice())
}

fn votes_domain(chain_id: u64, at: Address) -> Eip712Domain {
    eip712_domain! { name: "VotingPower", version: "1", chain_id: chain_id, verifying_contract: at, }
}

/// `text` with every `old` made `new`, which is as long.
fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.windows(old.len()).position(|window| window == old)) {
        text[at + found..at + found + old.len()].copy_from_slice(new);
        at += found + old.len();
    }
    text
}

fn salt(tenant: &str) -> B256 {
    deployer::salt_of_tenant(keccak256(tenant.as_bytes()))
}

/// What `SystemService.Bootstrap` sends for this tenant and administrator.
fn plan(tenant: &str, create2_deployer: Address, admin: Address) -> DeploymentPlan {
    deployer::plan(&TenantParams {
        create2_deployer,
        tenant_salt: keccak256(tenant.as_bytes()),
        operator: admin,
        admin,
        grants: vec![(admin, roles::system::ALL_MANAGERS)],
    })
}

fn remembered<K: Eq + Hash, V: Clone>(memory: &Mutex<HashMap<K, Aged<V>>>, key: &K, at_most: Duration) -> Option<V> {
    let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    memory.get(key).filter(|aged| aged.since.elapsed() < at_most).map(|aged| aged.value.clone())
}

fn remember<K: Eq + Hash, V>(memory: &Mutex<HashMap<K, Aged<V>>>, key: K, value: V) {
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    if memory.len() >= REMEMBERED {
        memory.retain(|_, aged| aged.since.elapsed() < REMEMBERED_FOR);
    }
    memory.insert(key, Aged { value, since: Instant::now() });
}
