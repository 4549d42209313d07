-- What the compliance attestor said of a request, as last asked before a key was used.
alter table signer.requests
    add column attestation         bytea check (octet_length(attestation) = 32),
    add column attested_block      bigint check (attested_block >= 0),
    add column attested_block_hash bytea check (octet_length(attested_block_hash) = 32),
    add column attested_ruleset    bytea check (octet_length(attested_ruleset) = 32),
    add column attested_verdict    text check (attested_verdict in ('PASS', 'VETO')),
    add column attested_until      bigint check (attested_until > 0);
alter table signer.requests add constraint requests_attestation_whole check (
    num_nulls(attestation, attested_block, attested_block_hash, attested_ruleset, attested_verdict, attested_until) in (0, 6));
-- Whatever else goes wrong: what the attestor refused is not signed. What a provider has broadcast by itself, after it was handed over under a pass, is
-- written down whatever the attestor says since.
alter table signer.requests add constraint requests_vetoed_is_not_signed check (
    attested_verdict is distinct from 'VETO' or (signature is null and signed_tx is null and (status <> 'APPROVED' or stage <> '')));
comment on column signer.requests.attestation is
    'Hash over the payload and the attestor''s judgement of it. Null: the payload moves nothing, or attestation was off. Earlier ones stand in audit_leaves.';
comment on column signer.requests.attested_block is 'Height at which it was judged.';
comment on column signer.requests.attested_block_hash is 'Hash of that block.';
comment on column signer.requests.attested_ruleset is 'Version of the attestor''s rules.';
comment on column signer.requests.attested_until is 'Unix seconds until which the judgement may be used for a request to the provider.';
