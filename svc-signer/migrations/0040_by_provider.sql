-- Transactions that a provider numbers, prices and broadcasts by itself: without a nonce, and followed after their approval.
alter table signer.requests drop constraint requests_check;
alter table signer.requests drop constraint requests_check1;
alter table signer.requests drop constraint requests_check2;
alter table signer.requests add constraint requests_numbered_check check (nonce is null or kind = 'evm_transaction');
alter table signer.requests add constraint requests_transaction_check
    check ((kind = 'evm_transaction') = (unsigned_tx is not null) and (unsigned_tx is null or (chain_id is not null and content_hash is not null)));
-- What we number and broadcast is signed for us, the rest never.
alter table signer.requests add constraint requests_by_provider_check check (stage = '' or nonce is null) not valid;
alter table signer.requests drop constraint requests_stage_check;
alter table signer.requests add constraint requests_stage_check check (stage in ('', 'BROADCAST', 'CONFIRMED', 'FAILED'));
create index requests_by_provider on signer.requests (signer, chain_id) where kind = 'evm_transaction' and nonce is null;

alter table signer.custody_attempts add column withdrawal_asked boolean not null default false;
comment on column signer.custody_attempts.withdrawal_asked is 'The provider was asked to give it up, because its caller wants it so; written before.';
alter table signer.custody_attempts add column asked_until timestamptz;
comment on column signer.custody_attempts.asked_until is
    'Until when whoever asks right now may take; null while nobody does. A pause between two looks can be cut short, this cannot.';

-- An outcome is written once. What a provider has sent to the chain it may send again under another hash, and tell how it went; nothing else of it changes.
create or replace function signer.keep_outcome() returns trigger language plpgsql as $$
declare
    kept signer.requests%rowtype;
begin
    if tg_op = 'DELETE' then
        raise exception 'request % was accepted and is kept', old.request_id using errcode = 'restrict_violation';
    end if;
    if old.status = 'APPROVED' then
        kept := new;
        kept.stage := old.stage;
        kept.tx_hash := old.tx_hash;
        kept.detail := old.detail;
        kept.updated_at := old.updated_at;
        if old.stage = '' or new.stage = '' or new.tx_hash is null or kept is distinct from old then
            raise exception 'request % is signed', old.request_id using errcode = 'restrict_violation';
        end if;
    end if;
    if old.status in ('DENIED', 'EXPIRED') then
        kept := new;
        kept.released := old.released;
        kept.updated_at := old.updated_at;
        if kept is distinct from old or (old.released and not new.released) then
            raise exception 'request % is refused for good', old.request_id using errcode = 'restrict_violation';
        end if;
    end if;
    return new;
end $$;
comment on table signer.requests is
    'Every accepted request with its outcome, by the id that the caller chose. An outcome that is final (approved, denied, expired) never changes, but for stage and hash of '
    'what a provider broadcasts by itself.';
