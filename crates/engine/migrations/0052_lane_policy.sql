-- What a lane does with those who stand behind what waits for an approval. Who set it, why and when stand beside it, all or none: none is the default.
-- NOT VALID: the columns are new, so that nothing stands there which would have to be read through under a lock.
ALTER TABLE engine.lanes
    ADD COLUMN behind_approval text NOT NULL DEFAULT 'QUEUE',
    ADD COLUMN policy_at       timestamptz,
    ADD COLUMN policy_by       text,
    ADD COLUMN policy_reason   text,
    ADD CONSTRAINT lanes_behind_approval CHECK (behind_approval IN ('QUEUE', 'REFUSE')) NOT VALID,
    ADD CONSTRAINT lanes_policy_whole CHECK ((policy_at IS NULL) = (policy_by IS NULL) AND (policy_at IS NULL) = (policy_reason IS NULL)) NOT VALID;
COMMENT ON COLUMN engine.lanes.behind_approval IS 'While a custody approval holds a nonce of the lane: QUEUE, what is ordered waits behind it; REFUSE, it is not accepted.';

-- Read by the statement that accepts operations: few lanes refuse.
CREATE INDEX lanes_refusing ON engine.lanes (chain_id, sender) WHERE behind_approval = 'REFUSE';
