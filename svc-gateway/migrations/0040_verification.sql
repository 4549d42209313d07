-- Wallet verification: which writes of a tenant need one, what persons can show, and what was shown for which write.
-- No code stands here in the clear: PINs are argon2id hashes and one-time secrets sealed, both under a key that the database never sees; recovery codes, which carry 80 random
-- bits, are SHA-256.

CREATE TABLE verification_policies (
    tenant_id   text        PRIMARY KEY REFERENCES tenants,
    mode        text        NOT NULL CHECK (mode IN ('off', 'all-writes', 'chosen')),
    methods     text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(methods) <= 200),
    permissions text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(permissions) <= 200),
    set_at      timestamptz NOT NULL,
    set_by      text        NOT NULL,
    CONSTRAINT verification_policies_chosen CHECK (mode = 'chosen' OR (methods = '{}' AND permissions = '{}'))
);
COMMENT ON TABLE verification_policies IS 'Which writes of a tenant need a wallet verification by persons who sign in by browser; without a row: none.';
CREATE TRIGGER verification_policies_told AFTER INSERT OR UPDATE OR DELETE ON verification_policies FOR EACH ROW EXECUTE FUNCTION tell_tenant();

CREATE TABLE verification_attempts (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    failures     integer     NOT NULL CHECK (failures >= 0),
    locked_until timestamptz,
    PRIMARY KEY (tenant_id, principal_id),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals,
    CONSTRAINT verification_attempts_lock_has_failures CHECK (locked_until IS NULL OR failures > 0)
);
-- Few: what is right sets the count back.
CREATE INDEX verification_attempts_wrong ON verification_attempts (failures) WHERE failures > 0;
COMMENT ON TABLE verification_attempts IS 'How often a person has shown something since it was right. Counted before it is looked at, so that a crash gives no free try.';

CREATE TABLE verification_pins (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    key_id       text        NOT NULL CHECK (length(key_id) BETWEEN 1 AND 64),
    sealed       bytea       NOT NULL CHECK (length(sealed) > 40),
    set_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal_id),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals
);
COMMENT ON TABLE verification_pins IS 'The argon2id hash of a person''s PIN, sealed: a million PINs are tried soon by who has the hash.';
COMMENT ON COLUMN verification_pins.key_id IS 'The sealing key of the configuration.';

CREATE TABLE verification_totps (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    active       boolean     NOT NULL,
    key_id       text        NOT NULL CHECK (length(key_id) BETWEEN 1 AND 64),
    sealed       bytea       NOT NULL CHECK (length(sealed) > 40),
    last_step    bigint      NOT NULL DEFAULT 0 CHECK (last_step >= 0),
    made_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, active),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals
);
COMMENT ON TABLE verification_totps IS 'The secret of a person''s authenticator app, sealed; besides the active one perhaps one that waits for its confirmation.';
COMMENT ON COLUMN verification_totps.last_step IS 'The 30 seconds since 1970 of the last password that was taken: none of it or of an earlier one is taken again.';
CREATE FUNCTION keep_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.last_step < OLD.last_step AND NEW.sealed = OLD.sealed THEN
        RAISE EXCEPTION 'a one-time password is taken once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER verification_totps_kept BEFORE UPDATE ON verification_totps FOR EACH ROW EXECUTE FUNCTION keep_step();

CREATE TABLE verification_recovery_codes (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    digest       bytea       NOT NULL CHECK (length(digest) = 32),
    confirmed    boolean     NOT NULL,
    used_at      timestamptz,
    made_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, digest),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals,
    CONSTRAINT verification_recovery_codes_used CHECK (used_at IS NULL OR confirmed)
);
COMMENT ON TABLE verification_recovery_codes IS 'A person''s recovery codes, by digest: those in use, and perhaps those that wait for their confirmation.';
CREATE FUNCTION keep_use() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.used_at IS NOT NULL THEN
        RAISE EXCEPTION 'a recovery code is taken once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER verification_recovery_codes_kept BEFORE UPDATE ON verification_recovery_codes FOR EACH ROW EXECUTE FUNCTION keep_use();

CREATE TABLE verifications (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    method       text        NOT NULL,
    key          text        NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    payload_hash bytea       NOT NULL CHECK (length(payload_hash) = 32),
    factor       text        NOT NULL CHECK (factor IN ('pin', 'totp', 'recovery')),
    verified_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, method, key, payload_hash),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals
);
COMMENT ON TABLE verifications IS 'For which write something was shown that was right: its repeats need nothing. Kept for ever, as writes are by their key.';
CREATE FUNCTION keep_verification() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a verification is written once' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER verifications_kept BEFORE UPDATE OR DELETE ON verifications FOR EACH ROW EXECUTE FUNCTION keep_verification();
CREATE TRIGGER verifications_not_emptied BEFORE TRUNCATE ON verifications FOR EACH STATEMENT EXECUTE FUNCTION never_emptied();
