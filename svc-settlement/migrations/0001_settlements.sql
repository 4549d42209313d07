-- What svc-settlement keeps beside the engine's records. Addresses, hashes and identifiers are lower-case 0x hex, amounts decimal base units, times
-- unix seconds.

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

CREATE TABLE contracts (
    chain_id  bigint  NOT NULL,
    contract  text    NOT NULL,
    tenant_id text    NOT NULL,
    followed  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (chain_id, contract),
    CONSTRAINT contracts_owner UNIQUE (chain_id, contract, tenant_id)
);
COMMENT ON TABLE contracts IS 'The settlement contracts of tenants, from the address book of their systems. Only their word counts. A replaced one stays, with its settlements; each is of one tenant.';
COMMENT ON COLUMN contracts.followed IS 'Whether the indexer has read what the log says of it up to its cursor.';

CREATE TABLE settlements (
    number        bigint  GENERATED ALWAYS AS IDENTITY,
    chain_id      bigint  NOT NULL,
    contract      text    NOT NULL,
    settlement_id text    NOT NULL,
    tenant_id     text    NOT NULL,
    operation_id  uuid,
    creator       text    NOT NULL,
    salt          text    NOT NULL,
    name          text    NOT NULL,
    cutoff        bigint  NOT NULL CHECK (cutoff > 0),
    auto_execute  boolean NOT NULL,
    hash_kind     text    CHECK (hash_kind IN ('keccak256', 'sha256')),
    hash          text,
    created_block bigint,
    state         text    NOT NULL DEFAULT 'ACTIVE' CHECK (state IN
        ('ACTIVE', 'APPROVED', 'COMMITTED', 'PARTLY_DELIVERED', 'EXECUTED', 'CANCELLED', 'EXPIRED', 'WITHDRAWN', 'BREACHED')),
    PRIMARY KEY (chain_id, contract, settlement_id),
    CONSTRAINT settlements_contract FOREIGN KEY (chain_id, contract, tenant_id) REFERENCES contracts (chain_id, contract, tenant_id),
    CONSTRAINT settlements_operation UNIQUE (tenant_id, operation_id),
    CONSTRAINT settlements_known CHECK (num_nonnulls(operation_id, created_block) > 0),
    CONSTRAINT settlements_lock CHECK (num_nulls(hash_kind, hash) IN (0, 2))
);
CREATE UNIQUE INDEX settlements_newest ON settlements (tenant_id, chain_id, number);
CREATE INDEX settlements_by_state ON settlements (tenant_id, chain_id, state, number);
CREATE INDEX settlements_by_block ON settlements (chain_id, created_block) WHERE created_block IS NOT NULL;
COMMENT ON TABLE settlements IS 'Settlements with their terms: those ordered here from the commit that accepts them on, and those that somebody opened at a tenant''s contract. Terms never change: the identifier is their hash.';
COMMENT ON COLUMN settlements.operation_id IS 'The operation that opens it; null for one that was opened without the platform, which a reorg therefore deletes.';
COMMENT ON COLUMN settlements.created_block IS 'Where the indexer saw it opened; null before, and again when a reorg took that block.';
COMMENT ON COLUMN settlements.state IS 'What its events come to. That a pending one expires at its cutoff is added by whoever asks: it follows from the time of a block.';

CREATE TABLE legs (
    chain_id      bigint         NOT NULL,
    contract      text           NOT NULL,
    settlement_id text           NOT NULL,
    place         smallint       NOT NULL CHECK (place BETWEEN 0 AND 31),
    asset         text           NOT NULL,
    sender        text           NOT NULL,
    receiver      text           NOT NULL,
    amount        numeric(78, 0) NOT NULL CHECK (amount > 0),
    on_chain      numeric(20, 0) NOT NULL CHECK (on_chain >= 0),
    PRIMARY KEY (chain_id, contract, settlement_id, place),
    FOREIGN KEY (chain_id, contract, settlement_id) REFERENCES settlements ON DELETE CASCADE,
    CONSTRAINT legs_move CHECK (sender <> receiver)
);
CREATE INDEX legs_by_sender ON legs (chain_id, sender, contract, settlement_id);
CREATE INDEX legs_by_receiver ON legs (chain_id, receiver, contract, settlement_id);
COMMENT ON TABLE legs IS 'Movements of settlements. Nothing changes them.';
COMMENT ON COLUMN legs.on_chain IS 'The EIP-155 id of the chain it moves on; 0: the one of the settlement.';

CREATE TABLE events (
    chain_id      bigint   NOT NULL,
    block_number  bigint   NOT NULL,
    log_index     bigint   NOT NULL,
    contract      text     NOT NULL,
    settlement_id text     NOT NULL,
    kind          text     NOT NULL CHECK (kind IN
        ('created', 'approved', 'revoked', 'locked', 'revealed', 'leg_delivered', 'leg_deliverable', 'executed', 'voted', 'vote_withdrawn',
         'cancelled', 'reclaim_started', 'reclaimed', 'hold_broken', 'breached')),
    party         text,
    asset         text,
    leg           smallint,
    reason        text     NOT NULL,
    reclaim_from  bigint,
    tx_hash       text     NOT NULL,
    PRIMARY KEY (chain_id, block_number, log_index),
    FOREIGN KEY (chain_id, contract, settlement_id) REFERENCES settlements ON DELETE CASCADE,
    CONSTRAINT events_of_parties CHECK ((party IS NOT NULL) =
        (kind IN ('created', 'approved', 'revoked', 'voted', 'vote_withdrawn', 'reclaimed', 'hold_broken'))),
    CONSTRAINT events_of_assets CHECK ((asset IS NOT NULL) = (kind = 'hold_broken')),
    CONSTRAINT events_of_legs CHECK ((leg IS NOT NULL) = (kind IN ('leg_delivered', 'leg_deliverable'))),
    CONSTRAINT events_of_reclaims CHECK ((reclaim_from IS NOT NULL) = (kind = 'reclaim_started'))
);
CREATE INDEX events_of ON events (chain_id, contract, settlement_id, block_number, log_index);
CREATE UNIQUE INDEX events_once ON events (chain_id, contract, settlement_id, kind)
    WHERE kind IN ('created', 'revealed', 'executed', 'cancelled', 'reclaim_started', 'breached');
CREATE UNIQUE INDEX events_one_end ON events (chain_id, contract, settlement_id) WHERE kind IN ('executed', 'cancelled', 'breached');
CREATE UNIQUE INDEX events_leg_once ON events (chain_id, contract, settlement_id, leg) WHERE kind = 'leg_delivered';
COMMENT ON TABLE events IS 'What happened to settlements. Each is opened, revealed, executed, cancelled and breached at most once, and only one of the last three. The secret is not kept: whoever needs it reads the chain. A reorg deletes the rows of its blocks.';
