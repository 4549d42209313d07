-- The audit log as it is sealed. Leaves stand in engine.audit_leaves, written in the commits of what they tell of; here each gets its place in its
-- tenant's log, and stands in its tenant's Merkle tree (RFC 6962), kept in tiles.

CREATE TABLE audit_sealer (
    name           text   PRIMARY KEY CHECK (name = 'sealer'),
    after_xid      xid8   NOT NULL,
    after_sequence bigint NOT NULL,
    above_sequence bigint NOT NULL
);
COMMENT ON TABLE audit_sealer IS
    'One row, locked by whoever seals: up to which leaf, in the order (xid, sequence), all are sealed. above_sequence: leaves up to it were sealed before the database was restored into another one, whose transaction numbers begin anew.';
INSERT INTO audit_sealer (name, after_xid, after_sequence, above_sequence) VALUES ('sealer', '0', 0, 0);

CREATE TABLE audit_trees (
    tenant         text        PRIMARY KEY,
    size           bigint      NOT NULL CHECK (size > 0),
    edge           bytea[]     NOT NULL,
    rooted_size    bigint      NOT NULL DEFAULT 0 CHECK (rooted_size BETWEEN 0 AND size),
    rooted_at      timestamptz NOT NULL DEFAULT '-infinity',
    signed_size    bigint      NOT NULL DEFAULT 0 CHECK (signed_size BETWEEN 0 AND rooted_size),
    unsigned_since timestamptz DEFAULT now(),
    CHECK ((unsigned_since IS NULL) = (signed_size = size))
);
COMMENT ON TABLE audit_trees IS
    'How long the log of each tenant is; edge: the hashes of each level of tiles that fill no tile yet, the lowest level first; up to where there is a root, and a signed one, and since when something lacks one.';

-- A tree never shrinks.
CREATE FUNCTION keep_tree() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.tenant <> OLD.tenant OR NEW.size < OLD.size OR NEW.rooted_size < OLD.rooted_size OR NEW.signed_size < OLD.signed_size THEN
        RAISE EXCEPTION 'the log of % only grows', OLD.tenant USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_trees_kept BEFORE UPDATE OR DELETE ON audit_trees FOR EACH ROW EXECUTE FUNCTION keep_tree();

CREATE FUNCTION written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are written once', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Without a foreign key: its check would lock, and so write, each leaf once more. Leaves are insert only, and an export tells of one that is gone.
CREATE TABLE audit_entries (
    tenant        text   NOT NULL,
    position      bigint NOT NULL CHECK (position >= 0),
    leaf_sequence bigint NOT NULL UNIQUE,
    PRIMARY KEY (tenant, position)
);
COMMENT ON TABLE audit_entries IS 'Which leaf stands where in its tenant''s log. Insert only.';
CREATE TRIGGER audit_entries_insert_only BEFORE UPDATE OR DELETE ON audit_entries FOR EACH ROW EXECUTE FUNCTION written_once();

CREATE TABLE audit_tiles (
    tenant text     NOT NULL,
    level  smallint NOT NULL CHECK (level BETWEEN 0 AND 12),
    number bigint   NOT NULL CHECK (number >= 0),
    hashes bytea    NOT NULL CHECK (length(hashes) = 1024),
    PRIMARY KEY (tenant, level, number)
);
COMMENT ON TABLE audit_tiles IS
    'Full tiles of the trees: 32 hashes of complete subtrees over 32^level leaves each, in a row that needs no TOAST. Insert only.';
CREATE TRIGGER audit_tiles_insert_only BEFORE UPDATE OR DELETE ON audit_tiles FOR EACH ROW EXECUTE FUNCTION written_once();

CREATE TABLE audit_roots (
    tenant    text        NOT NULL REFERENCES audit_trees,
    size      bigint      NOT NULL CHECK (size > 0),
    root      bytea       NOT NULL CHECK (length(root) = 32),
    sealed_at timestamptz NOT NULL,
    signer    bytea       CHECK (length(signer) = 20),
    signature bytea       CHECK (length(signature) = 65),
    refused   text,
    PRIMARY KEY (tenant, size),
    CHECK ((signer IS NULL) = (signature IS NULL) AND (signature IS NULL OR refused IS NULL))
);
COMMENT ON TABLE audit_roots IS 'Roots, written before they are signed, with the signature of the signer''s audit key, or why the signer refuses it for good.';
CREATE INDEX audit_roots_to_sign ON audit_roots (sealed_at) WHERE signature IS NULL AND refused IS NULL;
CREATE INDEX audit_roots_signed ON audit_roots (tenant, size DESC) WHERE signature IS NOT NULL;

-- One of a tenant at a time waits for its signature: while the signer is away roots do not pile up.
CREATE UNIQUE INDEX audit_roots_one_to_sign ON audit_roots (tenant) WHERE signature IS NULL AND refused IS NULL;
CREATE FUNCTION keep_root() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.tenant, NEW.size, NEW.root, NEW.sealed_at) IS DISTINCT FROM (OLD.tenant, OLD.size, OLD.root, OLD.sealed_at)
       OR OLD.signature IS NOT NULL OR OLD.refused IS NOT NULL THEN
        RAISE EXCEPTION 'the root of % leaves of % is written once, and decided once', OLD.size, OLD.tenant USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_roots_kept BEFORE UPDATE OR DELETE ON audit_roots FOR EACH ROW EXECUTE FUNCTION keep_root();

-- Emptying a table fires no trigger of its rows.
CREATE FUNCTION never_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is kept', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_sealer_kept BEFORE DELETE OR TRUNCATE ON audit_sealer FOR EACH STATEMENT EXECUTE FUNCTION never_emptied();
CREATE TRIGGER audit_trees_not_emptied BEFORE TRUNCATE ON audit_trees FOR EACH STATEMENT EXECUTE FUNCTION never_emptied();
CREATE TRIGGER audit_entries_not_emptied BEFORE TRUNCATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION never_emptied();
CREATE TRIGGER audit_tiles_not_emptied BEFORE TRUNCATE ON audit_tiles FOR EACH STATEMENT EXECUTE FUNCTION never_emptied();
CREATE TRIGGER audit_roots_not_emptied BEFORE TRUNCATE ON audit_roots FOR EACH STATEMENT EXECUTE FUNCTION never_emptied();
