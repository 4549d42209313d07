-- What approvals that are under way need of one allowance.

CREATE TABLE allowance_claims (
    operation_id uuid           NOT NULL,
    chain_id     bigint         NOT NULL,
    contract     text           NOT NULL,
    sender       text           NOT NULL,
    asset        text           NOT NULL,
    amount       numeric(78, 0) NOT NULL CHECK (amount > 0),
    PRIMARY KEY (operation_id, asset)
);
CREATE INDEX allowance_claims_of ON allowance_claims (chain_id, contract, sender, asset);
COMMENT ON TABLE allowance_claims IS 'What each approval needs of the allowance that it shares with others of its wallet and asset, so that one is given which suffices for all that are under way. Rows of operations that have ended say nothing, and go with the next approval of the wallet.';
