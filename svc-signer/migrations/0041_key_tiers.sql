-- Keys of AWS Key Management Service, and what guards each key.
alter table signer.keys drop constraint keys_provider_check;
alter table signer.keys add constraint keys_provider_check check (provider in ('local', 'pkcs11', 'dfns', 'fireblocks', 'kms'));

alter table signer.keys add column tier text;
update signer.keys set tier = case provider
    when 'local' then 'encrypted_database'
    when 'pkcs11' then 'hsm'
    else 'third_party_custody'
end;
alter table signer.keys add constraint keys_tier_check check (
    case provider
        when 'local' then tier in ('encrypted_database', 'cloud_secret_manager')
        when 'pkcs11' then tier = 'hsm'
        when 'kms' then tier = 'cloud_secret_manager'
        else tier = 'third_party_custody'
    end
);
comment on column signer.keys.tier is
    'What guarded the key when it was made. It never changes: a key that was once kept less well is not taken for a better one.';

-- A replica of the version before knows no tiers; its keys are of the tier that its providers had.
create function signer.give_tier() returns trigger language plpgsql as $$
begin
    new.tier := case new.provider
        when 'local' then 'encrypted_database'
        when 'pkcs11' then 'hsm'
        when 'kms' then 'cloud_secret_manager'
        else 'third_party_custody'
    end;
    return new;
end $$;
create trigger keys_give_tier before insert on signer.keys
    for each row when (new.tier is null) execute function signer.give_tier();
alter table signer.keys alter column tier set not null;

create function signer.keep_tier() returns trigger language plpgsql as $$
begin
    raise exception 'key % keeps its tier', old.wallet using errcode = 'restrict_violation';
end $$;
create trigger keys_keep_tier before update of tier on signer.keys
    for each row when (old.tier is distinct from new.tier) execute function signer.keep_tier();
