//! The numbers by which each rule judges: its limits and what counts against them now.

use super::{ReadError, claim_findings::name_of, simulation::Scene};
use crate::domain::{advice::Figures, claim::payload_of};
use alloy::primitives::{Address, U256};
use dalp_contracts::{
    bindings::{
        ApprovalRule, AssetToken, CollateralRule, CountryRule, HolderLimitRule, HoldingPeriodRule, Identity,
        IdentityRegistry, IssuanceRule, IssuerSignedScalarFeed, TransactionFee, TransferLimitRule,
    },
    encode::claim_id,
};
use dalp_service::Refusal;
use futures::try_join;

/// What a collateral of 10,000 basis points means: one to one.
const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);
/// One with the 18 decimals of fiat.
const ONE: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
/// Kinds of `IssuanceLimit`.
const KIND_LIFETIME: u8 = 3;
const KIND_SUPPLY: u8 = 4;

/// What is known of a rule; empty for rules that judge without numbers. A rule that does not tell its numbers is judged without.
pub(super) async fn of_rule(scene: &Scene<'_>, name: &str, module: Address) -> Result<Figures, Refusal> {
    let told = match name {
        "CountryRule" => country(scene, module).await,
        "ListRule" => listed(scene).await,
        "HolderLimitRule" => holders(scene, module).await,
        "IssuanceRule" => issuance(scene, module).await,
        "HoldingPeriodRule" => holding_period(scene, module).await,
        "ApprovalRule" => approval(scene, module).await,
        "TransferLimitRule" => transfer_limit(scene, module).await,
        "CollateralRule" => collateral(scene, module).await,
        "TransactionFee" => fee(scene, module).await,
        _ => Ok(Vec::new()),
    };
    let mut figures = Figures::from([("needed".to_owned(), scene.movement.amount.to_string())]);
    match told {
        Ok(told) => figures.extend(told.into_iter().map(|(name, value)| (name.to_owned(), value))),
        Err(error) if error.is_unavailable() => return Err(error.into()),
        Err(error) => tracing::debug!(%module, name, %error, "a rule does not tell its numbers"),
    }
    Ok(figures)
}

type Told = Result<Vec<(&'static str, String)>, ReadError>;

async fn country(scene: &Scene<'_>, module: Address) -> Told {
    let wallet = scene.movement.to.unwrap_or_default();
    let of = IdentityRegistry::investorCountryCall { wallet };
    let (country, params) = try_join!(
        scene.chain.read_at(scene.system.identity_registry, of, scene.block),
        scene.chain.read_at(module, CountryRule::paramsOfCall { compliance: scene.compliance }, scene.block),
    )?;
    Ok(vec![
        ("wallet", text(wallet)),
        ("country", country.to_string()),
        ("mode", if params.allow { "allow" } else { "block" }.to_owned()),
        ("countries", joined(params.countries)),
    ])
}

async fn listed(scene: &Scene<'_>) -> Told {
    let mut told = Vec::new();
    let sides =
        [("sender", "sender_identity", scene.movement.from), ("recipient", "recipient_identity", scene.movement.to)];
    for (side, of_identity, wallet) in sides {
        let Some(wallet) = wallet else { continue };
        let identity = identity_of(scene, wallet).await?;
        told.extend([(side, text(wallet)), (of_identity, text(identity))]);
    }
    Ok(told)
}

async fn holders(scene: &Scene<'_>, module: Address) -> Told {
    let (compliance, wallet) = (scene.compliance, scene.movement.to.unwrap_or_default());
    let of = IdentityRegistry::investorCountryCall { wallet };
    let country = scene.chain.read_at(scene.system.identity_registry, of, scene.block).await?;
    let (all, from_country) = try_join!(
        scene.chain.read_at(module, HolderLimitRule::holdersOfCall { compliance }, scene.block),
        scene.chain.read_at(module, HolderLimitRule::holdersOfCountryCall { compliance, country }, scene.block),
    )?;
    let mut told = vec![("holders", all.holders.to_string()), ("country", country.to_string())];
    if !all.max.is_zero() {
        told.push(("limit", all.max.to_string()));
    }
    if from_country.limited {
        told.push(("holders_of_country", from_country.holders.to_string()));
        told.push(("limit_of_country", from_country.max.to_string()));
    }
    Ok(told)
}

/// The limits of each kind; of two of a kind the last one is told.
async fn issuance(scene: &Scene<'_>, module: Address) -> Told {
    let asked = IssuanceRule::paramsOfCall { compliance: scene.compliance };
    let (params, supply) = try_join!(
        scene.chain.read_at(module, asked, scene.block),
        scene.chain.read_at(scene.movement.asset, AssetToken::totalSupplyCall {}, scene.block),
    )?;
    let mut told = vec![("supply", supply.to_string())];
    for (limit, issued) in params.limits.into_iter().zip(params.issued) {
        let max = limit.max.to_string();
        match limit.kind {
            KIND_SUPPLY => told.push(("supply_limit", max)),
            KIND_LIFETIME => told.extend([("lifetime_used", issued.to_string()), ("lifetime_limit", max)]),
            _ => told.extend([
                ("window_used", issued.to_string()),
                ("window_limit", max),
                ("window_s", limit.lengthSeconds.to_string()),
            ]),
        }
        if !limit.feed.is_zero() {
            told.extend([("feed", text(limit.feed)), ("max_age_s", limit.maxAgeSeconds.to_string())]);
        }
    }
    Ok(told)
}

async fn holding_period(scene: &Scene<'_>, module: Address) -> Told {
    let (compliance, wallet) = (scene.compliance, scene.movement.from.unwrap_or_default());
    let params = scene.chain.read_at(module, HoldingPeriodRule::paramsOfCall { compliance }, scene.block).await?;
    let mut told = vec![("days", params.periodDays.to_string())];
    if scene.movement.from.is_some() {
        let free =
            scene.chain.read_at(module, HoldingPeriodRule::freeOfCall { compliance, wallet }, scene.block).await?;
        told.push(("free", free.to_string()));
    }
    Ok(told)
}

async fn approval(scene: &Scene<'_>, module: Address) -> Told {
    let compliance = scene.compliance;
    let params = scene.chain.read_at(module, ApprovalRule::paramsOfCall { compliance }, scene.block).await?;
    let mut told = vec![("approvers", joined(params.approvers.into_iter().map(text)))];
    let (from, to) = (scene.movement.from.unwrap_or_default(), scene.movement.to.unwrap_or_default());
    for standing in [true, false] {
        let id = ApprovalRule::idOfCall { from, to, amount: scene.movement.amount, standing };
        let id = scene.chain.read_at(module, id, scene.block).await?;
        let of = ApprovalRule::approvalOfCall { compliance, id };
        let approval = scene.chain.read_at(module, of, scene.block).await?;
        if !approval.approver.is_zero() {
            told.extend([("approver", text(approval.approver)), ("expires_at", approval.expiresAt.to_string())]);
            if standing {
                told.push(("standing_limit", approval.max.to_string()));
            }
            break;
        }
    }
    Ok(told)
}

async fn transfer_limit(scene: &Scene<'_>, module: Address) -> Told {
    let compliance = scene.compliance;
    let params = scene.chain.read_at(module, TransferLimitRule::paramsOfCall { compliance }, scene.block).await?;
    let holder = match scene.movement.from {
        // Whom the rule counts: the person behind the wallet.
        Some(wallet) => {
            let of = IdentityRegistry::holderOfCall { wallet };
            scene.chain.read_at(scene.system.identity_registry, of, scene.block).await?.holder
        }
        None => Address::ZERO,
    };
    let volumes = TransferLimitRule::volumeOfCall { compliance, holder };
    let used = scene.chain.read_at(module, volumes, scene.block).await?;
    let mut told = Vec::new();
    if params.maxAmount != 0 {
        told.push(("limit", params.maxAmount.to_string()));
    }
    if params.perHolder.kind != 0 {
        told.extend([
            ("holder_used", used.ofHolder.to_string()),
            ("holder_limit", params.perHolder.max.to_string()),
            ("holder_window_s", params.perHolder.lengthSeconds.to_string()),
        ]);
    }
    if params.perToken.kind != 0 {
        told.extend([
            ("token_used", used.ofToken.to_string()),
            ("token_limit", params.perToken.max.to_string()),
            ("token_window_s", params.perToken.lengthSeconds.to_string()),
        ]);
    }
    Ok(told)
}

async fn collateral(scene: &Scene<'_>, module: Address) -> Told {
    let (asset, registry) = (scene.movement.asset, scene.system.identity_registry);
    let asked = CollateralRule::paramsOfCall { compliance: scene.compliance };
    let (params, supply, identity) = try_join!(
        scene.chain.read_at(module, asked, scene.block),
        scene.chain.read_at(asset, AssetToken::totalSupplyCall {}, scene.block),
        scene.chain.read_at(asset, AssetToken::onchainIDCall {}, scene.block),
    )?;
    let after = supply.saturating_add(scene.movement.amount);
    let mut told = vec![
        ("topic", name_of(scene, params.topic)),
        ("ratio_bps", params.ratioBps.to_string()),
        ("asset_identity", text(identity)),
    ];
    let backed = if params.feed.is_zero() {
        Some(after)
    } else {
        told.extend([("feed", text(params.feed)), ("max_age_s", params.maxAgeSeconds.to_string())]);
        worth(scene, params.feed, after).await?
    };
    if let Some(backed) = backed {
        let needed = backed.saturating_mul(U256::from(params.ratioBps)).div_ceil(BPS);
        told.push(("collateral_needed", needed.to_string()));
    }
    let live = IdentityRegistry::liveClaimIssuerCall { identityAddress: identity, topic: params.topic };
    let issuer = scene.chain.read_at(registry, live, scene.block).await?;
    if !issuer.is_zero() {
        let claim = Identity::getClaimCall { claimId: claim_id(issuer, params.topic) };
        let claim = scene.chain.read_at(identity, claim, scene.block).await?;
        if let Some(amount) = payload_of(&claim.data).get(..32) {
            told.push(("collateral", U256::from_be_slice(amount).to_string()));
        }
    }
    Ok(told)
}

/// What an amount of the asset is worth by a feed's answer, with 18 decimals, rounded up. `None`: the feed has no answer that says.
async fn worth(scene: &Scene<'_>, feed: Address, amount: U256) -> Result<Option<U256>, ReadError> {
    let read = try_join!(
        scene.chain.read_at(feed, IssuerSignedScalarFeed::latestRoundDataCall {}, scene.block),
        scene.chain.read_at(feed, IssuerSignedScalarFeed::decimalsCall {}, scene.block),
        scene.chain.read_at(scene.movement.asset, AssetToken::decimalsCall {}, scene.block),
    );
    let (round, places, decimals) = match read {
        Ok(read) => read,
        Err(error) if error.is_unavailable() => return Err(error),
        Err(_) => return Ok(None),
    };
    let unit = U256::from(10).checked_pow(U256::from(u16::from(places) + u16::from(decimals)));
    let answer = round._1;
    let (Some(unit), true) = (unit, answer.is_positive()) else { return Ok(None) };
    let value = amount.checked_mul(answer.into_raw()).and_then(|product| product.checked_mul(ONE));
    Ok(value.map(|value| value.div_ceil(unit)))
}

async fn fee(scene: &Scene<'_>, module: Address) -> Told {
    let asked = TransactionFee::paramsOfCall { compliance: scene.compliance };
    let fee = scene.chain.read_at(module, asked, scene.block).await?;
    Ok(vec![("bps", fee.bps.to_string()), ("collector", text(fee.collector))])
}

async fn identity_of(scene: &Scene<'_>, wallet: Address) -> Result<Address, ReadError> {
    scene.chain.read_at(scene.system.identity_registry, IdentityRegistry::identityCall { wallet }, scene.block).await
}

fn text(address: Address) -> String {
    address.to_checksum(None)
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}
