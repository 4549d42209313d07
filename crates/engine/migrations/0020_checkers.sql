-- A second person: what a policy holds is stored, and nothing of it begins before others than its maker have said yes.

-- What flows the services of this database run: a policy that names a kind which nobody knows would protect nothing.
CREATE TABLE engine.kinds (
    kind     text PRIMARY KEY CHECK (length(kind) BETWEEN 1 AND 100),
    service  text NOT NULL
);
COMMENT ON TABLE engine.kinds IS 'The kinds of operations that services have said they run. Written when an engine starts; never deleted.';

CREATE TABLE engine.checker_policies (
    tenant        text        NOT NULL,
    policy_id     text        NOT NULL CHECK (policy_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    kinds         text[]      NOT NULL DEFAULT '{}',
    except_kinds  text[]      NOT NULL DEFAULT '{}',
    asset         text        NOT NULL DEFAULT '' CHECK (asset = '' OR asset ~ '^0x[0-9a-f]{40}$'),
    threshold     numeric     CHECK (threshold >= 0 AND threshold = trunc(threshold)),
    checkers      integer     NOT NULL CHECK (checkers BETWEEN 1 AND 10),
    time_limit_s  integer     NOT NULL CHECK (time_limit_s BETWEEN 60 AND 2592000),
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text        NOT NULL,
    PRIMARY KEY (tenant, policy_id)
);
COMMENT ON TABLE engine.checker_policies IS 'Which operations of a tenant need how many persons beside their maker. Read by the statement that accepts an operation, so a policy holds from the commit that makes it.';
COMMENT ON COLUMN engine.checker_policies.kinds IS 'Kinds of operations; empty: every kind but those excepted.';
COMMENT ON COLUMN engine.checker_policies.asset IS 'Only operations over this asset or currency; empty: whichever.';
COMMENT ON COLUMN engine.checker_policies.threshold IS 'Only from this amount on, in base units of one asset; null: whatever the amount.';

-- NOT VALID: what stands there was held to the narrower list, and is not read through under a lock.
ALTER TABLE engine.operations
    DROP CONSTRAINT operations_state_check,
    ADD CONSTRAINT operations_state_check CHECK (state IN ('RUNNING', 'AWAITING_CHECKER', 'COMPLETED', 'FAILED', 'CANCELLED')) NOT VALID,
    -- Nobody asks the flow of a held operation.
    ADD CONSTRAINT operations_held_is_asleep CHECK (state <> 'AWAITING_CHECKER' OR NOT (wake OR cancel_requested)) NOT VALID;
CREATE INDEX operations_held ON engine.operations (tenant, operation_id) WHERE state = 'AWAITING_CHECKER';

CREATE TABLE engine.checks (
    tenant        text        NOT NULL,
    operation_id  uuid        NOT NULL,
    policies      text[]      NOT NULL CHECK (cardinality(policies) > 0),
    checkers      integer     NOT NULL CHECK (checkers BETWEEN 1 AND 10),
    question      jsonb       NOT NULL,
    payload_hash  bytea       NOT NULL CHECK (length(payload_hash) = 32),
    held_at       timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL CHECK (expires_at > held_at),
    PRIMARY KEY (tenant, operation_id),
    UNIQUE (tenant, operation_id, payload_hash),
    FOREIGN KEY (tenant, operation_id) REFERENCES engine.operations
);
COMMENT ON TABLE engine.checks IS 'Operations that a policy held, for ever: by which policies, how many persons they took, what was to be decided, until when. Insert only.';
CREATE TRIGGER checks_insert_only BEFORE UPDATE OR DELETE ON engine.checks FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();

CREATE TABLE engine.check_decisions (
    tenant        text        NOT NULL,
    operation_id  uuid        NOT NULL,
    person        text        NOT NULL,
    principal     text        NOT NULL,
    makers        text[]      NOT NULL CHECK (cardinality(makers) > 0),
    approved      boolean     NOT NULL,
    reason        text        NOT NULL,
    payload_hash  bytea       NOT NULL,
    decided_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, operation_id, person),
    -- What was decided is what is held.
    FOREIGN KEY (tenant, operation_id, payload_hash) REFERENCES engine.checks (tenant, operation_id, payload_hash),
    -- Nobody approves his own; neither who asked, nor whose wallet it sends from. A maker may refuse what he asked for.
    CONSTRAINT check_decisions_another CHECK (NOT approved OR (person <> ALL (makers) AND principal <> ALL (makers)))
);
COMMENT ON TABLE engine.check_decisions IS 'Who approved or refused a held operation: each person once. Insert only.';
CREATE TRIGGER check_decisions_insert_only BEFORE UPDATE OR DELETE ON engine.check_decisions FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();

-- An operation is held from the commit that accepts it or never, and begins only when enough persons have approved it.
CREATE FUNCTION engine.guard_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'AWAITING_CHECKER' THEN
        RAISE EXCEPTION 'operation % has begun and cannot be held any more', OLD.operation_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state NOT IN ('FAILED', 'CANCELLED') AND (
        SELECT count(*) FROM engine.check_decisions d WHERE d.tenant = OLD.tenant AND d.operation_id = OLD.operation_id AND d.approved)
        < coalesce((SELECT c.checkers FROM engine.checks c WHERE c.tenant = OLD.tenant AND c.operation_id = OLD.operation_id), 2147483647) THEN
        RAISE EXCEPTION 'operation % lacks approvals', OLD.operation_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER operations_held BEFORE UPDATE OF state ON engine.operations FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state = 'AWAITING_CHECKER' OR NEW.state = 'AWAITING_CHECKER')) EXECUTE FUNCTION engine.guard_held();

-- No flow begins without steps, and no transaction without one. Once per statement, whatever it carries.
CREATE FUNCTION engine.refuse_steps_of_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ordered n JOIN engine.operations o ON o.tenant = n.tenant AND o.operation_id = n.operation_id WHERE o.state = 'AWAITING_CHECKER') THEN
        RAISE EXCEPTION 'a held operation orders nothing' USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'held_orders_nothing';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER steps_not_of_held AFTER INSERT ON engine.steps REFERENCING NEW TABLE AS ordered FOR EACH STATEMENT EXECUTE FUNCTION engine.refuse_steps_of_held();
CREATE TRIGGER transactions_not_of_held AFTER INSERT ON engine.transactions REFERENCING NEW TABLE AS ordered FOR EACH STATEMENT EXECUTE FUNCTION engine.refuse_steps_of_held();
