//! Airdrops: a list as long as any checked and bound, and 10,000 recipients paid.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, keccak256};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use anyhow::{Context as _, ensure};
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::distribution::{AirdropKind, GetAirdropEvidenceRequest, GetAirdropRequest, PushAirdropRequest};
use svc_distribution::airdrop::list::{Announced, Format, ListReader, MAX_RECIPIENTS};
use svc_distribution::airdrop::tree::Parts;

use super::cpu;
use crate::airdrops::{Airdrops, Wanted};
use crate::drill::verify;
use crate::load::Load;

const PUSHED: usize = 10_000;
/// How long a push may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pure core, then a push on a running stack.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = longest_list()?;
    figures.extend(push().await?);
    Ok(figures)
}

fn wallet(number: usize) -> Wallet {
    let address = Address::from_word(keccak256(format!("airdrop-{number}")));
    Wallet { text: address.to_checksum(None), address }
}

/// A million lines read and hashed, roots and digest made; and one line more, refused.
fn longest_list() -> anyhow::Result<Vec<Figure>> {
    let most = MAX_RECIPIENTS as usize;
    let line = |number: usize| format!("{},{}.5\n", wallet(number).text, number + 1);
    let text: String = (0..most).map(line).collect();
    let own = std::process::id();
    let before = cpu::resident_mib(own).context("this process is not measured")?;
    let begun = Instant::now();
    let mut reader = ListReader::new(Format::Csv, 18);
    for piece in text.as_bytes().chunks(64 * 1024) {
        reader.push(piece)?;
    }
    let list = reader.finish(Announced(Some(u64::from(MAX_RECIPIENTS))), false)?;
    let read_s = begun.elapsed().as_secs_f64();
    let (parts, digest) = (Parts::claimed(list.rows.len()), list.digest());
    let roots = parts.roots(&list.rows);
    let took_s = begun.elapsed().as_secs_f64();
    let mib = cpu::resident_mib(own).context("this process is not measured")? - before;
    ensure!(roots.len() <= 256 && !digest.is_zero(), "{} roots", roots.len());
    let mut reader = ListReader::new(Format::Csv, 18);
    reader.push(text.as_bytes())?;
    ensure!(reader.push(line(most).as_bytes()).is_err(), "one recipient too many was taken");
    let note =
        format!("1,000,000 lines checked (in {read_s:.1} s), digest and {} trees made, on one core", roots.len());
    Ok(vec![
        Figure::of("airdrop.tree1m_s", "s", vec![took_s], Some(30.0), &note),
        Figure::of("airdrop.tree1m_mib", "MiB", vec![mib], Some(1_024.0), "more resident memory after than before"),
    ])
}

async fn push() -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let client = stack.client()?;
    let load = Load::prepare(&client, &ChainView::new(stack.chain_url())?, 0, "local").await?;
    let wallets: Vec<Wallet> = (0..PUSHED).map(wallet).collect();
    verify(&stack, &load, &wallets).await?;
    let rows: Vec<(String, u64)> = wallets.iter().map(|wallet| (wallet.text.clone(), 7)).collect();
    let airdrops = Airdrops { client: &client, load: &load };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let begun = Instant::now();
    let airdrop = airdrops.create(&Wanted::of(AirdropKind::Push, &rows, now_s), 7 * PUSHED as u64).await?;
    let created_s = begun.elapsed().as_secs_f64();
    let push = PushAirdropRequest { sender: load.issuer.text.clone(), airdrop: airdrop.clone() };
    let begun = Instant::now();
    airdrops.service().push_airdrop(push).await?;
    let mut looks = tokio::time::interval(Duration::from_millis(200));
    loop {
        looks.tick().await;
        let asked = GetAirdropRequest { airdrop: airdrop.clone() };
        let answer = airdrops.service().get_airdrop(asked).await?.into_inner();
        let now = answer.airdrop.and_then(|airdrop| airdrop.progress).context("the answer carries no progress")?;
        if now.paid as usize == PUSHED {
            break;
        }
        ensure!(now.skipped == 0 && now.push_error.is_empty(), "the push does not pay: {now:?}");
        ensure!(begun.elapsed() < PATIENCE, "the push is stuck: {now:?}");
    }
    let took_s = begun.elapsed().as_secs_f64();
    let gas = gas_of(&stack, &airdrops, &airdrop).await?;
    let note = "PushAirdrop to the last of 10,000 recipients paid and indexed; blocks of a second";
    let of_gas = "gas of all batches over 10,000 new holders of an asset of ours; of a plain token the contract's snapshot has 32,393 (budget 38,000), the rest is what the asset checks";
    let created = "the list sent, its identities looked up, the airdrop created, admitted and funded";
    Ok(vec![
        Figure::of("airdrop.create10k_s", "s", vec![created_s], None, created),
        Figure::of("airdrop.10k_s", "s", vec![took_s], Some(180.0), note),
        Figure::of("airdrop.gas_per_holder", "gas", vec![gas], None, of_gas),
    ])
}

/// Gas of the transactions that an airdrop's record names, for each recipient.
async fn gas_of(stack: &Stack, airdrops: &Airdrops<'_>, airdrop: &str) -> anyhow::Result<f64> {
    let asked = GetAirdropEvidenceRequest { airdrop: airdrop.to_owned() };
    let record = airdrops.service().get_airdrop_evidence(asked).await?.into_inner();
    let node: RootProvider = ProviderBuilder::default().connect_http(stack.chain_url().parse()?);
    let mut gas = 0;
    for one in &record.transactions {
        let receipt = node.get_transaction_receipt(one.tx_hash.parse()?).await?;
        gas += receipt.context("a transaction of the record is in no block")?.gas_used;
    }
    Ok(f64::from(u32::try_from(gas / PUSHED as u64)?))
}
