//! Grants, wallets and findings on the wire.

use std::collections::BTreeSet;

use dalp_proto::{
    principal::{self as wire, AccessFinding, AccessFindingKind, Area, ReadAt, WalletAccess, WalletOnAsset},
    signer::Key,
    system::{AssetHolderRoles, ReadRolesResponse, SystemRole, SystemStanding},
};
use dalp_service::fields;

use super::{
    compare::{Finding, Kind},
    needs::Need,
};
use crate::{access::store::GrantedRole, config::PrincipalKind};

/// A grant.
pub(crate) fn grant(grant: &GrantedRole, managed: bool) -> wire::Grant {
    let area = match grant.area.as_str() {
        "platform" => Area::Platform,
        "asset" => Area::Asset,
        _ => Area::System,
    };
    let checksummed = fields::address("asset", &grant.asset).map(|asset| asset.to_checksum(None));
    wire::Grant { role: grant.role.clone(), area: area.into(), asset: checksummed.unwrap_or_default(), managed }
}

/// What a principal is.
pub(crate) fn kind(kind: PrincipalKind) -> wire::PrincipalKind {
    match kind {
        PrincipalKind::Person => wire::PrincipalKind::Person,
        PrincipalKind::Service => wire::PrincipalKind::Service,
    }
}

/// A wallet, with its roles if they were read.
pub(super) fn wallet(key: &Key, read: Option<&ReadRolesResponse>) -> WalletAccess {
    let system = read.and_then(|read| read.system.iter().find(|one| one.account == key.address));
    let assets = read.map(|read| read.assets.as_slice()).unwrap_or_default().iter().filter_map(|asset| {
        let held = asset.holders.iter().find(|holder| holder.account == key.address)?;
        Some(WalletOnAsset {
            asset: asset.asset.clone(),
            symbol: asset.symbol.clone(),
            roles: held.roles.clone(),
            admin: held.admin,
        })
    });
    WalletAccess {
        address: key.address.clone(),
        wallet: key.wallet.clone(),
        owner: key.owner.clone(),
        disabled: key.disabled,
        system_roles: system.map(|one| one.roles.clone()).unwrap_or_default(),
        administrator: system.is_some_and(|one| one.administrator),
        registry_agent: system.is_some_and(|one| one.registry_agent),
        assets: assets.collect(),
    }
}

/// What a standing in the system is good for.
pub(super) fn in_system(held: &SystemStanding) -> BTreeSet<Need> {
    let mut needs: BTreeSet<Need> = held.roles().map(Need::System).collect();
    if held.administrator || needs.contains(&Need::System(SystemRole::PlatformAdmin)) {
        needs.insert(Need::Administration);
    }
    if held.registry_agent {
        needs.insert(Need::RegistryAgent);
    }
    needs
}

/// What roles on an asset are good for.
pub(super) fn on_asset(held: &AssetHolderRoles) -> BTreeSet<Need> {
    held.roles().map(Need::Asset).chain(held.admin.then_some(Need::AssetAdmin)).collect()
}

/// Where roles were read.
pub(super) fn read_at(read: &ReadRolesResponse) -> ReadAt {
    ReadAt { chain_id: read.chain_id, block_number: read.block_number, block_hash: read.block_hash.clone() }
}

impl From<Finding> for AccessFinding {
    fn from(Finding { kind, permissions, roles, asset, wallet }: Finding) -> Self {
        let kind = match kind {
            Kind::GrantWithoutRole => AccessFindingKind::GrantWithoutRole,
            Kind::RoleWithoutGrant => AccessFindingKind::RoleWithoutGrant,
            Kind::RoleOfDisabledWallet => AccessFindingKind::RoleOfDisabledWallet,
        };
        let roles = roles.into_iter().map(Need::name).collect();
        Self { kind: kind.into(), permissions, roles, asset, wallet }
    }
}
