-- Transactions that the key's provider numbers, prices and broadcasts by itself. They take no nonce of a lane, so they stand in a table of their own.

ALTER TABLE engine.lanes ADD COLUMN by_provider boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN engine.lanes.by_provider IS
    'As the signer last said: the sender''s provider broadcasts by itself. What is queued is then handed over, without a nonce. What was bound or handed over before goes on as it began.';

CREATE TABLE engine.handovers (
    tenant          text        NOT NULL,
    transaction_id  uuid        NOT NULL,
    attempt         integer     NOT NULL CHECK (attempt > 0),
    service         text        NOT NULL,
    chain_id        bigint      NOT NULL,
    sender          bytea       NOT NULL,
    request_id      uuid        NOT NULL UNIQUE,
    state           text        NOT NULL CHECK (state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED', 'MINED', 'DONE', 'DROPPED', 'REFUSED')),
    held            boolean     NOT NULL DEFAULT false,
    provider_id     text        NOT NULL DEFAULT '',
    tx_hash         bytea       CHECK (length(tx_hash) = 32),
    chain_nonce     bigint      CHECK (chain_nonce >= 0),
    block_number    bigint,
    block_hash      bytea,
    receipt         jsonb,
    tries           integer     NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT '-infinity',
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, transaction_id, attempt),
    FOREIGN KEY (tenant, transaction_id) REFERENCES engine.transactions,
    FOREIGN KEY (tenant, chain_id, sender) REFERENCES engine.lanes,
    CHECK (state NOT IN ('SENT', 'MINED', 'DONE', 'DROPPED') OR tx_hash IS NOT NULL),
    CHECK (state <> 'REFUSED' OR tx_hash IS NULL),
    CHECK ((state IN ('MINED', 'DONE')) = (block_number IS NOT NULL AND block_hash IS NOT NULL AND receipt IS NOT NULL))
);
COMMENT ON TABLE engine.handovers IS
    'Calls given to providers that broadcast by themselves, written before the signer is asked: SIGNING until the signer has taken it, HANDED while the provider decides, SENT once it has '
    'told a hash. PARKED: nobody knows what came of it, and it is still watched. DROPPED: it was sent and can never be included any more.';
COMMENT ON COLUMN engine.handovers.provider_id IS 'The provider''s own id of it.';
COMMENT ON COLUMN engine.handovers.chain_nonce IS 'The nonce that the provider gave it, as a node showed it. Once the chain has used that finally for something else, it is dropped.';
-- A call is with a provider once: a further handover needs the proof that the one before comes to nothing.
CREATE UNIQUE INDEX handovers_one ON engine.handovers (tenant, transaction_id) WHERE state NOT IN ('REFUSED', 'DROPPED');
CREATE INDEX handovers_live ON engine.handovers (chain_id, sender, service, due_at) WHERE state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED');
CREATE INDEX handovers_mined ON engine.handovers (chain_id, service, block_number) WHERE state = 'MINED';

CREATE TABLE engine.handover_hashes (
    tx_hash     bytea       PRIMARY KEY CHECK (length(tx_hash) = 32),
    request_id  uuid        NOT NULL REFERENCES engine.handovers (request_id),
    told_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE engine.handover_hashes IS
    'Every hash that a provider has told of a handover. One that is sent again at another price gets a further one, and any of them may be the one that a block has.';
CREATE INDEX handover_hashes_of ON engine.handover_hashes (request_id);

-- What was handed over never changes; what came to nothing stays so, and a hash that was told is never forgotten.
CREATE FUNCTION engine.guard_handover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant, NEW.transaction_id, NEW.attempt, NEW.service, NEW.chain_id, NEW.sender, NEW.request_id)
       IS DISTINCT FROM (OLD.tenant, OLD.transaction_id, OLD.attempt, OLD.service, OLD.chain_id, OLD.sender, OLD.request_id)
       OR (OLD.state <> NEW.state AND OLD.state IN ('DONE', 'DROPPED', 'REFUSED'))
       OR (OLD.tx_hash IS NOT NULL AND NEW.tx_hash IS NULL)
       OR (OLD.provider_id <> '' AND NEW.provider_id = '')
       OR (NEW.state = 'REFUSED' AND EXISTS (SELECT FROM engine.handover_hashes h WHERE h.request_id = OLD.request_id)) THEN
        RAISE EXCEPTION 'handover % must not go from % to %', OLD.request_id, OLD.state, NEW.state USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER handovers_kept BEFORE UPDATE ON engine.handovers FOR EACH ROW EXECUTE FUNCTION engine.guard_handover();
CREATE TRIGGER handovers_never_deleted BEFORE DELETE ON engine.handovers FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();
CREATE TRIGGER handover_hashes_insert_only BEFORE UPDATE OR DELETE ON engine.handover_hashes FOR EACH ROW EXECUTE FUNCTION engine.refuse_change();

-- What is handed over has no nonce of ours, and what has one is not handed over.
CREATE FUNCTION engine.guard_handover_nonce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM engine.transactions t WHERE t.tenant = NEW.tenant AND t.transaction_id = NEW.transaction_id AND t.nonce IS NOT NULL) THEN
        RAISE EXCEPTION 'transaction % has a nonce and is not handed over', NEW.transaction_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER handovers_without_nonce BEFORE INSERT ON engine.handovers FOR EACH ROW EXECUTE FUNCTION engine.guard_handover_nonce();

-- The table of TRANSITIONS in states.rs, with what a provider gives up because it was asked to.
CREATE OR REPLACE FUNCTION engine.may_become(from_state text, to_state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT from_state || ' ' || to_state = ANY (ARRAY[
        'RECEIVED QUEUED', 'RECEIVED CANCELLED',
        'QUEUED PREPARING', 'QUEUED SIGNING', 'QUEUED FAILED', 'QUEUED CANCELLED', 'QUEUED DEAD_LETTER',
        'PREPARING QUEUED', 'PREPARING PENDING_APPROVAL', 'PREPARING SIGNING', 'PREPARING FAILED', 'PREPARING CANCELLED', 'PREPARING DEAD_LETTER',
        'PENDING_APPROVAL SIGNING', 'PENDING_APPROVAL FAILED', 'PENDING_APPROVAL CANCELLED',
        'SIGNING BROADCASTING', 'SIGNING CONFIRMING', 'SIGNING QUEUED', 'SIGNING FAILED', 'SIGNING CANCELLED', 'SIGNING DEAD_LETTER',
        'BROADCASTING CONFIRMING', 'BROADCASTING QUEUED', 'BROADCASTING FAILED', 'BROADCASTING CANCELLED', 'BROADCASTING DEAD_LETTER',
        'CONFIRMING COMPLETED', 'CONFIRMING FAILED', 'CONFIRMING CANCELLED', 'CONFIRMING BROADCASTING',
        'DEAD_LETTER QUEUED', 'DEAD_LETTER CONFIRMING', 'DEAD_LETTER FAILED'])
$$;

-- Whether nothing of a dead letter can be included any more: it has no nonce, or a self-transfer has used its nonce, finally, and what was handed over has come to nothing.
CREATE OR REPLACE FUNCTION engine.is_decided(t engine.transactions) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT (t.nonce IS NULL
        OR EXISTS (SELECT FROM engine.attempts a WHERE a.chain_id = t.chain_id AND a.sender = t.sender AND a.nonce = t.nonce AND a.kind = 'CANCEL' AND a.state = 'DONE'))
       AND NOT EXISTS (SELECT FROM engine.handovers h WHERE h.tenant = t.tenant AND h.transaction_id = t.transaction_id AND h.state NOT IN ('REFUSED', 'DROPPED'))
$$;

-- The number of a transaction's last request to the signer, of either kind: ids of requests are made of it.
CREATE FUNCTION engine.attempts_of(t engine.transactions) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT greatest(
        coalesce((SELECT max(a.attempt) FROM engine.attempts a WHERE a.tenant = t.tenant AND a.transaction_id = t.transaction_id), 0),
        coalesce((SELECT max(h.attempt) FROM engine.handovers h WHERE h.tenant = t.tenant AND h.transaction_id = t.transaction_id), 0))
$$;
