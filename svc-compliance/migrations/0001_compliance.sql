-- What svc-compliance keeps beside the engine's records. Addresses are lower-case 0x hex, amounts base units.

CREATE TABLE systems (
    tenant_id             text        NOT NULL,
    chain_id              bigint      NOT NULL,
    operation_id          uuid        NOT NULL,
    addresses             jsonb,
    asset_factory         text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, chain_id)
);
CREATE UNIQUE INDEX systems_by_factory ON systems (chain_id, asset_factory);
COMMENT ON TABLE systems IS 'One system per tenant and chain, written in the commit that accepts its deployment.';
COMMENT ON COLUMN systems.operation_id IS 'The operation that deploys it; a repeated bootstrap answers with it.';
COMMENT ON COLUMN systems.addresses IS 'Contract name to address, once deployed.';
COMMENT ON COLUMN systems.asset_factory IS 'Also in addresses; indexed because the indexer finds assets by their factory.';

CREATE TABLE topics (
    tenant_id  text        NOT NULL,
    chain_id   bigint      NOT NULL,
    name       text        NOT NULL,
    signature  text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, chain_id, name)
);
COMMENT ON TABLE topics IS 'Names of claim topics that were ordered through us: the chain knows only their hashes. Whether a topic exists is asked of the chain.';

CREATE TABLE assets (
    tenant_id    text        NOT NULL,
    chain_id     bigint      NOT NULL,
    operation_id uuid        NOT NULL,
    symbol       text        NOT NULL,
    name         text        NOT NULL,
    decimals     smallint    NOT NULL,
    asset_class  text        NOT NULL,
    isin         text,
    asset        text,
    created_block bigint,
    created_at   timestamptz NOT NULL DEFAULT now(),
    seq          bigint      GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant_id, operation_id)
);
CREATE UNIQUE INDEX assets_symbol ON assets (tenant_id, chain_id, symbol);
CREATE UNIQUE INDEX assets_address ON assets (chain_id, asset) WHERE asset IS NOT NULL;
CREATE INDEX assets_newest ON assets (tenant_id, chain_id, seq DESC);
COMMENT ON TABLE assets IS 'Assets ordered through us. A row is written in the commit that accepts the order, so that a symbol is taken from that moment.';
COMMENT ON COLUMN assets.asset IS 'Token address, once the indexer has seen its creation.';
COMMENT ON COLUMN assets.created_block IS 'Block of its creation; withdrawn with the block on a reorg.';
COMMENT ON COLUMN assets.seq IS 'Order of acceptance, for pages newest first.';

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

CREATE TABLE indexed_assets (
    chain_id      bigint NOT NULL,
    asset         text   NOT NULL,
    asset_factory text   NOT NULL,
    created_block bigint NOT NULL,
    PRIMARY KEY (chain_id, asset)
);
COMMENT ON TABLE indexed_assets IS 'Tokens created by our tenants'' factories: whose events are kept.';

CREATE TABLE holdings (
    chain_id       bigint         NOT NULL,
    asset          text           NOT NULL,
    holder         text           NOT NULL,
    block_number   bigint         NOT NULL,
    balance        numeric(78, 0) NOT NULL CHECK (balance >= 0),
    frozen         numeric(78, 0) NOT NULL CHECK (frozen >= 0),
    address_frozen boolean        NOT NULL,
    PRIMARY KEY (chain_id, asset, holder, block_number)
);
CREATE INDEX holdings_by_block ON holdings (chain_id, block_number);
COMMENT ON TABLE holdings IS 'What a holder has after each block that changed it. The state at block N is the row with the highest block_number <= N; a reorg deletes the rows of its blocks.';
