-- How long a reservation may hold others up that a provider has nothing of, and from which nonce one was moved.
-- NOT VALID: the columns are new, so that nothing stands there which would have to be read through under a lock.
ALTER TABLE engine.lanes
    ADD COLUMN hold_nonce_for_s integer,
    ADD CONSTRAINT lanes_hold_nonce_for CHECK (hold_nonce_for_s BETWEEN 60 AND 86400) NOT VALID;
COMMENT ON COLUMN engine.lanes.hold_nonce_for_s IS 'After so long behind what waits for an approval, with others waiting, its nonce is given back and it goes behind them, where no provider has anything of it. Null: never.';

ALTER TABLE engine.transactions
    ADD COLUMN moved_from bigint,
    ADD CONSTRAINT transactions_moved_from CHECK (moved_from >= 0) NOT VALID;
COMMENT ON COLUMN engine.transactions.moved_from IS 'The nonce that it gave up for those behind it, until it gets another one: the commit that binds tells the audit of both.';
