-- What belongs to a tenant is keyed by it first, so that tenants can be placed in cells of their own. Blocks and the indexer's
-- lease belong to a chain: one follower serves all tenants of a cell.

ALTER TABLE systems ADD COLUMN admin text;
UPDATE systems SET admin = lower(addresses->>'admin');
COMMENT ON COLUMN systems.admin IS 'Who deploys it and administers it; a repeat names the same one. Null: ordered before this column existed.';

-- Nothing reads it, and the chain holds the schema that counts.
ALTER TABLE topics DROP COLUMN signature;

ALTER TABLE indexed_assets ADD COLUMN tenant_id text;
UPDATE indexed_assets i SET tenant_id = s.tenant_id FROM systems s
 WHERE s.chain_id = i.chain_id AND s.asset_factory = i.asset_factory;
ALTER TABLE indexed_assets
    ALTER COLUMN tenant_id SET NOT NULL,
    DROP CONSTRAINT indexed_assets_pkey,
    ADD PRIMARY KEY (tenant_id, chain_id, asset),
    ADD CONSTRAINT indexed_assets_address UNIQUE (chain_id, asset);
COMMENT ON CONSTRAINT indexed_assets_address ON indexed_assets IS 'A token belongs to one tenant: the indexer finds it by the address of a log.';

ALTER TABLE holdings ADD COLUMN tenant_id text;
UPDATE holdings h SET tenant_id = i.tenant_id FROM indexed_assets i WHERE i.chain_id = h.chain_id AND i.asset = h.asset;
ALTER TABLE holdings
    ALTER COLUMN tenant_id SET NOT NULL,
    DROP CONSTRAINT holdings_pkey,
    ADD PRIMARY KEY (tenant_id, chain_id, asset, holder, block_number);
COMMENT ON INDEX holdings_by_block IS 'For the reorg, which takes back the blocks of a chain for all tenants.';
