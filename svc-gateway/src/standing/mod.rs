//! What principals may do, off chain and on chain, in one answer.
//!
//! The gateway holds grants; svc-signer knows whose wallet is whose; svc-compliance reads the chain, all at one block. They are put together here, because
//! only the gateway knows principals and may ask both: nobody behind it asks back.
//!
//! - [`needs`]: which roles on chain the calls behind a permission need.
//! - [`compare`]: where the two sides disagree.

pub mod compare;
pub(crate) mod messages;
pub mod needs;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dalp_proto::{
    principal::{Access, GetAccessRequest, GetAccessResponse, HeldGrant, ListAccessRequest, ListAccessResponse},
    signer::{GetKeyRequest, Key, KeyPurpose, ListKeysRequest, key_service_client::KeyServiceClient},
    system::{ReadRolesRequest, ReadRolesResponse, system_service_client::SystemServiceClient},
};
use dalp_service::{Caller, Reason, Refusal, caller::ANY_WALLET, errors::RefusalResult, fields};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Request, transport::Channel};

use crate::{
    access::{Directory, people::PrincipalRow, store::GrantedRole},
    permissions::Granted,
    requests::{foreign_page_token, invalid},
    upstreams::Upstream,
};
use compare::{Holding, Question};

/// Who knows whose wallet is whose.
const SIGNER: &str = "svc-signer";
/// Who reads roles on chain.
const CHAIN: &str = "svc-compliance";
/// How long either may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The most wallets of an answer.
const MOST_WALLETS: usize = 500;
/// The most assets of a page.
const MOST_ASSETS: u32 = 100;
/// The most principals of a page, and how many when the caller does not say.
const MOST_PRINCIPALS: u32 = 50;
const PRINCIPALS: u32 = 20;
/// Questions to the signer at once, of one call.
const ASKED_AT_ONCE: usize = 8;

/// Tells what principals may do.
#[derive(Clone, Debug)]
pub struct Standings {
    directory: Arc<Directory>,
    signer: Option<Channel>,
    chain: Option<Channel>,
}

/// The wallets that a principal may use.
#[derive(Clone, Debug, Default)]
struct Wallets {
    keys: Vec<Key>,
    complete: bool,
}

/// A principal with what it was granted.
struct Somebody {
    row: PrincipalRow,
    granted: Arc<Granted>,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
struct Scope<'s> {
    /// Only this asset, EIP-55; empty: all of the page.
    asset: &'s str,
    /// The system too.
    system: bool,
}

// === impl Standings ===

impl Standings {
    /// Of the principals of `directory`, asking `upstreams` for wallets and roles.
    #[must_use]
    pub fn new(directory: Arc<Directory>, upstreams: &[Upstream]) -> Self {
        let channel = |name: &str| upstreams.iter().find(|one| one.name() == name).map(Upstream::channel);
        Self { directory, signer: channel(SIGNER), chain: channel(CHAIN) }
    }

    /// What one principal may do.
    pub async fn get(&self, caller: &Caller, request: &GetAccessRequest) -> RefusalResult<GetAccessResponse> {
        let asset = checked("asset", &request.asset)?;
        let wallet = checked("wallet", &request.wallet)?;
        fields::in_range("page_size", request.page_size, 0, MOST_ASSETS).map_err(invalid)?;
        let only = match wallet.as_str() {
            "" => None,
            address => Some(self.key(caller, address).await?),
        };
        let id = match (request.principal_id.as_str(), &only) {
            ("", Some(key)) => key.owner.as_str(),
            ("", None) => caller.principal.as_str(),
            (id, _) => id,
        };
        let somebody = self.somebody(caller, id).await?;
        if let Some(key) = &only
            && key.owner != id
            && !somebody.granted.allows(ANY_WALLET)
        {
            return Err(Refusal::new(Reason::WalletNotOwned, "the principal may not use the wallet")
                .meta("wallet", &key.address)
                .meta("principal", id));
        }
        let wallets = match only {
            Some(key) => Ok(Wallets { keys: vec![key], complete: false }),
            None => self.wallets(caller, &somebody).await,
        };
        let scope = Scope { asset: &asset, system: request.page_token.is_empty() };
        let read = match &wallets {
            Ok(wallets) => {
                let question = ReadRolesRequest {
                    accounts: wallets.keys.iter().map(|key| key.address.clone()).collect(),
                    asset: asset.clone(),
                    page_size: request.page_size,
                    page_token: request.page_token.clone(),
                };
                self.roles(caller, question).await
            }
            Err(refusal) => Err(refusal.clone()),
        };
        let (read, chain_error) = told(read)?;
        let access = self.access(&somebody, &wallets.unwrap_or_default(), read.as_ref(), scope);
        // Where the chain was not read this page comes again: an empty token would say that it was the last.
        let next_page_token = read.as_ref().map_or(request.page_token.clone(), |read| read.next_page_token.clone());
        Ok(GetAccessResponse {
            access: Some(access),
            read_at: read.as_ref().map(messages::read_at),
            chain_error,
            next_page_token,
        })
    }

    /// Who may do what on an asset.
    pub async fn list(&self, caller: &Caller, request: &ListAccessRequest) -> RefusalResult<ListAccessResponse> {
        let asset = fields::address("asset", &request.asset).map_err(invalid)?.to_checksum(None);
        let size = match request.page_size {
            0 => PRINCIPALS,
            size => fields::in_range("page_size", size, 1, MOST_PRINCIPALS).map_err(invalid)?,
        };
        if !request.page_token.is_empty() && request.page_token.parse::<dalp_service::PrincipalId>().is_err() {
            return Err(foreign_page_token());
        }
        let store = self.directory.store();
        let mut rows = store.principals(caller.tenant.as_str(), &request.page_token, size + 1).await?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let next_page_token = rows.last().filter(|_| more).map(|row| row.id.clone()).unwrap_or_default();
        let everybody: Vec<Somebody> = rows.into_iter().map(|row| self.granted(row)).collect();
        let asked = everybody.iter().map(|somebody| self.wallets(caller, somebody)).collect::<Vec<_>>();
        let wallets: RefusalResult<Vec<Wallets>> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await;
        let (wallets, read) = match wallets {
            Ok(wallets) => {
                let (accounts, wallets) = within(wallets);
                let question = ReadRolesRequest { accounts, asset: asset.clone(), ..Default::default() };
                (wallets, self.roles(caller, question).await)
            }
            Err(refusal) => (vec![Wallets::default(); everybody.len()], Err(refusal)),
        };
        let (read, chain_error) = told(read)?;
        let scope = Scope { asset: &asset, system: false };
        let access = everybody.iter().zip(&wallets).filter_map(|(somebody, wallets)| {
            let access = self.access(somebody, wallets, read.as_ref(), scope);
            // Whose wallets were not all looked at may be: left out, the list would look complete.
            let concerned = !access.grants.is_empty()
                || !wallets.complete
                || access.wallets.iter().any(|one| !one.assets.is_empty());
            concerned.then_some(access)
        });
        let access = access.collect();
        Ok(ListAccessResponse { access, read_at: read.as_ref().map(messages::read_at), chain_error, next_page_token })
    }

    fn access(
        &self,
        somebody: &Somebody,
        wallets: &Wallets,
        read: Option<&ReadRolesResponse>,
        scope: Scope<'_>,
    ) -> Access {
        let Somebody { row, granted } = somebody;
        let holdings = read.map(|read| holdings(&row.id, wallets, read)).unwrap_or_default();
        let assets: Vec<String> =
            read.map(|read| read.assets.iter().map(|one| one.asset.clone()).collect()).unwrap_or_default();
        let question = Question {
            granted,
            holdings: &holdings,
            complete: wallets.complete,
            assets: &assets,
            system: scope.system && scope.asset.is_empty(),
        };
        let findings = match read {
            Some(_) => question.findings(),
            None => Vec::new(),
        };
        let shown = wallets.keys.iter().zip(&holdings).filter(|(_, holding)| holding.own || holding.is_any());
        let reaches = |grant: &&(GrantedRole, bool)| {
            scope.asset.is_empty() || grant.0.asset.is_empty() || grant.0.asset.eq_ignore_ascii_case(scope.asset)
        };
        let grants = row.grants.iter().filter(reaches).map(|(grant, managed)| {
            let permissions = self.directory.granting().granted(std::slice::from_ref(grant));
            let on_assets = permissions.on_assets.iter().flat_map(|(_, set)| set.iter());
            let permissions = permissions.permissions.iter().chain(on_assets).map(str::to_owned).collect();
            HeldGrant { grant: Some(messages::grant(grant, *managed)), permissions }
        });
        Access {
            principal_id: row.id.clone(),
            kind: messages::kind(row.kind).into(),
            disabled: row.disabled_at.is_some(),
            grants: grants.collect(),
            any_wallet: granted.allows(ANY_WALLET),
            wallets: shown.map(|(key, _)| messages::wallet(key, read)).collect(),
            wallets_complete: wallets.complete && read.is_some(),
            findings: findings.into_iter().map(Into::into).collect(),
        }
    }

    async fn somebody(&self, caller: &Caller, id: &str) -> RefusalResult<Somebody> {
        let row = self.directory.store().principal(caller.tenant.as_str(), id).await?;
        let row = row
            .ok_or_else(|| Refusal::new(Reason::NotFound, "the tenant has no such principal").meta("principal", id))?;
        Ok(self.granted(row))
    }

    /// Who was disabled holds nothing.
    fn granted(&self, row: PrincipalRow) -> Somebody {
        let grants: Vec<GrantedRole> = match row.disabled_at {
            Some(_) => Vec::new(),
            None => row.grants.iter().map(|(grant, _)| grant.clone()).collect(),
        };
        let granted = self.directory.granting().granted(&grants);
        Somebody { row, granted }
    }

    /// The wallets that a principal may use, its own first.
    async fn wallets(&self, caller: &Caller, somebody: &Somebody) -> RefusalResult<Wallets> {
        let own = self.keys(caller, &somebody.row.id).await?;
        if !somebody.granted.allows(ANY_WALLET) || !own.complete {
            return Ok(own);
        }
        let mut all = self.keys(caller, "").await?;
        if !all.complete {
            return Ok(Wallets { complete: false, ..own });
        }
        // Stable: within each half by address.
        all.keys.sort_by_key(|key| key.owner != somebody.row.id);
        Ok(all)
    }

    /// Keys of the tenant, of one owner if given, by address.
    async fn keys(&self, caller: &Caller, owner: &str) -> RefusalResult<Wallets> {
        let request =
            ListKeysRequest { page_size: MOST_WALLETS as u32, page_token: String::new(), owner: owner.to_owned() };
        let answer = self.signer()?.list_keys(asked(caller, request)).await;
        let answer = answer.map_err(|status| Refusal::from_upstream(SIGNER, status))?.into_inner();
        let mut keys: Vec<Key> = answer.keys.into_iter().filter(|key| key.purpose() == KeyPurpose::General).collect();
        keys.sort_by_key(|one| one.address.to_lowercase());
        Ok(Wallets { keys, complete: answer.next_page_token.is_empty() })
    }

    async fn key(&self, caller: &Caller, address: &str) -> RefusalResult<Key> {
        let request = GetKeyRequest { address: address.to_owned(), tenant: caller.tenant.to_string() };
        let answer = self.signer()?.get_key(asked(caller, request)).await;
        let key = answer.map_err(|status| Refusal::from_upstream(SIGNER, status))?.into_inner().key;
        key.ok_or_else(|| Refusal::new(Reason::KeyNotFound, "there is no such key"))
    }

    async fn roles(&self, caller: &Caller, question: ReadRolesRequest) -> RefusalResult<ReadRolesResponse> {
        let channel = self.chain.clone().ok_or_else(|| absent(CHAIN))?;
        let answer = SystemServiceClient::new(channel).read_roles(asked(caller, question)).await;
        Ok(answer.map_err(|status| Refusal::from_upstream(CHAIN, status))?.into_inner())
    }

    fn signer(&self) -> RefusalResult<KeyServiceClient<Channel>> {
        Ok(KeyServiceClient::new(self.signer.clone().ok_or_else(|| absent(SIGNER))?))
    }
}

/// An address as the services write it, or nothing.
fn checked(path: &str, text: &str) -> RefusalResult<String> {
    match text {
        "" => Ok(String::new()),
        text => Ok(fields::address(path, text).map_err(invalid)?.to_checksum(None)),
    }
}

fn asked<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    caller.apply(request.metadata_mut());
    request.set_timeout(ANSWER_WITHIN);
    request
}

fn absent(upstream: &str) -> Refusal {
    Refusal::new(Reason::UpstreamUnavailable, format!("{upstream} is no upstream of the gateway"))
}

/// What was read, or why nothing was; what the caller has asked for wrongly is a refusal all the same.
fn told(read: RefusalResult<ReadRolesResponse>) -> RefusalResult<(Option<ReadRolesResponse>, String)> {
    match read {
        Ok(read) => Ok((Some(read), String::new())),
        Err(refusal) => match refusal.reason() {
            Reason::NotFound | Reason::InvalidField | Reason::PageTokenInvalid => Err(refusal),
            reason => Ok((None, format!("{}: {}", reason.as_str(), refusal.message()))),
        },
    }
}

/// The accounts of all wallets, as many as one question takes. Whose wallets do not fit is not looked at as a whole.
fn within(wallets: Vec<Wallets>) -> (Vec<String>, Vec<Wallets>) {
    let mut accounts = std::collections::BTreeSet::new();
    let wallets = wallets
        .into_iter()
        .map(|one| {
            let new = one.keys.iter().filter(|key| !accounts.contains(&key.address)).count();
            if accounts.len() + new > MOST_WALLETS {
                return Wallets::default();
            }
            accounts.extend(one.keys.iter().map(|key| key.address.clone()));
            one
        })
        .collect();
    (accounts.into_iter().collect(), wallets)
}

/// What wallets hold, in their order.
fn holdings(principal: &str, wallets: &Wallets, read: &ReadRolesResponse) -> Vec<Holding> {
    let system: BTreeMap<&str, _> = read.system.iter().map(|one| (one.account.as_str(), one)).collect();
    let holding = |key: &Key| {
        let mut assets = BTreeMap::new();
        for asset in &read.assets {
            let held = asset.holders.iter().find(|holder| holder.account == key.address);
            if let Some(held) = held {
                assets.insert(asset.asset.clone(), messages::on_asset(held));
            }
        }
        Holding {
            wallet: key.address.clone(),
            own: key.owner == principal,
            disabled: key.disabled,
            system: system.get(key.address.as_str()).map(|held| messages::in_system(held)).unwrap_or_default(),
            assets,
        }
    };
    wallets.keys.iter().map(holding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_proto::{
        asset::AssetRole,
        system::{AssetHolderRoles, AssetStanding, SystemRole, SystemStanding},
    };
    use needs::Need;

    fn key(address: &str, owner: &str) -> Key {
        Key { address: address.to_owned(), owner: owner.to_owned(), ..Key::default() }
    }

    #[test]
    fn what_was_asked_for_wrongly_is_refused_and_the_rest_is_told() {
        let refused = |reason| told(Err(Refusal::new(reason, "why"))).unwrap_err().reason();
        assert_eq!(refused(Reason::NotFound), Reason::NotFound);
        assert_eq!(refused(Reason::PageTokenInvalid), Reason::PageTokenInvalid);
        let (read, why) = told(Err(Refusal::new(Reason::ChainUnavailable, "no node"))).unwrap();
        assert_eq!((read, why.as_str()), (None, "CHAIN_UNAVAILABLE: no node"));
        let (_, why) = told(Err(Refusal::new(Reason::SystemNotBootstrapped, "call Bootstrap"))).unwrap();
        assert!(why.starts_with("SYSTEM_NOT_BOOTSTRAPPED"));
    }

    #[test]
    fn whose_wallets_do_not_fit_is_not_looked_at_in_part() {
        let many = |from: usize, count: usize| Wallets {
            keys: (from..from + count).map(|number| key(&number.to_string(), "a")).collect(),
            complete: true,
        };
        let (accounts, wallets) = within(vec![many(0, 300), many(1_000, 201), many(100, 250)]);
        assert_eq!(accounts.len(), 350, "what both have is asked for once");
        let complete: Vec<bool> = wallets.iter().map(|one| one.complete).collect();
        assert_eq!(complete, [true, false, true]);
        assert!(wallets[1].keys.is_empty());
    }

    #[test]
    fn wallets_are_given_what_the_chain_says_of_them() {
        let wallets = Wallets { keys: vec![key("0xA", "anna"), key("0xB", "bert")], complete: true };
        let read = ReadRolesResponse {
            system: vec![SystemStanding {
                account: "0xB".into(),
                roles: vec![SystemRole::PlatformAdmin.into()],
                administrator: false,
                registry_agent: true,
            }],
            assets: vec![AssetStanding {
                asset: "0x1".into(),
                symbol: "ONE".into(),
                holders: vec![AssetHolderRoles {
                    account: "0xA".into(),
                    roles: vec![AssetRole::Supply.into()],
                    admin: true,
                }],
            }],
            ..Default::default()
        };
        let found = holdings("anna", &wallets, &read);
        assert!(found[0].own && !found[1].own);
        let on = &found[0].assets["0x1"];
        assert!(on.contains(&Need::Asset(AssetRole::Supply)) && on.contains(&Need::AssetAdmin) && on.len() == 2);
        assert!(found[1].system.contains(&Need::Administration) && found[1].system.contains(&Need::RegistryAgent));
        assert!(found[1].assets.is_empty() && found[0].system.is_empty());
    }
}
