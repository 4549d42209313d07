-- Which provider holds a request, for what, and since when. `held` says that it was held once, and stays; these are about the last hold. Requests that were
-- held before this release are told so at their next look.
-- NOT VALID: the columns are new, so that nothing stands there which would have to be read through under a lock.
ALTER TABLE engine.attempts
    ADD COLUMN hold       text,
    ADD COLUMN held_by    text,
    ADD COLUMN held_since timestamptz,
    ADD CONSTRAINT attempts_hold CHECK (hold IN ('APPROVAL', 'BLOCKED')) NOT VALID,
    ADD CONSTRAINT attempts_held_by CHECK (held_by IN ('local', 'pkcs11', 'dfns', 'fireblocks', 'kms')) NOT VALID,
    ADD CONSTRAINT attempts_held_whole CHECK ((hold IS NULL) = (held_since IS NULL) AND (hold IS NULL OR held) AND (held_by IS NULL OR hold IS NOT NULL)) NOT VALID;
COMMENT ON COLUMN engine.attempts.hold IS 'Why it waits at its provider, as the signer last told. It counts while the attempt is SIGNING: afterwards it says how it was.';
COMMENT ON COLUMN engine.attempts.held_by IS 'The provider that it waits at, as the signer named it. Null: named by none, or one that this release does not know.';
COMMENT ON COLUMN engine.attempts.held_since IS 'Since when it has waited for that.';

ALTER TABLE engine.handovers
    ADD COLUMN hold       text,
    ADD COLUMN held_by    text,
    ADD COLUMN held_since timestamptz,
    ADD CONSTRAINT handovers_hold CHECK (hold IN ('APPROVAL', 'BLOCKED')) NOT VALID,
    ADD CONSTRAINT handovers_held_by CHECK (held_by IN ('local', 'pkcs11', 'dfns', 'fireblocks', 'kms')) NOT VALID,
    ADD CONSTRAINT handovers_held_whole CHECK ((hold IS NULL) = (held_since IS NULL) AND (hold IS NULL OR held) AND (held_by IS NULL OR hold IS NOT NULL)) NOT VALID;
COMMENT ON COLUMN engine.handovers.hold IS 'Why it waits at its provider, as the signer last told. Null: it does not, or no longer.';
COMMENT ON COLUMN engine.handovers.held_by IS 'The provider that it waits at, as the signer named it. Null: named by none, or one that this release does not know.';
COMMENT ON COLUMN engine.handovers.held_since IS 'Since when it has waited for that.';
