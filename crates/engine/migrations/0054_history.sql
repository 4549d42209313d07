-- Finished work leaves the tables of live work, one commit for all that an operation left behind. History stands in months of acceptance, which the time in
-- an operation's id tells; a whole month can be taken out and archived. What says whose a nonce is and what a key stands for stays where it is, for ever.
-- A migration that adds a column to a table of live work adds it to the table of its history and to the view over both: a test compares them.

-- The least id of an operation that was accepted at a moment (RFC 9562, version 7: 48 bits of Unix milliseconds first), and the moment of an id.
CREATE FUNCTION engine.first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
CREATE FUNCTION engine.accepted_month(id uuid) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_trunc('month', to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC')
$$;

CREATE TABLE engine.history_operations (LIKE engine.operations, PRIMARY KEY (tenant, operation_id)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_operations IS 'Operations that have ended for good, by the month of their acceptance. Insert only.';
CREATE TABLE engine.history_steps (LIKE engine.steps, PRIMARY KEY (tenant, operation_id, name)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_steps IS 'Steps of those operations. Insert only.';
CREATE TABLE engine.history_transactions (LIKE engine.transactions, PRIMARY KEY (transaction_id, operation_id)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_transactions IS 'Transactions of those operations: final, or never sent. Insert only.';
CREATE INDEX history_transactions_of_operation ON engine.history_transactions (tenant, operation_id, position);
CREATE TABLE engine.history_attempts (operation_id uuid NOT NULL, LIKE engine.attempts, PRIMARY KEY (transaction_id, attempt, operation_id)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_attempts IS 'Attempts of those transactions, with every hash that was signed. Insert only.';
CREATE TABLE engine.history_handovers (operation_id uuid NOT NULL, LIKE engine.handovers, PRIMARY KEY (transaction_id, attempt, operation_id)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_handovers IS 'Handovers of those transactions. Insert only.';
CREATE TABLE engine.history_handover_hashes (operation_id uuid NOT NULL, LIKE engine.handover_hashes, PRIMARY KEY (request_id, tx_hash, operation_id)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_handover_hashes IS 'Every hash that a provider told of those handovers. Insert only.';
CREATE TABLE engine.history_checks (LIKE engine.checks, PRIMARY KEY (tenant, operation_id)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_checks IS 'What held those operations for a second person. Insert only.';
CREATE TABLE engine.history_check_decisions (LIKE engine.check_decisions, PRIMARY KEY (tenant, operation_id, person)) PARTITION BY RANGE (operation_id);
COMMENT ON TABLE engine.history_check_decisions IS 'Who approved or refused them. Insert only.';

-- Makes what is missing of the months that these operations were accepted in. It waits for whoever reads history, a backup for instance, and those who come to
-- read wait behind it: so it waits shortly, and is tried again at the next look.
CREATE FUNCTION engine.open_history(ids uuid[]) RETURNS void LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    month timestamp;
    part  text;
    named text;
BEGIN
    FOR month IN SELECT DISTINCT engine.accepted_month(id) FROM unnest(ids) AS i(id) LOOP
        FOREACH part IN ARRAY ARRAY['operations', 'steps', 'transactions', 'attempts', 'handovers', 'handover_hashes', 'checks', 'check_decisions'] LOOP
            named := 'history_' || part || to_char(month, '"_"YYYY"_"MM');
            IF to_regclass('engine.' || named) IS NULL THEN
                -- Of two replicas one makes it, and the other finds it there.
                PERFORM pg_advisory_xact_lock(hashtext('engine.history'));
                EXECUTE format('CREATE TABLE IF NOT EXISTS engine.%I PARTITION OF engine.%I FOR VALUES FROM (%L) TO (%L)', named, 'history_' || part,
                               engine.first_id(month AT TIME ZONE 'UTC'), engine.first_id((month + interval '1 month') AT TIME ZONE 'UTC'));
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- What left the live tables stands in history, or it does not leave. The argument says which row of history is the one that goes.
CREATE FUNCTION engine.refuse_loss() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lost bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM gone g WHERE NOT EXISTS (SELECT FROM engine.%I h WHERE %s)', 'history_' || TG_TABLE_NAME, TG_ARGV[0]) INTO lost;
    IF lost > 0 THEN
        RAISE EXCEPTION '% rows of %.% are not in history', lost, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER attempts_never_deleted ON engine.attempts;
DROP TRIGGER handovers_never_deleted ON engine.handovers;
DROP TRIGGER handover_hashes_insert_only ON engine.handover_hashes;
DROP TRIGGER checks_insert_only ON engine.checks;
DROP TRIGGER check_decisions_insert_only ON engine.check_decisions;
CREATE TRIGGER handover_hashes_insert_only BEFORE UPDATE ON engine.handover_hashes FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER checks_insert_only BEFORE UPDATE ON engine.checks FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER check_decisions_insert_only BEFORE UPDATE ON engine.check_decisions FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();

CREATE TRIGGER operations_never_lost AFTER DELETE ON engine.operations REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.tenant = g.tenant AND h.operation_id = g.operation_id AND h.state = g.state');
CREATE TRIGGER steps_never_lost AFTER DELETE ON engine.steps REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.tenant = g.tenant AND h.operation_id = g.operation_id AND h.name = g.name AND h.outcome IS NOT DISTINCT FROM g.outcome');
CREATE TRIGGER transactions_never_lost AFTER DELETE ON engine.transactions REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.transaction_id = g.transaction_id AND h.operation_id = g.operation_id AND h.state = g.state');
CREATE TRIGGER attempts_never_lost AFTER DELETE ON engine.attempts REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.transaction_id = g.transaction_id AND h.attempt = g.attempt AND h.state = g.state AND h.raw IS NOT DISTINCT FROM g.raw');
CREATE TRIGGER handovers_never_lost AFTER DELETE ON engine.handovers REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.transaction_id = g.transaction_id AND h.attempt = g.attempt AND h.state = g.state');
CREATE TRIGGER handover_hashes_never_lost AFTER DELETE ON engine.handover_hashes REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.request_id = g.request_id AND h.tx_hash = g.tx_hash');
CREATE TRIGGER checks_never_lost AFTER DELETE ON engine.checks REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.tenant = g.tenant AND h.operation_id = g.operation_id');
CREATE TRIGGER check_decisions_never_lost AFTER DELETE ON engine.check_decisions REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION engine.refuse_loss('h.tenant = g.tenant AND h.operation_id = g.operation_id AND h.person = g.person');

CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_operations FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_steps FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_transactions FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_attempts FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_handovers FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_handover_hashes FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_checks FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER history_insert_only BEFORE UPDATE OR DELETE ON engine.history_check_decisions FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();

-- A nonce whose transaction is history is used for good.
CREATE OR REPLACE FUNCTION engine.guard_nonce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.chain_id, NEW.sender, NEW.nonce) IS DISTINCT FROM (OLD.chain_id, OLD.sender, OLD.nonce)
       OR (NEW.transaction_id <> OLD.transaction_id AND (NOT OLD.released OR NEW.released)) THEN
        RAISE EXCEPTION 'nonce % of chain % belongs to transaction %', OLD.nonce, OLD.chain_id, OLD.transaction_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.released AND NOT OLD.released AND (EXISTS (
        SELECT FROM engine.attempts a WHERE a.chain_id = OLD.chain_id AND a.sender = OLD.sender AND a.nonce = OLD.nonce
           AND (a.raw IS NOT NULL OR a.state <> 'REFUSED'))
        OR EXISTS (SELECT FROM engine.history_transactions t WHERE t.transaction_id = OLD.transaction_id)) THEN
        RAISE EXCEPTION 'nonce % of chain % may be signed for and cannot be released', OLD.nonce, OLD.chain_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

-- Live work and history as one, for readers: one statement finds an operation in one of them, whenever it moves.
CREATE VIEW engine.all_operations AS SELECT * FROM engine.operations UNION ALL SELECT * FROM engine.history_operations;
CREATE VIEW engine.all_steps AS SELECT * FROM engine.steps UNION ALL SELECT * FROM engine.history_steps;
CREATE VIEW engine.all_transactions AS SELECT * FROM engine.transactions UNION ALL SELECT * FROM engine.history_transactions;
CREATE VIEW engine.all_attempts AS SELECT * FROM engine.attempts UNION ALL
    SELECT tenant, transaction_id, attempt, service, chain_id, sender, nonce, kind, request_id, replaces, gas_limit, fees, state, held, release_pending, raw,
           tx_hash, block_number, block_hash, receipt, tries, due_at, created_at, hold, held_by, held_since FROM engine.history_attempts;
CREATE VIEW engine.all_handovers AS SELECT * FROM engine.handovers UNION ALL
    SELECT tenant, transaction_id, attempt, service, chain_id, sender, request_id, state, held, provider_id, tx_hash, chain_nonce, block_number, block_hash,
           receipt, tries, due_at, created_at, hold, held_by, held_since FROM engine.history_handovers;
CREATE VIEW engine.all_handover_hashes AS SELECT * FROM engine.handover_hashes UNION ALL SELECT tx_hash, request_id, told_at FROM engine.history_handover_hashes;
CREATE VIEW engine.all_checks AS SELECT * FROM engine.checks UNION ALL SELECT * FROM engine.history_checks;
CREATE VIEW engine.all_check_decisions AS SELECT * FROM engine.check_decisions UNION ALL SELECT * FROM engine.history_check_decisions;
