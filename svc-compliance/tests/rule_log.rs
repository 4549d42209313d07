//! What rules keep and do not list, from the indexed log: who stands on lists, by pages and at a block, also across a reorg.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::Address;
use dalp_chain::{
    Upstreams,
    testing::{Reply, ScriptedNode, config},
};
use dalp_contracts::{
    bindings::{ListRule as ListContract, TokenCompliance},
    roles::names,
};
use dalp_proto::{
    asset::{
        AssetRole, CountryLimit, HolderLimitRule, ListEntry, ListRule, RuleBinding, Sides, rule_binding::Rule as Wire,
    },
    compliance::{self, ListListEntriesRequest, ListListEntriesResponse},
};
use dalp_service::stop::Stop;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::{Stack, eventually, refusal, text};
use svc_compliance::indexer;

/// As nodes of real chains do: logs of at most so many blocks at once.
const MOST_BLOCKS: u64 = 40;

struct Desk {
    stack: Stack,
    token: Address,
    admin: Address,
    module: Address,
}

impl Desk {
    async fn bind(&self, rule: Wire) {
        let request = compliance::AddRuleRequest {
            sender: text(self.admin),
            asset: text(self.token),
            rule: Some(RuleBinding { rule: Some(rule) }),
        };
        let added = self.stack.rules().add_rule(self.stack.fresh(request)).await.unwrap().into_inner();
        self.stack.done(added.operation).await;
    }

    async fn set(&self, entries: &[ListEntry]) {
        let request = compliance::SetListEntriesRequest {
            sender: text(self.admin),
            asset: text(self.token),
            entries: entries.to_vec(),
        };
        let set = self.stack.rules().set_list_entries(self.stack.fresh(request)).await.unwrap().into_inner();
        self.stack.done(set.operation).await;
    }

    async fn page(&self, block_number: u64, page_size: u32, page_token: &str) -> ListListEntriesResponse {
        let page_token = page_token.to_owned();
        let request = ListListEntriesRequest { asset: text(self.token), block_number, page_size, page_token };
        self.stack.rules().list_list_entries(self.stack.fresh(request)).await.unwrap().into_inner()
    }

    /// Waits until exactly these stand on lists, and says at which block.
    async fn stands(&self, what: &str, expected: &[ListEntry]) -> u64 {
        eventually(what, async || {
            let page = self.page(0, 0, "").await;
            (page.entries == expected).then_some(page.block_number)
        })
        .await
    }
}

fn entry(byte: u8, allowed: bool, blocked: bool) -> ListEntry {
    ListEntry { account: text(Address::repeat_byte(byte)), allowed, blocked }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_on_lists_is_told_by_pages_at_a_block() {
    let stack = Stack::start(2).await;
    let (admin, token) = (stack.wallets[0], stack.bond().await);
    let module = stack.contract(names::LIST_RULE).await;
    let desk = Desk { stack, token, admin, module };
    let stack = &desk.stack;
    let unbound = ListListEntriesRequest { asset: text(token), ..Default::default() };
    let status = stack.rules().list_list_entries(stack.fresh(unbound)).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "NOT_FOUND");

    // First entries and later ones, some of them twice; who is on no list any more is left out.
    let block = Sides::Both.into();
    let first = vec![entry(0x0a, false, true), entry(0x0b, true, false)];
    desk.bind(Wire::List(ListRule { allow: 0, block, entries: first.clone() })).await;
    let before = desk.stands("the first entries", &first).await;
    desk.set(&[entry(0x0c, true, true), entry(0x0b, false, false), entry(0x0d, false, true)]).await;
    let now = [entry(0x0a, false, true), entry(0x0c, true, true), entry(0x0d, false, true)];
    desk.stands("the later entries", &now).await;
    assert_eq!(desk.page(before, 0, "").await.entries, first, "as it was");

    // Pages hold for one block, whatever is written in between.
    let page = desk.page(0, 2, "").await;
    assert_eq!((page.entries.as_slice(), page.next_page_token.is_empty()), (&now[..2], false));
    desk.set(&[entry(0x0d, false, false), entry(0x0e, false, true)]).await;
    let later = [now[0].clone(), now[1].clone(), entry(0x0e, false, true)];
    desk.stands("what was written in between", &later).await;
    let last = desk.page(0, 2, &page.next_page_token).await;
    assert_eq!((last.entries.as_slice(), last.block_number), (&now[2..], page.block_number));
    assert_eq!(last.next_page_token, "");
    let bad = ListListEntriesRequest { asset: text(token), page_token: "mine".into(), ..Default::default() };
    let status = stack.rules().list_list_entries(stack.fresh(bad)).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "PAGE_TOKEN_INVALID");
    let future = ListListEntriesRequest { asset: text(token), block_number: 1 << 40, ..Default::default() };
    let status = stack.rules().list_list_entries(stack.fresh(future)).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "BLOCK_NOT_INDEXED");

    // What somebody else tells the same rule, in his own name, is none of ours.
    let stranger = stack.outsider(0xe7).await;
    let params = dalp_contracts::encode::list_rule_params(None, Some(dalp_contracts::encode::Sides::Both), vec![]);
    stack.send(stranger, module, &ListContract::setParamsCall { params }).await;
    let entries = vec![ListContract::ListEntry { account: Address::repeat_byte(0x0f), lists: 2 }];
    stack.send(stranger, module, &ListContract::setEntriesCall { entries }).await;
    desk.stands("nothing of the stranger", &later).await;

    // A reorg takes entries back.
    let officer = stack.outsider(0xe8).await;
    stack.grant(token, officer, &[AssetRole::Governance]).await;
    let compliance = stack.read(token, dalp_contracts::bindings::AssetToken::complianceCall {}).await;
    let snapshot = stack.node("evm_snapshot", json!([])).await;
    let entries = vec![ListContract::ListEntry { account: Address::repeat_byte(0x1a), lists: 2 }];
    let data = alloy::sol_types::SolCall::abi_encode(&ListContract::setEntriesCall { entries }).into();
    stack.send(officer, compliance, &TokenCompliance::callModuleCall { module: desk.module, data }).await;
    let with: Vec<ListEntry> = later.iter().cloned().chain([entry(0x1a, false, true)]).collect();
    desk.stands("an entry", &with).await;
    assert_eq!(stack.node("evm_revert", json!([snapshot])).await, json!(true));
    stack.node("evm_increaseTime", json!([60])).await;
    stack.node("anvil_mine", json!([3])).await;
    desk.stands("the entry taken back", &later).await;

    // Unbound and bound again: from nothing.
    let remove = compliance::RemoveRuleRequest { sender: text(admin), asset: text(token), module: text(desk.module) };
    let removed = stack.rules().remove_rule(stack.fresh(remove)).await.unwrap().into_inner();
    stack.done(removed.operation).await;
    desk.bind(Wire::List(ListRule { allow: 0, block, entries: vec![entry(0x1b, false, true)] })).await;
    desk.stands("only what is new", &[entry(0x1b, false, true)]).await;

    // Limits by country are known from the same log, without asking the node for logs.
    let limits = |max_holders| vec![CountryLimit { country: 756, max_holders }];
    desk.bind(Wire::HolderLimit(HolderLimitRule { max_holders: 0, countries: limits(5) })).await;
    let request = compliance::ListRulesRequest { asset: text(token) };
    let rules = stack.rules().list_rules(stack.fresh(request)).await.unwrap().into_inner().rules;
    let bound = Wire::HolderLimit(HolderLimitRule { max_holders: 0, countries: limits(5) });
    assert_eq!(rules[1].parameters.clone().unwrap().rule, Some(bound));
    desk.stack.end().await;
}

/// What a node answers to one call.
fn asked(url: &str, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let host = url.trim_start_matches("http://");
    let mut node = TcpStream::connect(host).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    node.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    node.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Stands before a node and refuses logs of too many blocks, counting how often.
async fn narrow(url: String, refused: Arc<AtomicUsize>) -> ScriptedNode {
    ScriptedNode::start(move |method, params| {
        let block = |name: &str| {
            let text = params[0][name].as_str()?;
            u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        if method == "eth_getLogs"
            && params[0]["blockHash"].is_null()
            && block("toBlock").zip(block("fromBlock")).is_none_or(|(to, from)| to - from >= MOST_BLOCKS)
        {
            refused.fetch_add(1, Ordering::SeqCst);
            return Reply::Error(-32005, "block range is too large");
        }
        let mut answer = asked(&url, method, params);
        match answer["error"].is_null() {
            true => Reply::Result(answer["result"].take()),
            false => Reply::Error(-32000, "refused"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shows_few_blocks_at_once_is_enough() {
    let stack = Stack::start(2).await;
    let (admin, token) = (stack.wallets[0], stack.bond().await);
    let module = stack.contract(names::LIST_RULE).await;
    let desk = Desk { stack, token, admin, module };
    let stack = &desk.stack;
    let entries = vec![entry(0x0a, false, true)];
    desk.bind(Wire::List(ListRule { allow: 0, block: Sides::Both.into(), entries: entries.clone() })).await;
    let limits = vec![CountryLimit { country: 756, max_holders: 7 }];
    let rule = Wire::HolderLimit(HolderLimitRule { max_holders: 0, countries: limits });
    desk.bind(rule.clone()).await;
    stack.node("anvil_mine", json!(["0x1f4"])).await;
    desk.stands("the entry", &entries).await;

    // Another replica reads the whole log again, through the narrow node.
    stack.indexer.abort();
    let page = include_str!("../../docs/how-to/rebuild-the-holder-index.md");
    let statements = page.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    sqlx::raw_sql(statements).execute(&stack.store.pool()).await.unwrap();
    let (chain, refused) = (stack.upstreams.config().clone(), Arc::new(AtomicUsize::new(0)));
    let node = narrow(chain.upstreams[0].url.clone(), refused.clone()).await;
    let pool = Upstreams::connect(config(chain.chain_id, [("narrow", node.url.as_str())])).await.unwrap();
    let stop = Stop::new();
    let second = tokio::spawn(indexer::run(stack.store.clone(), pool, 0, "narrow".into(), stop.clone()));
    let request = || compliance::ListRulesRequest { asset: text(token) };
    let rules = eventually("the rules are known again", async || {
        let listed = stack.rules().list_rules(stack.fresh(request())).await;
        listed.ok().map(|listed| listed.into_inner().rules)
    })
    .await;
    assert_eq!(rules[1].parameters.clone().unwrap().rule, Some(rule));
    assert_eq!(desk.page(0, 0, "").await.entries, entries);
    assert!(refused.load(Ordering::SeqCst) > 0, "the node was asked for more and refused");
    stop.request();
    second.await.unwrap();
    desk.stack.end().await;
}
