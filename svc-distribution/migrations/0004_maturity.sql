-- Redemption by schedule, runs that are given up, and wallets that were recovered.

-- One schedule of coupons and one of the redemption for each treasury; calendars as many as are wanted.
ALTER TABLE treasury_schedules DROP CONSTRAINT treasury_schedules_kind_check;
ALTER TABLE treasury_schedules ADD CONSTRAINT treasury_schedules_kind_check CHECK (kind IN ('coupons', 'calendar', 'maturity'));
DROP INDEX treasury_schedules_one_of_coupons;
CREATE UNIQUE INDEX treasury_schedules_one_of_a_kind ON treasury_schedules (chain_id, treasury, kind) WHERE kind <> 'calendar';
COMMENT ON TABLE treasury_schedules IS 'Payments that start by themselves, and on whose decision: the coupons of a treasury, its redemption, or dividends by a calendar.';

ALTER TABLE treasury_due ADD COLUMN open_operation uuid, ADD COLUMN openings_failed integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN treasury_due.open_operation IS 'Of a redemption: the operation that opens it, until it is known to have failed.';
COMMENT ON COLUMN treasury_due.openings_failed IS 'How many operations to open it are known to have failed: the next one stands under another key.';

-- A run that is given up stays, and makes room for another.
ALTER TABLE treasury_runs DROP CONSTRAINT treasury_runs_state_check;
ALTER TABLE treasury_runs DROP CONSTRAINT treasury_runs_begun;
ALTER TABLE treasury_runs
    ADD COLUMN discarded_by   text,
    ADD COLUMN discarded_at   timestamptz,
    ADD COLUMN discard_reason text CHECK (discard_reason <> ''),
    ADD CONSTRAINT treasury_runs_state_check CHECK (state IN ('prepared', 'paying', 'paused', 'stopped', 'done', 'discarded')),
    ADD CONSTRAINT treasury_runs_begun CHECK (state = 'discarded' OR (state = 'prepared') = (pass = 0)),
    ADD CONSTRAINT treasury_runs_discarded CHECK (num_nulls(discarded_by, discarded_at, discard_reason) = CASE WHEN state = 'discarded' THEN 0 ELSE 3 END);
DROP INDEX treasury_runs_one_per_period;
DROP INDEX treasury_runs_one_per_reference;
DROP INDEX treasury_runs_one_redemption_at_a_time;
CREATE UNIQUE INDEX treasury_runs_one_per_period ON treasury_runs (chain_id, treasury, period) WHERE kind = 'coupon' AND state <> 'discarded';
CREATE UNIQUE INDEX treasury_runs_one_per_reference ON treasury_runs (chain_id, treasury, reference) WHERE kind = 'dividend' AND state <> 'discarded';
CREATE UNIQUE INDEX treasury_runs_one_redemption_at_a_time ON treasury_runs (chain_id, treasury)
    WHERE kind = 'redemption' AND state NOT IN ('done', 'discarded');
COMMENT ON COLUMN treasury_runs.discarded_by IS 'Who gave it up, before money moved for it.';

ALTER TABLE treasury_batches ADD COLUMN also text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN treasury_batches.also IS 'Of a redemption: the wallets that tokens of its holders were recovered to. They are redeemed with the batch.';

CREATE TABLE asset_recoveries (
    chain_id     bigint NOT NULL,
    block_number bigint NOT NULL,
    log_index    bigint NOT NULL,
    asset        text   NOT NULL,
    lost_wallet  text   NOT NULL,
    new_wallet   text   NOT NULL CHECK (new_wallet <> lost_wallet),
    tx_hash      text   NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX asset_recoveries_of ON asset_recoveries (chain_id, asset, block_number);
COMMENT ON TABLE asset_recoveries IS 'Tokens of assets with treasuries that went from a lost wallet to a new one. What is left to redeem for the lost one follows. A reorg deletes the rows of its blocks.';
-- Recoveries of earlier blocks were not kept: the chain is read again from its beginning, and whoever indexes now is stopped. What was read of it goes
-- with the blocks: a reorg would find neither without the other. A replica of an earlier release, which would leave recoveries out, names version 1 and so
-- cannot take the lease again.
DELETE FROM payouts;
DELETE FROM withdrawals;
UPDATE airdrops SET created_block = NULL;
DELETE FROM offering_turns;
DELETE FROM purchases;
DELETE FROM deliveries;
DELETE FROM refunds;
DELETE FROM offering_withdrawals;
UPDATE offerings SET created_block = NULL;
DELETE FROM treasury_payments;
UPDATE treasuries SET created_block = NULL;
DELETE FROM indexed_blocks;
UPDATE indexer_leases SET owner = 'migration', until = '-infinity', version = 2;
ALTER TABLE indexer_leases ADD CONSTRAINT indexer_leases_version CHECK (version >= 2);

-- What became of the entitlements of a redemption whose tokens, or tokens of others, were recovered to other wallets since its record block; none of
-- others. Entitlements that ended in one wallet are redeemed together: they are paid in the order of their places.
CREATE FUNCTION recovered_entitlements(of_chain bigint, of_treasury text, of_run integer)
RETURNS TABLE (place integer, wallet text, members bigint, units numeric, amount numeric, payments bigint)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    WITH RECURSIVE moved AS (
        SELECT c.lost_wallet, c.new_wallet, c.block_number, c.log_index
        FROM treasury_runs r JOIN treasuries t USING (tenant_id, chain_id, treasury)
        JOIN asset_recoveries c ON c.chain_id = r.chain_id AND c.asset = t.asset AND c.block_number > r.record_block
        WHERE r.chain_id = of_chain AND r.treasury = of_treasury AND r.run = of_run AND r.kind = 'redemption'
    ), ways (origin, wallet) AS (
        SELECT lost_wallet, lost_wallet FROM moved UNION SELECT new_wallet, new_wallet FROM moved
        UNION
        SELECT w.origin, m.new_wallet FROM ways w JOIN moved m ON m.lost_wallet = w.wallet
    ), ends (origin, wallet) AS (
        SELECT w.origin, w.wallet FROM ways w WHERE NOT EXISTS (SELECT 1 FROM moved m WHERE m.lost_wallet = w.wallet)
    ), listed AS (
        SELECT e.place, e.units, e.amount, n.wallet, count(*) OVER (PARTITION BY n.wallet) AS members,
               sum(e.units) OVER before_it - e.units AS units_before, sum(e.amount) OVER before_it - e.amount AS amount_before,
               e.place = max(e.place) OVER (PARTITION BY n.wallet) AS is_last
        FROM entitlements e JOIN ends n ON n.origin = e.holder
        WHERE e.chain_id = of_chain AND e.treasury = of_treasury AND e.run = of_run
        WINDOW before_it AS (PARTITION BY n.wallet ORDER BY e.place)
    ), told AS (
        SELECT n.wallet, sum(p.units) AS units, sum(p.amount) AS amount, count(*) AS payments
        FROM ends n JOIN treasury_payments p ON p.holder = n.origin
        JOIN treasury_runs r ON r.chain_id = p.chain_id AND r.treasury = p.treasury AND r.run = of_run
        WHERE p.chain_id = of_chain AND p.treasury = of_treasury AND p.payout_id IS NULL AND p.kind = 'paid' AND p.block_number > r.record_block
        GROUP BY n.wallet
    )
    SELECT l.place, l.wallet, l.members,
           greatest(least(coalesce(t.units, 0) - l.units_before, l.units), 0),
           -- Redeeming in parts rounds each down, so those before may not have had all that they were due.
           CASE WHEN coalesce(t.units, 0) <= l.units_before THEN 0
                WHEN t.units > l.units_before + l.units AND NOT l.is_last THEN greatest(least(l.amount, t.amount - l.amount_before), 0)
                ELSE greatest(t.amount - l.amount_before, 0) END,
           CASE WHEN coalesce(t.units, 0) <= l.units_before THEN 0 ELSE t.payments END
    FROM listed l LEFT JOIN told t ON t.wallet = l.wallet
$$;
COMMENT ON FUNCTION recovered_entitlements IS 'Of a redemption run: entitlements whose tokens went to another wallet since its record block, with that wallet and what was redeemed of them.';
