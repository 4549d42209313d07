//! The bond's life: issued, minted, transferred, refused, forced, frozen, and accounted for.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use anyhow::{Context, ensure};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{
    AssetClass, AssetRole, AssetTerms, BondTerms, ClaimGroup, ClaimRule, CountryMode, CountryRule, CreateAssetRequest,
    DayCount, ForcedTransferRequest, MintRequest, RoleGrant, RuleBinding, SetAddressFrozenRequest, TransferRequest,
    asset_terms, rule_binding,
};
use dalp_proto::holder::holder_service_client::HolderServiceClient;
use dalp_proto::holder::{ListHoldersRequest, ListHoldersResponse};
use dalp_proto::identity::RevokeClaimRequest;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;

use super::parties::BARRED;
use super::{ChainView, Outcome, Parties, Steps, Wallet, airdrop, feeds, offering, settlement, treasury, upkeep};
use crate::client::{Client, keyed, reason};

/// How long the index may be behind the chain.
const INDEX_PATIENCE: Duration = Duration::from_secs(180);

/// The scenario's view of the bond, once it is issued.
struct Bond<'a> {
    client: &'a Client,
    chain: &'a ChainView,
    parties: &'a Parties,
    token: String,
}

/// Issues the bond and lives its life. The tokenised deposits that it was paid in.
pub(super) async fn run(client: &Client, chain: &ChainView, parties: &Parties, steps: &mut Steps) -> String {
    let token = RefCell::new(String::new());
    steps
        .run("issue the bond, signed by the HSM", "completed", async {
            let accepted = AssetServiceClient::new(client.gateway())
                .create_asset(keyed(order(parties), "issue-bond"))
                .await?
                .into_inner();
            let operation = client.finished(accepted.operation).await?;
            if let Ok(result) = serde_json::from_str::<serde_json::Value>(&operation.result_json) {
                *token.borrow_mut() = result["asset"].as_str().unwrap_or_default().to_owned();
            }
            Ok(Outcome::of(&operation))
        })
        .await;
    let bond = Bond { client, chain, parties, token: token.into_inner() };
    bond.transfers(steps).await;
    bond.interventions(steps).await;
    bond.repeats(steps).await;
    feeds::run(client, chain, parties, &bond.token, steps).await;
    upkeep::run(client, parties, &bond.token, steps).await;
    bond.accounts(steps).await;
    airdrop::run(client, parties, &bond.token, steps).await;
    let cash = offering::run(client, parties, &bond.token, steps).await;
    settlement::run(client, parties, &bond.token, &cash, steps).await;
    treasury::run(client, chain, parties, (&bond.token, &cash), steps).await;
    cash
}

fn order(parties: &Parties) -> CreateAssetRequest {
    let issuer = &parties.issuer.text;
    let grant = |role: AssetRole| RoleGrant { role: role.into(), account: issuer.clone() };
    CreateAssetRequest {
        issuer: issuer.clone(),
        name: "Example Bank 2.5% 2031".to_owned(),
        symbol: "EXB31".to_owned(),
        decimals: 0,
        asset_class: AssetClass::Bond.into(),
        isin: "CH0012032048".to_owned(),
        rules: vec![
            RuleBinding {
                rule: Some(rule_binding::Rule::Country(CountryRule {
                    mode: CountryMode::Block.into(),
                    countries: vec![BARRED],
                })),
            },
            RuleBinding {
                rule: Some(rule_binding::Rule::Claim(ClaimRule {
                    any_of: vec![ClaimGroup { all_of: vec!["kyc".to_owned()], none_of: vec![] }],
                    ..ClaimRule::default()
                })),
            },
        ],
        claim_topics: vec!["kyc".to_owned()],
        roles: vec![
            grant(AssetRole::Supply),
            grant(AssetRole::Custodian),
            grant(AssetRole::Emergency),
            grant(AssetRole::Sale),
        ],
        unpause: true,
        initial_supply: String::new(),
        initial_holder: String::new(),
        terms: Some(AssetTerms {
            terms: Some(asset_terms::Terms::Bond(BondTerms {
                maturity_date: "2031-05-01".to_owned(),
                denomination: "1000".to_owned(),
                currency: "CHF".to_owned(),
                coupon_bps: 250,
                payments_per_year: 1,
                day_count: DayCount::Thirty360.into(),
                issue_size: String::new(),
            })),
        }),
        ..CreateAssetRequest::default()
    }
}

// === impl Bond ===

impl Bond<'_> {
    fn assets(&self) -> AssetServiceClient<crate::client::Gateway> {
        AssetServiceClient::new(self.client.gateway())
    }

    fn transfer_order(&self, from: &Wallet, to: &Wallet, amount: u64) -> TransferRequest {
        TransferRequest {
            sender: from.text.clone(),
            asset: self.token.clone(),
            to: to.text.clone(),
            amount: amount.to_string(),
        }
    }

    async fn transfer(&self, from: &Wallet, to: &Wallet, amount: u64, key: &str) -> anyhow::Result<Outcome> {
        let request = self.transfer_order(from, to, amount);
        let accepted = self.assets().transfer(keyed(request, key)).await?.into_inner();
        Ok(Outcome::of(&self.client.finished(accepted.operation).await?))
    }

    /// A transfer that must be refused without the sender's nonce moving.
    async fn refused(&self, from: &Wallet, to: &Wallet, key: &str) -> anyhow::Result<Outcome> {
        let before = self.chain.nonce(from.address).await?;
        let outcome = self.transfer(from, to, 1, key).await?;
        let after = self.chain.nonce(from.address).await?;
        ensure!(before == after, "a refused transfer used nonce {before}");
        Ok(outcome)
    }

    async fn transfers(&self, steps: &mut Steps) {
        let Parties { issuer, verifier, alice, bob, carol, dave, .. } = self.parties;
        steps
            .run("mint 1000 to alice", "completed", async {
                let request = MintRequest {
                    sender: issuer.text.clone(),
                    asset: self.token.clone(),
                    to: alice.text.clone(),
                    amount: "1000".to_owned(),
                };
                let accepted = self.assets().mint(keyed(request, "mint-alice")).await?.into_inner();
                Ok(Outcome::of(&self.client.finished(accepted.operation).await?))
            })
            .await;
        steps.run("transfer 100 from alice to bob", "completed", self.transfer(alice, bob, 100, "to-bob")).await;
        steps
            .run(
                "transfer to dave, who has no KYC",
                "refused COMPLIANCE_REFUSED IdentityRegistry CLAIM_MISSING",
                self.refused(alice, dave, "to-dave"),
            )
            .await;
        steps
            .run(
                "transfer to carol, in a barred country",
                "refused COMPLIANCE_REFUSED CountryRule COUNTRY_BLOCKED",
                self.refused(alice, carol, "to-carol"),
            )
            .await;
        steps
            .run("revoke bob's KYC", "completed", async {
                let request = RevokeClaimRequest {
                    issuer: verifier.text.clone(),
                    subject: bob.text.clone(),
                    topic: "kyc".to_owned(),
                };
                let accepted = IdentityServiceClient::new(self.client.gateway())
                    .revoke_claim(keyed(request, "revoke-bob"))
                    .await?
                    .into_inner();
                Ok(Outcome::of(&self.client.finished(accepted.operation).await?))
            })
            .await;
        steps
            .run(
                "transfer to bob, whose KYC is revoked",
                "refused COMPLIANCE_REFUSED IdentityRegistry CLAIM_REVOKED",
                self.refused(alice, bob, "to-bob-revoked"),
            )
            .await;
    }

    async fn interventions(&self, steps: &mut Steps) {
        let Parties { alice, bob, .. } = self.parties;
        steps
            .run("forced transfer of 40 from bob to alice", "completed", async {
                let request = ForcedTransferRequest {
                    sender: self.parties.issuer.text.clone(),
                    asset: self.token.clone(),
                    from: bob.text.clone(),
                    to: alice.text.clone(),
                    amount: "40".to_owned(),
                    reason: "court order 17/2026".to_owned(),
                };
                let accepted = self.assets().forced_transfer(keyed(request, "forced")).await?.into_inner();
                Ok(Outcome::of(&self.client.finished(accepted.operation).await?))
            })
            .await;
        steps.run("freeze alice", "completed", self.freeze(true)).await;
        steps
            .run(
                "transfer by alice, who is frozen",
                "refused COMPLIANCE_REFUSED AssetToken SENDER_FROZEN",
                self.refused(alice, alice, "from-frozen"),
            )
            .await;
        steps.run("unfreeze alice", "completed", self.freeze(false)).await;
    }

    async fn freeze(&self, frozen: bool) -> anyhow::Result<Outcome> {
        let request = SetAddressFrozenRequest {
            sender: self.parties.issuer.text.clone(),
            asset: self.token.clone(),
            holder: self.parties.alice.text.clone(),
            frozen,
            reason: "investigation 4/2026".to_owned(),
        };
        let accepted =
            self.assets().set_address_frozen(keyed(request, &format!("freeze-{frozen}"))).await?.into_inner();
        Ok(Outcome::of(&self.client.finished(accepted.operation).await?))
    }

    async fn repeats(&self, steps: &mut Steps) {
        let Parties { alice, bob, .. } = self.parties;
        steps
            .run("repeat the first transfer with its key", "same operation, replayed", async {
                let repeat = || async {
                    let request = keyed(self.transfer_order(alice, bob, 100), "to-bob");
                    let answer = self.assets().transfer(request).await?;
                    let replayed = answer.metadata().get("idempotency-replayed").is_some_and(|value| value == "true");
                    let operation = answer.into_inner().operation.context("the answer carries no operation")?;
                    anyhow::Ok((operation.operation_id, replayed))
                };
                let ((first, replayed), (second, again)) = (repeat().await?, repeat().await?);
                let same = first == second && replayed && again;
                Ok(Outcome::said(if same { "same operation, replayed" } else { "another operation" }))
            })
            .await;
        steps
            .run("reuse the key for another amount", "refused IDEMPOTENCY_KEY_REUSED", async {
                let request = keyed(self.transfer_order(alice, bob, 99), "to-bob");
                Ok(match self.assets().transfer(request).await {
                    Ok(_) => Outcome::said("accepted"),
                    Err(status) => Outcome::said(format!("refused {}", reason(&status))),
                })
            })
            .await;
    }

    /// The holder list once a block is indexed, which takes a moment.
    async fn holders_at(&self, block: u64) -> anyhow::Result<ListHoldersResponse> {
        let begun = Instant::now();
        loop {
            let request = ListHoldersRequest { asset: self.token.clone(), ..Default::default() };
            let answer = HolderServiceClient::new(self.client.gateway()).list_holders(request).await?.into_inner();
            if answer.block_number >= block {
                return Ok(answer);
            }
            ensure!(begun.elapsed() < INDEX_PATIENCE, "block {block} is not indexed, {} is", answer.block_number);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn accounts(&self, steps: &mut Steps) {
        steps
            .run("holder list equals the chain's balances", "alice 0, alice's new wallet 940, bob 60; equal", async {
                let answer = self.holders_at(self.chain.height().await?).await?;
                let token: Address = self.token.parse()?;
                let mut words = Vec::new();
                for (name, wallet) in [
                    ("alice", &self.parties.alice),
                    ("alice's new wallet", &self.parties.alice_new),
                    ("bob", &self.parties.bob),
                ] {
                    let listed = answer
                        .holders
                        .iter()
                        .find(|holder| holder.holder == wallet.text)
                        .map_or("0", |holder| holder.balance.as_str());
                    let on_chain = self.chain.balance(token, wallet.address).await?;
                    ensure!(listed == on_chain.to_string(), "{name}: listed {listed}, on chain {on_chain}");
                    words.push(format!("{name} {listed}"));
                }
                let total: U256 = answer.holders.iter().filter_map(|holder| holder.balance.parse::<U256>().ok()).sum();
                ensure!(total == U256::from(1000), "the list sums to {total}, 1000 were minted");
                Ok(Outcome::said(format!("{}; equal", words.join(", "))))
            })
            .await;
    }
}
