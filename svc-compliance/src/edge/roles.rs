//! Roles on chain, as the gateway asks for them.

use super::{asset_messages::wire_role, bad_page_token, system_messages::role_of};
use crate::{
    app::App,
    domain::Violations,
    readers::roles::{InSystem, OnAsset, in_system, on_assets},
};
use alloy::primitives::Address;
use dalp_domain::pages::paged;
use dalp_proto::system as proto;
use dalp_service::{Reason, Refusal};
use std::collections::BTreeSet;

/// The most accounts of a question.
const MAX_ACCOUNTS: usize = 500;
/// The most assets of a page, and how many it has when the caller does not say.
const MAX_ASSETS: u32 = 100;
const DEFAULT_ASSETS: u32 = 50;
/// The most pairs of account and asset of an answer: each is a read.
const MAX_PAIRS: usize = 5_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    accounts: Vec<Address>,
    asset: Option<Address>,
    page_size: u32,
    below: Option<u64>,
}

impl TryFrom<&proto::ReadRolesRequest> for Question {
    type Error = Refusal;

    fn try_from(request: &proto::ReadRolesRequest) -> Result<Self, Refusal> {
        let mut violations = Violations::new();
        let (mut accounts, mut seen) = (Vec::new(), BTreeSet::new());
        if request.accounts.len() > MAX_ACCOUNTS {
            violations.push("accounts", format!("holds at most {MAX_ACCOUNTS}"));
        } else {
            for (index, text) in request.accounts.iter().enumerate() {
                let account = violations.address(&format!("accounts[{index}]"), text);
                if seen.insert(account) {
                    accounts.push(account);
                }
            }
        }
        let asset = violations.optional_address("asset", &request.asset);
        if request.page_size > MAX_ASSETS {
            violations.push("page_size", format!("must be at most {MAX_ASSETS}"));
        }
        violations.into_result(())?;
        let below = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| bad_page_token())?),
        };
        if asset.is_some() && below.is_some() {
            return Err(bad_page_token());
        }
        let asked = if request.page_size == 0 { DEFAULT_ASSETS } else { request.page_size };
        let most = u32::try_from(MAX_PAIRS / accounts.len().max(1)).unwrap_or(u32::MAX).max(1);
        Ok(Self { accounts, asset, page_size: asked.min(most), below })
    }
}

/// Answers `SystemService.ReadRoles` for a tenant.
pub(super) async fn read(
    app: &App,
    tenant: &str,
    request: &proto::ReadRolesRequest,
) -> Result<proto::ReadRolesResponse, Refusal> {
    let Question { accounts, asset, page_size, below } = Question::try_from(request)?;
    let chain_id = app.chain.chain_id();
    let system = app.system(tenant).await.map_err(|refusal| match (refusal.reason(), asset) {
        // Where nothing was set up there is no asset either, whoever's it is.
        (Reason::SystemNotBootstrapped, Some(asset)) => {
            Refusal::new(Reason::NotFound, "the tenant has no such asset").meta("asset", asset.to_checksum(None))
        }
        _ => refusal,
    })?;
    let (assets, next_page_token) = match asset {
        Some(asset) => {
            app.require_asset(tenant, asset).await?;
            let stored = app.store.asset(tenant, chain_id, asset).await.map_err(Refusal::from)?;
            (vec![(asset, stored.map(|stored| stored.symbol).unwrap_or_default())], String::new())
        }
        None => {
            let stored = app.store.assets(tenant, chain_id, below, page_size + 1).await.map_err(Refusal::from)?;
            let (page, next) = paged(stored, page_size, |last| last.seq.to_string());
            (page.into_iter().filter_map(|stored| Some((stored.asset?, stored.symbol))).collect(), next)
        }
    };
    let at = app.chain.latest().await?;
    let addresses: Vec<Address> = assets.iter().map(|(asset, _)| *asset).collect();
    let (system, held) = futures::try_join!(
        in_system(&app.chain, &system, &accounts, at),
        on_assets(&app.chain, &addresses, &accounts, at),
    )
    .map_err(|refusal| match refusal.reason() {
        // What was there a moment ago is not there at this block: a reorganisation, or a node behind.
        Reason::NotFound => {
            Refusal::new(Reason::ChainUnavailable, "the chain cannot be read at one block").source(refusal)
        }
        _ => refusal,
    })?;
    let standing = |(asset, symbol): (Address, String), holders: Vec<OnAsset>| proto::AssetStanding {
        asset: asset.to_checksum(None),
        symbol,
        holders: holders.into_iter().map(Into::into).collect(),
    };
    Ok(proto::ReadRolesResponse {
        chain_id,
        block_number: at.number,
        block_hash: format!("{:#x}", at.hash),
        system: system.into_iter().map(Into::into).collect(),
        assets: assets.into_iter().zip(held).map(|(asset, holders)| standing(asset, holders)).collect(),
        next_page_token,
    })
}

impl From<InSystem> for proto::SystemStanding {
    fn from(InSystem { account, standing, registry_agent }: InSystem) -> Self {
        Self {
            account: account.to_checksum(None),
            roles: standing.roles.into_iter().map(|role| role_of(role).into()).collect(),
            administrator: standing.administrator,
            registry_agent,
        }
    }
}

impl From<OnAsset> for proto::AssetHolderRoles {
    fn from(OnAsset { account, roles, admin }: OnAsset) -> Self {
        Self {
            account: account.to_checksum(None),
            roles: roles.into_iter().map(|role| wire_role(role).into()).collect(),
            admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accounts: usize, page_size: u32, page_token: &str) -> Result<Question, Refusal> {
        let account = |index: usize| Address::from_word(alloy::primitives::U256::from(index + 1).into());
        let accounts = (0..accounts).map(|index| account(index).to_checksum(None)).collect();
        Question::try_from(&proto::ReadRolesRequest {
            accounts,
            page_size,
            page_token: page_token.into(),
            ..Default::default()
        })
    }

    #[test]
    fn many_accounts_make_pages_of_few_assets() {
        assert_eq!(asked(1, 0, "").unwrap().page_size, DEFAULT_ASSETS);
        assert_eq!(asked(1, 100, "").unwrap().page_size, 100);
        assert_eq!(asked(500, 100, "").unwrap().page_size, 10);
        assert_eq!(asked(0, 0, "7").unwrap().below, Some(7));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let reason = |answer: Result<Question, Refusal>| answer.unwrap_err().reason();
        assert_eq!(reason(asked(501, 0, "")), Reason::InvalidField);
        assert_eq!(reason(asked(1, 101, "")), Reason::InvalidField);
        assert_eq!(reason(asked(1, 0, "x")), Reason::PageTokenInvalid);
        let twice = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045".to_owned();
        let request = proto::ReadRolesRequest { accounts: vec![twice.clone(), twice.clone()], ..Default::default() };
        assert_eq!(Question::try_from(&request).unwrap().accounts.len(), 1);
        let of_one = proto::ReadRolesRequest { asset: twice, page_token: "7".into(), ..Default::default() };
        assert_eq!(reason(Question::try_from(&of_one)), Reason::PageTokenInvalid);
        let wrong = proto::ReadRolesRequest { accounts: vec!["0x12".into()], ..Default::default() };
        assert_eq!(Question::try_from(&wrong).unwrap_err().violations()[0].0, "accounts[0]");
    }
}
