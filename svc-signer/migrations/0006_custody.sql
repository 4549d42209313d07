-- Providers that decide later.
alter table signer.keys drop constraint keys_provider_check;
alter table signer.keys add constraint keys_provider_check check (provider in ('local', 'pkcs11', 'dfns', 'fireblocks'));
comment on table signer.keys is
    'Keys by address. An address belongs to one tenant. material is a sealed blob (local), an identifier inside the HSM (pkcs11) or the key''s place at its '
    'custodian (dfns, fireblocks), never a key in the clear.';

create table signer.custody_attempts (
    request_id  uuid not null references signer.requests (request_id),
    attempt     smallint not null check (attempt >= 0),
    provider    text not null,
    external_id text not null unique,
    provider_id text,
    said        text not null default '',
    stopped     boolean not null default false,
    claims      integer not null default 0 check (claims >= 0),
    looks       integer not null default 0 check (looks >= 0),
    created_at  timestamptz not null default now(),
    due_at      timestamptz not null,
    ended_at    timestamptz,
    primary key (request_id, attempt)
);
comment on table signer.custody_attempts is
    'What custodians were asked, written before they are. An external id is bound at the provider for ever, so each further attempt has one of its own.';
comment on column signer.custody_attempts.stopped is 'The provider''s policy stopped it: final there, and only an operator makes a further attempt.';
comment on column signer.custody_attempts.claims is 'How often it was taken up to be asked about. Beyond the first, it may be at the provider without its id being known here.';
comment on column signer.custody_attempts.due_at is 'Nobody asks about it before: a pause between two looks, or the time that the one who asks right now may take.';
create unique index custody_attempts_open on signer.custody_attempts (request_id) where ended_at is null;

-- A provider that broadcasts by itself approves without bytes for us.
alter table signer.requests add column stage text not null default '' check (stage in ('', 'BROADCAST', 'CONFIRMED'));
alter table signer.requests drop constraint requests_check3;
alter table signer.requests add constraint requests_approved_check check ((status = 'APPROVED') = (signature is not null or stage <> ''));
comment on column signer.requests.stage is 'How far the provider has brought a transaction that it broadcasts itself; empty where we broadcast.';
