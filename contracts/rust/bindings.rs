//! alloy bindings of the committed artifacts. File-level Solidity structs appear inside each contract that uses them:
//! `AssetFactory::Group`, `ClaimRule::Group`, ...
// Generated items carry the contract's names; their documentation is the Solidity source.
#![allow(missing_docs, unreachable_pub, clippy::all)]

use alloy::sol;

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    System,
    "artifacts/System.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Identity,
    "artifacts/Identity.json"
);

// Keys and execution of an identity, to which it delegates.
sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    IdentityControl,
    "artifacts/IdentityControl.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    IdentityFactory,
    "artifacts/IdentityFactory.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    IdentityRegistry,
    "artifacts/IdentityRegistry.json"
);

// Registrations, recovery and exemptions of the registry, to which it delegates; its own artifact names no arguments of theirs.
sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    RegistryRecords,
    "artifacts/RegistryRecords.json"
);

// Trusted issuers, claim topics and policies of the registry, to which it delegates.
sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    RegistryAdministration,
    "artifacts/RegistryAdministration.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    TopicSchemeRegistry,
    "artifacts/TopicSchemeRegistry.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    AssetToken,
    "artifacts/AssetToken.json"
);

// Custody and governance functions of the token, to which it delegates; its own artifact names no arguments of theirs.
sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    AssetTokenCustody,
    "artifacts/AssetTokenCustody.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    AssetTokenGovernance,
    "artifacts/AssetTokenGovernance.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    TokenCompliance,
    "artifacts/TokenCompliance.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    AssetFactory,
    "artifacts/AssetFactory.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    CountryRule,
    "artifacts/CountryRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    ClaimRule,
    "artifacts/ClaimRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    ListRule,
    "artifacts/ListRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    HolderLimitRule,
    "artifacts/HolderLimitRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    IssuanceRule,
    "artifacts/IssuanceRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    HoldingPeriodRule,
    "artifacts/HoldingPeriodRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    ApprovalRule,
    "artifacts/ApprovalRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    TransferLimitRule,
    "artifacts/TransferLimitRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    CollateralRule,
    "artifacts/CollateralRule.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Settlement,
    "artifacts/Settlement.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    ManagementFee,
    "artifacts/ManagementFee.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    TransactionFee,
    "artifacts/TransactionFee.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    VotingPower,
    "artifacts/VotingPower.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Bootstrap,
    "artifacts/Bootstrap.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Create2Deployer,
    "artifacts/Create2Deployer.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    FeedsDirectory,
    "artifacts/FeedsDirectory.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    IssuerSignedScalarFeed,
    "artifacts/IssuerSignedScalarFeed.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    IssuerSignedScalarFeedFactory,
    "artifacts/IssuerSignedScalarFeedFactory.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    ScalarFeedAdapter,
    "artifacts/ScalarFeedAdapter.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    FeedBatch,
    "artifacts/FeedBatch.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    AddonFactory,
    "artifacts/AddonFactory.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Distribution,
    "artifacts/Distribution.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Offering,
    "artifacts/Offering.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    Servicing,
    "artifacts/Servicing.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    ServicingLifecycle,
    "artifacts/ServicingLifecycle.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    SmartAccount,
    "artifacts/SmartAccount.json"
);

sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    SmartAccountFactory,
    "artifacts/SmartAccountFactory.json"
);
