-- What svc-distribution keeps beside the engine's records. Addresses and hashes are lower-case 0x hex, amounts decimal base units.

CREATE TABLE indexer_leases (
    chain_id bigint      PRIMARY KEY,
    owner    text        NOT NULL,
    until    timestamptz NOT NULL,
    version  integer     NOT NULL
);
COMMENT ON TABLE indexer_leases IS 'Which replica indexes a chain, and with which version of the index. Every commit of the indexer locks the row and checks that it is still the owner.';

CREATE TABLE indexed_blocks (
    chain_id bigint NOT NULL,
    number   bigint NOT NULL,
    hash     text   NOT NULL,
    PRIMARY KEY (chain_id, number)
);
COMMENT ON TABLE indexed_blocks IS 'The newest blocks that were applied, to find the fork after a reorg; the highest is the cursor.';

CREATE TABLE lists (
    list_id    bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  text           NOT NULL,
    digest     text           NOT NULL,
    recipients integer        NOT NULL CHECK (recipients > 0),
    total      numeric(39, 0) NOT NULL CHECK (total > 0),
    stored_at  timestamptz    NOT NULL DEFAULT now(),
    CONSTRAINT lists_digest UNIQUE (tenant_id, digest)
);
COMMENT ON TABLE lists IS 'Lists of recipients that passed validation. Equal rows are one list, so a repeated upload stores nothing.';

CREATE TABLE recipients (
    list_id bigint         NOT NULL REFERENCES lists ON DELETE CASCADE,
    place   integer        NOT NULL,
    account text           NOT NULL,
    amount  numeric(39, 0) NOT NULL CHECK (amount > 0),
    PRIMARY KEY (list_id, place),
    CONSTRAINT recipients_account UNIQUE (list_id, account)
);
COMMENT ON TABLE recipients IS 'The rows of lists. Nothing changes them: trees and proofs are made from them again.';
COMMENT ON COLUMN recipients.place IS 'The index of the row in the tree.';

CREATE TABLE airdrops (
    tenant_id     text           NOT NULL,
    chain_id      bigint         NOT NULL,
    airdrop       text           NOT NULL,
    operation_id  uuid           NOT NULL,
    factory       text           NOT NULL,
    list_id       bigint         NOT NULL REFERENCES lists,
    sender        text           NOT NULL,
    asset         text           NOT NULL,
    kind          text           NOT NULL CHECK (kind IN ('push', 'claim', 'vesting')),
    leftover_to   text           NOT NULL,
    starts_at     bigint         NOT NULL,
    ends_at       bigint         NOT NULL CHECK (ends_at > starts_at),
    cliff_s       bigint         NOT NULL,
    duration_s    bigint         NOT NULL,
    cap           numeric(78, 0) NOT NULL,
    rows_per_root bigint         NOT NULL,
    roots         text[]         NOT NULL,
    created_block bigint,
    PRIMARY KEY (tenant_id, chain_id, airdrop),
    CONSTRAINT airdrops_address UNIQUE (chain_id, airdrop),
    CONSTRAINT airdrops_operation UNIQUE (tenant_id, operation_id)
);
CREATE INDEX airdrops_by_block ON airdrops (chain_id, created_block) WHERE created_block IS NOT NULL;
CREATE INDEX airdrops_by_list ON airdrops (list_id);
COMMENT ON TABLE airdrops IS 'Airdrops that were ordered here, from the commit that accepts their creation on.';
COMMENT ON COLUMN airdrops.created_block IS 'Where the indexer saw the factory create it; null before, and again when a reorg took that block.';

CREATE TABLE payouts (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    airdrop      text           NOT NULL,
    place        integer        NOT NULL,
    kind         text           NOT NULL CHECK (kind IN ('paid', 'started', 'released', 'skipped')),
    amount       numeric(39, 0) NOT NULL,
    reason       text           NOT NULL,
    tx_hash      text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX payouts_by_place ON payouts (chain_id, airdrop, place);
CREATE UNIQUE INDEX payouts_once ON payouts (chain_id, airdrop, place) WHERE kind IN ('paid', 'started');
COMMENT ON TABLE payouts IS 'What the contracts told of rows: pushed or claimed, vesting started, released, refused by the token. A row is paid at most once. A reorg deletes the rows of its blocks.';
COMMENT ON COLUMN payouts.reason IS 'Of a skipped row: the token''s refusal in words.';

CREATE TABLE withdrawals (
    chain_id     bigint         NOT NULL,
    block_number bigint         NOT NULL,
    log_index    bigint         NOT NULL,
    airdrop      text           NOT NULL,
    currency     text           NOT NULL,
    amount       numeric(78, 0) NOT NULL,
    tx_hash      text           NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index)
);
CREATE INDEX withdrawals_by_airdrop ON withdrawals (chain_id, airdrop);
COMMENT ON TABLE withdrawals IS 'Leftovers that left an airdrop. A reorg deletes the rows of its blocks.';

CREATE TABLE pushes (
    tenant_id      text    NOT NULL,
    chain_id       bigint  NOT NULL,
    airdrop        text    NOT NULL,
    push           integer NOT NULL,
    principal      text    NOT NULL,
    sender         text    NOT NULL,
    state          text    NOT NULL CHECK (state IN ('running', 'paused', 'stopped', 'done')),
    rows_per_batch integer NOT NULL CHECK (rows_per_batch > 0),
    next_place     integer NOT NULL DEFAULT 0,
    next_batch     integer NOT NULL DEFAULT 0,
    failure        jsonb,
    PRIMARY KEY (chain_id, airdrop, push),
    FOREIGN KEY (tenant_id, chain_id, airdrop) REFERENCES airdrops
);
CREATE INDEX pushes_running ON pushes (chain_id) WHERE state = 'running';
CREATE UNIQUE INDEX pushes_one_at_a_time ON pushes (chain_id, airdrop) WHERE state IN ('running', 'paused');
COMMENT ON TABLE pushes IS 'Passes over the list of an airdrop that is pushed. The row is locked by whoever plans the next batch or changes the state, so any replica may hand batches over.';
COMMENT ON COLUMN pushes.next_place IS 'Every row below it stands in a batch, or was paid when its batch was planned.';

CREATE TABLE batches (
    chain_id     bigint    NOT NULL,
    airdrop      text      NOT NULL,
    push         integer   NOT NULL,
    batch        integer   NOT NULL,
    places       integer[] NOT NULL CHECK (cardinality(places) > 0),
    operation_id uuid,
    settled      boolean   NOT NULL DEFAULT false,
    PRIMARY KEY (chain_id, airdrop, push, batch),
    FOREIGN KEY (chain_id, airdrop, push) REFERENCES pushes
);
CREATE INDEX batches_open ON batches (chain_id, airdrop, push) WHERE NOT settled;
COMMENT ON TABLE batches IS 'Batches of pushes. Planned first, then accepted as an operation under a key made of their number: planning or accepting twice changes nothing.';
COMMENT ON COLUMN batches.settled IS 'Whether the operation is final.';
