-- What svc-feeds keeps beside the engine's records. Addresses and hashes are lower-case 0x hex, values and amounts decimal.

CREATE TABLE systems (
    tenant_id         text    NOT NULL,
    chain_id          bigint  NOT NULL,
    system            text    NOT NULL,
    directory         text    NOT NULL,
    factory           text    NOT NULL,
    batch             text    NOT NULL,
    identity_registry text    NOT NULL,
    topic_schemes     text    NOT NULL,
    followed          boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, chain_id),
    CONSTRAINT systems_directory UNIQUE (chain_id, directory)
);
COMMENT ON TABLE systems IS 'The feed contracts of tenants, from the address book of their systems.';
COMMENT ON COLUMN systems.followed IS 'Whether the indexer has read what the log says of it up to its cursor.';

CREATE TABLE indexer_leases (
    chain_id bigint      PRIMARY KEY,
    owner    text        NOT NULL,
    until    timestamptz NOT NULL
);
COMMENT ON TABLE indexer_leases IS 'Which replica indexes a chain. Every commit of the indexer locks the row and checks that it is still the owner.';

CREATE TABLE indexed_blocks (
    chain_id bigint NOT NULL,
    number   bigint NOT NULL,
    hash     text   NOT NULL,
    PRIMARY KEY (chain_id, number)
);
COMMENT ON TABLE indexed_blocks IS 'The newest blocks that were applied, to find the fork after a reorg; the highest is the cursor.';

CREATE TABLE feeds (
    tenant_id         text     NOT NULL,
    chain_id          bigint   NOT NULL,
    feed              text     NOT NULL,
    subject           text     NOT NULL,
    topic_id          text     NOT NULL,
    decimals          smallint NOT NULL,
    description       text     NOT NULL,
    registry          text,
    schema_hash       text,
    history_mode      text,
    history_size      bigint,
    require_positive  boolean,
    drift_allowance_s bigint,
    since_block       bigint   NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, feed)
);
CREATE INDEX feeds_by_address ON feeds (chain_id, feed);
CREATE INDEX feeds_by_block ON feeds (chain_id, since_block);
COMMENT ON TABLE feeds IS 'Feeds that stood in a tenant''s directory, with what they are pinned to. What only issuer-signed feeds have is null for external ones.';

CREATE TABLE registrations (
    tenant_id   text    NOT NULL,
    chain_id    bigint  NOT NULL,
    subject     text    NOT NULL,
    topic_id    text    NOT NULL,
    phase       integer NOT NULL,
    feed        text    NOT NULL,
    since_block bigint  NOT NULL,
    until_block bigint,
    PRIMARY KEY (tenant_id, chain_id, subject, topic_id, phase)
);
CREATE INDEX registrations_by_block ON registrations (chain_id, since_block);
CREATE INDEX registrations_by_end ON registrations (chain_id, until_block) WHERE until_block IS NOT NULL;
COMMENT ON TABLE registrations IS 'Which feed spoke for a pair and when; the one without an end speaks now. A reorg deletes and reopens the rows of its blocks.';

CREATE TABLE adapters (
    tenant_id   text     NOT NULL,
    chain_id    bigint   NOT NULL,
    subject     text     NOT NULL,
    topic_id    text     NOT NULL,
    decimals    smallint NOT NULL,
    adapter     text     NOT NULL,
    since_block bigint   NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, subject, topic_id, decimals)
);
CREATE INDEX adapters_by_block ON adapters (chain_id, since_block);
COMMENT ON TABLE adapters IS 'The AggregatorV3 addresses that follow a pair through the directory.';

CREATE TABLE rounds (
    tenant_id    text           NOT NULL,
    chain_id     bigint         NOT NULL,
    feed         text           NOT NULL,
    round_id     bigint         NOT NULL,
    value        numeric(78, 0) NOT NULL,
    observed_at  bigint         NOT NULL,
    issuer       text           NOT NULL,
    signer       text,
    nonce        bigint         NOT NULL,
    deadline     numeric(78, 0) NOT NULL,
    signature    bytea          NOT NULL,
    block_number bigint         NOT NULL,
    tx_hash      text           NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, feed, round_id)
);
CREATE INDEX rounds_by_block ON rounds (chain_id, block_number);
CREATE INDEX rounds_by_issuer ON rounds (tenant_id, chain_id, feed, issuer, nonce DESC);
COMMENT ON TABLE rounds IS 'Every accepted update with its signature, whatever the feed keeps on chain. The latest is the one with the highest round; a reorg deletes the rows of its blocks.';
COMMENT ON COLUMN rounds.signer IS 'The key that the signature recovered to when the round was indexed.';

CREATE TABLE queue_heads (
    tenant_id text   NOT NULL,
    chain_id  bigint NOT NULL,
    feed      text   NOT NULL,
    issuer    text   NOT NULL,
    next      bigint NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, feed, issuer)
);
COMMENT ON TABLE queue_heads IS 'The next place among an issuer''s updates of a feed. The row is locked by the commit that takes a place, so that places are in commit order.';

CREATE TABLE queue (
    tenant_id    text   NOT NULL,
    chain_id     bigint NOT NULL,
    feed         text   NOT NULL,
    issuer       text   NOT NULL,
    place        bigint NOT NULL,
    operation_id uuid   NOT NULL,
    item         integer NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, feed, issuer, place)
);
CREATE INDEX queue_by_operation ON queue (tenant_id, operation_id);
COMMENT ON TABLE queue IS 'Updates that are accepted and not final, in the order in which an issuer''s updates of a feed are signed and sent.';

CREATE TABLE watched (
    tenant_id     text        NOT NULL,
    chain_id      bigint      NOT NULL,
    feed          text        NOT NULL,
    stale_after_s bigint      NOT NULL CHECK (stale_after_s > 0),
    stale         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, chain_id, feed)
);
COMMENT ON TABLE watched IS 'After how long a feed counts as stale, and whether that was told.';

CREATE TABLE lost_signers (
    tenant_id text   NOT NULL,
    chain_id  bigint NOT NULL,
    feed      text   NOT NULL,
    signer    text   NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, feed)
);
COMMENT ON TABLE lost_signers IS 'Feeds whose last signer could sign no further update, told and not yet healed.';

CREATE TABLE event_heads (
    tenant_id text   NOT NULL,
    chain_id  bigint NOT NULL,
    next      bigint NOT NULL,
    PRIMARY KEY (tenant_id, chain_id)
);
COMMENT ON TABLE event_heads IS 'The next number of a tenant''s events. The row is locked by the commit that writes events, so that numbers are in commit order and readers miss none.';

CREATE TABLE events (
    tenant_id text        NOT NULL,
    chain_id  bigint      NOT NULL,
    number    bigint      NOT NULL,
    feed      text        NOT NULL,
    kind      text        NOT NULL,
    body      jsonb       NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, chain_id, number)
);
COMMENT ON TABLE events IS 'What happened on feeds: accepted and retracted rounds, and alerts, in the order in which it was indexed. Retracted rounds stay here.';
