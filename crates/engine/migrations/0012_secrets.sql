-- Calldata with a word that the signer fills in.

ALTER TABLE engine.transactions ADD COLUMN secret jsonb;
COMMENT ON COLUMN engine.transactions.secret IS
    'Set where the calldata lacks a secret that only the signer knows: its id, the gas limit, until when it may be shown. Null: data is complete.';
