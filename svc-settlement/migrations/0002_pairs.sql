-- Exchanges across two chains: a settlement on each, under one hash.

-- One operation opens a settlement on each chain.
ALTER TABLE settlements DROP CONSTRAINT settlements_operation;
ALTER TABLE settlements ADD CONSTRAINT settlements_operation UNIQUE (tenant_id, operation_id, chain_id);

CREATE TABLE pairs (
    number     bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    pair_id    uuid        PRIMARY KEY,
    tenant_id  text        NOT NULL,
    command    jsonb       NOT NULL,
    hash_kind  text        NOT NULL CHECK (hash_kind IN ('keccak256', 'sha256')),
    hash       text        NOT NULL,
    secret_id  uuid,
    phase      text        NOT NULL DEFAULT 'LOCKING' CHECK (phase IN
        ('LOCKING', 'REVEALING', 'CARRYING', 'SETTLED', 'RETURNING', 'RETURNED', 'SPLIT')),
    exposed    boolean     NOT NULL DEFAULT false,
    seen       boolean     NOT NULL DEFAULT false,
    verdicts   jsonb,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pairs_hash UNIQUE (tenant_id, hash_kind, hash),
    CONSTRAINT pairs_only_ours_is_exposed CHECK (secret_id IS NOT NULL OR NOT exposed),
    CONSTRAINT pairs_revealing_is_exposed CHECK (phase <> 'REVEALING' OR exposed)
);
CREATE INDEX pairs_newest ON pairs (tenant_id, number);
CREATE INDEX pairs_going_on ON pairs (number) WHERE phase NOT IN ('SETTLED', 'RETURNED', 'SPLIT');
COMMENT ON TABLE pairs IS 'Exchanges across two chains, under the id of the operation that opens them. The secret is the signer''s; none is kept here.';
COMMENT ON COLUMN pairs.exposed IS 'Whether it was decided, ever, to show our secret. Written in the commit that accepts showing it.';
COMMENT ON COLUMN pairs.seen IS 'Whether the secret was seen on a chain, ever, also in a block that a reorg took.';
COMMENT ON COLUMN pairs.verdicts IS 'What the decision to show our secret rests on.';

CREATE FUNCTION pairs_go_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.exposed AND NOT NEW.exposed) OR (OLD.seen AND NOT NEW.seen) THEN
        RAISE EXCEPTION 'what was shown stays so' USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.phase = 'RETURNING' AND NEW.phase = 'REVEALING' THEN
        RAISE EXCEPTION 'what was given up is not shown any more' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER pairs_forward BEFORE UPDATE ON pairs FOR EACH ROW EXECUTE FUNCTION pairs_go_forward();

CREATE TABLE pair_sides (
    pair_id       uuid   NOT NULL REFERENCES pairs ON DELETE CASCADE,
    role          text   NOT NULL CHECK (role IN ('reveal', 'carry')),
    chain_id      bigint NOT NULL,
    contract      text   NOT NULL,
    salt          text,
    settlement_id text,
    from_block    bigint NOT NULL CHECK (from_block >= 0),
    PRIMARY KEY (pair_id, role),
    CONSTRAINT pair_sides_differ UNIQUE (pair_id, chain_id),
    CONSTRAINT pair_sides_known CHECK (salt IS NULL OR settlement_id IS NOT NULL)
);
COMMENT ON TABLE pair_sides IS 'The two settlements of an exchange. One that the counterparty opens has no salt of ours, and no identifier until it was found.';
COMMENT ON COLUMN pair_sides.from_block IS 'The latest block when the exchange was opened: our settlement and every secret come later.';

CREATE TABLE pair_actions (
    number       bigint      GENERATED ALWAYS AS IDENTITY,
    pair_id      uuid        NOT NULL REFERENCES pairs ON DELETE CASCADE,
    name         text        NOT NULL,
    attempt      integer     NOT NULL CHECK (attempt > 0),
    chain_id     bigint      NOT NULL,
    operation_id uuid        NOT NULL,
    settled      boolean     NOT NULL DEFAULT false,
    failure      jsonb,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pair_id, name, attempt)
);
CREATE UNIQUE INDEX pair_actions_one_at_a_time ON pair_actions (pair_id, name) WHERE NOT settled;
COMMENT ON TABLE pair_actions IS 'What the platform sent for exchanges, written in the commit that accepts it: each thing once at a time.';

CREATE TABLE pair_events (
    number  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pair_id uuid        NOT NULL REFERENCES pairs ON DELETE CASCADE,
    kind    text        NOT NULL,
    detail  jsonb       NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pair_events_of ON pair_events (pair_id, number);
COMMENT ON TABLE pair_events IS 'What the platform found and decided about exchanges. Each stands in the outbox, too.';

CREATE TABLE pair_attention (
    pair_id  uuid        NOT NULL REFERENCES pairs ON DELETE CASCADE,
    kind     text        NOT NULL CHECK (kind IN
        ('cutoff_near', 'secret_unused', 'leg_not_compliant', 'mirror_differs', 'chain_silent', 'stuck', 'split')),
    chain_id bigint      NOT NULL,
    detail   text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pair_id, kind, chain_id)
);
CREATE INDEX pair_attention_since ON pair_attention (since);
COMMENT ON TABLE pair_attention IS 'What of exchanges needs somebody''s attention now. Gone when it is over; pair_events keep that it was.';
