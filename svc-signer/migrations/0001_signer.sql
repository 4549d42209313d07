-- The signer's own schema, created by the store before it migrates. Nothing else can read this database.

create table signer.keys (
    address     bytea primary key check (octet_length(address) = 20),
    tenant      text not null check (tenant <> ''),
    wallet      text not null check (wallet ~ '^[a-z0-9-]{1,64}$'),
    provider    text not null check (provider in ('local', 'pkcs11')),
    public_key  bytea not null check (octet_length(public_key) = 65),
    material    bytea not null,
    owner       text not null,
    created_at  timestamptz not null default now(),
    disabled_at timestamptz,
    disabled_why text,
    number      bigint generated always as identity unique,
    unique (tenant, wallet)
);
comment on table signer.keys is
    'Keys by address. An address belongs to one tenant. material is a sealed blob (local) or an identifier inside the HSM (pkcs11), never a key in the clear.';

create table signer.key_creations (
    tenant          text not null,
    principal       text not null,
    idempotency_key text not null,
    payload_hash    bytea not null check (octet_length(payload_hash) = 32),
    address         bytea not null references signer.keys (address),
    created_at      timestamptz not null default now(),
    primary key (tenant, principal, idempotency_key)
);
comment on table signer.key_creations is 'Idempotency of CreateKey: which key answered which idempotency key.';

create table signer.requests (
    request_id    uuid primary key,
    tenant        text not null,
    signer        bytea not null references signer.keys (address),
    peer          text not null,
    kind          text not null check (kind in ('evm_transaction', 'eip712', 'claim')),
    payload_hash  bytea not null check (octet_length(payload_hash) = 32),
    digest        bytea not null check (octet_length(digest) = 32),
    chain_id      bigint check (chain_id > 0),
    nonce         bigint check (nonce >= 0),
    content_hash  bytea check (octet_length(content_hash) = 32),
    unsigned_tx   bytea,
    replaces      uuid,
    rule          text not null,
    value_wei     numeric(78, 0) not null check (value_wei >= 0),
    status        text not null default 'PENDING' check (status in ('PENDING', 'APPROVED', 'DENIED', 'EXPIRED', 'BLOCKED')),
    signature     bytea check (octet_length(signature) = 65),
    signed_tx     bytea,
    tx_hash       bytea check (octet_length(tx_hash) = 32),
    detail        text not null default '',
    error         text not null default '',
    released      boolean not null default false,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    check ((kind = 'evm_transaction') = (nonce is not null)),
    check ((nonce is null) = (chain_id is null or kind <> 'evm_transaction')),
    check ((nonce is null) = (unsigned_tx is null)),
    check ((status = 'APPROVED') = (signature is not null)),
    check (not (released and status = 'APPROVED'))
);
comment on table signer.requests is
    'Every accepted request with its outcome, by the id that the caller chose. The outcome of an approved request never changes.';
create index requests_by_lane on signer.requests (signer, chain_id, nonce) where nonce is not null;
create index requests_open on signer.requests (updated_at) where status in ('PENDING', 'BLOCKED');
create index requests_spent on signer.requests (signer, rule, created_at) where value_wei > 0;

create table signer.watermarks (
    tenant       text not null,
    chain_id     bigint not null check (chain_id > 0),
    signer       bytea not null references signer.keys (address),
    nonce        bigint not null check (nonce >= 0),
    request_id   uuid not null,
    content_hash bytea not null check (octet_length(content_hash) = 32),
    primary key (tenant, chain_id, signer, nonce)
);
comment on table signer.watermarks is
    'One nonce, one intent: the request that holds each nonce of a lane. Rows move to a replacement and go only by Release.';

create table signer.pin_latch (
    partition  text primary key,
    pin_digest bytea not null check (octet_length(pin_digest) = 32),
    state      text not null check (state in ('trying', 'clear', 'bad')),
    undecided  integer not null default 0 check (undecided >= 0),
    updated_at timestamptz not null default now()
);
comment on table signer.pin_latch is
    'Logins to HSM partitions, written before each try. bad: this PIN was refused and is not tried again. pin_digest is keyed; it is no PIN.';

create table signer.audit_leaves (
    number     bigint generated always as identity primary key,
    at         timestamptz not null default now(),
    subject    text not null,
    tenant     text not null,
    peer       text not null,
    signer     bytea,
    request_id uuid,
    decision   text not null,
    reason     text not null,
    leaf       bytea not null check (octet_length(leaf) = 32)
);
comment on table signer.audit_leaves is 'Every decision, also refusals. Insert only.';

create function signer.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is insert only', tg_table_name using errcode = 'restrict_violation';
end $$;
create trigger audit_leaves_insert_only before update or delete or truncate on signer.audit_leaves
    for each statement execute function signer.refuse_change();

create function signer.keep_signed() returns trigger language plpgsql as $$
begin
    if old.status = 'APPROVED' then
        raise exception 'request % is signed', old.request_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger requests_keep_signed before update or delete on signer.requests
    for each row execute function signer.keep_signed();
