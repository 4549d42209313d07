-- Who made what a decision came with, or what the operation was asked for with, is one with who showed it.
ALTER TABLE engine.check_decisions
    ADD COLUMN hands text[] NOT NULL DEFAULT '{}',
    ADD COLUMN makers_hands text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT check_decisions_by_other_hands
        CHECK (NOT approved OR NOT (hands && makers OR person = ANY (makers_hands) OR principal = ANY (makers_hands)));
COMMENT ON COLUMN engine.check_decisions.hands IS 'Through whose hands the credential went that the decision came with, but for the decider''s own.';
COMMENT ON COLUMN engine.check_decisions.makers_hands IS 'Through whose hands the credential went that the operation was asked for with.';
