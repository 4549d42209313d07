-- Treasuries and what they pay. Addresses and hashes are lower-case 0x hex, amounts decimal base units, times unix seconds.

CREATE TABLE treasuries (
    number            bigint         GENERATED ALWAYS AS IDENTITY,
    tenant_id         text           NOT NULL,
    chain_id          bigint         NOT NULL,
    treasury          text           NOT NULL,
    operation_id      uuid           NOT NULL,
    factory           text           NOT NULL,
    sender            text           NOT NULL,
    asset             text           NOT NULL,
    asset_decimals    smallint       NOT NULL CHECK (asset_decimals BETWEEN 0 AND 255),
    currency          text           NOT NULL CHECK (currency <> asset),
    currency_decimals smallint       NOT NULL CHECK (currency_decimals BETWEEN 0 AND 255),
    sweep_to          text           NOT NULL,
    matures_at        bigint         CHECK (matures_at > 0),
    redemption_price  text,
    redemption_ratio  numeric(78, 0) CHECK (redemption_ratio > 0),
    created_block     bigint,
    PRIMARY KEY (tenant_id, chain_id, treasury),
    CONSTRAINT treasuries_address UNIQUE (chain_id, treasury),
    CONSTRAINT treasuries_operation UNIQUE (tenant_id, operation_id),
    CONSTRAINT treasuries_maturity CHECK (num_nulls(matures_at, redemption_price, redemption_ratio) IN (0, 3))
);
CREATE UNIQUE INDEX treasuries_newest ON treasuries (tenant_id, chain_id, number);
CREATE INDEX treasuries_by_asset ON treasuries (tenant_id, chain_id, asset, number);
CREATE INDEX treasuries_by_block ON treasuries (chain_id, created_block) WHERE created_block IS NOT NULL;
COMMENT ON TABLE treasuries IS 'Treasuries that were ordered here with their terms, from the commit that accepts their creation on. Terms never change.';
COMMENT ON COLUMN treasuries.created_block IS 'Where the indexer saw the factory create it; null before, and again when a reorg took that block.';

CREATE TABLE treasury_runs (
    tenant_id      text           NOT NULL,
    chain_id       bigint         NOT NULL,
    treasury       text           NOT NULL,
    run            integer        NOT NULL CHECK (run > 0),
    kind           text           NOT NULL CHECK (kind IN ('coupon', 'dividend', 'redemption')),
    period         bigint,
    reference      text,
    currency       text           NOT NULL,
    record_date    bigint         NOT NULL,
    record_block   bigint         NOT NULL,
    record_hash    text           NOT NULL,
    supply         numeric(78, 0) NOT NULL CHECK (supply > 0),
    numerator      numeric(78, 0) NOT NULL CHECK (numerator > 0),
    denominator    numeric(78, 0) NOT NULL CHECK (denominator > 0),
    total          numeric(39, 0) NOT NULL,
    rounding       numeric(39, 0) NOT NULL CHECK (rounding BETWEEN 0 AND total),
    holders        integer        NOT NULL CHECK (holders > 0),
    root           text           NOT NULL,
    prepared_by    text           NOT NULL,
    prepared_at    timestamptz    NOT NULL DEFAULT now(),
    payout_id      bigint,
    state          text           NOT NULL DEFAULT 'prepared' CHECK (state IN ('prepared', 'paying', 'paused', 'stopped', 'done')),
    pass           integer        NOT NULL DEFAULT 0,
    rows_per_batch integer        CHECK (rows_per_batch > 0),
    open_operation uuid,
    reserved       boolean        NOT NULL DEFAULT false,
    next_place     integer        NOT NULL DEFAULT 0,
    next_batch     integer        NOT NULL DEFAULT 0,
    failure        jsonb,
    PRIMARY KEY (chain_id, treasury, run),
    FOREIGN KEY (tenant_id, chain_id, treasury) REFERENCES treasuries,
    CONSTRAINT treasury_runs_period CHECK ((kind = 'coupon') = (period IS NOT NULL)),
    CONSTRAINT treasury_runs_reference CHECK ((kind = 'dividend') = (reference IS NOT NULL)),
    CONSTRAINT treasury_runs_begun CHECK ((state = 'prepared') = (pass = 0))
);
CREATE UNIQUE INDEX treasury_runs_one_per_period ON treasury_runs (chain_id, treasury, period) WHERE kind = 'coupon';
CREATE UNIQUE INDEX treasury_runs_one_per_reference ON treasury_runs (chain_id, treasury, reference) WHERE kind = 'dividend';
CREATE UNIQUE INDEX treasury_runs_one_redemption_at_a_time ON treasury_runs (chain_id, treasury) WHERE kind = 'redemption' AND state <> 'done';
CREATE INDEX treasury_runs_paying ON treasury_runs (chain_id) WHERE state = 'paying';
CREATE INDEX treasury_runs_reserving ON treasury_runs (chain_id, treasury) WHERE state = 'paying' AND NOT reserved;
COMMENT ON TABLE treasury_runs IS 'Payouts with their lists. What a run pays never changes; its state does, under a lock of the row by whoever plans the next batch or changes it, so any replica may hand batches over.';
COMMENT ON COLUMN treasury_runs.payout_id IS 'Number of the payout in the contract: of a coupon its period, of a dividend what the contract told; null before, and of a redemption.';
COMMENT ON COLUMN treasury_runs.pass IS 'How often payment was begun; zero: never.';
COMMENT ON COLUMN treasury_runs.open_operation IS 'The operation of this pass that reserves the money; null: not needed, or not accepted yet.';
COMMENT ON COLUMN treasury_runs.reserved IS 'Whether its money is known to be reserved; of a redemption by the contract before there is a run. Until then no other payment of the treasury starts by itself: it would see the same money as free.';
COMMENT ON COLUMN treasury_runs.next_place IS 'Every entitlement below it stands in a batch of this pass, or was paid when its batch was planned.';

CREATE TABLE treasury_passes (
    chain_id    bigint      NOT NULL,
    treasury    text        NOT NULL,
    run         integer     NOT NULL,
    pass        integer     NOT NULL CHECK (pass > 0),
    principal   text        NOT NULL,
    sender      text        NOT NULL,
    root        text        NOT NULL,
    approved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (chain_id, treasury, run, pass),
    FOREIGN KEY (chain_id, treasury, run) REFERENCES treasury_runs
);
COMMENT ON TABLE treasury_passes IS 'Who approved the list of a run and with which wallet it is paid, once for each pass over it.';

CREATE TABLE entitlements (
    chain_id bigint         NOT NULL,
    treasury text           NOT NULL,
    run      integer        NOT NULL,
    place    integer        NOT NULL CHECK (place >= 0),
    holder   text           NOT NULL,
    units    numeric(78, 0) NOT NULL CHECK (units > 0),
    amount   numeric(39, 0) NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (chain_id, treasury, run, place),
    FOREIGN KEY (chain_id, treasury, run) REFERENCES treasury_runs,
    CONSTRAINT entitlements_holder UNIQUE (chain_id, treasury, run, holder)
);
COMMENT ON TABLE entitlements IS 'The lists of runs: who held how much at the record block, and what is due for it. Nothing changes them.';
COMMENT ON COLUMN entitlements.place IS 'The index of the row in the tree; holders stand in the order of their addresses.';

CREATE TABLE treasury_batches (
    chain_id     bigint    NOT NULL,
    treasury     text      NOT NULL,
    run          integer   NOT NULL,
    pass         integer   NOT NULL,
    batch        integer   NOT NULL,
    places       integer[] NOT NULL CHECK (cardinality(places) > 0),
    operation_id uuid,
    settled      boolean   NOT NULL DEFAULT false,
    PRIMARY KEY (chain_id, treasury, run, pass, batch),
    FOREIGN KEY (chain_id, treasury, run, pass) REFERENCES treasury_passes
);
CREATE INDEX treasury_batches_open ON treasury_batches (chain_id, treasury, run) WHERE NOT settled;
COMMENT ON TABLE treasury_batches IS 'Batches of runs. Planned first, then accepted as an operation under a key made of their number: planning or accepting twice changes nothing.';
COMMENT ON COLUMN treasury_batches.settled IS 'Whether the operation is final.';

CREATE TABLE treasury_payments (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    tx_hash      text           NOT NULL,
    treasury     text           NOT NULL,
    payout_id    bigint,
    holder       text           NOT NULL,
    kind         text           NOT NULL CHECK (kind IN ('paid', 'skipped')),
    paid_to      text,
    units        numeric(78, 0),
    amount       numeric(78, 0) NOT NULL,
    reason       text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index),
    CONSTRAINT treasury_payments_redeemed CHECK ((units IS NOT NULL) = (payout_id IS NULL AND kind = 'paid')),
    CONSTRAINT treasury_payments_receiver CHECK ((paid_to IS NOT NULL) = (kind = 'paid'))
);
CREATE INDEX treasury_payments_by_holder ON treasury_payments (chain_id, treasury, holder, payout_id);
CREATE UNIQUE INDEX treasury_payments_once ON treasury_payments (chain_id, treasury, payout_id, holder) WHERE kind = 'paid' AND payout_id IS NOT NULL;
COMMENT ON TABLE treasury_payments IS 'What the contracts told of holders: paid, or skipped with the reason. A payout is paid to a holder at most once; redemptions, which have no payout_id, as often as something is left. A reorg deletes the rows of its blocks.';
COMMENT ON COLUMN treasury_payments.units IS 'Of a redemption: base units of the asset that were burned.';

CREATE TABLE treasury_schedules (
    tenant_id    text           NOT NULL,
    chain_id     bigint         NOT NULL,
    treasury     text           NOT NULL,
    schedule     integer        NOT NULL CHECK (schedule > 0),
    kind         text           NOT NULL CHECK (kind IN ('coupons', 'calendar')),
    operation_id uuid,
    principal    text           NOT NULL,
    sender       text           NOT NULL,
    any_wallet   boolean        NOT NULL,
    alert_s      bigint         NOT NULL CHECK (alert_s >= 0),
    confirmed    boolean        NOT NULL,
    calendar     jsonb,
    annual_ratio numeric(78, 0) CHECK (annual_ratio > 0),
    PRIMARY KEY (chain_id, treasury, schedule),
    FOREIGN KEY (tenant_id, chain_id, treasury) REFERENCES treasuries,
    CONSTRAINT treasury_schedules_operation UNIQUE (tenant_id, operation_id),
    CONSTRAINT treasury_schedules_calendar CHECK ((kind = 'calendar') = (calendar IS NOT NULL)
        AND (kind = 'calendar') = (annual_ratio IS NOT NULL) AND (kind = 'calendar') = (operation_id IS NOT NULL))
);
CREATE UNIQUE INDEX treasury_schedules_one_of_coupons ON treasury_schedules (chain_id, treasury) WHERE kind = 'coupons';
CREATE INDEX treasury_schedules_unconfirmed ON treasury_schedules (chain_id) WHERE NOT confirmed;
COMMENT ON TABLE treasury_schedules IS 'Payments that start by themselves, and on whose decision: the coupons of a treasury, or dividends by a calendar.';
COMMENT ON COLUMN treasury_schedules.confirmed IS 'Whether its operation, if it has one, has ended: then its payments start, or were stopped because it failed.';
COMMENT ON COLUMN treasury_schedules.any_wallet IS 'Whether who decided might use every wallet of the tenant. Otherwise the sender must still be theirs when a payment starts.';
COMMENT ON COLUMN treasury_schedules.alert_s IS 'How long before a payment the treasury must be able to make it, or there is an alert.';

CREATE TABLE treasury_due (
    chain_id    bigint      NOT NULL,
    treasury    text        NOT NULL,
    schedule    integer     NOT NULL,
    period      bigint      NOT NULL CHECK (period >= 0),
    record_date bigint      NOT NULL,
    due_at      bigint      NOT NULL CHECK (due_at >= record_date),
    days        integer,
    year        integer     CHECK (year IN (360, 365)),
    state       text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'started', 'stopped')),
    run         integer,
    failure     jsonb,
    tries       integer     NOT NULL DEFAULT 0,
    tried_at    timestamptz,
    alerted     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (chain_id, treasury, schedule, period),
    FOREIGN KEY (chain_id, treasury, schedule) REFERENCES treasury_schedules,
    CONSTRAINT treasury_due_started CHECK ((state = 'started') = (run IS NOT NULL)),
    CONSTRAINT treasury_due_part CHECK ((days IS NULL) = (year IS NULL))
);
CREATE INDEX treasury_due_waiting ON treasury_due (chain_id, due_at) WHERE state = 'waiting';
COMMENT ON TABLE treasury_due IS 'The payments of schedules, one row each. A replica locks a row that is due and starts its run in that transaction; others pass it over. The run itself exists once by its own constraints.';
COMMENT ON COLUMN treasury_due.failure IS 'Why it could not be started at the last try, or why its run could not be paid: it is tried again, unless it is stopped.';
COMMENT ON COLUMN treasury_due.tries IS 'How often it could not be started since it last was: the more, the longer until the next try.';
COMMENT ON COLUMN treasury_due.days IS 'Of a calendar: days of the period by its convention, over those of a year.';
