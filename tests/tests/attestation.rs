//! A domain service that was taken over, with its certificate and its place in the mesh: what it can have signed past the platform's own code.
#![allow(clippy::expect_used, clippy::panic)] // a test that cannot go on stops where it stands

#[path = "attestation/chains.rs"]
mod chains;
#[path = "attestation/settling.rs"]
mod settling;

use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    sol_types::{SolCall as _, SolConstructor as _, SolValue as _},
};
use dalp_attestation::{Attestation, Judgement, Verdict, wire};
use dalp_contracts::bindings::{AssetToken, Create2Deployer, IdentityControl, System, VotingPower};
use dalp_devstack::{
    scenario::ChainView,
    stack::{ATTESTOR, Options, Stack, binary},
};
use dalp_proto::{
    attestation::{self as judged, attestation_service_client::AttestationServiceClient},
    signer::{
        ClaimAttestation, Eip712Document, EvmTransaction, SignOutcome, SignRequest, SignStatus, sign_request::Payload,
        signer_service_client::SignerServiceClient,
    },
};
use dalp_service::Refusal;
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
use serde_json::json;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

/// Nobody.
const STRANGER: Address = Address::repeat_byte(0x66);
/// Nonces that the platform itself does not reach meanwhile.
const FAR_NONCE: u64 = 1_000;

struct Taken {
    stack: Stack,
    chain: ChainView,
    load: Load,
    signer: SignerServiceClient<Channel>,
    nonce: std::sync::atomic::AtomicU64,
}

impl Taken {
    async fn over() -> Self {
        let mut stack =
            Stack::start(&Options { second_chain: true, ..Options::default() }).await.expect("the stack starts");
        let client = stack.client().expect("a client");
        let chain = ChainView::new(stack.chain_url()).expect("a chain");
        let load = Load::prepare(&client, &chain, 2, "local").await.expect("a bond");
        let stolen = stack.pki().files("svc-compliance");
        let signer = SignerServiceClient::new(stack.channel_to("svc-signer", Some(&stolen)).expect("a channel"));
        Self { stack, chain, load, signer, nonce: FAR_NONCE.into() }
    }

    fn request(&self, signer: Address, payload: Payload) -> SignRequest {
        SignRequest {
            request_id: Uuid::new_v4().to_string(),
            tenant: dalp_devstack::configuration::TENANT.to_owned(),
            signer: signer.to_checksum(None),
            payload: Some(payload),
            replaces_request_id: String::new(),
        }
    }

    fn call(&self, to: Option<Address>, value_wei: u64, data: impl Into<Bytes>) -> Payload {
        Payload::EvmTransaction(EvmTransaction {
            chain_id: self.stack.settings().chain_id,
            nonce: self.nonce.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
            target: to.map(|to| to.to_checksum(None)).unwrap_or_default(),
            value_wei: value_wei.to_string(),
            data: data.into().to_string(),
            gas_limit: 9_000_000,
            max_fee_per_gas_wei: "10000000000".to_owned(),
            max_priority_fee_per_gas_wei: "1".to_owned(),
            gas_price_wei: String::new(),
            by_provider: false,
        })
    }

    async fn sign(&self, request: &SignRequest) -> Result<SignOutcome, Status> {
        let answer = self.signer.clone().sign(request.clone()).await?;
        Ok(answer.into_inner().outcome.expect("an outcome"))
    }

    /// What the attestor refuses with; panics when something was signed.
    async fn refused(&self, signer: Address, payload: Payload) -> String {
        let request = self.request(signer, payload);
        let status = self.sign(&request).await.expect_err("refused");
        let told = Refusal::details(&status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"));
        assert_eq!(told.reason, "ATTESTATION_REFUSED", "{status:?}");
        let again = self.sign(&request).await.expect("the refusal stands");
        assert_eq!((again.status(), again.error.as_str()), (SignStatus::Denied, "ATTESTATION_REFUSED"));
        assert_eq!((again.signature.as_str(), again.signed_transaction.as_str()), ("", ""));
        told.metadata.get("attestor_reason").cloned().unwrap_or_default()
    }

    fn transfer(&self, to: Address) -> Payload {
        let data = AssetToken::transferCall { to, amount: U256::from(1) }.abi_encode();
        self.call(Some(self.load.token), 0, data)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_taken_over_moves_nothing_past_the_attestor() {
    let mut taken = Taken::over().await;
    what_the_rules_allow_is_signed(&taken).await;
    what_they_do_not_allow_is_refused(&taken).await;
    statements_are_judged_too(&taken).await;
    settling::a_settlement_gives_foreign_tokens_to_nobody_unknown(&taken).await;
    chains::each_chain_is_judged_by_itself(&taken).await;
    chains::a_chain_that_stands_still_holds_no_other_up(&taken).await;
    nobody_else_is_the_attestor(&mut taken).await;
}

async fn what_the_rules_allow_is_signed(taken: &Taken) {
    let (holder, receiver) = (taken.load.holders[0].address, taken.load.receiver.address);
    let request = taken.request(holder, taken.transfer(receiver));
    let outcome = taken.sign(&request).await.expect("an outcome");
    assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
    // Whoever has request and evidence computes the hash again.
    let evidence = outcome.attestation.expect("evidence");
    let Some(Payload::EvmTransaction(tx)) = &request.payload else { panic!("a transaction") };
    let asked = judged::Subject {
        request_id: request.request_id.clone(),
        tenant: request.tenant.clone(),
        chain_id: tx.chain_id,
        sender: request.signer.clone(),
        content: Some(judged::subject::Content::Call(judged::Call {
            target: tx.target.clone(),
            value_wei: tx.value_wei.clone(),
            data: tx.data.clone(),
        })),
    };
    let (subject, _) = wire::subject(&asked).expect("a subject");
    let judgement = Judgement {
        verdict: Verdict::Pass,
        block_number: evidence.block_number,
        block_hash: evidence.block_hash.parse().expect("a hash"),
        ruleset: evidence.ruleset.parse().expect("a version"),
        expires_at_s: evidence.expires_at_s,
    };
    assert_eq!(Attestation::of(&subject, judgement).hash.to_string(), evidence.hash);
    // Another payload under the same id is no way around it.
    let other = SignRequest { payload: Some(taken.transfer(STRANGER)), ..request };
    let status = taken.sign(&other).await.expect_err("refused");
    assert_eq!(Refusal::details(&status).expect("ours").reason, "REQUEST_ID_REUSED");
}

async fn what_they_do_not_allow_is_refused(taken: &Taken) {
    let (holder, issuer, token) = (taken.load.holders[0].address, taken.load.issuer.address, taken.load.token);
    let amount = U256::from(1);
    assert_eq!(taken.refused(holder, taken.transfer(STRANGER)).await, "COMPLIANCE_REFUSED");
    let mint = AssetToken::mintCall { to: STRANGER, amount }.abi_encode();
    assert_eq!(taken.refused(issuer, taken.call(Some(token), 0, mint)).await, "COMPLIANCE_REFUSED");
    let unauthorised = AssetToken::mintCall { to: holder, amount }.abi_encode();
    assert_eq!(taken.refused(holder, taken.call(Some(token), 0, unauthorised)).await, "ASSET_ROLE_MISSING");
    for to in [STRANGER, taken.load.receiver.address] {
        let approval = AssetToken::approveCall { spender: to, value: amount }.abi_encode();
        assert_eq!(taken.refused(holder, taken.call(Some(token), 0, approval)).await, "COUNTERPARTY_UNKNOWN");
    }
    let upgrade = AssetToken::upgradeToAndCallCall { implementation: STRANGER, data: Bytes::new() }.abi_encode();
    assert_eq!(taken.refused(issuer, taken.call(Some(token), 0, upgrade)).await, "COUNTERPARTY_UNKNOWN");
    // A contract that nobody knows, whatever the function.
    for data in [vec![0xde, 0xad, 0xbe, 0xef], AssetToken::mintCall { to: holder, amount }.abi_encode(), vec![]] {
        assert_eq!(taken.refused(holder, taken.call(Some(STRANGER), 0, data)).await, "TARGET_UNKNOWN");
    }
    let foreign = AssetToken::transferCall { to: STRANGER, amount }.abi_encode();
    assert_eq!(
        taken.refused(holder, taken.call(Some(Address::repeat_byte(0x77)), 0, foreign)).await,
        "COUNTERPARTY_UNKNOWN"
    );
    // The chain's own currency.
    assert_eq!(taken.refused(holder, taken.call(Some(STRANGER), 1, vec![])).await, "VALUE_FORBIDDEN");
    // Code of one's own; also behind the beginning of ours.
    let runtime = hex::decode("600a600c600039600a6000f3").expect("hex");
    assert_eq!(taken.refused(holder, taken.call(None, 0, runtime.clone())).await, "CREATION_UNKNOWN");
    let longer = [Create2Deployer::BYTECODE.as_ref(), &runtime].concat();
    assert_eq!(taken.refused(holder, taken.call(None, 0, longer)).await, "CREATION_UNKNOWN");
    let votes =
        [VotingPower::BYTECODE.as_ref(), &VotingPower::constructorCall { token: STRANGER }.abi_encode()].concat();
    assert_eq!(taken.refused(holder, taken.call(None, 0, votes)).await, "CREATION_UNKNOWN");
    // Calls within calls.
    let multicall = [&[0xac, 0x96, 0x50, 0xd8][..], &(Vec::<Bytes>::new(),).abi_encode_params()].concat();
    assert_eq!(taken.refused(holder, taken.call(Some(token), 0, multicall)).await, "FUNCTION_FORBIDDEN");
    let inner = IdentityControl::executeCall { to: STRANGER, value: U256::ZERO, data: vec![1, 2, 3, 4].into() };
    assert_eq!(taken.refused(holder, taken.call(Some(STRANGER), 0, inner.abi_encode())).await, "TARGET_UNKNOWN");
    // The address book, from which everybody's standing follows.
    let system = system_of(taken).await;
    let book = System::setCall { name: dalp_contracts::roles::names::ADDON_FACTORY, account: STRANGER }.abi_encode();
    assert_eq!(taken.refused(issuer, taken.call(Some(system), 0, book)).await, "COUNTERPARTY_UNKNOWN");
    // What only uses a nonce up goes without the attestor.
    let Payload::EvmTransaction(tx) = taken.call(Some(holder), 0, vec![]) else { panic!("a transaction") };
    let cancel = Payload::EvmTransaction(EvmTransaction { gas_limit: 21_000, ..tx });
    let cancel = taken.sign(&taken.request(holder, cancel)).await.expect("an outcome");
    assert_eq!((cancel.status(), cancel.attestation), (SignStatus::Approved, None));
}

async fn system_of(taken: &Taken) -> Address {
    let client = taken.stack.client().expect("a client");
    let answer = dalp_proto::system::system_service_client::SystemServiceClient::new(client.gateway())
        .get_system(dalp_proto::system::GetSystemRequest::default())
        .await
        .expect("a system");
    answer.into_inner().system.expect("a system").system.parse().expect("an address")
}

async fn statements_are_judged_too(taken: &Taken) {
    let (issuer, chain_id) = (taken.load.issuer.address, taken.stack.settings().chain_id);
    let claim = |identity: Address| {
        Payload::Claim(ClaimAttestation {
            identity: identity.to_checksum(None),
            topic: B256::with_last_byte(1).to_string(),
            data: "0x".to_owned(),
        })
    };
    // The same bytes are an order to call for wallets that take eth-signed orders.
    assert_eq!(taken.refused(issuer, claim(STRANGER)).await, "TARGET_UNKNOWN");
    let document = |primary: &str, contract: Address| {
        let document = json!({
            "types": {
                "EIP712Domain": [{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}],
                primary: [{"name": "owner", "type": "address"}, {"name": "spender", "type": "address"},
                    {"name": "value", "type": "uint256"}, {"name": "nonce", "type": "uint256"}, {"name": "deadline", "type": "uint256"}]
            },
            "primaryType": primary,
            "domain": {"chainId": chain_id, "verifyingContract": contract},
            "message": {"owner": issuer, "spender": STRANGER, "value": "1", "nonce": "0", "deadline": "9999999999"}
        });
        Payload::Eip712(Eip712Document { document_json: document.to_string() })
    };
    for (primary, contract) in [("Permit", taken.load.token), ("Permit", STRANGER), ("FeedUpdate", taken.load.token)] {
        assert_eq!(taken.refused(issuer, document(primary, contract)).await, "DOCUMENT_UNKNOWN", "{primary}");
    }
}

/// The writer's certificate at the attestor's address, and in front of the attestor.
async fn nobody_else_is_the_attestor(taken: &mut Taken) {
    let stolen = taken.stack.pki().files("svc-compliance");
    let door = taken.stack.channel_to(ATTESTOR, Some(&stolen)).expect("a channel");
    let refused = AttestationServiceClient::new(door).attest(judged::AttestRequest::default()).await;
    let status = refused.expect_err("only the signer may ask");
    assert_eq!(Refusal::details(&status).expect("ours").reason, "PEER_NOT_ALLOWED");

    let folder = taken.stack.folder().to_owned();
    let own = std::fs::read_to_string(folder.join("svc-attestor.toml")).expect("a configuration");
    let posing =
        own.replace("/svc-attestor.pem", "/svc-compliance.pem").replace("/svc-attestor.key", "/svc-compliance.key");
    assert_ne!(own, posing);
    std::fs::write(folder.join("posing.toml"), posing).expect("written");
    let holder = taken.load.holders[1].address;
    let request = taken.request(holder, taken.transfer(taken.load.receiver.address));
    let attestor = taken.stack.service(ATTESTOR).expect("the attestor");
    attestor.kill();
    let unavailable = |status: Result<SignOutcome, Status>| {
        let status = status.expect_err("not signed");
        assert_eq!(
            Refusal::details(&status).map(|told| told.reason).as_deref(),
            Some("ATTESTOR_UNAVAILABLE"),
            "{status:?}"
        );
    };
    unavailable(taken.sign(&request).await);
    let mut posing = std::process::Command::new(binary("svc-compliance").expect("built"))
        .args(["--role", "attest", "--config"])
        .arg(folder.join("posing.toml"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let address = taken.stack.settings().address(ATTESTOR);
    until(
        "it listens where the attestor did",
        async || std::net::TcpStream::connect(&address).is_ok(),
        |listens| *listens,
    )
    .await;
    for _ in 0..3 {
        unavailable(taken.sign(&request).await);
    }
    posing.kill().expect("killed");
    posing.wait().expect("ended");
    taken.stack.service(ATTESTOR).expect("the attestor").restart().expect("it starts again");
    let signed = async || taken.sign(&request).await;
    let outcome = until("the same request is signed", signed, |outcome| outcome.is_ok()).await.expect("an outcome");
    assert_eq!(outcome.status(), SignStatus::Approved, "{outcome:?}");
}
