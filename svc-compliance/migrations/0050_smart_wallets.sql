-- Smart wallets: accounts that act once co-signers of enough weight have signed, what they shall do, and who approved it.

CREATE TABLE smart_wallets (
    number     bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    tenant_id  text        NOT NULL,
    chain_id   bigint      NOT NULL,
    wallet     text        NOT NULL,
    name       text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
    config     jsonb       NOT NULL CHECK (jsonb_typeof(config) = 'object'),
    salt       text        NOT NULL,
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, chain_id, wallet),
    CONSTRAINT smart_wallets_name UNIQUE (tenant_id, name)
);
CREATE INDEX smart_wallets_newest ON smart_wallets (tenant_id, number);
COMMENT ON TABLE smart_wallets IS 'Wallets as tenants created them, deployed or not. Who signs now stands on the chain alone.';
COMMENT ON COLUMN smart_wallets.config IS 'Signers with weights, threshold, guardian and its delay, which the address follows from.';

CREATE FUNCTION smart_wallet_rows_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is a record: no row of it is deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER smart_wallets_stay BEFORE DELETE ON smart_wallets FOR EACH ROW EXECUTE FUNCTION smart_wallet_rows_stay();

CREATE TABLE user_operations (
    number            bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    user_operation_id uuid        PRIMARY KEY,
    tenant_id         text        NOT NULL,
    chain_id          bigint      NOT NULL,
    wallet            text        NOT NULL,
    proposed_by       text        NOT NULL,
    command           jsonb       NOT NULL,
    user_operation    jsonb       NOT NULL,
    hash              text        NOT NULL,
    from_block        bigint      NOT NULL CHECK (from_block >= 0),
    state             text        NOT NULL DEFAULT 'PENDING' CHECK (state IN
        ('PENDING', 'SUBMITTED', 'EXECUTED', 'EXPIRED', 'CANCELLED', 'FAILED')),
    failure           jsonb,
    submission_id     uuid        UNIQUE,
    submissions       integer     NOT NULL DEFAULT 0 CHECK (submissions >= 0),
    send_after        timestamptz,
    tx_hash           text,
    block_number      bigint,
    proposed_at       timestamptz NOT NULL DEFAULT now(),
    ended_at          timestamptz,
    FOREIGN KEY (tenant_id, chain_id, wallet) REFERENCES smart_wallets,
    CONSTRAINT user_operations_hash UNIQUE (chain_id, hash),
    CONSTRAINT user_operations_submitted_by_an_operation CHECK (state <> 'SUBMITTED' OR submission_id IS NOT NULL),
    CONSTRAINT user_operations_counted_submissions CHECK ((submission_id IS NULL) = (submissions = 0)),
    -- The signatures of what was sent may be in other hands.
    CONSTRAINT user_operations_cancelled_unsent CHECK (state <> 'CANCELLED' OR submissions = 0),
    CONSTRAINT user_operations_executed_in_a_block CHECK (state <> 'EXECUTED' OR (tx_hash IS NOT NULL AND block_number IS NOT NULL)),
    -- What has not been in a block may be carried out until its deadline.
    CONSTRAINT user_operations_failed_in_a_block CHECK (state <> 'FAILED' OR (failure IS NOT NULL AND tx_hash IS NOT NULL AND block_number IS NOT NULL)),
    CONSTRAINT user_operations_ended CHECK ((ended_at IS NULL) = (state IN ('PENDING', 'SUBMITTED')))
);
CREATE INDEX user_operations_newest ON user_operations (tenant_id, number);
CREATE INDEX user_operations_of_wallet ON user_operations (tenant_id, wallet, number);
CREATE INDEX user_operations_going_on ON user_operations (number) WHERE state IN ('PENDING', 'SUBMITTED');
CREATE INDEX user_operations_open ON user_operations (tenant_id, wallet) WHERE state IN ('PENDING', 'SUBMITTED');
COMMENT ON TABLE user_operations IS 'What wallets shall do, under the id of the operation that proposed it. What a custody provider holds stands elsewhere and has no part in it.';
COMMENT ON COLUMN user_operations.failure IS 'Why it failed; of one that is pending though its approvals suffice, why it is not sent.';
COMMENT ON COLUMN user_operations.submission_id IS 'The latest operation that sends it, or sent it. At most one at a time.';
COMMENT ON COLUMN user_operations.submissions IS 'Operations that were to send it. One that failed before the entry point took it is followed by another.';
COMMENT ON COLUMN user_operations.send_after IS 'After a submission that failed: not sent again before then.';
COMMENT ON COLUMN user_operations.from_block IS 'The latest block when it was proposed: nothing of it is older.';

CREATE FUNCTION user_operations_go_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state NOT IN ('PENDING', 'SUBMITTED') THEN
        RAISE EXCEPTION 'a user operation that is % stays as it is', OLD.state USING ERRCODE = 'restrict_violation';
    END IF;
    IF (OLD.user_operation_id, OLD.tenant_id, OLD.chain_id, OLD.wallet, OLD.proposed_by, OLD.command, OLD.user_operation, OLD.hash, OLD.from_block, OLD.proposed_at)
        IS DISTINCT FROM
       (NEW.user_operation_id, NEW.tenant_id, NEW.chain_id, NEW.wallet, NEW.proposed_by, NEW.command, NEW.user_operation, NEW.hash, NEW.from_block, NEW.proposed_at) THEN
        RAISE EXCEPTION 'what is signed never changes' USING ERRCODE = 'restrict_violation';
    END IF;
    -- Sent by one operation at a time, each counted; the next one only after the one before it gave it back.
    IF OLD.state = 'PENDING' AND NEW.state = 'SUBMITTED' THEN
        IF NEW.submissions <> OLD.submissions + 1 OR NEW.submission_id IS NOT DISTINCT FROM OLD.submission_id THEN
            RAISE EXCEPTION 'a user operation is sent by one operation at a time' USING ERRCODE = 'restrict_violation';
        END IF;
    ELSIF (OLD.submission_id, OLD.submissions) IS DISTINCT FROM (NEW.submission_id, NEW.submissions) THEN
        RAISE EXCEPTION 'a user operation is sent by one operation at a time' USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state = 'SUBMITTED' AND NEW.state NOT IN ('SUBMITTED', 'PENDING', 'EXECUTED', 'FAILED') THEN
        RAISE EXCEPTION 'a user operation that is % does not become %', OLD.state, NEW.state USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER user_operations_forward BEFORE UPDATE ON user_operations FOR EACH ROW EXECUTE FUNCTION user_operations_go_forward();
CREATE TRIGGER user_operations_stay BEFORE DELETE ON user_operations FOR EACH ROW EXECUTE FUNCTION smart_wallet_rows_stay();

CREATE TABLE user_operation_approvals (
    number            bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    operation_id      uuid        PRIMARY KEY,
    user_operation_id uuid        NOT NULL REFERENCES user_operations,
    signer            text        NOT NULL,
    approved_by       text        NOT NULL,
    platform_key      boolean     NOT NULL,
    signature         text,
    settled_at        timestamptz,
    failure           jsonb,
    at                timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_operation_approvals_brought CHECK (platform_key OR signature IS NOT NULL OR failure IS NOT NULL),
    CONSTRAINT user_operation_approvals_signed_or_failed CHECK (signature IS NULL OR failure IS NULL),
    CONSTRAINT user_operation_approvals_settled CHECK (settled_at IS NULL AND failure IS NULL OR settled_at IS NOT NULL AND (signature IS NOT NULL OR failure IS NOT NULL))
);
CREATE UNIQUE INDEX user_operation_approvals_signer ON user_operation_approvals (user_operation_id, signer) WHERE failure IS NULL;
CREATE UNIQUE INDEX user_operation_approvals_principal ON user_operation_approvals (user_operation_id, approved_by)
    WHERE platform_key AND failure IS NULL;
COMMENT ON TABLE user_operation_approvals IS 'Approvals under the ids of their operations: a signer counts once, and a principal approves with one key of the platform. One that failed leaves room for another.';
COMMENT ON COLUMN user_operation_approvals.signature IS 'Over the hash. Secret until it is sent: it stands in no order and no result of an operation, and no call shows it.';
COMMENT ON COLUMN user_operation_approvals.settled_at IS 'When its operation was found to have ended. A signature counts from then on, and not before.';

CREATE FUNCTION user_operation_approvals_come_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The row is locked: whoever sends or ends the user operation meanwhile is waited for, and seen.
    PERFORM 1 FROM compliance.user_operations
        WHERE user_operation_id = NEW.user_operation_id AND state = 'PENDING' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the user operation is pending no more'
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'user_operation_approvals_pending';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER user_operation_approvals_in_time BEFORE INSERT ON user_operation_approvals FOR EACH ROW EXECUTE FUNCTION user_operation_approvals_come_in_time();

CREATE FUNCTION user_operation_approvals_stand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.settled_at IS NOT NULL
        OR (OLD.signature IS NOT NULL AND NEW.signature IS NOT NULL AND NEW.signature <> OLD.signature)
        OR (OLD.operation_id, OLD.user_operation_id, OLD.signer, OLD.approved_by, OLD.platform_key, OLD.at)
            IS DISTINCT FROM (NEW.operation_id, NEW.user_operation_id, NEW.signer, NEW.approved_by, NEW.platform_key, NEW.at) THEN
        RAISE EXCEPTION 'an approval stands as it was given' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER user_operation_approvals_standing BEFORE UPDATE ON user_operation_approvals FOR EACH ROW EXECUTE FUNCTION user_operation_approvals_stand();
CREATE TRIGGER user_operation_approvals_stay BEFORE DELETE ON user_operation_approvals FOR EACH ROW EXECUTE FUNCTION smart_wallet_rows_stay();
