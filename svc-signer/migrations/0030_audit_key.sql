-- Keys that sign the roots of audit logs sign nothing else, and no other key signs those.
alter table signer.keys add column purpose text not null default 'general' check (purpose in ('general', 'audit_root'));
comment on column signer.keys.purpose is 'What it may sign: audit roots only, or everything else.';

create function signer.keep_purpose() returns trigger language plpgsql as $$
begin
    raise exception 'key % keeps its purpose', old.wallet using errcode = 'restrict_violation';
end $$;
create trigger keys_keep_purpose before update of purpose on signer.keys
    for each row when (old.purpose is distinct from new.purpose) execute function signer.keep_purpose();

-- One key of a tenant at a time.
create unique index keys_audit_root on signer.keys (tenant) where purpose = 'audit_root' and disabled_at is null;

alter table signer.requests drop constraint requests_kind_check;
alter table signer.requests add constraint requests_kind_check check (kind in ('evm_transaction', 'eip712', 'claim', 'audit_root'));

-- Whatever else goes wrong: a key signs either.
create function signer.fits_purpose() returns trigger language plpgsql as $$
begin
    if new.status = 'APPROVED' and (new.kind = 'audit_root') is distinct from
        (select key.purpose = 'audit_root' from signer.keys key where key.address = new.signer) then
        raise exception 'request % is none for its key', new.request_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger requests_fit_purpose before update of status on signer.requests
    for each row when (new.status = 'APPROVED') execute function signer.fits_purpose();
