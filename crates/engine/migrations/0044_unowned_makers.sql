-- Whether what a policy holds may be approved although nobody is known behind its maker.
ALTER TABLE engine.checker_policies ADD COLUMN unowned_makers boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN engine.checker_policies.unowned_makers IS 'What it holds may be approved also where nobody answers for the maker, or for the owner of a wallet: who approves may then be who asked.';
