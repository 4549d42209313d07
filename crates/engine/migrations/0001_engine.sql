-- The engine's records. tenant leads every key that belongs to a tenant; lanes and nonces are keyed by chain and sender,
-- which belong to exactly one tenant. Every rule that a constraint can keep is a constraint.
CREATE SCHEMA IF NOT EXISTS engine;

CREATE TABLE engine.operations (
    tenant            text        NOT NULL,
    operation_id      uuid        NOT NULL,
    service           text        NOT NULL,
    principal         text        NOT NULL,
    method            text        NOT NULL,
    kind              text        NOT NULL,
    version           integer     NOT NULL,
    order_json        jsonb       NOT NULL,
    state             text        NOT NULL CHECK (state IN ('RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    result            jsonb,
    error             jsonb,
    wake              boolean     NOT NULL,
    cancel_requested  boolean     NOT NULL DEFAULT false,
    retry_at          timestamptz NOT NULL DEFAULT '-infinity',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, operation_id),
    CHECK ((state = 'COMPLETED') = (result IS NOT NULL)),
    CHECK ((state = 'FAILED') = (error IS NOT NULL))
);
COMMENT ON TABLE engine.operations IS 'Accepted work. wake: the flow has to be asked again. Kept for as long as its idempotency key: for ever.';
CREATE INDEX operations_wake ON engine.operations (service, retry_at) WHERE wake;

CREATE TABLE engine.idempotency (
    tenant        text  NOT NULL,
    principal     text  NOT NULL,
    method        text  NOT NULL,
    key           text  NOT NULL,
    command_hash  bytea NOT NULL CHECK (length(command_hash) = 32),
    operation_id  uuid  NOT NULL,
    PRIMARY KEY (tenant, principal, method, key)
);
COMMENT ON TABLE engine.idempotency IS 'Which operation a key stands for, and the hash of the canonical command it was given with.';

CREATE TABLE engine.steps (
    tenant        text    NOT NULL,
    operation_id  uuid    NOT NULL,
    name          text    NOT NULL,
    position      integer NOT NULL,
    input         jsonb   NOT NULL,
    outcome       jsonb,
    request_id    uuid,
    due_at        timestamptz,
    tries         integer NOT NULL DEFAULT 0,
    service       text    NOT NULL,
    PRIMARY KEY (tenant, operation_id, name),
    FOREIGN KEY (tenant, operation_id) REFERENCES engine.operations
);
COMMENT ON TABLE engine.steps IS 'What a flow has ordered, by name, and how it ended. due_at is set while a signature step waits for the signer.';
CREATE INDEX steps_to_sign ON engine.steps (service, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE engine.lanes (
    tenant          text        NOT NULL,
    chain_id        bigint      NOT NULL,
    sender          bytea       NOT NULL CHECK (length(sender) = 20),
    next_nonce      bigint      CHECK (next_nonce >= 0),
    needs_approval  boolean     NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, chain_id, sender),
    UNIQUE (chain_id, sender)
);
COMMENT ON TABLE engine.lanes IS 'The only nonce authority. A sender on a chain belongs to one tenant. next_nonce is unknown until the lane was first compared with the chain.';

CREATE TABLE engine.lane_leases (
    service     text        NOT NULL,
    chain_id    bigint      NOT NULL,
    sender      bytea       NOT NULL,
    holder      text,
    expires_at  timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (service, chain_id, sender),
    FOREIGN KEY (chain_id, sender) REFERENCES engine.lanes (chain_id, sender)
);
COMMENT ON TABLE engine.lane_leases IS 'Who works on a lane for a service. Saves work; safety rests on the constraints of nonces and attempts.';

CREATE TABLE engine.transactions (
    tenant          text        NOT NULL,
    transaction_id  uuid        NOT NULL,
    operation_id    uuid        NOT NULL,
    step            text        NOT NULL,
    position        integer     NOT NULL,
    sequence        bigint      GENERATED ALWAYS AS IDENTITY,
    service         text        NOT NULL,
    chain_id        bigint      NOT NULL,
    sender          bytea       NOT NULL,
    target          bytea,
    value_wei       numeric     NOT NULL CHECK (value_wei >= 0),
    data            bytea       NOT NULL,
    checks          jsonb       NOT NULL,
    state           text        NOT NULL CHECK (state IN ('RECEIVED', 'QUEUED', 'PREPARING', 'PENDING_APPROVAL', 'SIGNING', 'BROADCASTING', 'CONFIRMING',
                                                          'COMPLETED', 'FAILED', 'CANCELLED', 'DEAD_LETTER')),
    sub_status      text        NOT NULL DEFAULT '',
    nonce           bigint,
    tx_hash         bytea,
    block_number    bigint,
    gas_used        bigint,
    error           jsonb,
    history         jsonb       NOT NULL DEFAULT '[]',
    tries           integer     NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT '-infinity',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, transaction_id),
    UNIQUE (transaction_id),
    FOREIGN KEY (tenant, operation_id) REFERENCES engine.operations,
    FOREIGN KEY (chain_id, sender) REFERENCES engine.lanes (chain_id, sender),
    CHECK (state NOT IN ('COMPLETED', 'CONFIRMING') OR tx_hash IS NOT NULL)
);
COMMENT ON TABLE engine.transactions IS 'Transaction intents. sequence is the order within a lane.';
CREATE INDEX transactions_queue ON engine.transactions (chain_id, sender, service, sequence) WHERE state IN ('QUEUED', 'PREPARING');
CREATE INDEX transactions_of_operation ON engine.transactions (tenant, operation_id, position);

CREATE TABLE engine.nonces (
    chain_id        bigint NOT NULL,
    sender          bytea  NOT NULL,
    nonce           bigint NOT NULL CHECK (nonce >= 0),
    transaction_id  uuid   NOT NULL,
    released        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (chain_id, sender, nonce)
);
COMMENT ON TABLE engine.nonces IS 'Which intent a nonce belongs to, for ever. Never trimmed, never partitioned.';

CREATE TABLE engine.attempts (
    tenant           text        NOT NULL,
    transaction_id   uuid        NOT NULL,
    attempt          integer     NOT NULL,
    service          text        NOT NULL,
    chain_id         bigint      NOT NULL,
    sender           bytea       NOT NULL,
    nonce            bigint      NOT NULL,
    kind             text        NOT NULL CHECK (kind IN ('CALL', 'REPLACEMENT', 'CANCEL')),
    request_id       uuid        NOT NULL UNIQUE,
    replaces         uuid,
    gas_limit        bigint      NOT NULL CHECK (gas_limit > 0),
    fees             jsonb       NOT NULL,
    state            text        NOT NULL CHECK (state IN ('SIGNING', 'SIGNED', 'SENT', 'MINED', 'DONE', 'SUPERSEDED', 'SEALED', 'REFUSED')),
    held             boolean     NOT NULL DEFAULT false,
    release_pending  boolean     NOT NULL DEFAULT false,
    raw              bytea,
    tx_hash          bytea,
    block_number     bigint,
    block_hash       bytea,
    receipt          jsonb,
    tries            integer     NOT NULL DEFAULT 0,
    due_at           timestamptz NOT NULL DEFAULT '-infinity',
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, transaction_id, attempt),
    FOREIGN KEY (tenant, transaction_id) REFERENCES engine.transactions,
    FOREIGN KEY (chain_id, sender, nonce) REFERENCES engine.nonces,
    CHECK (state NOT IN ('SIGNED', 'SENT', 'MINED', 'DONE', 'SEALED') OR raw IS NOT NULL),
    CHECK ((raw IS NULL) = (tx_hash IS NULL))
);
COMMENT ON TABLE engine.attempts IS 'Every request to the signer for a transaction, written before it is made, and the signed bytes, stored before they are sent. All signed hashes are watched.';
CREATE INDEX attempts_live ON engine.attempts (chain_id, sender, service, nonce) WHERE state IN ('SIGNING', 'SIGNED', 'SENT') OR release_pending;
CREATE INDEX attempts_mined ON engine.attempts (chain_id, service, block_number) WHERE state = 'MINED';
CREATE INDEX attempts_of_nonce ON engine.attempts (chain_id, sender, nonce);
CREATE UNIQUE INDEX attempts_hash ON engine.attempts (tx_hash);

CREATE TABLE engine.outbox (
    sequence      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid           xid8        NOT NULL DEFAULT pg_current_xact_id(),
    tenant        text        NOT NULL,
    topic         text        NOT NULL,
    subject       text        NOT NULL,
    operation_id  uuid        NOT NULL,
    body          jsonb       NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE engine.outbox IS 'Events. Readers go by (xid, sequence) and stop below the oldest running transaction, so nothing appears behind their cursor.';
CREATE INDEX outbox_order ON engine.outbox (tenant, xid, sequence);
CREATE INDEX outbox_operation ON engine.outbox (tenant, operation_id, xid, sequence);

CREATE TABLE engine.audit_leaves (
    sequence    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    tenant      text        NOT NULL,
    action      text        NOT NULL,
    actor       text        NOT NULL,
    subject     text        NOT NULL,
    body        jsonb       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE engine.audit_leaves IS 'Who did what. Insert only.';
CREATE INDEX audit_leaves_order ON engine.audit_leaves (tenant, xid, sequence);

CREATE TABLE engine.audit_chain (
    tenant         text   NOT NULL,
    position       bigint NOT NULL CHECK (position > 0),
    leaf_sequence  bigint NOT NULL UNIQUE REFERENCES engine.audit_leaves,
    previous_hash  bytea  NOT NULL CHECK (length(previous_hash) = 32),
    hash           bytea  NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant, position)
);
COMMENT ON TABLE engine.audit_chain IS 'Each leaf of a tenant, in commit order, hashed onto the one before it. Insert only.';

CREATE TABLE engine.follower_cursors (
    name      text   NOT NULL,
    chain_id  bigint NOT NULL,
    number    bigint NOT NULL,
    hash      bytea  NOT NULL,
    PRIMARY KEY (name, chain_id)
);
COMMENT ON TABLE engine.follower_cursors IS 'How far a named follower of a chain has come.';

CREATE FUNCTION engine.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are written once', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER audit_leaves_insert_only BEFORE UPDATE OR DELETE ON engine.audit_leaves FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER audit_chain_insert_only BEFORE UPDATE OR DELETE ON engine.audit_chain FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER nonces_never_deleted BEFORE DELETE ON engine.nonces FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER attempts_never_deleted BEFORE DELETE ON engine.attempts FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();

-- A nonce may be given back only while nothing was ever signed for it, and may go to another intent only when it was given back.
CREATE FUNCTION engine.guard_nonce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.chain_id, NEW.sender, NEW.nonce) IS DISTINCT FROM (OLD.chain_id, OLD.sender, OLD.nonce)
       OR (NEW.transaction_id <> OLD.transaction_id AND (NOT OLD.released OR NEW.released)) THEN
        RAISE EXCEPTION 'nonce % of chain % belongs to transaction %', OLD.nonce, OLD.chain_id, OLD.transaction_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.released AND NOT OLD.released AND EXISTS (
        SELECT FROM engine.attempts a WHERE a.chain_id = OLD.chain_id AND a.sender = OLD.sender AND a.nonce = OLD.nonce AND a.raw IS NOT NULL) THEN
        RAISE EXCEPTION 'nonce % of chain % was signed for and cannot be released', OLD.nonce, OLD.chain_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER nonces_write_once BEFORE UPDATE ON engine.nonces FOR EACH ROW EXECUTE FUNCTION engine.guard_nonce();

-- What was handed to the signer, and what came back, never changes.
CREATE FUNCTION engine.guard_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.chain_id, NEW.sender, NEW.nonce, NEW.request_id, NEW.gas_limit, NEW.fees, NEW.kind)
       IS DISTINCT FROM (OLD.chain_id, OLD.sender, OLD.nonce, OLD.request_id, OLD.gas_limit, OLD.fees, OLD.kind)
       OR (OLD.raw IS NOT NULL AND NEW.raw IS DISTINCT FROM OLD.raw) THEN
        RAISE EXCEPTION 'attempt % is written once', OLD.request_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER attempts_write_once BEFORE UPDATE ON engine.attempts FOR EACH ROW EXECUTE FUNCTION engine.guard_attempt();

-- Counts an action in a transaction's history: the same action in a row is one entry.
CREATE FUNCTION engine.note(history jsonb, action text, error text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT (CASE WHEN history->-1->>'action' = action THEN history - (-1) ELSE history END) || jsonb_build_array(jsonb_build_object(
        'action', action,
        'tries', CASE WHEN history->-1->>'action' = action THEN (history->-1->>'tries')::int + 1 ELSE 1 END,
        'last_error', error,
        'at', to_char(now() AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
$$;
