-- What a wallet has in all assets: asked when it is recovered.
CREATE INDEX holdings_by_holder ON holdings (tenant_id, chain_id, holder, asset);
