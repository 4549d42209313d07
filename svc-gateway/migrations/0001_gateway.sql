-- Who may call, and what. No secret stands here: of an API key only its SHA-256.
-- Rows that the gateway's configuration keeps are `managed`: only the commit that applies a configuration (it sets dalp.configuration) changes them.

CREATE FUNCTION refuse_managed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.managed AND coalesce(current_setting('dalp.configuration', true), '') <> 'on' THEN
        RAISE EXCEPTION 'a row of %.% is kept by the configuration', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'managed_by_configuration';
    END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$;

-- What caches of credentials must read again. A hint that comes in the order of commits; 't <tenant>' everything of a tenant,
-- 'k <prefix>' one API key, 'c <spiffe id>' one certificate, 'o <issuer> <subject>' one identity, '*' everything.
CREATE FUNCTION tell_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', 't ' || coalesce(NEW.tenant_id, OLD.tenant_id));
    RETURN NULL;
END $$;
CREATE FUNCTION tell_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', 'k ' || coalesce(NEW.prefix, OLD.prefix));
    RETURN NULL;
END $$;
CREATE FUNCTION tell_certificate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', 'c ' || coalesce(NEW.spiffe_id, OLD.spiffe_id));
    RETURN NULL;
END $$;
CREATE FUNCTION tell_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', 'o ' || coalesce(NEW.issuer, OLD.issuer) || ' ' || coalesce(NEW.subject, OLD.subject));
    RETURN NULL;
END $$;
CREATE FUNCTION tell_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', '*');
    RETURN NULL;
END $$;

CREATE TABLE configurations (
    name       text        PRIMARY KEY CHECK (name = 'gateway'),
    applied_at timestamptz NOT NULL
);
COMMENT ON TABLE configurations IS 'One row, locked by the commit that applies a configuration, so that replicas which start together apply theirs one after the other.';
INSERT INTO configurations (name, applied_at) VALUES ('gateway', now());

CREATE TABLE tenants (
    tenant_id    text        PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    display_name text        NOT NULL CHECK (length(display_name) BETWEEN 1 AND 200),
    cell         text        NOT NULL CHECK (cell ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    chain_ids    bigint[]    NOT NULL DEFAULT '{}' CHECK (0 < ALL (chain_ids)),
    limits       jsonb,
    managed      boolean     NOT NULL,
    disabled_at  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL
);
COMMENT ON TABLE tenants IS 'Whose data is whose, in which cell it lives, on which chains it works, and how often it may call. Never deleted.';
COMMENT ON COLUMN tenants.limits IS 'Its own rates; null: those of the gateway''s configuration.';
CREATE TRIGGER tenants_managed BEFORE UPDATE OR DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER tenants_told AFTER UPDATE OR DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION tell_tenant();

CREATE TABLE roles (
    role        text    PRIMARY KEY CHECK (role ~ '^[a-z0-9-]+$'),
    permissions text[]  NOT NULL,
    managed     boolean NOT NULL
);
COMMENT ON TABLE roles IS 'Names for sets of permissions, as patterns. Roles come from the configuration; one that was taken out of it grants nothing.';
CREATE TRIGGER roles_managed BEFORE UPDATE OR DELETE ON roles FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER roles_told AFTER INSERT OR UPDATE OR DELETE ON roles FOR EACH STATEMENT EXECUTE FUNCTION tell_all();

CREATE TABLE principals (
    tenant_id    text        NOT NULL REFERENCES tenants,
    principal_id text        NOT NULL CHECK (principal_id ~ '^[A-Za-z0-9._:/@+-]{1,128}$'),
    kind         text        NOT NULL CHECK (kind IN ('person', 'service')),
    display_name text        NOT NULL CHECK (length(display_name) BETWEEN 1 AND 200),
    managed      boolean     NOT NULL,
    disabled_at  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL,
    PRIMARY KEY (tenant_id, principal_id)
);
COMMENT ON TABLE principals IS 'People and machines of a tenant. Never deleted: the audit names them.';
CREATE TRIGGER principals_managed BEFORE UPDATE OR DELETE ON principals FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER principals_told AFTER UPDATE OR DELETE ON principals FOR EACH ROW EXECUTE FUNCTION tell_tenant();

CREATE TABLE grants (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    role         text        NOT NULL REFERENCES roles,
    area         text        NOT NULL CHECK (area IN ('platform', 'system', 'asset')),
    asset        text        NOT NULL DEFAULT '' CHECK (asset = '' OR asset ~ '^0x[0-9a-f]{40}$'),
    managed      boolean     NOT NULL,
    granted_at   timestamptz NOT NULL DEFAULT now(),
    granted_by   text        NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, role, asset),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals,
    CONSTRAINT grants_asset CHECK ((area = 'asset') = (asset <> '')),
    CONSTRAINT grants_platform_is_managed CHECK (area <> 'platform' OR managed)
);
COMMENT ON TABLE grants IS 'Which role a principal holds, and how far: over all tenants (from the configuration only), over its tenant''s system, or on one asset.';
CREATE TRIGGER grants_managed BEFORE UPDATE OR DELETE ON grants FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER grants_told AFTER INSERT OR UPDATE OR DELETE ON grants FOR EACH ROW EXECUTE FUNCTION tell_tenant();

CREATE TABLE api_keys (
    prefix       text        PRIMARY KEY CHECK (prefix ~ '^[a-z0-9]{4,16}$'),
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    digest       bytea       NOT NULL CHECK (length(digest) = 32),
    scope        text        NOT NULL CHECK (scope IN ('read', 'read-write')),
    expires_at   timestamptz,
    disabled_at  timestamptz,
    successor    text        UNIQUE REFERENCES api_keys CHECK (successor <> prefix),
    managed      boolean     NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL,
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals,
    CONSTRAINT api_keys_successor_ends CHECK (successor IS NULL OR expires_at IS NOT NULL)
);
COMMENT ON TABLE api_keys IS 'API keys by prefix, with the SHA-256 of the whole key. Never deleted: a prefix is used once.';
CREATE INDEX api_keys_of_principal ON api_keys (tenant_id, principal_id, prefix);
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id, prefix);
CREATE TRIGGER api_keys_managed BEFORE UPDATE OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER api_keys_told AFTER UPDATE OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION tell_key();
-- Of a key that an RPC makes nobody can have asked before; of one that the configuration names, somebody may.
CREATE TRIGGER api_keys_named AFTER INSERT ON api_keys FOR EACH ROW WHEN (NEW.managed) EXECUTE FUNCTION tell_key();

-- What proves a key is written once, and a key that was disabled stays so; the configuration alone may give one of its own another secret.
CREATE FUNCTION keep_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT OLD.managed AND ((NEW.digest, NEW.tenant_id, NEW.principal_id, NEW.scope) IS DISTINCT FROM (OLD.digest, OLD.tenant_id, OLD.principal_id, OLD.scope)
        OR (OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS NULL)
        OR (OLD.expires_at IS NOT NULL AND (NEW.expires_at IS NULL OR NEW.expires_at > OLD.expires_at))) THEN
        RAISE EXCEPTION 'an API key is never made to reach further' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER api_keys_kept BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION keep_key();

CREATE TABLE api_key_uses (
    prefix       text        PRIMARY KEY REFERENCES api_keys,
    last_used_at timestamptz NOT NULL
);
COMMENT ON TABLE api_key_uses IS 'When a key was last used, to the minute. Written in batches, at most once a minute for a key and replica; beside the keys, so that a use is no change of one.';

CREATE TABLE certificates (
    spiffe_id    text        PRIMARY KEY CHECK (spiffe_id ~ '^spiffe://[a-z0-9._-]+/[a-z0-9._/-]+$' AND length(spiffe_id) <= 255),
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    managed      boolean     NOT NULL,
    bound_at     timestamptz NOT NULL DEFAULT now(),
    bound_by     text        NOT NULL,
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals
);
COMMENT ON TABLE certificates IS 'Which principal the identity in a client certificate stands for.';
CREATE INDEX certificates_of_principal ON certificates (tenant_id, principal_id);
CREATE TRIGGER certificates_managed BEFORE UPDATE OR DELETE ON certificates FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER certificates_told AFTER INSERT OR UPDATE OR DELETE ON certificates FOR EACH ROW EXECUTE FUNCTION tell_certificate();

CREATE TABLE oidc_identities (
    issuer       text        NOT NULL CHECK (length(issuer) BETWEEN 1 AND 500 AND issuer !~ '\s'),
    subject      text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    managed      boolean     NOT NULL,
    bound_at     timestamptz NOT NULL DEFAULT now(),
    bound_by     text        NOT NULL,
    PRIMARY KEY (issuer, subject),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals
);
COMMENT ON TABLE oidc_identities IS 'Which principal a subject of an identity provider stands for.';
CREATE INDEX oidc_identities_of_principal ON oidc_identities (tenant_id, principal_id);
CREATE TRIGGER oidc_identities_managed BEFORE UPDATE OR DELETE ON oidc_identities FOR EACH ROW EXECUTE FUNCTION refuse_managed();
CREATE TRIGGER oidc_identities_told AFTER INSERT OR UPDATE OR DELETE ON oidc_identities FOR EACH ROW EXECUTE FUNCTION tell_identity();

CREATE TABLE requests (
    tenant_id    text        NOT NULL REFERENCES tenants,
    principal_id text        NOT NULL,
    method       text        NOT NULL,
    key          text        NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    payload_hash bytea       NOT NULL CHECK (length(payload_hash) = 32),
    answer       bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, principal_id, method, key)
);
COMMENT ON TABLE requests IS 'Writes by idempotency key, with the answer that a repeat gets. Secrets are taken out of the answer before it is written. Kept for ever.';
CREATE FUNCTION keep_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.answer IS NOT NULL OR NEW.payload_hash <> OLD.payload_hash THEN
        RAISE EXCEPTION 'an answer is written once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER requests_kept BEFORE UPDATE OR DELETE ON requests FOR EACH ROW EXECUTE FUNCTION keep_answer();
