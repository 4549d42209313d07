//! Our half of the evidence for a transaction: what was asked, by whom, what we decided and why, and under which ids a custodian knows it.

use serde_json::Value;
use uuid::Uuid;

use super::{Store, StoreError};

/// By what an operator knows a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The id of a request for its signature.
    Request(Uuid),
    /// Its hash.
    Transaction([u8; 32]),
}

/// Of one request, everything that is kept, but for what is signed itself: a transaction stands on the chain, and one that does not may hold
/// the secret of a settlement.
const EVIDENCE: &str = r"
select jsonb_build_object(
    'request_id', request.request_id, 'tenant', request.tenant, 'peer', request.peer, 'kind', request.kind,
    'signer', '0x' || encode(request.signer, 'hex'), 'chain_id', request.chain_id, 'nonce', request.nonce,
    'replaces', request.replaces, 'rule', request.rule, 'value_wei', request.value_wei::text,
    'payload_hash', '0x' || encode(request.payload_hash, 'hex'), 'digest', '0x' || encode(request.digest, 'hex'),
    'content_hash', '0x' || encode(request.content_hash, 'hex'), 'tx_hash', '0x' || encode(request.tx_hash, 'hex'),
    'signature', '0x' || encode(request.signature, 'hex'), 'status', request.status, 'stage', request.stage,
    'detail', request.detail, 'error', request.error, 'released', request.released,
    'created_at', request.created_at, 'updated_at', request.updated_at,
    'key', jsonb_build_object('wallet', key.wallet, 'provider', key.provider, 'tier', key.tier, 'owner', key.owner,
        'public_key', '0x' || encode(key.public_key, 'hex'), 'created_at', key.created_at,
        'disabled_at', key.disabled_at, 'disabled_why', key.disabled_why),
    'attestation', case when request.attestation is not null then jsonb_build_object(
        'hash', '0x' || encode(request.attestation, 'hex'), 'verdict', request.attested_verdict,
        'block_number', request.attested_block, 'block_hash', '0x' || encode(request.attested_block_hash, 'hex'),
        'ruleset', '0x' || encode(request.attested_ruleset, 'hex'), 'not_after', request.attested_until) end,
    'attempts', coalesce((select jsonb_agg(jsonb_build_object(
            'attempt', attempt, 'provider', provider, 'external_id', external_id, 'provider_id', provider_id,
            'said', said, 'stopped', stopped, 'created_at', created_at, 'ended_at', ended_at) order by attempt)
        from signer.custody_attempts where request_id = request.request_id), '[]'),
    'decisions', coalesce((select jsonb_agg(jsonb_build_object(
            'number', number, 'at', at, 'subject', subject, 'peer', peer, 'decision', decision, 'reason', reason,
            'leaf', '0x' || encode(leaf, 'hex')) order by number)
        from signer.audit_leaves where request_id = request.request_id), '[]'))
from signer.requests wanted
join signer.requests request on request.request_id = wanted.request_id
    or (request.signer, request.chain_id, request.nonce) = (wanted.signer, wanted.chain_id, wanted.nonce)
join signer.keys key on key.address = request.signer
where wanted.request_id = $1 or wanted.tx_hash = $2
order by request.created_at, request.request_id";

// === impl Store ===

impl Store {
    /// What is kept of a transaction and of all that shared its nonce (what it replaced, what replaced it), oldest first; empty where there is no
    /// such request.
    pub async fn evidence(&self, wanted: Wanted) -> Result<Vec<Value>, StoreError> {
        let (request_id, tx_hash) = match wanted {
            Wanted::Request(id) => (Some(id), None),
            Wanted::Transaction(hash) => (None, Some(hash.to_vec())),
        };
        let read = async {
            let kept: Vec<Value> =
                sqlx::query_scalar(EVIDENCE).bind(request_id).bind(tx_hash).fetch_all(&self.pool).await?;
            Ok(kept)
        };
        self.patience.within(read).await
    }
}
