-- Sales. Addresses and hashes are lower-case 0x hex, amounts decimal base units, times unix seconds.

CREATE TABLE offerings (
    number              bigint         GENERATED ALWAYS AS IDENTITY,
    tenant_id           text           NOT NULL,
    chain_id            bigint         NOT NULL,
    offering            text           NOT NULL,
    operation_id        uuid           NOT NULL,
    factory             text           NOT NULL,
    sender              text           NOT NULL,
    replaces            text,
    asset               text           NOT NULL,
    asset_decimals      smallint       NOT NULL CHECK (asset_decimals BETWEEN 0 AND 255),
    minted              boolean        NOT NULL,
    proceeds_to         text           NOT NULL,
    unsold_to           text           NOT NULL,
    starts_at           bigint         NOT NULL,
    ends_at             bigint         NOT NULL,
    hard_cap            numeric(37, 0) NOT NULL CHECK (hard_cap > 0),
    soft_cap            numeric(37, 0) NOT NULL,
    minimum             numeric(37, 0) NOT NULL CHECK (minimum > 0),
    maximum             numeric(37, 0) NOT NULL,
    terms_hash          text           NOT NULL,
    presale_ends_at     bigint,
    discount_bps        integer        CHECK (discount_bps BETWEEN 0 AND 9999),
    allow_list          text,
    lockup_starts_at    bigint,
    lockup_cliff_s      bigint,
    lockup_duration_s   bigint         CHECK (lockup_duration_s > 0),
    created_block       bigint,
    PRIMARY KEY (tenant_id, chain_id, offering),
    CONSTRAINT offerings_address UNIQUE (chain_id, offering),
    CONSTRAINT offerings_operation UNIQUE (tenant_id, operation_id),
    CONSTRAINT offerings_replaces UNIQUE (tenant_id, chain_id, replaces),
    CONSTRAINT offerings_replaced FOREIGN KEY (tenant_id, chain_id, replaces) REFERENCES offerings,
    CONSTRAINT offerings_dates CHECK (ends_at > starts_at),
    CONSTRAINT offerings_caps CHECK (soft_cap BETWEEN 0 AND hard_cap AND maximum BETWEEN minimum AND hard_cap),
    CONSTRAINT offerings_presale CHECK (num_nulls(presale_ends_at, discount_bps, allow_list) IN (0, 3)
        AND (presale_ends_at IS NULL OR (presale_ends_at > starts_at AND presale_ends_at <= ends_at))),
    CONSTRAINT offerings_lockup CHECK (num_nulls(lockup_starts_at, lockup_cliff_s, lockup_duration_s) IN (0, 3)
        AND (lockup_starts_at IS NULL OR (lockup_starts_at >= ends_at AND lockup_cliff_s <= lockup_duration_s)))
);
CREATE UNIQUE INDEX offerings_newest ON offerings (tenant_id, chain_id, number);
CREATE INDEX offerings_by_asset ON offerings (tenant_id, chain_id, asset, number);
CREATE INDEX offerings_by_block ON offerings (chain_id, created_block) WHERE created_block IS NOT NULL;
COMMENT ON TABLE offerings IS 'Sales that were ordered here with their terms, from the commit that accepts their creation on. Terms never change: other terms are another sale, which replaces this one.';
COMMENT ON COLUMN offerings.replaces IS 'The sale whose place this one takes. A sale is replaced at most once, and is not activated here afterwards.';
COMMENT ON COLUMN offerings.created_block IS 'Where the indexer saw the factory create it; null before, and again when a reorg took that block.';

CREATE TABLE offering_currencies (
    chain_id bigint         NOT NULL,
    offering text           NOT NULL,
    place    smallint       NOT NULL CHECK (place BETWEEN 0 AND 7),
    currency text           NOT NULL,
    decimals smallint       NOT NULL CHECK (decimals BETWEEN 0 AND 255),
    price    text           NOT NULL,
    ratio    numeric(78, 0) NOT NULL CHECK (ratio > 0),
    PRIMARY KEY (chain_id, offering, place),
    FOREIGN KEY (chain_id, offering) REFERENCES offerings (chain_id, offering),
    CONSTRAINT offering_currencies_once UNIQUE (chain_id, offering, currency)
);
COMMENT ON TABLE offering_currencies IS 'What a sale takes: the price as it was asked for, and what it comes to in base units of the currency for 1e18 base units of the asset.';

CREATE TABLE allow_listed (
    chain_id bigint  NOT NULL,
    offering text    NOT NULL,
    place    integer NOT NULL,
    account  text    NOT NULL,
    PRIMARY KEY (chain_id, offering, place),
    FOREIGN KEY (chain_id, offering) REFERENCES offerings (chain_id, offering),
    CONSTRAINT allow_listed_once UNIQUE (chain_id, offering, account)
);
COMMENT ON TABLE allow_listed IS 'Who buys in presales, in the order of the tree. Nothing changes it: the tree and its proofs are made from it again.';

CREATE TABLE offering_turns (
    chain_id     bigint NOT NULL,
    block_number bigint NOT NULL,
    log_index    bigint NOT NULL,
    offering     text   NOT NULL,
    kind         text   NOT NULL CHECK (kind IN ('activated', 'paused', 'resumed', 'succeeded', 'refunding')),
    tx_hash      text   NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX offering_turns_of ON offering_turns (chain_id, offering, block_number, log_index);
CREATE UNIQUE INDEX offering_turns_activated_once ON offering_turns (chain_id, offering) WHERE kind = 'activated';
CREATE UNIQUE INDEX offering_turns_decided_once ON offering_turns (chain_id, offering) WHERE kind IN ('succeeded', 'refunding');
COMMENT ON TABLE offering_turns IS 'What was done with sales. Each is activated at most once and decided at most once: success and refunds exclude each other. A reorg deletes the rows of its blocks.';

CREATE TABLE purchases (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    offering     text           NOT NULL,
    buyer        text           NOT NULL,
    currency     text           NOT NULL,
    tokens       numeric(37, 0) NOT NULL CHECK (tokens > 0),
    cost         numeric(78, 0) NOT NULL CHECK (cost > 0),
    tx_hash      text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX purchases_by_buyer ON purchases (chain_id, offering, buyer);
COMMENT ON TABLE purchases IS 'Purchases in sales. A reorg deletes the rows of its blocks.';

CREATE TABLE deliveries (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    offering     text           NOT NULL,
    buyer        text           NOT NULL,
    paid_to      text           NOT NULL,
    tokens       numeric(37, 0) NOT NULL,
    tx_hash      text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX deliveries_by_buyer ON deliveries (chain_id, offering, buyer);
COMMENT ON TABLE deliveries IS 'Tokens of sales that were delivered: with the purchase, or claimed. A reorg deletes the rows of its blocks.';
COMMENT ON COLUMN deliveries.paid_to IS 'The buyer, or the wallet that the registry recorded as its successor.';

CREATE TABLE refunds (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    offering     text           NOT NULL,
    buyer        text           NOT NULL,
    currency     text           NOT NULL,
    paid_to      text           NOT NULL,
    amount       numeric(78, 0) NOT NULL CHECK (amount > 0),
    tx_hash      text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index),
    CONSTRAINT refunds_once UNIQUE (chain_id, offering, buyer, currency)
);
COMMENT ON TABLE refunds IS 'Payments that were returned: what a buyer paid in a currency is returned whole, and at most once. A reorg deletes the rows of its blocks.';

CREATE TABLE offering_withdrawals (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    offering     text           NOT NULL,
    currency     text,
    paid_to      text           NOT NULL,
    amount       numeric(78, 0) NOT NULL,
    tx_hash      text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX offering_withdrawals_of ON offering_withdrawals (chain_id, offering);
COMMENT ON TABLE offering_withdrawals IS 'Proceeds and unsold tokens that left sales. A reorg deletes the rows of its blocks.';
COMMENT ON COLUMN offering_withdrawals.currency IS 'Of proceeds; null for unsold tokens.';
