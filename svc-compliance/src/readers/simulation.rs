//! What the token, the identity registry and each rule would say of a movement, all of it, at one block.

use super::{
    ChainReader, ReadError, bounded,
    claim_findings::{self, ClaimFinding, Claims, Group},
    figures,
    rules::rule_name,
};
use crate::{
    domain::{
        advice::{Figures, Veto, veto},
        compliance::{Movement, RULE_FAILED},
    },
    store::systems::SystemAddresses,
};
use alloy::primitives::{Address, B256, U256};
use dalp_chain::BlockId;
use dalp_contracts::{
    bindings::{AssetToken, ClaimRule, CountryRule, IdentityRegistry, RegistryAdministration, TokenCompliance},
    decode_revert,
    revert::reason_text,
};
use dalp_service::{Reason, Refusal};
use futures::try_join;
use std::collections::HashMap;

/// The largest supply: the token keeps balances in 112 bits.
const MAX_SUPPLY: U256 = U256::from_limbs([u64::MAX, (1 << 48) - 1, 0, 0]);
/// Bits of `Hooks` that make a module a judge: of every movement, of mints only.
const HOOK_CHECK: u8 = 1;
const HOOK_CHECK_MINT: u8 = 16;
/// Sides of `ClaimRule`.
const SIDE_RECIPIENT: u8 = 1;
const SIDE_SENDER: u8 = 2;

/// A whole evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// Whether the movement would pass.
    pub allowed: bool,
    /// Every check.
    pub verdicts: Vec<VerdictView>,
    /// The block it holds for.
    pub block_number: u64,
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictView {
    /// Its name.
    pub check: String,
    /// The contract that judges.
    pub module: Address,
    /// Why it refuses.
    pub veto: Option<Veto>,
    /// Told for information only.
    pub advisory: bool,
    /// What was judged.
    pub figures: Figures,
    /// What is found of claims.
    pub claims: Vec<ClaimFinding>,
}

/// Where and when the questions are asked.
pub(super) struct Scene<'a> {
    pub(super) chain: &'a ChainReader,
    pub(super) system: &'a SystemAddresses,
    pub(super) movement: Movement,
    pub(super) compliance: Address,
    pub(super) block: BlockId,
    /// Names of the tenant's topics.
    pub(super) topics: &'a HashMap<U256, String>,
}

/// Evaluates a movement at the latest block.
pub async fn simulate(
    chain: &ChainReader,
    system: &SystemAddresses,
    movement: Movement,
    topics: &HashMap<U256, String>,
) -> Result<Simulation, Refusal> {
    let head = chain.latest().await?;
    let block = head.id();
    let compliance = chain.read_at(movement.asset, AssetToken::complianceCall {}, block).await?;
    let scene = Scene { chain, system, movement, compliance, block, topics };
    let mut verdicts = scene.state().await?;
    if let Some(to) = movement.to {
        verdicts.push(scene.recipient_identity(to).await?);
        if !movement.forced {
            if let Some(from) = movement.from {
                verdicts.push(scene.sender_identity(from).await?);
            }
            verdicts.extend(scene.rules().await?);
        }
    }
    let allowed = scene.allowed(&mut verdicts).await?;
    Ok(Simulation { allowed, verdicts, block_number: head.number })
}

// === impl Scene ===

impl Scene<'_> {
    /// The token's own checks, each by itself.
    async fn state(&self) -> Result<Vec<VerdictView>, Refusal> {
        let Movement { asset, from, to, amount, forced } = self.movement;
        let mut figures = Figures::from([("needed".to_owned(), amount.to_string())]);
        let mut checks: Vec<(&str, Option<&str>)> = Vec::new();
        let refuses = |refused: bool, reason: &'static str| refused.then_some(reason);
        let judged_as_transfer = from.is_some() && to.is_some() && !forced;
        if judged_as_transfer {
            let paused = self.chain.read_at(asset, AssetToken::pausedCall {}, self.block).await?;
            checks.push(("paused", refuses(paused, "TOKEN_PAUSED")));
        }
        if let Some(to) = to
            && !forced
        {
            let frozen = self.chain.read_at(asset, AssetToken::isFrozenCall { account: to }, self.block).await?;
            checks.push(("recipient_freeze", refuses(frozen, "RECIPIENT_FROZEN")));
        }
        match from {
            None => {
                let supply = self.chain.read_at(asset, AssetToken::totalSupplyCall {}, self.block).await?;
                figures.insert("supply".into(), supply.to_string());
                figures.insert("limit".into(), MAX_SUPPLY.to_string());
                checks.push(("supply", refuses(amount > MAX_SUPPLY.saturating_sub(supply), "SUPPLY_TOO_LARGE")));
            }
            Some(account) => {
                let (balance, frozen, held, address_frozen) = try_join!(
                    self.chain.read_at(asset, AssetToken::balanceOfCall { account }, self.block),
                    self.chain.read_at(asset, AssetToken::getFrozenTokensCall { account }, self.block),
                    self.chain.read_at(asset, AssetToken::heldOfCall { account }, self.block),
                    self.chain.read_at(asset, AssetToken::isFrozenCall { account }, self.block),
                )?;
                let free = balance.saturating_sub(frozen).saturating_sub(held);
                for (name, figure) in [("balance", balance), ("frozen", frozen), ("held", held), ("free", free)] {
                    figures.insert(name.into(), figure.to_string());
                }
                checks.push(("balance", refuses(balance < amount, "BALANCE_TOO_LOW")));
                let lacks = |reachable: U256, locked: U256| reachable < amount && !locked.is_zero();
                if judged_as_transfer {
                    checks.insert(1, ("sender_freeze", refuses(address_frozen, "SENDER_FROZEN")));
                    checks.push(("free_balance", refuses(lacks(free, frozen + held), "FREE_BALANCE_TOO_LOW")));
                } else if balance >= amount && !(forced && from == to) {
                    // Burns and forced transfers take frozen tokens, never held ones.
                    checks.push(("held", refuses(lacks(balance.saturating_sub(held), held), "BALANCE_HELD")));
                }
            }
        }
        let verdicts = checks.into_iter().map(|(check, reason)| VerdictView {
            check: check.to_owned(),
            module: asset,
            veto: reason.map(|reason| veto(reason, &figures)),
            advisory: false,
            figures: figures.clone(),
            claims: Vec::new(),
        });
        Ok(verdicts.collect())
    }

    /// What the registry says of the receiver: the one identity that the token asks for.
    async fn recipient_identity(&self, to: Address) -> Result<VerdictView, Refusal> {
        self.identity("identity", to, false).await
    }

    /// The same of the sender, who may leave whatever it says.
    async fn sender_identity(&self, from: Address) -> Result<VerdictView, Refusal> {
        self.identity("sender_identity", from, true).await
    }

    async fn identity(&self, check: &str, wallet: Address, advisory: bool) -> Result<VerdictView, Refusal> {
        let (registry, token) = (self.system.identity_registry, self.movement.asset);
        let (admission, policy, successor) = try_join!(
            self.chain.read_at(registry, IdentityRegistry::admissionCall { token, user: wallet }, self.block),
            self.chain.read_at(registry, RegistryAdministration::policyOfCall { token }, self.block),
            self.chain.read_at(registry, IdentityRegistry::successorCall { wallet }, self.block),
        )?;
        let mut figures = Figures::from([("wallet".to_owned(), wallet.to_checksum(None))]);
        if !admission.identityAddress.is_zero() {
            figures.insert("identity".into(), admission.identityAddress.to_checksum(None));
            figures.insert("country".into(), admission.country.to_string());
        }
        if admission.exempt {
            figures.insert("exempt".into(), "true".into());
        }
        if !successor.is_zero() {
            figures.insert("successor".into(), successor.to_checksum(None));
        }
        let groups: Vec<Group> =
            policy.into_iter().map(|group| Group { all_of: group.allOf, none_of: group.noneOf }).collect();
        let asked = Claims { wallet, identity: admission.identityAddress, groups: &groups };
        let claims = claim_findings::find(self, asked).await?;
        Ok(VerdictView {
            check: check.to_owned(),
            module: registry,
            veto: text_of(admission.reason).map(|reason| veto(&reason, &figures)),
            advisory,
            figures,
            claims,
        })
    }

    /// Every rule that judges movements, in the order they are asked.
    async fn rules(&self) -> Result<Vec<VerdictView>, Refusal> {
        let modules = self.chain.read_at(self.compliance, TokenCompliance::getModulesCall {}, self.block).await?;
        let question = self.question().await?;
        let verdicts = bounded(modules.into_iter().map(|module| self.rule(module, question.clone()))).await?;
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// The question that the token asks every rule alike, with what the registry says of the receiver.
    async fn question(&self) -> Result<CountryRule::checkCall, Refusal> {
        let Movement { asset: token, from, to, amount, .. } = self.movement;
        let (registry, to) = (self.system.identity_registry, to.unwrap_or_default());
        let admission = IdentityRegistry::admissionCall { token, user: to };
        let admission = self.chain.read_at(registry, admission, self.block).await?;
        let movement = CountryRule::Movement {
            token,
            registry,
            from: from.unwrap_or_default(),
            to,
            amount,
            identity: admission.identityAddress,
            country: admission.country,
            exempt: admission.exempt,
        };
        Ok(CountryRule::checkCall { movement })
    }

    async fn rule(&self, module: Address, asked: CountryRule::checkCall) -> Result<Option<VerdictView>, Refusal> {
        let judges = if self.movement.from.is_none() { HOOK_CHECK | HOOK_CHECK_MINT } else { HOOK_CHECK };
        let hooks = TokenCompliance::moduleHooksCall { module };
        if self.chain.read_at(self.compliance, hooks, self.block).await? & judges == 0 {
            return Ok(None);
        }
        let name = match rule_name(self.chain, module, self.block).await {
            Err(refusal) if refusal.reason() == Reason::ChainUnavailable => return Err(refusal),
            name => name.unwrap_or_else(|_| "Rule".to_owned()),
        };
        let mut figures = figures::of_rule(self, &name, module).await?;
        let reason = match self.chain.read_as(self.compliance, module, asked, self.block).await {
            Ok(reason) => text_of(reason),
            Err(ReadError::Chain(error)) => return Err(ReadError::Chain(error).into()),
            Err(error) => {
                figures.insert("failure".into(), failure(&error));
                Some(RULE_FAILED.to_owned())
            }
        };
        let claims = match name.as_str() {
            "ClaimRule" => self.claims_of_rule(module).await?,
            _ => Vec::new(),
        };
        let veto = reason.map(|reason| veto(&reason, &figures));
        Ok(Some(VerdictView { check: name, module, veto, advisory: false, figures, claims }))
    }

    async fn claims_of_rule(&self, module: Address) -> Result<Vec<ClaimFinding>, Refusal> {
        let asked = ClaimRule::paramsOfCall { compliance: self.compliance };
        let params = self.chain.read_at(module, asked, self.block).await?;
        let groups: Vec<Group> =
            params.anyOf.into_iter().map(|group| Group { all_of: group.allOf, none_of: group.noneOf }).collect();
        let mut findings = Vec::new();
        for (side, wallet) in [(SIDE_SENDER, self.movement.from), (SIDE_RECIPIENT, self.movement.to)] {
            if let Some(wallet) = wallet
                && params.sides & side != 0
            {
                let of = IdentityRegistry::identityCall { wallet };
                let identity = self.chain.read_at(self.system.identity_registry, of, self.block).await?;
                findings.extend(claim_findings::find(self, Claims { wallet, identity, groups: &groups }).await?);
            }
        }
        Ok(findings)
    }

    /// What the chain says as a whole. Should it refuse for a reason that no check above knows, that is told too.
    async fn allowed(&self, verdicts: &mut Vec<VerdictView>) -> Result<bool, Refusal> {
        let agreed = verdicts.iter().all(|verdict| verdict.advisory || verdict.veto.is_none());
        let Movement { asset, from, to, amount, forced } = self.movement;
        if forced {
            return Ok(agreed); // the chain has no pre-check of it: it asks just what was asked above
        }
        let preview = AssetToken::previewCall { from: from.unwrap_or_default(), to: to.unwrap_or_default(), amount };
        let (module, reason, mut figures) = match self.chain.read_at(asset, preview, self.block).await {
            Ok(answer) => (answer.module, text_of(answer.reason), Figures::new()),
            Err(ReadError::Chain(error)) => return Err(ReadError::Chain(error).into()),
            Err(error) => {
                let figures = Figures::from([("failure".to_owned(), failure(&error))]);
                (asset, Some(RULE_FAILED.to_owned()), figures)
            }
        };
        let Some(reason) = reason else { return Ok(true) };
        if agreed {
            figures.insert("needed".into(), amount.to_string());
            verdicts.push(VerdictView {
                check: "token".to_owned(),
                module,
                veto: Some(veto(&reason, &figures)),
                advisory: false,
                figures,
                claims: Vec::new(),
            });
        }
        Ok(false)
    }
}

fn failure(error: &ReadError) -> String {
    match error {
        ReadError::Reverted(data) => decode_revert(data).to_string(),
        error => error.to_string(),
    }
}

fn text_of(reason: B256) -> Option<String> {
    (!reason.is_zero()).then(|| reason_text(reason))
}
