-- Leaves say what was decided, why, and the hash of what was asked. They are sealed by the gateway, tenant by tenant, into trees of its own
-- (schema gateway, audit_*), whose roots are signed; the chain of unsigned hashes that the engines kept gives way to those.
DROP TABLE engine.audit_chain;

ALTER TABLE engine.audit_leaves
    ADD COLUMN decision     text NOT NULL DEFAULT 'ALLOWED' CHECK (decision IN ('ALLOWED', 'REFUSED')),
    ADD COLUMN reason       text NOT NULL DEFAULT '',
    ADD COLUMN payload_hash bytea CHECK (length(payload_hash) = 32);
COMMENT ON TABLE engine.audit_leaves IS
    'Who did what, what was decided and why. Insert only. Read in the order (xid, sequence) below the oldest running transaction, nothing appears behind a reader.';
COMMENT ON COLUMN engine.audit_leaves.reason IS 'Why: of a refusal its reason, else the words of who acted, where the action asks for some.';
COMMENT ON COLUMN engine.audit_leaves.payload_hash IS 'SHA-256 of what was asked: of an operation its canonical command, of a call its messages. Null: nobody had read it.';

-- What earlier releases wrote says it in its body. It is not written again: leaves are insert only, and the table may be large.
CREATE TRIGGER audit_leaves_kept BEFORE TRUNCATE ON engine.audit_leaves FOR EACH STATEMENT EXECUTE FUNCTION engine.refuse_change();

-- The sealer reads all tenants in one order.
DROP INDEX engine.audit_leaves_order;
CREATE INDEX audit_leaves_order ON engine.audit_leaves (xid, sequence);
