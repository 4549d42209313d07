//! A push to a list of recipients, killed at every stage of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use dalp_devstack::scenario::Wallet;
use dalp_proto::distribution::{
    AirdropKind, AirdropProgress, GetAirdropEvidenceRequest, GetAirdropRequest, PushAirdropRequest, PushState,
};

use super::ground::{Ground, wait_for};
use super::stage::{Point, Stage, Subject};
use super::{Killed, Outcome};
use crate::airdrops::{Airdrops, Wanted, key};
use crate::waiting::repeated;

/// How long the last payments may take after the last kill, and how much longer for each recipient; a request is repeated as long.
const PATIENCE: Duration = Duration::from_secs(300);
const LONGER_FOR_EACH: Duration = Duration::from_millis(100);
const CREATE: &str = "airdrop.create";
const BATCH: &str = "airdrop.push_batch";
const PAID: &str = "SELECT count(*) FROM distribution.payouts WHERE airdrop = $1 AND kind = 'paid'";

/// Before the airdrop stands.
const CREATION: [Stage; 2] = [
    Stage::before(
        "the list is checked, nothing is accepted",
        ("engine.idempotency", "INSERT INTO engine.idempotency"),
        "NOT EXISTS (SELECT 1 FROM engine.operations WHERE kind = 'airdrop.create')",
    ),
    Stage::at("its creation is sent, in no block", Point::Sent { kind: CREATE }),
];

/// From the request to push to the end of the push.
const PUSH: [Stage; 17] = [
    Stage::before(
        "it is asked for, nothing is stored",
        ("distribution.pushes", "INSERT INTO pushes"),
        "NOT EXISTS (SELECT 1 FROM distribution.pushes WHERE airdrop = $1)",
    ),
    Stage::before(
        "begun, no batch is planned",
        ("distribution.batches", "INSERT INTO batches"),
        "EXISTS (SELECT 1 FROM distribution.pushes WHERE airdrop = $1 AND state = 'running')
         AND NOT EXISTS (SELECT 1 FROM distribution.batches WHERE airdrop = $1)",
    ),
    Stage::before(
        "a batch is planned, not accepted",
        ("engine.idempotency", "INSERT INTO engine.idempotency"),
        "EXISTS (SELECT 1 FROM distribution.batches b WHERE b.airdrop = $1 AND b.operation_id IS NULL
                 AND NOT EXISTS (SELECT 1 FROM engine.idempotency i WHERE i.key = format('push-%s-%s-%s', b.airdrop, b.push, b.batch)))",
    ),
    Stage::before(
        "a batch is accepted, its operation is not noted",
        ("distribution.batches", "UPDATE batches SET operation_id"),
        "EXISTS (SELECT 1 FROM distribution.batches b JOIN engine.idempotency i ON i.key = format('push-%s-%s-%s', b.airdrop, b.push, b.batch)
                 WHERE b.airdrop = $1 AND b.operation_id IS NULL)",
    ),
    Stage::before(
        "a batch has no nonce yet",
        ("engine.nonces", "INSERT INTO engine.nonces"),
        "EXISTS (SELECT 1 FROM engine.transactions t JOIN engine.operations o USING (tenant, operation_id)
                 WHERE o.kind = 'airdrop.push_batch' AND o.state = 'RUNNING' AND t.nonce IS NULL)",
    ),
    Stage::at("a batch waits for its signature", Point::Signing { kind: BATCH }),
    Stage::at("a batch is signed, the signature is not stored", Point::Signed { kind: BATCH }),
    Stage::at("a batch is sent, in no block", Point::Sent { kind: BATCH }),
    Stage::at("a batch is in a block, which is not noted", Point::Included { kind: BATCH }),
    Stage::before(
        "a batch is in a block, which is not indexed",
        ("distribution.payouts", "INSERT INTO payouts"),
        "(SELECT count(*) FROM distribution.payouts WHERE airdrop = $1 AND kind = 'paid') < $2",
    ),
    Stage::before(
        "a batch is final, not settled",
        ("distribution.batches", "UPDATE batches SET settled"),
        "EXISTS (SELECT 1 FROM distribution.batches b JOIN engine.operations o USING (operation_id)
                 WHERE b.airdrop = $1 AND NOT b.settled AND o.state = 'COMPLETED')",
    ),
    Stage::at("a quarter is paid", Point::Paid { quarters: 1 }),
    Stage::at("half is paid", Point::Paid { quarters: 2 }),
    Stage::at("three quarters are paid", Point::Paid { quarters: 3 }),
    Stage::once(
        "everybody stands in a batch",
        "EXISTS (SELECT 1 FROM distribution.pushes WHERE airdrop = $1 AND state = 'running' AND next_place >= $2)",
    ),
    Stage::before(
        "all batches are settled, the push is not ended",
        ("distribution.pushes", "UPDATE pushes SET state"),
        "EXISTS (SELECT 1 FROM distribution.pushes WHERE airdrop = $1 AND state = 'running' AND next_place >= $2)
         AND NOT EXISTS (SELECT 1 FROM distribution.batches WHERE airdrop = $1 AND NOT settled)",
    ),
    Stage::once("it is done", "EXISTS (SELECT 1 FROM distribution.pushes WHERE airdrop = $1 AND state = 'done')"),
];

/// Pays each of some verified wallets its number, from one, in base units of the bond.
///
/// # Errors
/// When a stage is not reached, or the platform refuses what it should not.
pub async fn push(ground: &mut Ground, name: &'static str, wallets: &[Wallet]) -> anyhow::Result<Outcome> {
    let due: Vec<(Wallet, u64)> = wallets.iter().cloned().zip(1..).collect();
    let rows: Vec<(String, u64)> = due.iter().map(|(wallet, amount)| (wallet.text.clone(), *amount)).collect();
    let total: u64 = rows.iter().map(|(_, amount)| amount).sum();
    let begun = Instant::now();
    ground.progress.begin(name, CREATION.len() + PUSH.len());
    let mut subject = Subject { contract: String::new(), recipients: wallets.len(), paid: PAID };
    let (airdrop, mut kills) = create(ground, &rows, total, &subject).await?;
    subject.contract = airdrop.to_lowercase();
    kills.extend(pay(ground, &airdrop, &subject).await?);
    let mut outcome = Outcome::of(name, wallets.len(), begun, kills);
    ground.progress.tell("balances are counted on chain");
    ground.count(&mut outcome, ground.load.token, (airdrop.parse()?, total), &due).await?;
    outcome.deviations.extend(deviations(ground, &airdrop, wallets.len(), total).await?);
    Ok(outcome)
}

/// Has the airdrop created under kills, and funds it.
async fn create(
    ground: &mut Ground,
    rows: &[(String, u64)],
    total: u64,
    subject: &Subject,
) -> anyhow::Result<(String, Vec<Killed>)> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let wanted = Wanted::of(AirdropKind::Push, rows, now_s);
    let patience = patience(subject);
    let (client, load) = (ground.client.clone(), ground.load.clone());
    let upload = async move {
        let (airdrops, key) = (Airdrops { client: &client, load: &load }, key());
        repeated(patience, || airdrops.upload(&wanted, &key)).await
    };
    let (created, kills) = ground.under_kills(&CREATION, subject, upload).await.context("the list")?;
    let airdrops = Airdrops { client: &ground.client, load: &ground.load };
    airdrops.completed(created.operation).await?;
    airdrops.make_ready(&created.airdrop, total).await?;
    Ok((created.airdrop, kills))
}

/// Has it pushed under kills, until everybody is paid.
async fn pay(ground: &mut Ground, airdrop: &str, subject: &Subject) -> anyhow::Result<Vec<Killed>> {
    let (client, load, patience) = (ground.client.clone(), ground.load.clone(), patience(subject));
    let push = PushAirdropRequest { sender: load.issuer.text.clone(), airdrop: airdrop.to_owned() };
    let call = async move {
        let service = Airdrops { client: &client, load: &load }.service();
        let ask = || {
            let (mut service, push) = (service.clone(), push.clone());
            async move { service.push_airdrop(push).await }
        };
        repeated(patience, ask).await
    };
    let (_, kills) = ground.under_kills(&PUSH, subject, call).await.context("the push")?;
    wait_for("everybody is paid", patience, async || {
        let now = progress(ground, airdrop).await?;
        ensure!(now.skipped == 0 && now.push_error.is_empty(), "the push does not pay: {now:?}");
        Ok(now.push_state() == PushState::Done && now.left == 0)
    })
    .await?;
    Ok(kills)
}

fn patience(subject: &Subject) -> Duration {
    PATIENCE + LONGER_FOR_EACH * u32::try_from(subject.recipients).unwrap_or(u32::MAX)
}

async fn progress(ground: &Ground, airdrop: &str) -> anyhow::Result<AirdropProgress> {
    let airdrops = Airdrops { client: &ground.client, load: &ground.load };
    let asked = GetAirdropRequest { airdrop: airdrop.to_owned() };
    let answer = airdrops.service().get_airdrop(asked).await?.into_inner();
    answer.airdrop.and_then(|airdrop| airdrop.progress).context("the answer carries no progress")
}

/// What the record of the airdrop tells otherwise than the list.
async fn deviations(ground: &Ground, airdrop: &str, recipients: usize, total: u64) -> anyhow::Result<Vec<String>> {
    let airdrops = Airdrops { client: &ground.client, load: &ground.load };
    let asked = GetAirdropEvidenceRequest { airdrop: airdrop.to_owned() };
    let record = airdrops.service().get_airdrop_evidence(asked).await?.into_inner();
    let paid: u32 = record.transactions.iter().map(|one| one.paid).sum();
    let told = [
        ("paid_amount", record.paid_amount, total.to_string()),
        ("unpaid_amount", record.unpaid_amount, "0".to_owned()),
        ("paid by transactions", paid.to_string(), recipients.to_string()),
    ];
    Ok(told
        .into_iter()
        .filter(|(_, told, due)| told != due)
        .map(|(what, told, due)| format!("{what} {told}, not {due}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::stage::tests::each_is_a_point_of_its_own;

    #[test]
    fn no_two_stages_are_one() {
        each_is_a_point_of_its_own(&CREATION);
        each_is_a_point_of_its_own(&PUSH);
    }
}
