-- The rules that code must not be able to break move into the schema.

-- Which change of a transaction's state is allowed: the same table as TRANSITIONS in states.rs, and a test compares them.
CREATE FUNCTION engine.may_become(from_state text, to_state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT from_state || ' ' || to_state = ANY (ARRAY[
        'RECEIVED QUEUED', 'RECEIVED CANCELLED',
        'QUEUED PREPARING', 'QUEUED SIGNING', 'QUEUED FAILED', 'QUEUED CANCELLED', 'QUEUED DEAD_LETTER',
        'PREPARING QUEUED', 'PREPARING PENDING_APPROVAL', 'PREPARING SIGNING', 'PREPARING FAILED', 'PREPARING CANCELLED', 'PREPARING DEAD_LETTER',
        'PENDING_APPROVAL SIGNING', 'PENDING_APPROVAL FAILED', 'PENDING_APPROVAL CANCELLED',
        'SIGNING BROADCASTING', 'SIGNING CONFIRMING', 'SIGNING QUEUED', 'SIGNING FAILED', 'SIGNING DEAD_LETTER',
        'BROADCASTING CONFIRMING', 'BROADCASTING QUEUED', 'BROADCASTING FAILED', 'BROADCASTING DEAD_LETTER',
        'CONFIRMING COMPLETED', 'CONFIRMING FAILED', 'CONFIRMING CANCELLED', 'CONFIRMING BROADCASTING',
        'DEAD_LETTER QUEUED', 'DEAD_LETTER CONFIRMING'])
$$;

CREATE FUNCTION engine.refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'transaction % must not go from % to %', OLD.transaction_id, OLD.state, NEW.state USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER transactions_transition BEFORE UPDATE OF state ON engine.transactions FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state AND NOT engine.may_become(OLD.state, NEW.state)) EXECUTE FUNCTION engine.refuse_transition();

-- A lane's transactions are of the lane's tenant.
ALTER TABLE engine.transactions DROP CONSTRAINT transactions_chain_id_sender_fkey;
ALTER TABLE engine.transactions ADD CONSTRAINT transactions_lane_fkey FOREIGN KEY (tenant, chain_id, sender) REFERENCES engine.lanes;

-- Asked for while a nonce is bound: the lane's worker replaces the transaction by a self-transfer.
ALTER TABLE engine.transactions ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false;

-- Nonces that were given back below the lane's next one: the next transactions of the lane take them first.
CREATE INDEX nonces_given_back ON engine.nonces (chain_id, sender, nonce) WHERE released;

-- What the gauge of stalled operations counts.
CREATE INDEX operations_running ON engine.operations (service, created_at) WHERE state = 'RUNNING';

-- Never used: the confirmer keeps no cursor, and each indexer keeps its own beside its data.
DROP TABLE engine.follower_cursors;
