-- Events of custodians. They decide nothing: they wake the look at what they name.
create table signer.provider_events (
    provider    text not null,
    event_id    text not null check (event_id <> '' and octet_length(event_id) <= 200),
    kind        text not null,
    received_at timestamptz not null default now(),
    kept_until  timestamptz not null,
    primary key (provider, event_id)
);
comment on table signer.provider_events is
    'Events of custodians that woke a request, so that none is acted on twice. Kept for longer than an event is taken, then removed.';
create index provider_events_over on signer.provider_events (kept_until);

alter table signer.custody_attempts
    add column heard_at timestamptz,
    add column woken    boolean not null default false;
comment on column signer.custody_attempts.heard_at is 'When an event of the custodian last named the attempt: events arrive, so that it is looked at more rarely without one.';
comment on column signer.custody_attempts.woken is 'An event named it while somebody was asking about it: it is looked at once more, at once.';
create index custody_attempts_by_provider_id on signer.custody_attempts (provider, provider_id) where ended_at is null and provider_id is not null;

-- A login that asks people is no try of the PIN: one that dies then is not counted.
alter table signer.pin_latch add column asking boolean not null default false;
comment on column signer.pin_latch.asking is 'The login under way asks people, and was taken out of undecided; it comes back in when nobody knows how it ended.';

-- The window for people at an HSM begins when they are first asked, not when the request was accepted.
alter table signer.requests add column held_since timestamptz;
comment on column signer.requests.held_since is 'When the hold in which the request stands, or last stood, began: PENDING without an error.';
create function signer.begin_hold() returns trigger language plpgsql as $$
begin
    new.held_since := now();
    return new;
end $$;
create trigger requests_begin_hold before update of status, error on signer.requests
    for each row when (new.status = 'PENDING' and new.error = '' and (old.status <> 'PENDING' or old.error <> ''))
    execute function signer.begin_hold();
