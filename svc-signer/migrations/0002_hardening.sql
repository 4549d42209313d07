-- A refused PIN stays remembered beside the next one: two replicas with two wrong PINs would otherwise take turns until the partition locks.
alter table signer.pin_latch drop constraint pin_latch_pkey;
alter table signer.pin_latch add primary key (partition, pin_digest);
comment on table signer.pin_latch is
    'Logins to HSM partitions by PIN, written before each try. bad: this PIN was refused and is not tried again. pin_digest is keyed; it is no PIN.';

-- The document or claim of a request, so that grant and policy are asked again before it is signed late. Transactions have unsigned_tx.
alter table signer.requests add column statement bytea;
alter table signer.requests add check (statement is null or unsigned_tx is null);

create table signer.key_reservations (
    tenant         text not null,
    wallet         text not null,
    reserved_until timestamptz not null,
    primary key (tenant, wallet)
);
comment on table signer.key_reservations is
    'Wallets whose key a provider is making right now. Two at once would leave an HSM with two keys of one identifier, and neither could be used.';
