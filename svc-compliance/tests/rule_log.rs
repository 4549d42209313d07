//! What rules keep and do not list, from the indexed log: who stands on lists, by pages and at a block, also across a reorg.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::Address;
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
use serde_json::json;
use support::{Stack, eventually, refusal, text};

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
