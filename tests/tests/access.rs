//! What principals may do, off chain and on chain together, on the whole stack: grants stand at the gateway, roles in the contracts, and both are needed,
//! on the same asset.

use alloy::primitives::U256;
use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::configuration::TENANT;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{AssetRole, GrantRoleRequest, MintRequest, RevokeRoleRequest};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::principal::principal_service_client::PrincipalServiceClient;
use dalp_proto::principal::{
    self, Access, AccessFinding, AccessFindingKind, GetAccessRequest, GetAccessResponse, ListAccessRequest,
    ListAccessResponse,
};
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::{CreateKeyRequest, DisableKeyRequest};
use dalp_tests::airdrops::key;
use dalp_tests::load::Load;
use dalp_tests::offerings::{Cash, Offerings};
use tonic::{Request, Status};

/// A stack with two assets, their issuer, and somebody who is let at one of them.
struct World {
    _stack: Stack,
    operator: Client,
    /// May make keys, and mint where she is granted it.
    mia: Client,
    mias_wallet: String,
    /// The operator of another tenant, which has nothing.
    foreign: Client,
    load: Load,
    euro: Cash,
}

impl World {
    async fn start() -> Self {
        let mut gateway =
            "\n[[tenants]]\nid = \"other-bank\"\n[[roles]]\nname = \"minter\"\npermissions = [\"asset:mint\"]\n\
             [[roles]]\nname = \"desk\"\npermissions = [\"key:*\", \"operation:*\"]\n"
                .to_owned();
        let mut principal = |id: &str, tenant: &str, role: &str, more: &str| {
            let key = svc_gateway::api_key::ApiKey::generate().expect("random bytes");
            gateway += &format!(
                "[[principals]]\nid = \"{id}\"\ntenant = \"{tenant}\"\nroles = [\"{role}\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n{more}\n",
                key.prefix(),
                key.digest()
            );
            key.expose().to_owned()
        };
        let mia = principal("mia", TENANT, "desk", "kind = \"person\"");
        let foreign = principal("foreign", "other-bank", "operator", "");
        let stack = Stack::start(&Options { gateway, ..Options::default() }).await.expect("the stack starts");
        let client = |key: &str| Client::new(stack.channel().expect("a channel"), key).expect("a key");
        let (operator, mia, foreign) = (stack.client().expect("a client"), client(&mia), client(&foreign));
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&operator, &chain, 1, "local").await.expect("a bond");
        let offerings = Offerings { client: &operator, load: &load };
        let euro = offerings.issue_cash("EUR", 2, std::slice::from_ref(&load.receiver), 1_000).await.expect("euros");
        let create = CreateKeyRequest { wallet: "mia-desk".to_owned(), ..CreateKeyRequest::default() };
        let made = KeyServiceClient::new(mia.gateway()).create_key(keyed(create, &key())).await.expect("a wallet");
        let mias_wallet = made.into_inner().key.expect("a key").address;
        let wei = U256::from(10_u64).pow(U256::from(18_u64));
        chain.fund(mias_wallet.parse().expect("an address"), wei).await.expect("gas");
        Self { _stack: stack, operator, mia, mias_wallet, foreign, load, euro }
    }

    fn bond(&self) -> String {
        self.load.token.to_checksum(None)
    }

    async fn get(&self, by: &Client, request: GetAccessRequest) -> Result<GetAccessResponse, Status> {
        let answer = PrincipalServiceClient::new(by.gateway()).get_access(Request::new(request)).await?;
        Ok(answer.into_inner())
    }

    /// What Mia may do, as the operator sees it.
    async fn mias(&self) -> Access {
        let request = GetAccessRequest { principal_id: "mia".to_owned(), ..GetAccessRequest::default() };
        let answer = self.get(&self.operator, request).await.expect("her access");
        assert!(answer.chain_error.is_empty(), "{answer:?}");
        let read_at = answer.read_at.expect("a block");
        assert!(read_at.chain_id > 0 && read_at.block_number > 0 && read_at.block_hash.len() == 66, "{read_at:?}");
        answer.access.expect("an access")
    }

    async fn list(&self, by: &Client, asset: &str) -> Result<ListAccessResponse, Status> {
        let request = ListAccessRequest { asset: asset.to_owned(), ..ListAccessRequest::default() };
        Ok(PrincipalServiceClient::new(by.gateway()).list_access(Request::new(request)).await?.into_inner())
    }

    async fn mints(&self, asset: &str) -> Result<Operation, Status> {
        let mint = MintRequest {
            sender: self.mias_wallet.clone(),
            asset: asset.to_owned(),
            to: self.load.receiver.text.clone(),
            amount: "5".to_owned(),
        };
        let answer = AssetServiceClient::new(self.mia.gateway()).mint(keyed(mint, &key())).await?.into_inner();
        Ok(answer.operation.expect("an operation"))
    }

    /// A role on chain, for Mia's wallet.
    async fn on_chain(&self, asset: &str, granted: bool) {
        let (sender, account) = (self.load.issuer.text.clone(), self.mias_wallet.clone());
        let (role, asset) = (AssetRole::Supply.into(), asset.to_owned());
        let mut assets = AssetServiceClient::new(self.operator.gateway());
        let accepted = match granted {
            true => {
                let grant = GrantRoleRequest { sender, asset, role, account };
                assets.grant_role(keyed(grant, &key())).await.expect("accepted").into_inner().operation
            }
            false => {
                let revoke = RevokeRoleRequest { sender, asset, role, account };
                assets.revoke_role(keyed(revoke, &key())).await.expect("accepted").into_inner().operation
            }
        };
        let done = self.operator.finished(accepted).await.expect("final");
        assert_eq!(done.state(), OperationState::Completed, "{done:?}");
    }

    /// A grant off chain, for Mia.
    async fn off_chain(&self, asset: &str) {
        let grant = principal::GrantRoleRequest {
            principal_id: "mia".to_owned(),
            role: "minter".to_owned(),
            asset: asset.to_owned(),
        };
        let granted = PrincipalServiceClient::new(self.operator.gateway()).grant_role(keyed(grant, &key())).await;
        granted.expect("granted");
    }
}

/// Kind, permissions, roles, asset, wallet.
type Told = (AccessFindingKind, String, String, String, String);

fn told(access: &Access) -> Vec<Told> {
    let one = |finding: &AccessFinding| {
        let (permissions, roles) = (finding.permissions.join(","), finding.roles.join(","));
        (finding.kind(), permissions, roles, finding.asset.clone(), finding.wallet.clone())
    };
    access.findings.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_and_roles_are_shown_together_and_both_are_needed_on_one_asset() {
    let world = World::start().await;
    the_right_role_on_the_wrong_asset_is_refused(&world).await;
    both_on_one_asset_will_do(&world).await;
    by_wallet_and_by_asset(&world).await;
    an_administrator_is_told_of_every_wallet(&world).await;
    another_tenant_learns_nothing(&world).await;
    a_disabled_wallet_still_holds_its_role(&world).await;
}

async fn the_right_role_on_the_wrong_asset_is_refused(world: &World) {
    let (bond, euro, wallet) = (world.bond(), world.euro.text.clone(), world.mias_wallet.clone());
    assert!(world.mias().await.findings.is_empty(), "she may mint nowhere, on neither side");
    assert_eq!(reason(&world.mints(&bond).await.expect_err("refused")), "PERMISSION_DENIED");

    world.off_chain(&bond).await;
    assert_eq!(reason(&world.mints(&bond).await.expect_err("refused")), "ASSET_ROLE_MISSING");
    let use_none = (
        AccessFindingKind::GrantWithoutRole,
        "asset:mint".to_owned(),
        "supply".to_owned(),
        bond.clone(),
        String::new(),
    );
    assert_eq!(told(&world.mias().await), std::slice::from_ref(&use_none));

    world.on_chain(&euro, true).await;
    // The right grant and the right role, each on another asset.
    let refused = world.mints(&bond).await.expect_err("refused");
    assert_eq!(reason(&refused), "ASSET_ROLE_MISSING");
    assert_eq!(reason(&world.mints(&euro).await.expect_err("refused")), "PERMISSION_DENIED");
    let idle = (
        AccessFindingKind::RoleWithoutGrant,
        "asset:burn,asset:mint,treasury:approve".to_owned(),
        "supply".to_owned(),
        euro.clone(),
        wallet.clone(),
    );
    let access = world.mias().await;
    assert_eq!(told(&access), [use_none, idle]);
    assert_eq!(access.wallets.len(), 1);
    let held = &access.wallets[0];
    assert_eq!(
        (held.address.as_str(), held.wallet.as_str(), held.owner.as_str()),
        (wallet.as_str(), "mia-desk", "mia")
    );
    assert_eq!(
        (held.assets.len(), held.assets[0].asset.as_str(), held.assets[0].symbol.as_str()),
        (1, euro.as_str(), "EURD")
    );
    assert_eq!(held.assets[0].roles().collect::<Vec<_>>(), [AssetRole::Supply]);
    assert!(access.wallets_complete && !access.any_wallet && !held.administrator);
}

async fn both_on_one_asset_will_do(world: &World) {
    let (bond, euro) = (world.bond(), world.euro.text.clone());
    world.on_chain(&bond, true).await;
    world.on_chain(&euro, false).await;
    let access = world.mias().await;
    assert!(access.findings.is_empty(), "{access:?}");
    let grants: Vec<_> = access
        .grants
        .iter()
        .map(|held| {
            let grant = held.grant.as_ref().expect("a grant");
            (grant.role.as_str(), grant.asset.as_str(), held.permissions.contains(&"asset:mint".to_owned()))
        })
        .collect();
    assert_eq!(grants, [("desk", "", false), ("minter", bond.as_str(), true)]);
    let minted = world.mia.finished(Some(world.mints(&bond).await.expect("accepted"))).await.expect("final");
    assert_eq!(minted.state(), OperationState::Completed, "{minted:?}");
    assert_eq!(reason(&world.mints(&euro).await.expect_err("refused")), "PERMISSION_DENIED");
}

async fn by_wallet_and_by_asset(world: &World) {
    let (bond, euro) = (world.bond(), world.euro.text.clone());
    let by_wallet = GetAccessRequest { wallet: world.mias_wallet.clone(), ..GetAccessRequest::default() };
    let access = world.get(&world.operator, by_wallet.clone()).await.expect("hers").access.expect("an access");
    assert_eq!((access.principal_id.as_str(), access.wallets.len(), access.wallets_complete), ("mia", 1, false));
    let of_another = GetAccessRequest {
        principal_id: "mia".to_owned(),
        wallet: world.load.issuer.text.clone(),
        ..GetAccessRequest::default()
    };
    assert_eq!(reason(&world.get(&world.operator, of_another).await.expect_err("refused")), "WALLET_NOT_OWNED");
    let on_euro =
        GetAccessRequest { principal_id: "mia".to_owned(), asset: euro.clone(), ..GetAccessRequest::default() };
    let access = world.get(&world.operator, on_euro).await.expect("hers").access.expect("an access");
    assert!(access.grants.iter().all(|held| held.grant.as_ref().is_some_and(|grant| grant.asset.is_empty())));
    assert!(access.wallets[0].assets.is_empty());
    // Page by page: an asset each, and what concerns the system on the first one.
    let mut assets = Vec::new();
    let mut page =
        GetAccessRequest { principal_id: "operator".to_owned(), page_size: 1, ..GetAccessRequest::default() };
    loop {
        let answer = world.get(&world.operator, page.clone()).await.expect("a page");
        let access = answer.access.expect("an access");
        let issuer = access.wallets.iter().find(|one| one.address == world.load.issuer.text).expect("the issuer's");
        assets.extend(issuer.assets.iter().map(|one| one.asset.clone()));
        if answer.next_page_token.is_empty() {
            break;
        }
        page.page_token = answer.next_page_token;
    }
    assert_eq!(assets, [euro, bond.clone()], "newest first");
    let listed = world.list(&world.operator, &bond).await.expect("a list");
    assert!(listed.read_at.is_some() && listed.chain_error.is_empty(), "{listed:?}");
    let ids: Vec<_> = listed.access.iter().map(|one| one.principal_id.as_str()).collect();
    assert_eq!(ids, ["mia", "operator"]);
    let mias = &listed.access[0];
    assert_eq!(mias.wallets[0].assets[0].asset, bond);
}

async fn an_administrator_is_told_of_every_wallet(world: &World) {
    let own =
        world.get(&world.operator, GetAccessRequest::default()).await.expect("its own").access.expect("an access");
    assert_eq!((own.principal_id.as_str(), own.any_wallet, own.wallets_complete), ("operator", true, true));
    let issuer = own.wallets.iter().find(|one| one.address == world.load.issuer.text).expect("the issuer's wallet");
    assert!(issuer.administrator && issuer.registry_agent && !issuer.system_roles.is_empty(), "{issuer:?}");
    let on_bond = issuer.assets.iter().find(|one| one.asset == world.bond()).expect("its roles on the bond");
    assert!(on_bond.admin && on_bond.roles().any(|role| role == AssetRole::Governance), "{on_bond:?}");
    assert!(own.wallets.iter().any(|one| one.owner == "mia"), "one that it may use, and that holds a role");
    // Nobody sells the deposits: what needs that is of no use there.
    let sale = told(&own).into_iter().find(|(_, _, roles, asset, _)| roles == "sale" && *asset == world.euro.text);
    let (kind, permissions, ..) = sale.expect("it is told");
    assert_eq!((kind, permissions.as_str()), (AccessFindingKind::GrantWithoutRole, "airdrop:manage"));
}

async fn another_tenant_learns_nothing(world: &World) {
    let hers = GetAccessRequest { principal_id: "mia".to_owned(), ..GetAccessRequest::default() };
    assert_eq!(reason(&world.get(&world.foreign, hers).await.expect_err("refused")), "NOT_FOUND");
    let wallet = GetAccessRequest { wallet: world.mias_wallet.clone(), ..GetAccessRequest::default() };
    assert_eq!(reason(&world.get(&world.foreign, wallet).await.expect_err("refused")), "KEY_NOT_FOUND");
    let asset = GetAccessRequest { asset: world.bond(), ..GetAccessRequest::default() };
    assert_eq!(reason(&world.get(&world.foreign, asset).await.expect_err("refused")), "NOT_FOUND");
    assert_eq!(reason(&world.list(&world.foreign, &world.bond()).await.expect_err("refused")), "NOT_FOUND");
    // Its own is told without a chain, because nothing was set up for it.
    let own = world.get(&world.foreign, GetAccessRequest::default()).await.expect("its own");
    assert!(own.chain_error.starts_with("SYSTEM_NOT_BOOTSTRAPPED") && own.read_at.is_none(), "{own:?}");
    assert!(!own.access.expect("an access").grants.is_empty());
}

async fn a_disabled_wallet_still_holds_its_role(world: &World) {
    let disable = DisableKeyRequest { address: world.mias_wallet.clone(), reason: "lost".to_owned() };
    KeyServiceClient::new(world.mia.gateway()).disable_key(keyed(disable, &key())).await.expect("disabled");
    let kinds: Vec<_> =
        told(&world.mias().await).into_iter().map(|(kind, _, roles, asset, _)| (kind, roles, asset)).collect();
    let on_bond = |kind| (kind, "supply".to_owned(), world.bond());
    assert_eq!(kinds, [on_bond(AccessFindingKind::GrantWithoutRole), on_bond(AccessFindingKind::RoleOfDisabledWallet)]);
}
