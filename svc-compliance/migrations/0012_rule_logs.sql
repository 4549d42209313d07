-- What rules keep that their contracts do not list, from the same log as the holdings: parameters by block, and who was put on lists.

CREATE TABLE indexed_compliances (
    tenant_id     text   NOT NULL,
    chain_id      bigint NOT NULL,
    compliance    text   NOT NULL,
    asset         text   NOT NULL,
    created_block bigint NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, compliance),
    CONSTRAINT indexed_compliances_address UNIQUE (chain_id, compliance)
);
CREATE INDEX indexed_compliances_by_block ON indexed_compliances (chain_id, created_block);
COMMENT ON TABLE indexed_compliances IS 'Compliances that our tenants'' factories made: what they say of their rules is believed.';

CREATE TABLE rule_logs (
    tenant_id    text   NOT NULL,
    chain_id     bigint NOT NULL,
    compliance   text   NOT NULL,
    module       text   NOT NULL,
    account      text   NOT NULL,
    block_number bigint NOT NULL,
    log_index    bigint NOT NULL,
    body         bytea  NOT NULL,
    PRIMARY KEY (tenant_id, chain_id, compliance, module, account, block_number, log_index)
);
CREATE INDEX rule_logs_by_block ON rule_logs (chain_id, block_number);
COMMENT ON TABLE rule_logs IS 'What a rule was told for a compliance, of rules that the compliance itself says it bound; a reorg deletes the rows of its blocks.';
COMMENT ON COLUMN rule_logs.account IS 'Whose place on the lists of a ListRule; empty: the parameters.';
COMMENT ON COLUMN rule_logs.body IS 'Parameters in the contract''s encoding, none: unbound, and everything before forgotten. Of an account: one byte, bit 0 allowed, bit 1 blocked.';

-- The log is read again from its beginning: whoever indexes now is stopped. A replica of an earlier release, which would leave the log
-- of rules out, names no version and so cannot take the lease again.
DELETE FROM holdings;
DELETE FROM indexed_assets;
DELETE FROM indexed_blocks;
ALTER TABLE indexer_leases ADD COLUMN version integer;
UPDATE indexer_leases SET owner = 'migration', until = '-infinity', version = 1;
ALTER TABLE indexer_leases ALTER COLUMN version SET NOT NULL;
COMMENT ON COLUMN indexer_leases.version IS 'Version of what the owner indexes.';
