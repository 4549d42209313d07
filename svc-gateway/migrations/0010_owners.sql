-- Who answers for a machine: to maker-checker policies the two are one person.

ALTER TABLE principals
    ADD COLUMN owner_id text,
    -- Deferred: a configuration names them in any order.
    ADD CONSTRAINT principals_owner FOREIGN KEY (tenant_id, owner_id) REFERENCES principals DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT principals_owner_of_a_machine CHECK (owner_id IS NULL OR kind = 'service');
COMMENT ON COLUMN principals.owner_id IS 'Of a machine, the person who answers for it; null: nobody, and it approves nothing.';

-- Written once: another owner would make another person of who has asked for what is held. The configuration alone changes those of its own.
CREATE FUNCTION keep_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.owner_id IS DISTINCT FROM OLD.owner_id AND coalesce(current_setting('dalp.configuration', true), '') <> 'on' THEN
        RAISE EXCEPTION 'the owner of a principal is written once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER principals_owner_kept BEFORE UPDATE ON principals FOR EACH ROW EXECUTE FUNCTION keep_owner();
