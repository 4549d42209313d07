-- A pending request without an error waits for a person. One that its provider was not asked for yet does not.
alter table signer.requests alter column error set default 'PROVIDER_UNAVAILABLE';
comment on column signer.requests.error is
    'Typed error beside the status. With PENDING: PROVIDER_UNAVAILABLE and PROVIDER_FAILED ask nobody to act, an empty one waits for a person.';
