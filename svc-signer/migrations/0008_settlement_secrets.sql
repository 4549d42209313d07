create table signer.settlement_secrets (
    tenant     text not null check (tenant <> ''),
    secret_id  uuid not null,
    hash_kind  text not null check (hash_kind in ('keccak256', 'sha256')),
    hash       bytea not null unique check (octet_length(hash) = 32),
    sealed     bytea not null,
    peer       text not null,
    created_at timestamptz not null default now(),
    primary key (tenant, secret_id)
);
comment on table signer.settlement_secrets is
    'Secrets of settlements across chains, sealed under the key-encryption key. Only hashes are told; a secret leaves inside the transaction that shows it.';
create trigger settlement_secrets_insert_only before update or delete or truncate on signer.settlement_secrets
    for each statement execute function signer.refuse_change();
