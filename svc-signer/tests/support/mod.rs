//! A private SoftHSM token, a signer over a private PostgreSQL, and requests as peers and callers make them.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod custodians;
pub mod luna;
pub mod token;

use std::{path::PathBuf, sync::Arc, time::Duration};

use alloy::{
    consensus::TxEnvelope,
    eips::eip2718::Decodable2718 as _,
    primitives::{Address, keccak256},
};
use dalp_proto::signer::{
    CreateKeyRequest, EvmTransaction, Key, SignOutcome, SignRequest, SignStatus, key_service_server::KeyService as _,
    sign_request::Payload, signer_service_server::SignerService as _,
};
use dalp_quorum_module::device::Device;
use dalp_service::{Caller, PeerIdentity, Refusal, stop::Stop};
use dalp_simulators::{
    aws::Aws,
    custodian::{self, Custodian, Pace},
};
use dalp_testing::TestPostgres;
use svc_signer::{
    attestor::Attestor,
    config::SignerConfig,
    edge::{key::KeyEdge, signer::SignerEdge},
    providers::{
        Provider, ProviderKind, Providers, dfns::DfnsProvider, fireblocks::FireblocksProvider, kms::KmsProvider,
        local::LocalProvider, pkcs11::Pkcs11Provider,
    },
    signing::Signer,
    store::Store,
};
use tempfile::TempDir;
pub use token::{LABEL, PIN, TestToken};
use tonic::{Request, Status};
use uuid::Uuid;
use zeroize::Zeroizing;

pub const PEER: &str = "spiffe://dalp.dev/svc-compliance";
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_svc-signer"))
}

/// A signer without its listener: the edge is called as the listener would, with a verified peer.
pub struct Bench {
    pub signer: Arc<Signer>,
    pub edge: SignerEdge,
    pub keys: KeyEdge,
    pub store: Store,
    pub hsm: Option<Arc<Pkcs11Provider>>,
    pub config: SignerConfig,
    pub postgres: Arc<TestPostgres>,
    pub token: Option<Arc<TestToken>>,
    pub custodian: Option<Arc<Custodian>>,
    pub aws: Option<Arc<Aws>>,
    partition: String,
    secrets: TempDir,
}

#[derive(Clone)]
pub struct Setting {
    pub provider: ProviderKind,
    pub allow_mixed: bool,
    /// Keys of the `[signer]` section.
    pub signer: String,
    /// Longest call to a custodian.
    pub call_timeout_ms: u64,
    /// How long a request is followed before its caller is told to wait: by itself until it is signed.
    pub settle_ms: u64,
    /// First and longest pause between looks at what waits for people.
    pub looks_ms: (u64, u64),
    /// Custodians number and broadcast by themselves.
    pub broadcast: bool,
    /// Where the custodian is looked for instead of where it is.
    pub custodian_at: Option<String>,
    /// Whose word is needed; absent: nobody's.
    pub attestor: Option<Arc<dyn Attestor>>,
    pub extra: String,
    /// Keys of the `[pkcs11]` section.
    pub partition: String,
    /// Keys of the `[kms]` section.
    pub kms: String,
}

impl Setting {
    pub fn of(provider: ProviderKind) -> Self {
        Self {
            provider,
            allow_mixed: false,
            signer: String::new(),
            call_timeout_ms: 2_000,
            settle_ms: 20_000,
            looks_ms: (10, 20),
            broadcast: false,
            custodian_at: None,
            attestor: None,
            extra: RULES.to_owned(),
            partition: String::new(),
            kms: String::new(),
        }
    }
}

impl Setting {
    pub fn pace(&self) -> Pace {
        let Self { call_timeout_ms, settle_ms, looks_ms, broadcast, .. } = *self;
        Pace { call_timeout_ms, settle_ms, looks_ms, broadcast }
    }
}

/// A simulated custodian that signs everything without asking, with the node to which it broadcasts.
pub async fn custodian(kind: ProviderKind, node: Option<String>) -> Custodian {
    let kind = kind.to_string().parse::<custodian::Kind>().unwrap();
    Custodian::start(kind, node).await.unwrap()
}

/// What holds the keys beside the database; shared by replicas.
#[derive(Clone, Default)]
pub struct Holders {
    pub token: Option<Arc<TestToken>>,
    pub custodian: Option<Arc<Custodian>>,
    pub aws: Option<Arc<Aws>>,
}

impl Holders {
    /// A Luna partition.
    pub fn luna() -> Self {
        Self { token: Some(Arc::new(TestToken::luna())), ..Self::default() }
    }

    pub async fn of(provider: ProviderKind) -> Self {
        match provider {
            ProviderKind::Local => Self::default(),
            ProviderKind::Pkcs11 => Self { token: Some(Arc::new(TestToken::new())), ..Self::default() },
            ProviderKind::Kms => Self { aws: Some(Arc::new(Aws::start().await.unwrap())), ..Self::default() },
            kind => Self { custodian: Some(Arc::new(custodian(kind, None).await)), ..Self::default() },
        }
    }
}

impl Bench {
    pub async fn new(provider: ProviderKind) -> Self {
        Self::over(Setting::of(provider), Arc::new(TestPostgres::start()), Holders::of(provider).await).await
    }

    /// A signer whose keys are in a Luna partition, with these keys in its `[pkcs11]` section.
    pub async fn luna(partition: &str) -> Self {
        let setting = Setting { partition: partition.to_owned(), ..Setting::of(ProviderKind::Pkcs11) };
        Self::over(setting, Arc::new(TestPostgres::start()), Holders::luna()).await
    }

    /// The appliance behind the keys.
    pub fn device(&self) -> &Device {
        self.token.as_ref().unwrap().device()
    }

    /// A further replica, or one with other settings, over the same database and keys.
    pub async fn over(setting: Setting, postgres: Arc<TestPostgres>, holders: Holders) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let secret = |name: &str, text: &str| {
            let path = secrets.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("file:{}", path.display())
        };
        let Holders { token, custodian, aws } = holders;
        let pkcs11 = token.as_ref().map_or(String::new(), |token| token.section_with(&setting.partition));
        let custody = custodian
            .as_ref()
            .map_or(String::new(), |custodian| custodian.section(secrets.path(), &setting.pace()).unwrap());
        let custody =
            match &setting.custodian_at {
                Some(url) => custody
                    .lines()
                    .map(|line| {
                        if line.starts_with("base_url") {
                            format!("base_url = \"{url}\"\n")
                        } else {
                            format!("{line}\n")
                        }
                    })
                    .collect(),
                None => custody,
            };
        let kms = aws
            .as_ref()
            .map_or(String::new(), |aws| aws.section(secrets.path(), setting.call_timeout_ms, &setting.kms).unwrap());
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ntls = {{ certificate = \"c\", key = \"k\", trust_anchors = \"t\" }}\n\
             [database]\nurl = \"{}\"\n[signer]\nenvironment = \"development\"\nprovider = \"{}\"\nallow_mixed = {}\nattestation = \"{}\"\n\
             digest_key = \"{}\"\nretry_ms = 200\n{}\n[local]\nkey_encryption_key = \"{}\"\n{pkcs11}\n{custody}\n{kms}\n{}",
            secret("url", &postgres.url()),
            setting.provider,
            setting.allow_mixed,
            if setting.attestor.is_some() { "required" } else { "off" },
            secret("digest-key", &"k".repeat(40)),
            setting.signer,
            secret("kek", &"07".repeat(32)),
            setting.extra,
        );
        let mut config: SignerConfig = toml::from_str(&text).unwrap();
        config.worker_program = Some(program());
        let store = Store::new(&config).unwrap();
        store.migrate().await.unwrap();
        let local = LocalProvider::new(&config.local.as_ref().unwrap().key_encryption_key().unwrap());
        let hsm = config.pkcs11.clone().map(|pkcs11| {
            Arc::new(Pkcs11Provider::new(pkcs11, program(), Zeroizing::new(vec![7; 40]), Arc::new(store.clone())))
        });
        let mut configured: Vec<Arc<dyn Provider>> = vec![Arc::new(local)];
        configured.extend(hsm.clone().map(|hsm| hsm as Arc<dyn Provider>));
        if let Some(dfns) = config.dfns.clone() {
            configured.push(Arc::new(DfnsProvider::new(dfns).unwrap()));
        }
        if let Some(fireblocks) = config.fireblocks.clone() {
            configured.push(Arc::new(FireblocksProvider::new(fireblocks).unwrap()));
        }
        if let Some(kms) = &config.kms {
            configured.push(Arc::new(KmsProvider::new(kms).unwrap()));
        }
        let providers = Providers::new(setting.provider, setting.allow_mixed, configured);
        let signer = Signer::new(&config, store.clone(), providers);
        let signer = Arc::new(match setting.attestor.clone() {
            Some(attestor) => signer.asking(attestor),
            None => signer,
        });
        Self {
            edge: SignerEdge::new(Arc::clone(&signer), Stop::new()),
            keys: KeyEdge::new(Arc::clone(&signer)),
            signer,
            store,
            hsm,
            config,
            postgres,
            token,
            custodian,
            aws,
            partition: setting.partition,
            secrets,
        }
    }

    /// A further replica over the same database and keys.
    pub async fn replica(&self) -> Self {
        self.replica_with(RULES).await
    }

    /// As [`Bench::replica`], with other grants and rules.
    pub async fn replica_with(&self, rules: &str) -> Self {
        let partition = self.partition.clone();
        self.replica_of(Setting { extra: rules.to_owned(), partition, ..Setting::of(self.config.signer.provider) })
            .await
    }

    /// As [`Bench::replica`], with other settings.
    pub async fn replica_of(&self, setting: Setting) -> Self {
        let holders = Holders { token: self.token.clone(), custodian: self.custodian.clone(), aws: self.aws.clone() };
        Self::over(setting, Arc::clone(&self.postgres), holders).await
    }

    /// The simulator behind the keys.
    pub fn custodian(&self) -> &Custodian {
        self.custodian.as_deref().unwrap()
    }
}

/// What most tests allow.
pub const RULES: &str = r#"
[[grants]]
peer = "spiffe://dalp.dev/svc-compliance"
kinds = ["evm_transaction", "settlement_reveal", "eip712", "claim"]
[[grants]]
peer = "spiffe://dalp.dev/svc-feeds"
kinds = ["eip712"]
[[policy.rules]]
name = "small"
action = "allow"
max_value_wei = "1000"
[[policy.rules]]
name = "hourly"
action = "allow"
destinations = ["0x1111111111111111111111111111111111111111"]
rolling = { limit_wei = "100", window_s = 3600 }
"#;

pub const TARGET: &str = "0x2222222222222222222222222222222222222222";

pub fn from_peer<T>(message: T, peer: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(PeerIdentity::trusted(peer.parse().unwrap()));
    request
}

pub fn from_caller<T>(message: T, tenant: &str, idempotency_key: &str) -> Request<T> {
    let mut request = from_peer(message, "spiffe://dalp.dev/svc-gateway");
    let caller = Caller { tenant: tenant.parse().unwrap(), principal: "ops".parse().unwrap(), roles: vec![] };
    caller.apply(request.metadata_mut());
    request.metadata_mut().insert("idempotency-key", idempotency_key.parse().unwrap());
    request
}

pub fn reason(status: &Status) -> String {
    Refusal::details(status).map(|details| details.reason).unwrap_or_else(|| format!("{status:?}"))
}

pub fn meta(status: &Status, key: &str) -> String {
    Refusal::details(status).and_then(|details| details.metadata.get(key).cloned()).unwrap_or_default()
}

pub fn call(nonce: u64) -> EvmTransaction {
    EvmTransaction {
        chain_id: 31337,
        nonce,
        target: TARGET.to_owned(),
        value_wei: "0".to_owned(),
        data: "0xa9059cbb".to_owned(),
        gas_limit: 90_000,
        max_fee_per_gas_wei: "10".to_owned(),
        max_priority_fee_per_gas_wei: "1".to_owned(),
        gas_price_wei: String::new(),
        by_provider: false,
    }
}

/// The same for a provider that numbers, prices and broadcasts by itself.
pub fn by_provider(tx: EvmTransaction) -> EvmTransaction {
    EvmTransaction {
        chain_id: tx.chain_id,
        target: tx.target,
        value_wei: tx.value_wei,
        data: tx.data,
        by_provider: true,
        ..Default::default()
    }
}

pub fn order(signer: &str, tx: EvmTransaction) -> SignRequest {
    SignRequest {
        request_id: Uuid::new_v4().to_string(),
        tenant: "bank".to_owned(),
        signer: signer.to_owned(),
        payload: Some(Payload::EvmTransaction(tx)),
        replaces_request_id: String::new(),
    }
}

pub async fn create(bench: &Bench, wallet: &str) -> Key {
    let request = CreateKeyRequest { wallet: wallet.to_owned(), ..Default::default() };
    bench.keys.create_key(from_caller(request, "bank", wallet)).await.unwrap().into_inner().key.unwrap()
}

pub async fn sign(bench: &Bench, request: &SignRequest) -> Result<SignOutcome, Status> {
    sign_at(&bench.edge, request).await
}

/// For tasks of their own.
pub async fn sign_at(edge: &SignerEdge, request: &SignRequest) -> Result<SignOutcome, Status> {
    let answer = edge.sign(from_peer(request.clone(), PEER)).await?;
    Ok(answer.into_inner().outcome.unwrap())
}

pub fn approved_transaction(outcome: &SignOutcome) -> TxEnvelope {
    assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
    let raw = hex::decode(&outcome.signed_transaction[2..]).unwrap();
    assert_eq!(outcome.tx_hash, keccak256(&raw).to_string());
    TxEnvelope::decode_2718(&mut raw.as_slice()).unwrap()
}

pub fn sender(tx: &TxEnvelope) -> Address {
    tx.signature().recover_address_from_prehash(&tx.signature_hash()).unwrap()
}

/// Makes every request that is not decided two minutes older.
pub async fn age(bench: &Bench) {
    let aged = sqlx::query(
        "update signer.requests set created_at = created_at - interval '2 minutes', held_since = held_since - interval '2 minutes'
         where status in ('PENDING', 'BLOCKED')",
    );
    aged.execute(&bench.postgres.pool().await).await.unwrap();
}

/// Asks again until the answer is as wanted, and fails when it does not become so.
pub async fn until<T>(mut ask: impl AsyncFnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let asking = async {
        loop {
            let answer = ask().await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it becomes so")
}
