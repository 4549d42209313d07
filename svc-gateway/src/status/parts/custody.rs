//! Who holds the tenant's keys, and what waits there.

use std::collections::BTreeMap;

use dalp_proto::{
    operator::Lane,
    signer::{Key, ListKeysRequest, key_service_client::KeyServiceClient},
};
use tonic::Status;

use super::{
    Cell, Mark, Shown, Table, count,
    work::{busy_lanes, provider},
};
use crate::status::inside::Calls;

const KEYS: u32 = 500;
/// Pages of keys that are counted.
const PAGES: usize = 4;

/// What is known of a provider.
#[derive(Debug, Default, PartialEq, Eq)]
struct Provider {
    tiers: Vec<String>,
    keys: usize,
    disabled: usize,
    held: usize,
    longest: Option<i64>,
}

pub(super) async fn custody(calls: Calls) -> Result<Shown, Status> {
    let mut client = KeyServiceClient::new(calls.clone());
    let (mut keys, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        let request = ListKeysRequest { page_size: KEYS, page_token: token, ..ListKeysRequest::default() };
        let page = client.list_keys(request).await?.into_inner();
        keys.extend(page.keys);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let (lanes, _) = busy_lanes(&calls).await?;
    let rows = providers(&keys, &lanes).into_iter().map(|(name, one)| {
        let held = match one.held {
            0 => Cell::marked(Mark::Good, "nothing"),
            1 => Cell::marked(Mark::Warning, "1 lane"),
            held => Cell::marked(Mark::Warning, format!("{held} lanes")),
        };
        vec![
            Cell::text(name),
            Cell::text(one.tiers.join(", ")),
            count(one.keys, !token.is_empty()),
            Cell::text(one.disabled),
            held,
            one.longest.map_or_else(Cell::none, |at| Cell::At { at }),
        ]
    });
    Ok(Shown {
        alert: String::new(),
        tables: vec![Table {
            caption: "Who holds keys",
            columns: &["Provider", "Guard", "Keys", "Disabled", "Waits there", "Longest since"],
            rows: rows.collect(),
            empty: "The tenant has no keys.",
            note: if token.is_empty() { "" } else { "The oldest 2000 keys are counted." },
        }],
    })
}

fn providers(keys: &[Key], lanes: &[Lane]) -> BTreeMap<String, Provider> {
    let mut found: BTreeMap<String, Provider> = BTreeMap::new();
    for key in keys {
        let one = found.entry(key.provider.clone()).or_default();
        one.keys += 1;
        one.disabled += usize::from(key.disabled);
        if !one.tiers.contains(&key.tier) {
            one.tiers.push(key.tier.clone());
        }
    }
    for hold in lanes.iter().filter_map(|lane| lane.provider_hold.as_ref()) {
        let one = found.entry(provider(hold)).or_default();
        one.held += 1;
        let since = hold.since.as_ref().map(|at| at.seconds);
        one.longest = [one.longest, since].into_iter().flatten().min();
    }
    found
}

#[cfg(test)]
mod tests {
    use dalp_proto::{signer::KeyProvider, transaction::ProviderHold};
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_provider_has_its_keys_and_what_waits_there() {
        let key = |provider: &str, disabled| Key {
            provider: provider.to_owned(),
            tier: "hsm".to_owned(),
            disabled,
            ..Key::default()
        };
        let lane = |seconds| Lane {
            provider_hold: Some(ProviderHold {
                provider: KeyProvider::Dfns.into(),
                since: Some(Timestamp { seconds, nanos: 0 }),
                ..ProviderHold::default()
            }),
            ..Lane::default()
        };
        let keys = [key("dfns", false), key("pkcs11", true), key("dfns", true)];
        let found = providers(&keys, &[lane(9), Lane::default(), lane(4)]);
        let tiers = vec!["hsm".to_owned()];
        let dfns = Provider { tiers: tiers.clone(), keys: 2, disabled: 1, held: 2, longest: Some(4) };
        assert_eq!(found["dfns"], dfns);
        assert_eq!(found["pkcs11"], Provider { tiers, keys: 1, disabled: 1, ..Provider::default() });
    }
}
