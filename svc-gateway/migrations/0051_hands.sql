-- Through whose hands a credential went: who made it knows what it proves itself with, or had a say in it, and so had who made that one's credential.
-- Decisions about what a policy holds count those as one with whoever shows the credential.

ALTER TABLE api_keys ADD COLUMN hands text[] NOT NULL DEFAULT '{}';
ALTER TABLE certificates ADD COLUMN hands text[] NOT NULL DEFAULT '{}';
ALTER TABLE oidc_identities ADD COLUMN hands text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN api_keys.hands IS 'Principals of the tenant who made it, by what they made it with, and the persons behind them. Written once. Empty: the configuration, or the platform.';
COMMENT ON COLUMN certificates.hands IS 'As of api_keys.';
COMMENT ON COLUMN oidc_identities.hands IS 'As of api_keys.';

-- Of what is there the maker is known, and not by what he made it.
UPDATE api_keys c SET hands = ARRAY(
    SELECT unnest(ARRAY[p.principal_id, p.owner_id]) FROM principals p WHERE p.tenant_id = c.tenant_id AND c.created_by = p.tenant_id || '/' || p.principal_id
    EXCEPT SELECT NULL) WHERE NOT managed;
UPDATE certificates c SET hands = ARRAY(
    SELECT unnest(ARRAY[p.principal_id, p.owner_id]) FROM principals p WHERE p.tenant_id = c.tenant_id AND c.bound_by = p.tenant_id || '/' || p.principal_id
    EXCEPT SELECT NULL) WHERE NOT managed;
UPDATE oidc_identities c SET hands = ARRAY(
    SELECT unnest(ARRAY[p.principal_id, p.owner_id]) FROM principals p WHERE p.tenant_id = c.tenant_id AND c.bound_by = p.tenant_id || '/' || p.principal_id
    EXCEPT SELECT NULL) WHERE NOT managed;

-- The configuration alone makes one its own.
CREATE FUNCTION keep_hands() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.hands IS DISTINCT FROM OLD.hands AND coalesce(current_setting('dalp.configuration', true), '') <> 'on' THEN
        RAISE EXCEPTION 'through whose hands a credential went is written once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER api_keys_hands_kept BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION keep_hands();
CREATE TRIGGER certificates_hands_kept BEFORE UPDATE ON certificates FOR EACH ROW EXECUTE FUNCTION keep_hands();
CREATE TRIGGER oidc_identities_hands_kept BEFORE UPDATE ON oidc_identities FOR EACH ROW EXECUTE FUNCTION keep_hands();
