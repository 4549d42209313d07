-- Claim expressions that tenants save under a name. What is made from one keeps the version it was made from.

CREATE TABLE expressions (
    tenant_id  text        NOT NULL,
    name       text        NOT NULL CHECK (name ~ '^[a-z0-9._-]{1,64}$'),
    newest     integer     NOT NULL CHECK (newest > 0),
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE expressions IS 'Names of saved claim expressions. A deleted one is no longer given to anything new; its versions stay, because assets were made from them.';
COMMENT ON COLUMN expressions.newest IS 'Raised by one with each version, also across a deletion: a version number never means two things.';

CREATE TABLE expression_versions (
    tenant_id  text        NOT NULL,
    name       text        NOT NULL,
    version    integer     NOT NULL CHECK (version > 0),
    text       text        NOT NULL CHECK (char_length(text) BETWEEN 1 AND 2000),
    groups     jsonb       NOT NULL CHECK (jsonb_typeof(groups) = 'array' AND jsonb_array_length(groups) BETWEEN 1 AND 8),
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name, version),
    FOREIGN KEY (tenant_id, name) REFERENCES expressions (tenant_id, name)
);
COMMENT ON TABLE expression_versions IS 'What an expression says, by version; never changed once written.';
COMMENT ON COLUMN expression_versions.text IS 'As it was given.';
COMMENT ON COLUMN expression_versions.groups IS 'The same as an OR of AND groups, as the contracts read it.';
ALTER TABLE expressions ADD CONSTRAINT expressions_newest FOREIGN KEY (tenant_id, name, newest)
    REFERENCES expression_versions (tenant_id, name, version) DEFERRABLE INITIALLY DEFERRED;

CREATE FUNCTION expression_version_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'version % of the expression % is final', OLD.version, OLD.name USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER expression_versions_final BEFORE UPDATE OR DELETE ON expression_versions
    FOR EACH ROW EXECUTE FUNCTION expression_version_is_final();

CREATE TABLE expression_uses (
    tenant_id    text        NOT NULL,
    operation_id uuid        NOT NULL,
    place        text        NOT NULL CHECK (place IN ('policy', 'rule')),
    chain_id     bigint      NOT NULL,
    asset        text,
    name         text        NOT NULL,
    version      integer     NOT NULL,
    seq          bigint      GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant_id, operation_id, place),
    FOREIGN KEY (tenant_id, name, version) REFERENCES expression_versions (tenant_id, name, version)
);
CREATE INDEX expression_uses_by_name ON expression_uses (tenant_id, name);
CREATE INDEX expression_uses_by_asset ON expression_uses (tenant_id, chain_id, asset);
COMMENT ON TABLE expression_uses IS 'Which version an order took, written in the commit that accepts it. Whether it came into force is asked of the chain.';
COMMENT ON COLUMN expression_uses.asset IS 'The asset; null where the order creates it: then it is that of assets with the same operation.';
COMMENT ON COLUMN expression_uses.place IS 'policy: what holders need. rule: the ClaimRule of the asset.';
