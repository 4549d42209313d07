//! The deployment of a tenant as data: which transactions, in which order, to which addresses, and how to see that one
//! is done. Every address follows from the deterministic deployer and [`TenantParams`], so a crashed deployment is resumed by
//! computing the same plan again and skipping what [`Done`] says is there.
use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy::sol_types::{SolCall, SolConstructor, SolValue};

use crate::bindings::{
    AddonFactory, ApprovalRule, AssetFactory, AssetToken, Bootstrap, ClaimRule, CollateralRule, CountryRule,
    Create2Deployer, Distribution, FeedBatch, FeedsDirectory, HolderLimitRule, HoldingPeriodRule, IdentityFactory,
    IdentityRegistry, IssuanceRule, IssuerSignedScalarFeed, IssuerSignedScalarFeedFactory, ListRule, ManagementFee,
    Offering, ScalarFeedAdapter, Servicing, Settlement, SmartAccount, SmartAccountFactory, System, TokenCompliance,
    TopicSchemeRegistry, TransactionFee, TransferLimitRule,
};
use crate::roles::{self, names};

/// Version of the contracts in the salts: a new release never meets an address of an older one.
const RELEASE: &str = "dalp.contracts.v1";

/// The canonical ERC-4337 entry point v0.8, whose operations the accounts accept. It has this address on every chain; on a
/// chain that lacks it the accounts can be created and act once it is there.
pub const ENTRY_POINT: Address = address!("0x4337084D9E255Ff0702461CF8895CE9E3b5Ff108");

/// Blocks that remain to show a settlement's secret once somebody asks for its amounts back after the cutoff.
const RECLAIM_DELAY_BLOCKS: u64 = 60;

/// What distinguishes one tenant's deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantParams {
    /// The `Create2Deployer` of the chain (see [`create2_deployer_creation`]).
    pub create2_deployer: Address,
    /// Separates tenants that share a deployer.
    pub tenant_salt: B256,
    /// Sends the deployment; the only account that `Bootstrap` obeys.
    pub operator: Address,
    /// Final admin of the tenant's `System`.
    pub admin: Address,
    /// System roles handed out at the end, as (account, mask); `PLATFORM_ADMIN` cannot be among them.
    pub grants: Vec<(Address, U256)>,
}

/// Where everything is, known before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each field is the contract of the same name
pub struct SystemAddresses {
    pub bootstrap: Address,
    pub system: Address,
    pub identity_registry: Address,
    pub identity_factory: Address,
    pub topic_scheme_registry: Address,
    pub asset_token_implementation: Address,
    pub token_compliance_implementation: Address,
    pub asset_factory: Address,
    pub distribution_implementation: Address,
    pub offering_implementation: Address,
    pub servicing_implementation: Address,
    pub addon_factory: Address,
    pub settlement: Address,
    pub management_fee: Address,
    pub transaction_fee: Address,
    pub country_rule: Address,
    pub claim_rule: Address,
    pub list_rule: Address,
    pub holder_limit_rule: Address,
    pub issuance_rule: Address,
    pub holding_period_rule: Address,
    pub approval_rule: Address,
    pub transfer_limit_rule: Address,
    pub collateral_rule: Address,
    pub scalar_feed_adapter_implementation: Address,
    pub feeds_directory: Address,
    pub scalar_feed_implementation: Address,
    pub scalar_feed_factory: Address,
    pub feed_batch: Address,
    pub smart_account_implementation: Address,
    pub smart_account_factory: Address,
}

/// How to see on the chain that a step needs no sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// There is code at the address.
    CodeAt(Address),
    /// `System.get(key)` at this address returns a non-zero address.
    BookHas {
        /// The `System`.
        system: Address,
        /// The key to ask for.
        key: B256,
    },
}

/// One transaction of the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentStep {
    /// Stable name, for instance `deploy:AssetToken`.
    pub name: &'static str,
    /// Receiver; `None` creates a contract.
    pub to: Option<Address>,
    /// Call data or init code.
    pub data: Bytes,
    /// When this holds, the step is skipped.
    pub done: Done,
}

/// The whole deployment of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentPlan {
    /// Resulting addresses.
    pub addresses: SystemAddresses,
    /// Steps in order. All but the last are independent of each other.
    pub steps: Vec<DeploymentStep>,
}

/// Step zero of a chain: creates the deterministic deployer with the sender's account `nonce`. Its address belongs into
/// [`TenantParams::create2_deployer`] and is the one thing to remember.
pub fn create2_deployer_creation(sender: Address, nonce: u64) -> (Address, DeploymentStep) {
    let address = sender.create(nonce);
    let step = DeploymentStep {
        name: "deploy:Create2Deployer",
        to: None,
        data: Create2Deployer::BYTECODE.clone(),
        done: Done::CodeAt(address),
    };
    (address, step)
}

/// Address that `create2_deployer` gives to `init_code` under `salt`.
pub fn create2_address(create2_deployer: Address, salt: B256, init_code: &[u8]) -> Address {
    create2_deployer.create2(salt, keccak256(init_code))
}

/// The salt of everything that a tenant has for itself: it stands in the deployer's events.
pub fn salt_of_tenant(tenant_salt: B256) -> B256 {
    keccak256((RELEASE, tenant_salt).abi_encode_params())
}

/// The plan of a tenant.
pub fn plan(params: &TenantParams) -> DeploymentPlan {
    let mut planner = Planner { deployer: params.create2_deployer, steps: Vec::new() };
    let tenant = salt_of_tenant(params.tenant_salt);
    let shared = keccak256(RELEASE);

    let bootstrap = planner.deploy(
        "deploy:Bootstrap",
        tenant,
        &Bootstrap::BYTECODE,
        &Bootstrap::constructorCall { operator: params.operator },
    );
    let system = planner.deploy(
        "deploy:System",
        tenant,
        &System::BYTECODE,
        &System::constructorCall { admin_: params.admin, configurator: bootstrap },
    );
    let topic_scheme_registry = planner.deploy(
        "deploy:TopicSchemeRegistry",
        tenant,
        &TopicSchemeRegistry::BYTECODE,
        &TopicSchemeRegistry::constructorCall { system },
    );
    let identity_registry = planner.deploy(
        "deploy:IdentityRegistry",
        tenant,
        &IdentityRegistry::BYTECODE,
        &IdentityRegistry::constructorCall { system },
    );
    let identity_factory = planner.deploy(
        "deploy:IdentityFactory",
        tenant,
        &IdentityFactory::BYTECODE,
        &IdentityFactory::constructorCall { system },
    );
    let asset_token_implementation =
        planner.deploy("deploy:AssetToken", shared, &AssetToken::BYTECODE, &AssetToken::constructorCall {});
    let token_compliance_implementation = planner.deploy(
        "deploy:TokenCompliance",
        shared,
        &TokenCompliance::BYTECODE,
        &TokenCompliance::constructorCall {},
    );
    let asset_factory = planner.deploy(
        "deploy:AssetFactory",
        tenant,
        &AssetFactory::BYTECODE,
        &AssetFactory::constructorCall {
            system,
            tokenImplementation: asset_token_implementation,
            complianceImplementation: token_compliance_implementation,
        },
    );
    let distribution_implementation = planner.deploy_plain("deploy:Distribution", shared, &Distribution::BYTECODE);
    let offering_implementation = planner.deploy_plain("deploy:Offering", shared, &Offering::BYTECODE);
    let servicing_implementation = planner.deploy_plain("deploy:Servicing", shared, &Servicing::BYTECODE);
    let addon_factory = planner.deploy(
        "deploy:AddonFactory",
        tenant,
        &AddonFactory::BYTECODE,
        &AddonFactory::constructorCall {
            system,
            distribution: distribution_implementation,
            offering: offering_implementation,
            servicing: servicing_implementation,
        },
    );
    let settlement = planner.deploy(
        "deploy:Settlement",
        tenant,
        &Settlement::BYTECODE,
        &Settlement::constructorCall {
            registry: identity_registry,
            assets: asset_factory,
            reclaimDelay: U256::from(RECLAIM_DELAY_BLOCKS),
        },
    );
    let management_fee = planner.deploy_plain("deploy:ManagementFee", shared, &ManagementFee::BYTECODE);
    let transaction_fee = planner.deploy_plain("deploy:TransactionFee", shared, &TransactionFee::BYTECODE);
    let country_rule = planner.deploy_plain("deploy:CountryRule", shared, &CountryRule::BYTECODE);
    let claim_rule = planner.deploy_plain("deploy:ClaimRule", shared, &ClaimRule::BYTECODE);
    let list_rule = planner.deploy_plain("deploy:ListRule", shared, &ListRule::BYTECODE);
    let holder_limit_rule = planner.deploy_plain("deploy:HolderLimitRule", shared, &HolderLimitRule::BYTECODE);
    let issuance_rule = planner.deploy_plain("deploy:IssuanceRule", shared, &IssuanceRule::BYTECODE);
    let holding_period_rule = planner.deploy_plain("deploy:HoldingPeriodRule", shared, &HoldingPeriodRule::BYTECODE);
    let approval_rule = planner.deploy_plain("deploy:ApprovalRule", shared, &ApprovalRule::BYTECODE);
    let transfer_limit_rule = planner.deploy_plain("deploy:TransferLimitRule", shared, &TransferLimitRule::BYTECODE);
    let collateral_rule = planner.deploy_plain("deploy:CollateralRule", shared, &CollateralRule::BYTECODE);

    let scalar_feed_adapter_implementation =
        planner.deploy_plain("deploy:ScalarFeedAdapter", shared, &ScalarFeedAdapter::BYTECODE);
    let feeds_directory = planner.deploy(
        "deploy:FeedsDirectory",
        tenant,
        &FeedsDirectory::BYTECODE,
        &FeedsDirectory::constructorCall { system, adapterImplementation: scalar_feed_adapter_implementation },
    );
    let scalar_feed_implementation = planner.deploy(
        "deploy:IssuerSignedScalarFeed",
        shared,
        &IssuerSignedScalarFeed::BYTECODE,
        &IssuerSignedScalarFeed::constructorCall {},
    );
    let scalar_feed_factory = planner.deploy(
        "deploy:IssuerSignedScalarFeedFactory",
        tenant,
        &IssuerSignedScalarFeedFactory::BYTECODE,
        &IssuerSignedScalarFeedFactory::constructorCall {
            system,
            directory: feeds_directory,
            implementation: scalar_feed_implementation,
        },
    );
    let feed_batch = planner.deploy_plain("deploy:FeedBatch", shared, &FeedBatch::BYTECODE);
    let smart_account_implementation = planner.deploy(
        "deploy:SmartAccount",
        shared,
        &SmartAccount::BYTECODE,
        &SmartAccount::constructorCall { entryPoint_: ENTRY_POINT },
    );
    let smart_account_factory = planner.deploy(
        "deploy:SmartAccountFactory",
        shared,
        &SmartAccountFactory::BYTECODE,
        &SmartAccountFactory::constructorCall { implementation: smart_account_implementation },
    );

    let addresses = SystemAddresses {
        bootstrap,
        system,
        identity_registry,
        identity_factory,
        topic_scheme_registry,
        asset_token_implementation,
        token_compliance_implementation,
        asset_factory,
        distribution_implementation,
        offering_implementation,
        servicing_implementation,
        addon_factory,
        settlement,
        management_fee,
        transaction_fee,
        country_rule,
        claim_rule,
        list_rule,
        holder_limit_rule,
        issuance_rule,
        holding_period_rule,
        approval_rule,
        transfer_limit_rule,
        collateral_rule,
        scalar_feed_adapter_implementation,
        feeds_directory,
        scalar_feed_implementation,
        scalar_feed_factory,
        feed_batch,
        smart_account_implementation,
        smart_account_factory,
    };
    let mut steps = planner.steps;
    steps.push(run_bootstrap(params, &addresses));
    DeploymentPlan { addresses, steps }
}

fn run_bootstrap(params: &TenantParams, addresses: &SystemAddresses) -> DeploymentStep {
    let book = [
        (names::IDENTITY_REGISTRY, addresses.identity_registry),
        (names::IDENTITY_FACTORY, addresses.identity_factory),
        (names::TOPIC_SCHEMES, addresses.topic_scheme_registry),
        (names::ASSET_FACTORY, addresses.asset_factory),
        (names::ADDON_FACTORY, addresses.addon_factory),
        (names::SETTLEMENT, addresses.settlement),
        (names::MANAGEMENT_FEE, addresses.management_fee),
        (names::TRANSACTION_FEE, addresses.transaction_fee),
        (names::COUNTRY_RULE, addresses.country_rule),
        (names::CLAIM_RULE, addresses.claim_rule),
        (names::LIST_RULE, addresses.list_rule),
        (names::HOLDER_LIMIT_RULE, addresses.holder_limit_rule),
        (names::ISSUANCE_RULE, addresses.issuance_rule),
        (names::HOLDING_PERIOD_RULE, addresses.holding_period_rule),
        (names::APPROVAL_RULE, addresses.approval_rule),
        (names::TRANSFER_LIMIT_RULE, addresses.transfer_limit_rule),
        (names::COLLATERAL_RULE, addresses.collateral_rule),
        (names::FEEDS_DIRECTORY, addresses.feeds_directory),
        (names::SCALAR_FEED_FACTORY, addresses.scalar_feed_factory),
        (names::FEED_BATCH, addresses.feed_batch),
        (names::SMART_ACCOUNT_FACTORY, addresses.smart_account_factory),
    ];
    // The asset factory creates the identities of assets.
    let factory_grant = (addresses.asset_factory, roles::system::TOKEN_MANAGER);
    let call = Bootstrap::runCall {
        system: addresses.system,
        book: book.iter().map(|(name, account)| Bootstrap::NamedAddress { name: *name, account: *account }).collect(),
        grants: std::iter::once(&factory_grant)
            .chain(&params.grants)
            .map(|(account, roles)| Bootstrap::SystemGrant { account: *account, roles: *roles })
            .collect(),
    };
    DeploymentStep {
        name: "configure:System",
        to: Some(addresses.bootstrap),
        data: call.abi_encode().into(),
        done: Done::BookHas { system: addresses.system, key: names::ASSET_FACTORY },
    }
}

struct Planner {
    deployer: Address,
    steps: Vec<DeploymentStep>,
}

impl Planner {
    fn deploy(&mut self, name: &'static str, salt: B256, code: &Bytes, args: &impl SolConstructor) -> Address {
        let init_code: Bytes = [code.as_ref(), &args.abi_encode()].concat().into();
        self.push(name, salt, init_code)
    }

    fn deploy_plain(&mut self, name: &'static str, salt: B256, code: &Bytes) -> Address {
        self.push(name, salt, code.clone())
    }

    fn push(&mut self, name: &'static str, salt: B256, init_code: Bytes) -> Address {
        let address = create2_address(self.deployer, salt, &init_code);
        let call = Create2Deployer::deployCall { salt, initCode: init_code };
        self.steps.push(DeploymentStep {
            name,
            to: Some(self.deployer),
            data: call.abi_encode().into(),
            done: Done::CodeAt(address),
        });
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn params(salt: u8) -> TenantParams {
        TenantParams {
            create2_deployer: Address::repeat_byte(0xd0),
            tenant_salt: B256::repeat_byte(salt),
            operator: Address::repeat_byte(1),
            admin: Address::repeat_byte(2),
            grants: vec![(Address::repeat_byte(2), roles::system::ALL_MANAGERS)],
        }
    }

    #[test]
    fn the_same_parameters_give_the_same_plan() {
        assert_eq!(plan(&params(1)), plan(&params(1)));
    }

    #[test]
    fn tenants_share_implementations_and_nothing_else() {
        let (a, b) = (plan(&params(1)).addresses, plan(&params(2)).addresses);
        assert_eq!(a.asset_token_implementation, b.asset_token_implementation);
        assert_eq!(a.country_rule, b.country_rule);
        assert_eq!(a.servicing_implementation, b.servicing_implementation);
        assert_ne!(a.addon_factory, b.addon_factory);
        assert_ne!(a.settlement, b.settlement);
        assert_eq!(a.transaction_fee, b.transaction_fee);
        assert_eq!(a.scalar_feed_implementation, b.scalar_feed_implementation);
        assert_eq!(a.smart_account_factory, b.smart_account_factory);
        assert_ne!(a.feeds_directory, b.feeds_directory);
        assert_ne!(a.scalar_feed_factory, b.scalar_feed_factory);
        assert_ne!(a.system, b.system);
        assert_ne!(a.asset_factory, b.asset_factory);
        assert_ne!(a.identity_registry, b.identity_registry);
    }

    #[test]
    fn every_step_but_the_last_is_seen_by_its_code() {
        let plan = plan(&params(1));
        let (last, deployments) = plan.steps.split_last().expect("a plan has steps");
        let places: HashSet<_> = deployments.iter().map(|step| format!("{:?}", step.done)).collect();
        assert_eq!(places.len(), deployments.len());
        assert_eq!(last.to, Some(plan.addresses.bootstrap));
        assert!(matches!(last.done, Done::BookHas { .. }));
    }
}
