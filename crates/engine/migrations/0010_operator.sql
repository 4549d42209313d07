-- What an operator asks of lanes and transactions is written here; their workers carry it out.

-- A paused lane gives no nonce. Who, why and when stand beside it, all or none.
ALTER TABLE engine.lanes
    ADD COLUMN paused_at    timestamptz,
    ADD COLUMN paused_by    text,
    ADD COLUMN pause_reason text,
    ADD CHECK ((paused_at IS NULL) = (paused_by IS NULL) AND (paused_at IS NULL) = (pause_reason IS NULL));

-- How often a comparison with the chain was asked for, and up to which of those it was done. A count, so that what is asked for
-- while one runs is not taken for answered.
ALTER TABLE engine.lane_leases
    ADD COLUMN resync_asked bigint NOT NULL DEFAULT 0,
    ADD COLUMN resync_done  bigint NOT NULL DEFAULT 0,
    ADD CHECK (resync_done <= resync_asked);

-- Asked for while the transaction waits for a block: the lane's worker replaces it at a higher price.
ALTER TABLE engine.transactions ADD COLUMN bump_requested boolean NOT NULL DEFAULT false;

-- Why a flow cannot be asked, and since when: a defect of the code, looked at by an operator, tried again by itself.
ALTER TABLE engine.operations
    ADD COLUMN quarantined_at timestamptz,
    ADD COLUMN quarantine     text,
    ADD CHECK ((quarantined_at IS NULL) = (quarantine IS NULL));

-- What waits for an operator: few, and looked for among millions.
CREATE INDEX operations_quarantined ON engine.operations (tenant, quarantined_at) WHERE quarantined_at IS NOT NULL;
CREATE INDEX transactions_dead ON engine.transactions (tenant, updated_at) WHERE state = 'DEAD_LETTER';

-- The table of TRANSITIONS in states.rs, with the end of a dead letter.
CREATE OR REPLACE FUNCTION engine.may_become(from_state text, to_state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT from_state || ' ' || to_state = ANY (ARRAY[
        'RECEIVED QUEUED', 'RECEIVED CANCELLED',
        'QUEUED PREPARING', 'QUEUED SIGNING', 'QUEUED FAILED', 'QUEUED CANCELLED', 'QUEUED DEAD_LETTER',
        'PREPARING QUEUED', 'PREPARING PENDING_APPROVAL', 'PREPARING SIGNING', 'PREPARING FAILED', 'PREPARING CANCELLED', 'PREPARING DEAD_LETTER',
        'PENDING_APPROVAL SIGNING', 'PENDING_APPROVAL FAILED', 'PENDING_APPROVAL CANCELLED',
        'SIGNING BROADCASTING', 'SIGNING CONFIRMING', 'SIGNING QUEUED', 'SIGNING FAILED', 'SIGNING DEAD_LETTER',
        'BROADCASTING CONFIRMING', 'BROADCASTING QUEUED', 'BROADCASTING FAILED', 'BROADCASTING DEAD_LETTER',
        'CONFIRMING COMPLETED', 'CONFIRMING FAILED', 'CONFIRMING CANCELLED', 'CONFIRMING BROADCASTING',
        'DEAD_LETTER QUEUED', 'DEAD_LETTER CONFIRMING', 'DEAD_LETTER FAILED'])
$$;

-- Whether nothing of a dead letter can be included any more: it has no nonce, or a self-transfer has used its nonce, finally. What it
-- had before was decided when it was queued again.
CREATE FUNCTION engine.is_decided(t engine.transactions) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT t.nonce IS NULL
        OR EXISTS (SELECT FROM engine.attempts a WHERE a.chain_id = t.chain_id AND a.sender = t.sender AND a.nonce = t.nonce AND a.kind = 'CANCEL' AND a.state = 'DONE')
$$;
