-- Which words are stored, how long events are kept, and signers that are about to be lost.

ALTER TABLE indexer_leases ADD COLUMN version integer NOT NULL DEFAULT 1;
ALTER TABLE indexer_leases ALTER COLUMN version DROP DEFAULT;
COMMENT ON COLUMN indexer_leases.version IS 'Version of what the owner indexes.';

ALTER TABLE feeds ADD CONSTRAINT feeds_history_mode CHECK (history_mode IN ('latest_only', 'bounded', 'full'));

ALTER TABLE events ADD CONSTRAINT events_kind
    CHECK (kind IN ('round', 'retracted', 'stale', 'fresh', 'nonce_gap', 'rejected', 'signer_lost', 'signer_losing'));
CREATE INDEX events_by_time ON events (chain_id, at);
ALTER TABLE event_heads ADD COLUMN kept_from bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN event_heads.kept_from IS 'The oldest number that is kept: what is older than the operator keeps events is deleted. Rounds are kept for ever, in rounds.';

ALTER TABLE lost_signers ADD COLUMN standing text NOT NULL DEFAULT 'signer_lost' CHECK (standing IN ('signer_lost', 'signer_losing'));
ALTER TABLE lost_signers ALTER COLUMN standing DROP DEFAULT;
ALTER TABLE lost_signers RENAME TO endangered_signers;
COMMENT ON TABLE endangered_signers IS 'Feeds whose last signer could sign no further update, or is about to lose its right; told and not yet healed.';
COMMENT ON COLUMN endangered_signers.standing IS 'The event that was told.';
