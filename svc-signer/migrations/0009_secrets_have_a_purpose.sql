-- A secret is shown for the settlement it was made for, and for no other that somebody opens under its hash.

alter table signer.settlement_secrets
    add column chain_id  numeric(20, 0) check (chain_id > 0),
    add column contract  bytea check (octet_length(contract) = 20),
    add column cutoff_s  numeric(20, 0) check (cutoff_s > 0),
    add column movements bytea check (octet_length(movements) = 32),
    add constraint purpose_whole check (num_nulls(chain_id, contract, cutoff_s, movements) in (0, 4));
comment on column signer.settlement_secrets.movements is
    'keccak256 of what moves on the chain when the secret is shown. Null, with chain_id, contract and cutoff_s: made before secrets were bound; such a one is not shown.';
