-- Which roots of an audit log were taken, beside the last one: a root that waits at a custodian may be signed late, and by then the log has gone on, or another way.
create table signer.audit_roots (
    tenant text   not null references signer.audit_logs on delete cascade,
    size   bigint not null check (size > 0),
    root   bytea  not null check (length(root) = 32),
    primary key (tenant, size)
);
comment on table signer.audit_roots is
    'Every root of an audit log that was taken to be signed: each continues the one before. What is not here is not signed. Written by the database itself with signer.audit_logs, and gone with its row.';

create function signer.take_audit_root() returns trigger language plpgsql as $$
begin
    insert into signer.audit_roots (tenant, size, root) values (new.tenant, new.size, new.root);
    return null;
end $$;
create trigger audit_logs_taken after insert or update on signer.audit_logs for each row execute function signer.take_audit_root();

create function signer.keep_audit_root() returns trigger language plpgsql as $$
begin
    raise exception 'the root of % leaves of % was taken as it is', old.size, old.tenant using errcode = 'restrict_violation';
end $$;
create trigger audit_roots_kept before update on signer.audit_roots for each row execute function signer.keep_audit_root();

insert into signer.audit_roots (tenant, size, root) select tenant, size, root from signer.audit_logs;

-- Roots that were pending when logs began to be remembered were not, and one of them may have been signed since.
insert into signer.audit_logs as log (tenant, size, root)
select distinct on (tenant) tenant, (root ->> 'size')::bigint, decode(substr(root ->> 'root', 3), 'hex')
from (select tenant, convert_from(statement, 'utf8')::jsonb -> 'audit_root' as root from signer.requests where kind = 'audit_root' and status = 'APPROVED') signed
order by tenant, (root ->> 'size')::bigint desc
on conflict (tenant) do update set size = excluded.size, root = excluded.root, taken_at = now() where excluded.size > log.size;

-- One that is pending still is not taken here, for nobody has shown that it continues its log: it is taken when it is asked for again, with a proof,
-- and refused once its log has gone on without it. Whatever else goes wrong: no signature over another root is stored.
create function signer.is_taken() returns trigger language plpgsql as $$
declare
    asked jsonb := convert_from(new.statement, 'utf8')::jsonb -> 'audit_root';
begin
    if not exists (select from signer.audit_roots taken where taken.tenant = asked ->> 'tenant' and taken.size = (asked ->> 'size')::bigint
        and taken.root = decode(substr(asked ->> 'root', 3), 'hex')) then
        raise exception 'the root of request % was never taken', new.request_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger requests_root_taken before update of status on signer.requests
    for each row when (new.status = 'APPROVED' and new.kind = 'audit_root') execute function signer.is_taken();
