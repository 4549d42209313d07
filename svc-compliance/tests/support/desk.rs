//! A desk that watches one asset: what SimulateTransfer says of movements, what the chain says, and whether they pass.

use super::{Stack, text};
use alloy::primitives::{Address, Bytes, U256};
use dalp_chain::BlockNumberOrTag;
use dalp_contracts::bindings::{AssetToken, TokenCompliance};
use dalp_proto::{
    asset::AssetRole,
    compliance::{Cure, SimulateTransferRequest, SimulateTransferResponse, Verdict},
    identity,
    system::{self, SystemRole},
};

/// An open bond, whoever runs it, and two holders with keys of their own.
pub struct Desk {
    pub stack: Stack,
    pub admin: Address,
    pub treasurer: Address,
    pub token: Address,
    pub compliance: Address,
    /// Governance, supply, custodian and identity manager in one.
    pub officer: Address,
    pub sender: Address,
    pub receiver: Address,
}

impl Desk {
    /// The sender has 100.
    pub async fn open() -> Self {
        let stack = Stack::start(2).await;
        let [admin, treasurer] = stack.wallets[..] else { panic!("two wallets") };
        let token = stack.bond().await;
        let [officer, sender, receiver] =
            [stack.outsider(0xe1).await, stack.outsider(0xe2).await, stack.outsider(0xe3).await];
        for holder in [sender, receiver] {
            stack.verify(admin, holder).await;
        }
        stack.transfer(token, treasurer, sender, 100).await;
        stack.grant(token, officer, &[AssetRole::Governance, AssetRole::Supply, AssetRole::Custodian]).await;
        let manager = system::GrantRoleRequest {
            sender: text(admin),
            account: text(officer),
            role: SystemRole::IdentityManager.into(),
        };
        stack.done(stack.systems().grant_role(stack.fresh(manager)).await.unwrap().into_inner().operation).await;
        let compliance = stack.read(token, AssetToken::complianceCall {}).await;
        Self { stack, admin, treasurer, token, compliance, officer, sender, receiver }
    }

    pub async fn simulate(&self, from: Option<Address>, to: Option<Address>, amount: u64) -> SimulateTransferResponse {
        self.judge(self.token, from, to, amount, false).await
    }

    pub async fn judge(
        &self,
        asset: Address,
        from: Option<Address>,
        to: Option<Address>,
        amount: u64,
        forced: bool,
    ) -> SimulateTransferResponse {
        let side = |account: Option<Address>| account.map(text).unwrap_or_default();
        let request = SimulateTransferRequest {
            asset: text(asset),
            from: side(from),
            to: side(to),
            amount: amount.to_string(),
            forced,
        };
        let answer = self.stack.rules().simulate_transfer(self.stack.fresh(request)).await.unwrap().into_inner();
        let agreed = answer.verdicts.iter().all(|verdict| verdict.passed || verdict.advisory);
        assert_eq!(answer.allowed, agreed, "{answer:#?}");
        answer
    }

    /// One check refuses, the chain refuses the same way, and the verdict carries these numbers.
    pub async fn vetoed(
        &self,
        from: Option<Address>,
        to: Address,
        amount: u64,
        (check, reason, cure): (&str, &str, Cure),
        figures: &[(&str, String)],
    ) {
        let answer = self.simulate(from, Some(to), amount).await;
        let vetoes: Vec<&Verdict> = answer.verdicts.iter().filter(|one| !one.passed && !one.advisory).collect();
        let [veto] = vetoes[..] else { panic!("one veto, not {vetoes:#?}") };
        assert_eq!((veto.check.as_str(), veto.reason.as_str(), veto.cure()), (check, reason, cure), "{veto:#?}");
        for (name, value) in figures {
            assert_eq!(veto.figures.get(*name).map(String::as_str), Some(value.as_str()), "{name} of {veto:#?}");
        }
        assert!(
            !veto.module.is_empty() && (figures.is_empty() || veto.advice.ends_with(')')),
            "numbers: {}",
            veto.advice
        );
        let refused = match from {
            Some(from) => {
                let call = AssetToken::transferCall { to, amount: U256::from(amount) };
                self.stack.refused(from, self.token, &call).await
            }
            None => {
                let call = AssetToken::mintCall { to, amount: U256::from(amount) };
                self.stack.refused(self.officer, self.token, &call).await
            }
        };
        assert_eq!(refused.and_then(|refused| refused.reason).as_deref(), Some(reason));
    }

    /// Nothing refuses, and the movement takes place.
    pub async fn passes(&self, from: Option<Address>, to: Address, amount: u64) {
        let answer = self.simulate(from, Some(to), amount).await;
        assert!(answer.allowed, "{answer:#?}");
        let amount = U256::from(amount);
        match from {
            Some(from) => self.stack.send(from, self.token, &AssetToken::transferCall { to, amount }).await,
            None => self.stack.send(self.officer, self.token, &AssetToken::mintCall { to, amount }).await,
        };
    }

    pub async fn bind(&self, module: Address, params: Bytes) {
        self.stack.send(self.officer, self.compliance, &TokenCompliance::addModuleCall { module, params }).await;
    }

    pub async fn set_params(&self, module: Address, params: Bytes) {
        self.stack.send(self.officer, self.compliance, &TokenCompliance::setModuleParamsCall { module, params }).await;
    }

    pub async fn unbind(&self, module: Address) {
        self.stack.send(self.officer, self.compliance, &TokenCompliance::removeModuleCall { module }).await;
    }

    /// Unix seconds of the newest block.
    pub async fn now(&self) -> u64 {
        self.stack.upstreams.block(BlockNumberOrTag::Latest).await.unwrap().unwrap().timestamp_s
    }

    /// Topics with their schemas, and who is trusted for them.
    pub async fn topics(&self, topics: &[(&str, &str)], issuer: Address) {
        let stack = &self.stack;
        for (name, signature) in topics {
            let register = identity::RegisterTopicRequest {
                sender: text(self.admin),
                name: (*name).into(),
                signature: (*signature).into(),
            };
            stack
                .done(stack.identities().register_topic(stack.fresh(register)).await.unwrap().into_inner().operation)
                .await;
        }
        let trust = identity::AddTrustedIssuerRequest {
            sender: text(self.admin),
            issuer: text(issuer),
            topics: topics.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        stack
            .done(stack.identities().add_trusted_issuer(stack.fresh(trust)).await.unwrap().into_inner().operation)
            .await;
    }

    pub async fn attest(&self, issuer: Address, subject: Address, topic: &str) {
        let claim = identity::IssueClaimRequest {
            issuer: text(issuer),
            subject: text(subject),
            topic: topic.into(),
            data: "0x01".into(),
            expires_at: 0,
        };
        let stack = &self.stack;
        stack.done(stack.identities().issue_claim(stack.fresh(claim)).await.unwrap().into_inner().operation).await;
    }
}

pub fn verdict<'a>(answer: &'a SimulateTransferResponse, check: &str) -> &'a Verdict {
    answer.verdicts.iter().find(|one| one.check == check).unwrap_or_else(|| panic!("no {check} in {answer:#?}"))
}

/// The checks that refuse, with their reasons.
pub fn vetoes(answer: &SimulateTransferResponse) -> Vec<(&str, &str)> {
    let refusing = answer.verdicts.iter().filter(|one| !one.passed && !one.advisory);
    refusing.map(|one| (one.check.as_str(), one.reason.as_str())).collect()
}
