//! Money goes to treasuries that stand: code at the block that counts, over a node that answers what the test tells it.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::Address;
use dalp_chain::{
    BlockId, Upstreams,
    testing::{Reply, ScriptedNode, config},
};
use dalp_domain::ChainReader;
use dalp_service::Reason;
use serde_json::json;
use svc_distribution::treasury::readers::require_code;

/// A node that has code at the treasury from block 7 on.
async fn chain() -> (ScriptedNode, ChainReader) {
    let node = ScriptedNode::start(|method, params| {
        Reply::Result(match method {
            "eth_chainId" => json!("0x7a69"),
            "eth_getCode" if params[1] == json!("0x6") => json!("0x"),
            "eth_getCode" => json!("0x6001"),
            _ => return Reply::Error(-32601, "not scripted"),
        })
    })
    .await;
    let upstreams = Upstreams::connect(config(31_337, [("one", node.url.as_str())])).await.unwrap();
    (node, ChainReader::new(upstreams))
}

#[tokio::test]
async fn a_treasury_without_code_at_the_block_is_refused() {
    let (_node, chain) = chain().await;
    let treasury = Address::repeat_byte(0x0f);
    require_code(&chain, treasury, BlockId::number(7)).await.unwrap();
    let refused = require_code(&chain, treasury, BlockId::number(6)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::FailedPrecondition);
}
