-- An outcome is written once. A signed request never changes; one refused for good only gives its nonce back. No accepted request goes away.
drop trigger requests_keep_signed on signer.requests;
drop function signer.keep_signed();

create function signer.keep_outcome() returns trigger language plpgsql as $$
declare
    kept signer.requests%rowtype;
begin
    if tg_op = 'DELETE' then
        raise exception 'request % was accepted and is kept', old.request_id using errcode = 'restrict_violation';
    end if;
    if old.status = 'APPROVED' then
        raise exception 'request % is signed', old.request_id using errcode = 'restrict_violation';
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
create trigger requests_keep_outcome before update or delete on signer.requests
    for each row execute function signer.keep_outcome();

comment on table signer.requests is
    'Every accepted request with its outcome, by the id that the caller chose. An outcome that is final (approved, denied, expired) never changes.';
