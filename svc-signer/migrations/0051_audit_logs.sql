-- What the signer remembers of each audit log, whatever becomes of the other database and whichever key signs: the last root that it took to be signed.
create table signer.audit_logs (
    tenant   text        primary key,
    size     bigint      not null check (size > 0),
    root     bytea       not null check (length(root) = 32),
    taken_at timestamptz not null default now()
);
comment on table signer.audit_logs is
    'The last root of each tenant''s audit log that was taken to be signed. The next one is of a longer log, with a proof that it continues this one. A row is taken away by hand only, for a log that was begun anew (docs/runbooks/AuditRootRefused.md).';

create function signer.keep_audit_log() returns trigger language plpgsql as $$
begin
    if new.tenant <> old.tenant or new.size <= old.size then
        raise exception 'the audit log of % only grows', old.tenant using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger audit_logs_kept before update on signer.audit_logs for each row execute function signer.keep_audit_log();

-- What was signed before this was remembered.
insert into signer.audit_logs (tenant, size, root)
select distinct on (tenant) tenant, (root ->> 'size')::bigint, decode(substr(root ->> 'root', 3), 'hex')
from (select tenant, convert_from(statement, 'utf8')::jsonb -> 'audit_root' as root from signer.requests where kind = 'audit_root' and status = 'APPROVED') signed
order by tenant, (root ->> 'size')::bigint desc;

-- The wallets of one owner.
create index keys_of_owner on signer.keys (tenant, owner, number);
